"""Random histories: what vendors, programs and teammates said and did, as plain values.

A history is a list of elements in the order in which they happened to be made up. Any permutation of it, with any
element repeated any number of times, must give the same store. The elements:

`Say(connection, statement, received_at, run)`
    One statement of a connector (`contract.Fact`, `Consent`, `Link` or `TimelineEvent`), as if `normalize` had
    yielded it from an inbox row that was received at `received_at` (microseconds) and belongs to import `run` (None: to
    none).
`Merge(a, b, at)`, `Cut(a, b, at)`
    A teammate's word at `at`: the records `a` and `b` are one person (`b` is the target), or are apart.
`Erase(keys, identifiers, at)`
    An erasure at `at`: tombstones for these record keys and for these (kind, key) identifiers, which are all that the
    records had stated so far. What an erasure covers is decided once, when it is made, and stays that in any replay.

    Nobody knows any more what an erased record held, so an opt-out of it that names no address binds its addresses
    only if it comes before. The order counts there, and a history that erases has no such opt-out.

Record keys are tuples (connection, type, id). All times lie on at most 40 distinct seconds, so ties abound. The
connections are `CONNECTIONS`; `bill` has parts (`plan`), `summarize` and `combine`; `SURVIVES` names what outlives a
vendor delete. Each part names its owner at least once, in whichever fact that may be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple, TypeVar

from upkept.contract import (
    LOWERING_ACTS,
    WITHDRAWN,
    Consent,
    Fact,
    FactKind,
    Link,
    Part,
    RecordRef,
    Said,
    Summary,
    TimelineEvent,
    Whole,
)

T = TypeVar("T")
Key = tuple[str, str, str]

CONNECTIONS = ("bill", "mail", "crm", "app", "api", "csv", "rules")
FIRST_PARTY = frozenset({"app", "api", "csv", "console"})
SURVIVES: Mapping[str, frozenset[str]] = {"bill": frozenset({"bill_id", "bill_total"}), "crm": frozenset({"city"})}

BEGIN = 1_767_225_600_000_000
SECONDS = 40
LATER = BEGIN + 1_000_000_000


class Say(NamedTuple):
    connection: str
    statement: Fact | Consent | Link | TimelineEvent
    received_at: int
    run: int | None = None


class Merge(NamedTuple):
    a: Key
    b: Key
    at: int


class Cut(NamedTuple):
    a: Key
    b: Key
    at: int


class Erase(NamedTuple):
    keys: tuple[Key, ...]
    identifiers: tuple[tuple[str, str], ...]
    at: int


Element = Say | Merge | Cut | Erase
History = list[Element]


def summarize(fields: Mapping[str, Said], parts: Iterable[Part]) -> Mapping[str, Summary]:
    """What `bill` says over its plans: the sum of the live ones' amounts, and the sum of all there ever were.

    How many it took is a note to `combine`.
    """
    found = sorted(parts, key=lambda part: part.ref)
    alive = [part for part in found if not part.deleted]
    summary = {}
    if alive:
        summary["bill_mrr"] = Summary(value=_sum(alive), used=tuple(part.ref for part in alive))
    if found:
        used = tuple(part.ref for part in found)
        summary |= {"bill_total": Summary(value=_sum(found), used=used), "_plans": Summary(value=len(found), used=used)}
    return summary


def combine(records: Iterable[Whole]) -> Mapping[str, Summary]:
    """What `bill` says over the customers of one person: the sums added up, the score of the one with most plans."""
    ranked = sorted(records, key=lambda one: (-int(str(one.summary.get("_plans", 0))), one.ref))
    score = ranked[0].fields.get("score", WITHDRAWN)
    combined = {"score": Summary(value=score, used=tuple(one.ref for one in ranked))}
    for name in ("bill_mrr", "bill_total"):
        shares = {one.ref: share for one in ranked if isinstance(share := one.summary.get(name), int)}
        if shares:
            combined[name] = Summary(value=sum(shares.values()), used=tuple(shares))
    return combined


def history(seed: int) -> History:
    """The history of this seed: 6 to 30 elements about a handful of people who share addresses and ids."""
    return _Story(Random(seed)).tell()


def arrivals(original: Sequence[T], random: Random) -> list[T]:
    """One way in which a history may arrive: any order, some elements repeated, some stretch replayed."""
    arrived = list(original)
    random.shuffle(arrived)
    for _ in range(random.randrange(4)):
        arrived.insert(random.randrange(len(arrived) + 1), random.choice(original))
    if random.random() < 0.4:
        cut = random.randrange(len(arrived))
        arrived += arrived[cut : cut + random.randrange(1, 8)]
    return arrived


def misreadings(arrived: History, random: Random) -> dict[int, Say]:
    """Which deliveries a wrong field map read first, by their place: as what another one of that connection says.

    Nothing that lasts is among it: an opt-out and an erasure are for ever, whoever misread what led to them. Nor is
    what lets a record stand without a word about it: a part's owner, the record of a bounce.
    """
    if any(isinstance(element, Erase) for element in arrived):
        return {}
    told = [element for element in arrived if isinstance(element, Say) and _may_be_misread(element.statement)]
    found: dict[int, Say] = {}
    for place, said in enumerate(arrived):
        others = [one for one in told if isinstance(said, Say) and one.connection == said.connection]
        if others and random.random() < 0.3:
            found[place] = random.choice(others)
    return found


def _may_be_misread(statement: Fact | Consent | Link | TimelineEvent) -> bool:
    if isinstance(statement, Consent):
        return statement.act not in LOWERING_ACTS | {"bounce_hard"}
    return not isinstance(statement, Fact) or statement.record.type != "plan"


def moment(us: int) -> datetime:
    return datetime.fromtimestamp(us // 1_000_000, UTC).replace(microsecond=us % 1_000_000)


def _sum(parts: Iterable[Part]) -> int:
    return sum(amount for part in parts if isinstance(amount := part.fields.get("amount"), int))


class _Story:
    """One small world: a few addresses, user ids and records, so that everything collides with everything."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.seconds = random.choice((3, 8, SECONDS))
        self.addresses = ["ann@x.example", "Ann@X.example", "bob@x.example", "cy@y.example", "noreply@x.example"]
        self.user_ids = ["1", "2", "null"]
        records: list[Key] = [
            ("bill", "customer", "cus_1"),
            ("bill", "customer", "cus_2"),
            ("mail", "member", "l/1"),
            ("mail", "member", "l/2"),
            ("crm", "lead", "L1"),
            ("crm", "contact", "C1"),
            ("app", "user", "1"),
            ("app", "user", "2"),
            ("app", "anonymous", "v1"),
            ("api", "contact", "00000000000000000000000a"),
            ("csv", "row", "email:ann@x.example"),
            ("rules", "contact", "00000000000000000000000a"),
        ]
        self.records = random.sample(records, random.randrange(2, 8))
        self.parts = {f"plan_{n}": random.choice(self.records) for n in range(3)}
        self.owned: set[str] = set()
        self.told: History = []
        self.erases = False

    def tell(self) -> History:
        kinds: list[Callable[[], Element | None]] = [self._fact] * 10
        kinds += [self._part, self._part, *[self._consent] * 4, self._link, self._event, self._merge, self._cut]
        if self.random.random() < 0.3:
            kinds += [self._erase]
            self.erases = True
        for _ in range(self.random.randrange(6, 31)):
            element = self.random.choice(kinds)()
            if element is not None:
                self.told.append(element)
        return self.told

    def _at(self) -> int:
        return BEGIN + self.random.randrange(self.seconds) * 1_000_000

    def _say(self, connection: str, make: Any, run: int | None = None) -> Say:
        """Usually observed and received later; sometimes without a vendor time, or from a clock that is ahead."""
        at, dice = self._at(), self.random.random()
        if dice < 0.8:
            return Say(connection, make(moment(at)), LATER, run)
        if dice < 0.9:
            return Say(connection, make(None), at, run)
        return Say(connection, make(moment(at + 3_600_000_000)), at, run)

    def _fact(self) -> Say:
        random = self.random
        connection, type_, id_ = random.choice(self.records)
        claims = self._claims(connection, type_, id_)
        fields = self._fields(connection)
        if "email" in claims and random.random() < 0.7:
            fields["email"] = claims["email"]
        if claims.get("user_id") and random.random() < 0.5:
            fields["external_id"] = claims["user_id"]
        vendor = connection in ("bill", "mail", "crm")
        run = random.choice((7, 8)) if connection == "csv" else None
        options: dict[str, Any] = {
            "record": RecordRef(type_, id_),
            "fields": fields,
            "claims": claims,
            "sequence": random.choice((0, 0, 0, 1, 2)),
            "kind": self._kind(connection),
            "snapshot": random.random() < (0.6 if vendor else 0.2),
            "deleted": random.choice((None, None, None, None, True, False)) if vendor else None,
            "verified": connection != "app" or random.random() < 0.7,
            "makes_user": connection == "bill" or (connection, type_) == ("app", "user"),
        }
        return self._say(connection, lambda observed: Fact(observed_at=observed, **options), run)

    def _kind(self, connection: str) -> FactKind:
        if connection == "csv":
            return FactKind.IMPORT
        return self.random.choice((FactKind.EVENT, FactKind.EVENT, FactKind.EVENT, FactKind.READ_BACK))

    def _claims(self, connection: str, type_: str, id_: str) -> dict[str, str | None]:
        random = self.random
        claims: dict[str, str | None] = {}
        if random.random() < 0.6 and connection != "rules":
            claims["email"] = random.choice([*self.addresses, None])
        if (connection, type_) == ("app", "user") and random.random() < 0.8:
            claims["user_id"] = id_
        elif connection in ("bill", "csv", "api") and random.random() < 0.2:
            claims["user_id"] = random.choice([*self.user_ids, None])
        if random.random() < 0.05:
            claims["phone"] = random.choice(("+353 1 234 5678", "n/a"))
        return claims

    def _fields(self, connection: str) -> dict[str, Said]:
        random = self.random
        values: dict[str, tuple[Said, ...]] = {
            "name": ("Ann", "Bob", None, WITHDRAWN, "nul \0"),
            "city": ("Cork", "Kyiv", None, WITHDRAWN),
            "score": (1, True, 2.5, 0, -0.0, 2**70),
            "last_seen_at": (5, 9, 7, None, moment(BEGIN)),
            "signed_up_at": (5, 9, 7, None),
            "tag:vip": (True, False, None, WITHDRAWN),
            "company:acme": (True, True, False),
            "renews": (moment(BEGIN), moment(BEGIN + 1)),
        }
        if connection == "bill":
            values["bill_id"] = ("cus",)
        chosen = random.sample(sorted(values), random.randrange(len(values)))
        return {name: random.choice(values[name]) for name in chosen}

    def _part(self) -> Say | None:
        random = self.random
        id_, owner = random.choice(sorted(self.parts.items()))
        if owner[0] != "bill":
            return None
        options: dict[str, Any] = {
            "record": RecordRef("plan", id_),
            "fields": {"amount": random.choice((10, 20, None, WITHDRAWN))},
            "owner": None if id_ in self.owned and random.random() < 0.4 else RecordRef(owner[1], owner[2]),
            "deleted": random.choice((None, None, True, False)),
            "snapshot": random.random() < 0.5,
            "sequence": random.choice((0, 1)),
        }
        self.owned.add(id_)
        return self._say("bill", lambda observed: Fact(observed_at=observed, **options))

    def _consent(self) -> Say:
        random = self.random
        connection, type_, id_ = random.choice(self.records)
        act = random.choice(("opt_out", "opt_out", "opt_in", "opt_in", "opt_in", "complaint", "lift", "bounce_hard"))
        options: dict[str, Any] = {
            "act": act,
            "record": random.choice((None, RecordRef(type_, id_), RecordRef(type_, id_))),
            "address": random.choice((None, *self.addresses)),
            "topic": random.choice(("*", "*", "news")),
            "qualified": random.random() < 0.6,
            "verified": random.random() < 0.8,
            "reason": random.choice(("", "asked by phone")) if act == "lift" else "",
            "evidence": random.choice(("", "form 9", "form 9")),
        }
        if self.erases and act in LOWERING_ACTS and options["record"] is not None and options["verified"]:
            options["address"] = options["address"] or self.addresses[0]
        return self._say(connection, lambda at: Consent(at=at, **options))

    def _link(self) -> Say | None:
        random = self.random
        connection, type_, id_ = random.choice(self.records)
        others = [key for key in self.records if key[0] == connection and key != (connection, type_, id_)]
        if not others or connection == "rules":
            return None
        other = random.choice(others)
        a, b = RecordRef(type_, id_), RecordRef(other[1], other[2])
        return self._say(connection, lambda at: Link(a=a, b=b, at=at, reason="conversion"))

    def _event(self) -> Say:
        connection, type_, id_ = self.random.choice(self.records)
        named = self.random.choice(("bought", "left"))
        event = TimelineEvent(record=RecordRef(type_, id_), name=named, id=f"{named} once", at=moment(self._at()))
        return Say(connection, event, LATER)

    def _merge(self) -> Merge:
        a, b = self.random.sample(self.records, 2)
        return Merge(a, b, self._at())

    def _cut(self) -> Cut:
        a, b = self.random.sample(self.records, 2)
        return Cut(a, b, self._at())

    def _erase(self) -> Erase:
        keys = tuple(sorted(self.random.sample(self.records, self.random.choice((1, 1, 2)))))
        stated = {
            (kind, value.strip().lower())
            for said in self.told
            if isinstance(said, Say) and isinstance(said.statement, Fact)
            if (said.connection, said.statement.record.type, said.statement.record.id) in keys
            for kind, value in said.statement.claims.items()
            if value is not None and kind in ("email", "user_id")
        }
        return Erase(keys, tuple(sorted(stated)), self._at())
