"""A vendor in memory: it keeps customers, lists them in pages, tells events, and fails when told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from upkept.contract import (
    Connector,
    Consent,
    Context,
    Fact,
    FactKind,
    FieldMap,
    Page,
    Permanent,
    RawEvent,
    RecordRef,
    Rule,
    Skipped,
    Statement,
)
from upkept.flow.apply import apply
from upkept.flow.bells import Bell
from upkept.flow.fetch import fetch, read_back
from upkept.flow.hub import Hub
from upkept.flow.pull import step
from upkept.keys import Keys
from upkept.people.policies import DEFAULT_POLICIES, Policies
from upkept.registry import Connection
from upkept.settings import Settings
from upkept.store import inbox, runs
from upkept.store.engine import Store
from upkept.store.inbox import Lowering
from upkept.store.runs import Run

PAGE = 5
START = 1_764_000_000_000_000
FIELDS = FieldMap(
    rules=(
        Rule(of="customer", path="name", attribute="name"),
        Rule(of="customer", path="plan", attribute="plan"),
    )
)


@dataclass
class Clock:
    """A clock that a test moves. Each look costs `tick` microseconds."""

    at: int = START
    tick: int = 1

    def __call__(self) -> int:
        self.at += self.tick
        return self.at

    def pass_seconds(self, seconds: float) -> None:
        self.at += int(seconds * 1_000_000)

    def sleep(self, seconds: float) -> None:
        self.pass_seconds(seconds)


@dataclass(frozen=True, slots=True)
class Nothing:
    """No configuration."""


@dataclass
class Vendor:
    """`fail_at` maps the number of a call (from 1) to what it raises; `calls` counts them.

    `repaired` is a fixed mapping: what was broken can be read.
    """

    customers: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    fail_at: dict[int, Exception | type[BaseException]] = field(default_factory=dict)
    calls: int = 0
    asked: list[str] = field(default_factory=list)
    while_asked: Callable[[], object] = lambda: None
    states_total: bool = True
    poll: float = 900.0
    lowering: frozenset[str] = frozenset()
    repaired: bool = False

    def put(self, id: str, **fields: Any) -> None:
        self.customers[id] = {"id": id, **self.customers.get(id, {}), **fields}

    def tell(self, id: str, at: int, kind: str = "customer.updated", **fields: Any) -> dict[str, Any]:
        """Change a customer and note the event of it."""
        self.put(id, **fields)
        event = {"id": f"evt_{len(self.events) + 1}", "kind": kind, "at": at, "customer": dict(self.customers[id])}
        self.events.append(event)
        return event

    def _called(self, what: str, ctx: Context) -> None:
        ctx.permit()
        with ctx.slot():
            self.calls += 1
            self.asked.append(what)
            self.while_asked()
            error = self.fail_at.pop(self.calls, None)
            if error is not None:
                raise error

    def pull(self, cursor: str | None, _config: Nothing, ctx: Context, /) -> Iterator[Page]:
        if cursor is not None and cursor.startswith("since:"):
            yield from self._events(datetime.fromisoformat(cursor.removeprefix("since:")), ctx)
            return
        begun = ctx.now if cursor is None else datetime.fromisoformat(cursor.partition("|")[0])
        after = "" if cursor is None else cursor.partition("|")[2]
        while True:
            self._called(f"list after {after!r}", ctx)
            ids = sorted(id for id in self.customers if id > after)[: PAGE + 1]
            found = tuple(self.read(id, ctx) for id in ids[:PAGE])
            more = len(ids) > PAGE
            after = ids[PAGE - 1] if more else after
            yield Page(
                events=found,
                cursor=f"{begun.isoformat()}|{after}" if more else None,
                total=len(self.customers) if self.states_total else None,
                resume=None if more else f"since:{begun.isoformat()}",
            )
            if not more:
                return

    def _events(self, since: datetime, ctx: Context) -> Iterator[Page]:
        self._called(f"events since {since.isoformat()}", ctx)
        found = [event for event in self.events if event["at"] >= since.timestamp() * 1_000_000]
        yield Page(
            events=tuple(RawEvent(id=e["id"], kind=e["kind"], body=json.dumps(e).encode()) for e in found),
            cursor=None,
            resume=f"since:{(ctx.now - timedelta(seconds=1)).isoformat()}",
        )

    def fetch(self, event: RawEvent, _config: Nothing, ctx: Context, /) -> RawEvent:
        self._called(f"fetch {event.id}", ctx)
        if event.thin:
            found = next((one for one in self.events if one["id"] == event.id), None)
            if found is None:
                raise Permanent(f"event {event.id} has expired")
            return RawEvent(id=found["id"], kind=found["kind"], body=json.dumps(found).encode())
        if event.id.startswith("other_"):
            raise Skipped("not of this account")
        return self.read(event.id, ctx)

    def read(self, id: str, ctx: Context) -> RawEvent:
        found = self.customers.get(id, {"id": id, "deleted": True})
        body = json.dumps({"at": found.get("changed"), "customer": found}, sort_keys=True).encode()
        return RawEvent(id=f"read:{id}:{ctx.now.timestamp()}", kind="read.customer", body=body)

    def connection(self, name: str = "acme") -> Connection:
        """This vendor as a configured connection."""
        # A test's clock does not wait, so the quota must not.
        connector: Connector[Nothing] = Connector(
            name="small", config=Nothing, kinds=frozenset({"customer.updated", "read.customer"}), fields=FIELDS,
            normalize=self.normalize, pull=self.pull, fetch=self.fetch, api_calls=1e6, api_slots=2,
            lowering=self.lowering,
        )  # fmt: skip
        return Connection(
            name=name, connector=connector, config=Nothing(), fields=FIELDS, account="small:1", rank=20, poll=self.poll
        )

    def normalize(self, event: RawEvent, fields: FieldMap, /) -> list[Statement]:
        if self.repaired:
            return normalize(replace(event, body=event.body.replace(b'"broken": true', b'"broken": false')), fields)
        return normalize(event, fields)


def normalize(event: RawEvent, fields: FieldMap, /) -> list[Statement]:
    """One customer, read or told."""
    said = json.loads(event.body)
    customer = said["customer"]
    if customer.get("broken"):
        raise Permanent("a broken customer")
    ref = RecordRef("customer", customer["id"])
    at = None if said["at"] is None else datetime.fromtimestamp(said["at"] / 1_000_000, UTC)
    kind = FactKind.READ_BACK if event.kind.startswith("read.") else FactKind.EVENT
    if customer.get("deleted"):
        return [Fact(record=ref, observed_at=at, kind=kind, deleted=True)]
    claims = {"email": customer["email"]} if "email" in customer else {}
    mapped = fields.apply("customer", customer)
    fact = Fact(record=ref, fields=mapped, claims=claims, observed_at=at, kind=kind, snapshot=True, deleted=False)
    if not customer.get("unsubscribed"):
        return [fact]
    moment = None if customer.get("undated") else at
    return [fact, Consent(act="opt_out", record=ref, address=customer.get("email"), at=moment)]


def hub_of(store: Store, home: Path, *vendors: Connection) -> Hub:
    """A hub on an open store, without the environment."""
    keys = Keys(public_id=b"p" * 32, tombstone=b"t" * 32, consent=b"c" * 32, secret=b"s" * 32)
    connections = {one.name: one for one in vendors}
    policies = Policies(DEFAULT_POLICIES.by_attribute, {one.name: one.rank for one in vendors})
    settings = Settings(home=home, config_path=home / "upkept.toml", database_url="sqlite://")
    return Hub(store=store, connections=connections, keys=keys, policies=policies, settings=settings)


def ring(hub: Hub, bells: tuple[Bell, ...], clock: Clock) -> tuple[Bell, ...]:
    """Do what the bells ask for, the workers' part; runs are left to the test."""
    left: list[Bell] = []
    waiting = list(bells)
    while waiting:
        bell = waiting.pop(0)
        if bell.task == "apply":
            waiting += apply(hub, bell.ids, now=clock).bells
        elif bell.task == "fetch":
            waiting += fetch(hub, bell.ids, now=clock)
        elif bell.task == "read_back":
            waiting += read_back(hub, now=clock)
        else:
            left.append(bell)
    return tuple(left)


