"""Which records are one person: the touched component, read after its locks are held (R13, R14)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection

from upkept.contract import Retryable
from upkept.flow.hub import Hub
from upkept.people import identity
from upkept.people.identifiers import EMAIL, USER_ID
from upkept.people.identity import Blocked, Node, Resolution, Start, resolve
from upkept.people.values import Interval, LinkFact
from upkept.store import claims
from upkept.store.claims import Identifier, Oldest
from upkept.store.engine import Contended
from upkept.store.records import Record

T = TypeVar("T")

TRIES = 10
UNCOUNTED = frozenset({"api", "console", "csv", "rules"})
"""Our own doors do not count towards the ten records a weak link may gather (R14)."""

LINKING = frozenset({EMAIL, USER_ID})


class Outgrown(Exception):
    """The component is larger than what is locked: roll back and lock this much."""

    def __init__(self, ids: frozenset[str]) -> None:
        super().__init__(f"{len(ids)} records")
        self.ids = ids


class Unsettled(Retryable):
    """Other transactions kept changing what this one had to lock."""


def holding(attempt: Callable[[frozenset[str]], T], *, tries: int = TRIES) -> T:
    """Run a transaction, `attempt`, until its locks suffice; it is given the record ids to lock beside its own.

    Raises `Unsettled` if they never do.
    """
    also: frozenset[str] = frozenset()
    for _ in range(tries):
        try:
            return attempt(also)
        except Outgrown as larger:
            also |= larger.ids
        except Contended:
            continue
    raise Unsettled("a person's records changed under every try; try again")


@dataclass(slots=True)
class Component:
    """Everything that could be one person with the seeds: record ids, their intervals, and explicit links.

    Of a crowded address `first_out` is the first holding that links nobody; who holds it later brings along no other
    holder of it.
    """

    intervals: dict[str, Sequence[Interval]] = field(default_factory=dict)
    links: dict[str, tuple[str, str, int, str, bool, str]] = field(default_factory=dict)
    first_out: dict[str, Start] = field(default_factory=dict)


def closure(connection: Connection, hub: Hub, seeds: Iterable[str]) -> Component:
    """Follow identifiers and links from `seeds`. The claims table must be written."""
    found = Component()
    asked: dict[Identifier, set[str]] = {}
    frontier = set(seeds)
    while frontier:
        stored = claims.of(connection, sorted(frontier))
        found.intervals |= {record: stored.get(record, []) for record in frontier}
        stated = {record: _identifiers(found.intervals[record], hub.blocked) for record in frontier}
        wanted = {one for identifiers in stated.values() for one in identifiers} - asked.keys()
        _ask(connection, hub, wanted, asked, found)
        links = claims.links_of(connection, sorted(frontier))
        found.links |= links
        reached = {end for link in links.values() for end in link[:2]}
        for record, identifiers in stated.items():
            for one in identifiers:
                if record in asked[one]:
                    reached |= asked[one]
        frontier = reached - found.intervals.keys()
    return found


def near(connection: Connection, hub: Hub, stated: Iterable[Identifier]) -> set[str]:
    """Records that one who comes to hold these joins or meets: locked at once, they need no second try.

    Whoever comes to a crowded address meets nobody, unless a claim came late that is older than others.
    """
    wanted = {one for one in stated if one[0] in LINKING and not hub.blocked(*one)}
    found = claims.holders(connection, [one for one in wanted if one[0] == USER_ID])
    for held in oldest(connection, hub, wanted).values():
        found |= held.records if held.first_out is None else set()
    return found


def oldest(connection: Connection, hub: Hub, stated: Iterable[Identifier], *, further: int = 0) -> dict[str, Oldest]:
    """Who links by each of these addresses, as the claims table stands; and so many `further` behind them."""
    addresses = sorted({value for kind, value in stated if kind == EMAIL and not hub.blocked(kind, value)})
    most = identity.OLDEST_OF_AN_ADDRESS + further
    return claims.oldest(connection, addresses, most=most, unverified=not hub.settings.identity.enforce)


def moved(connection: Connection, hub: Hub, before: Mapping[str, Oldest], *, further: int) -> set[str]:
    """Who links by one of these addresses and did not `before`, or the other way round, where they are crowded.

    At most `further` holdings were written since; where that crowds no address nothing is asked.
    """
    room = identity.OLDEST_OF_AN_ADDRESS - further
    full = {a: held for a, held in before.items() if held.first_out is not None or held.holdings > room}
    after = oldest(connection, hub, [(EMAIL, address) for address in full])
    return {id_ for address, held in full.items() for id_ in held.records ^ after[address].records}


def settle(hub: Hub, component: Component, records: Mapping[str, Record]) -> Resolution:
    """Decide the component from its sorted links; raises `Outgrown` unless every record of it is at hand."""
    if not records.keys() >= component.intervals.keys():
        raise Outgrown(frozenset(component.intervals))
    nodes = [_node(records[id_], intervals) for id_, intervals in sorted(component.intervals.items())]
    links = [
        LinkFact(id_, records[a].key, records[b].key, at, strength, cut, reason)  # type: ignore[arg-type]
        for id_, (a, b, at, strength, cut, reason) in sorted(component.links.items())
    ]
    unverified = not hub.settings.identity.enforce
    return resolve(nodes, links, link_unverified=unverified, blocked=hub.blocked, first_out=component.first_out)


def _ask(
    connection: Connection, hub: Hub, wanted: set[Identifier], asked: dict[Identifier, set[str]], found: Component
) -> None:
    """Look up whom each identifier links."""
    if wanted:
        addresses = oldest(connection, hub, wanted)
        found.first_out |= {a: held.first_out for a, held in addresses.items() if held.first_out is not None}
        asked |= {(EMAIL, address): held.records for address, held in addresses.items()}
        asked |= claims.holders_of_each(connection, sorted(one for one in wanted if one[0] == USER_ID))
        asked |= {one: set() for one in wanted - asked.keys()}


def _identifiers(intervals: Iterable[Interval], blocked: Blocked) -> set[Identifier]:
    return {(i.kind, i.value) for i in intervals if i.kind in LINKING and not blocked(i.kind, i.value)}


def _node(record: Record, intervals: Sequence[Interval]) -> Node:
    anonymous = record.key.connection == "app" and record.key.type == "anonymous"
    return Node(
        key=record.key,
        user_id=record.user_id,
        intervals=intervals,
        anonymous=anonymous,
        counted=not anonymous and record.key.connection not in UNCOUNTED,
    )
