"""A hub on a real store with two vendors, and short ways to say what they and our own doors say.

`shop` is a vendor with parts (`plan`), a summary over them, survivors and a way to read a record back; `mailer` is a
plain one. Their events, like those of our doors, are envelopes of statements, so a test says just what
happened. Seconds count from `BEGIN`; everything is received at `LATER` unless the test says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from upkept.contract import (
    AnyConnector,
    Connector,
    Consent,
    Fact,
    FieldMap,
    Link,
    Part,
    Permanent,
    RawEvent,
    RecordRef,
    Said,
    Scalar,
    Skipped,
    Statement,
    Summary,
    TimelineEvent,
)
from upkept.flow import opt_outs
from upkept.flow.apply import Applied, apply
from upkept.flow.digest import digest
from upkept.flow.explain import explain
from upkept.flow.hub import Hub
from upkept.flow.opening import policies
from upkept.flow.rebuild import Difference, check
from upkept.flow.receive import Received, keep
from upkept.flow.steps import step
from upkept.keys import Keys
from upkept.registry import Connection, load_connections
from upkept.settings import Identity, Settings
from upkept.sources import STATEMENTS, VENDOR_RANK
from upkept.sources.envelope import decode, encode
from upkept.store import runs
from upkept.store.engine import Store
from upkept.store.inbox import Arrival, Lowering, replay
from upkept.store.row_key import row_key
from upkept.store.runs import Run
from upkept.store.tables import inbox

BEGIN = 1_767_225_600
LATER = (BEGIN + 100_000) * 1_000_000
KEYS = Keys(public_id=b"p" * 32, tombstone=b"t" * 32, consent=b"c" * 32, secret=b"s" * 32)


def at(seconds: float) -> datetime:
    """So many seconds after the beginning."""
    return datetime.fromtimestamp(BEGIN, UTC) + timedelta(seconds=seconds)


def us(seconds: float) -> int:
    """The same in microseconds since 1970."""
    return int((BEGIN + seconds) * 1_000_000)


def user(id_: str, second: float = 0, email: str | None = None, *, verified: bool = True, **fields: Said) -> Fact:
    """What our own app says of a user who is logged in."""
    said = fields if email is None else {"email": email, **fields}
    claims = {"user_id": id_} if email is None else {"user_id": id_, "email": email}
    return Fact(record=RecordRef("user", id_), fields=said, claims=claims, observed_at=at(second), makes_user=True,
                verified=verified)  # fmt: skip


def customer(id_: str, second: float = 0, email: str | None = None, **fields: Said) -> Fact:
    """What the shop says of a customer."""
    claims = {} if email is None else {"email": email}
    said = fields if email is None else {"email": email, **fields}
    return Fact(record=RecordRef("customer", id_), fields=said, claims=claims, observed_at=at(second), makes_user=True)


def plan(id_: str, owner: str | None, amount: int, second: float = 0) -> Fact:
    """A part of a customer of the shop."""
    return Fact(record=RecordRef("plan", id_), owner=None if owner is None else RecordRef("customer", owner),
                fields={"_a": amount}, observed_at=at(second))  # fmt: skip


def row(email: str, second: float = 0, **fields: Said) -> Fact:
    """A row of a CSV file."""
    return Fact(record=RecordRef("row", f"email:{email}"), fields={"email": email, **fields}, claims={"email": email},
                observed_at=at(second))  # fmt: skip


def happened(id_: str, name: str, second: float = 0, of: str = "1", **metadata: Scalar) -> TimelineEvent:
    """Something that a user of our app did."""
    return TimelineEvent(record=RecordRef("user", of), name=name, id=id_, at=at(second), metadata=metadata)


def summarize(_fields: Mapping[str, Said], parts: Iterable[Part], /) -> Mapping[str, Summary]:
    found = sorted(parts, key=lambda part: part.ref)
    total = sum(amount for part in found if isinstance(amount := part.fields.get("_a"), int))
    return {"shop_total": Summary(value=total, used=tuple(part.ref for part in found))} if found else {}


@dataclass(frozen=True, slots=True)
class Nothing:
    """No configuration."""


@dataclass
class Reading:
    """How the shop is read; a test that changes it fixes a mapping."""

    renamed: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    moved: dict[str, str] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)

    def normalize(self, event: RawEvent, _fields: FieldMap, /) -> Iterable[Statement]:
        if event.kind != STATEMENTS:
            raise Skipped(f"unknown kind {event.kind}")
        if event.id in self.broken:
            raise Permanent(f"{event.id} cannot be read")
        if event.id in self.silent:
            return []
        return [self._mapped(said) for said in decode(event.body)]

    def _mapped(self, said: Statement) -> Statement:
        match said:
            case Link():
                return replace(said, a=self._of(said.a), b=self._of(said.b))
            case Consent():
                return said if said.record is None else replace(said, record=self._of(said.record))
            case TimelineEvent():
                return replace(said, record=self._of(said.record), name=self.renamed.get(said.name, said.name))
        fields = {self.renamed.get(name, name): value for name, value in said.fields.items()}
        return replace(said, record=self._of(said.record), fields=fields)

    def _of(self, record: RecordRef) -> RecordRef:
        return record._replace(id=self.moved.get(record.id, record.id))


def _fetch(event: RawEvent, _config: Nothing, _ctx: object, /) -> RawEvent:
    return event


def _vendor(name: str, mapping: Reading) -> AnyConnector:
    shop = name == "shop"
    return Connector(
        name=name, config=Nothing, kinds=frozenset({STATEMENTS}), fields=FieldMap(rules=()),
        normalize=mapping.normalize, lowering=frozenset({STATEMENTS}), survives=frozenset({"shop_id", "shop_total"}),
        summarize=summarize if shop else None, fetch=_fetch if shop else None,
        parts=frozenset({"plan"}) if shop else frozenset(), labels={"_a": "amount_a_month"},
    )  # fmt: skip


@dataclass
class Stage:
    """One hub and its clock."""

    hub: Hub
    mapping: Reading
    now: int = LATER
    count: int = 0

    def say(self, connection: str, *said: Statement, key: str = "", received: int | None = None, run: int | None = None,
            kind: str = STATEMENTS, lowering: Lowering = "no") -> int:  # fmt: skip
        """Store a delivery; its inbox id, or 0 if it is known already."""
        self.count += 1
        arrival = Arrival(
            connection=connection, dedup_key=key or f"event {self.count}", kind=kind, body=encode(said),
            received_at=self.now if received is None else received, run=run, lowering=lowering,
        )  # fmt: skip
        key = row_key(connection, arrival.dedup_key)
        facts = opt_outs.among(self.hub, connection, said, received_at=arrival.received_at)
        consents = tuple((fact, key) for fact in facts)
        (kept,) = keep(self.hub, [Received((arrival,), consents)], now=self.now)
        if kept.error is not None:
            raise kept.error
        ids = [id_ for bell in kept.bells for id_ in bell.ids]
        return ids[0] if ids else 0

    def apply(self, *ids: int) -> Applied:
        """Apply these rows, or all that wait."""
        return apply(self.hub, ids or self.waiting(), now=self.clock)

    def tell(self, connection: str, *said: Statement, **options: Any) -> int:
        """Say and apply."""
        id_ = self.say(connection, *said, **options)
        self.apply()
        return id_

    def replay(self, *ids: int) -> None:
        """Offer these rows again, and apply them."""
        with self.hub.store.write() as connection:
            assert replay(connection, now=self.now, ids=list(ids))
        self.apply(*ids)

    def walk(self, run: Run) -> Run:
        """Go on with a walk to its end."""
        for _ in range(100):
            step(self.hub, run.id, now=self.clock)
            with self.hub.store.read() as connection:
                found = runs.get(connection, run.id)
            assert found is not None
            if not found.open:
                return found
        raise AssertionError(f"the walk did not end: {found}")

    def differences(self) -> list[Difference]:
        """What a rebuild would change."""
        return [one for page in check(self.hub, now=self.clock) for one in page]

    def clock(self) -> int:
        self.now += 1
        return self.now

    def waiting(self) -> list[int]:
        return [row[0] for row in self.rows("SELECT id FROM inbox WHERE state IN ('new', 'claimed') ORDER BY id")]

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.hub.store.read() as connection:
            return [tuple(row) for row in connection.exec_driver_sql(statement)]

    def inbox(self, id_: int) -> dict[str, Any]:
        """A row of the inbox."""
        with self.hub.store.read() as connection:
            return dict(connection.execute(inbox.select().where(inbox.c.id == id_)).one()._mapping)

    def body(self, id_: int, text: bytes) -> None:
        """Let a delivery have brought this."""
        with self.hub.store.write() as connection:
            connection.execute(inbox.update().where(inbox.c.id == id_).values(body=text))

    def count_of(self, table: str, where: str = "true") -> int:
        return int(self.rows(f"SELECT count(*) FROM {table} WHERE {where}")[0][0])  # noqa: S608

    def run(self, statement: str) -> None:
        """Change the store behind the hub's back."""
        with self.hub.store.write() as connection:
            connection.exec_driver_sql(statement)

    def explain(self, name: str) -> dict[str, Any]:
        return explain(self.hub, name)

    def value(self, name: str, attribute: str) -> Any:
        return self.explain(name)["attributes"].get(attribute, {}).get("value")

    def consent(self, name: str) -> str:
        return str(self.explain(name)["consent"]["email"]["state"])

    def people(self) -> list[str]:
        """Everybody's records, a person a line."""
        rows = self.rows(
            "SELECT person, connection, source_id FROM records WHERE NOT part ORDER BY connection, source_id"
        )
        held: dict[str, list[str]] = {}
        for person, connection, source in rows:
            held.setdefault(person, []).append(f"{connection}:{source}")
        assert sorted(held) == [row[0] for row in self.rows("SELECT id FROM people ORDER BY id")]
        return sorted(" ".join(sources) for sources in held.values())

    def digest(self) -> str:
        return digest(self.hub)


def stage(store: Store, home: Path, *, enforce: bool = False, floor_days: int = 45, **settings: Any) -> Stage:
    """A stage on an open store."""
    mapping = Reading()
    made = Settings(home=home, config_path=home / "upkept.toml", database_url="", identity=Identity(enforce=enforce),
                    floor_days=floor_days, **settings)  # fmt: skip
    vendors = {
        name: Connection(name=name, connector=_vendor(name, mapping), config=Nothing(), fields=FieldMap(rules=()),
                         account=name, rank=VENDOR_RANK)
        for name in ("shop", "mailer")
    }  # fmt: skip
    connections = {**load_connections(made), **vendors}
    ranks = {name: connection.rank for name, connection in connections.items()}
    hub = Hub(store=store, connections=connections, keys=KEYS, policies=policies(made, ranks=ranks), settings=made)
    return Stage(hub, mapping)


__all__ = ["Consent", "Link", "RecordRef", "Stage", "at", "customer", "happened", "plan", "row", "stage", "us", "user"]