def follow(hub: Hub, run_id: int, clock: Clock, *, steps: int = 200) -> Run:
    """Step a run to its end, time passing in between."""
    for _ in range(steps):
        ring(hub, step(hub, run_id, now=clock), clock)
        run = get(hub, run_id)
        if not run.open:
            return run
        clock.pass_seconds(2)
    raise AssertionError(f"run {run_id} did not end: {run}")


def get(hub: Hub, run_id: int) -> Run:
    with hub.store.read() as connection:
        run = runs.get(connection, run_id)
    assert run is not None
    return run


def people(hub: Hub) -> list[tuple[Any, ...]]:
    """Who stands in the store: (email, name), sorted."""
    with hub.store.read() as connection:
        rows = connection.exec_driver_sql("SELECT email, name, archived FROM people ORDER BY email, name").all()
    return [tuple(row) for row in rows]


def heads(hub: Hub) -> Mapping[str, Any]:
    """Values of each record, by source id."""
    with hub.store.read() as connection:
        rows = connection.exec_driver_sql("SELECT source_id, head FROM records WHERE known ORDER BY source_id").all()
    return {
        row[0]: {name: value for *_, values in json.loads(row[1]).get("f", ()) for name, value in values.items()}
        for row in rows
    }


def inbox_states(hub: Hub) -> dict[str, int]:
    with hub.store.read() as connection:
        rows = connection.exec_driver_sql("SELECT state, count(*) FROM inbox GROUP BY state").all()
    return {row[0]: row[1] for row in rows}


def arrive(
    hub: Hub, event: Mapping[str, Any], clock: Clock, *, thin: bool = False, name: str = "acme",
    lowering: Lowering = "no",
) -> int:  # fmt: skip
    """An event as a webhook brought it; the id of its row."""
    with hub.store.write() as connection:
        new = inbox.store(
            connection,
            [
                inbox.Arrival(
                    connection=name,
                    dedup_key=event["id"],
                    kind=event["kind"],
                    body=json.dumps(event).encode(),
                    received_at=clock(),
                    thin=thin,
                    lowering=lowering,
                )
            ],
        )
    return next(iter(new.values()))
