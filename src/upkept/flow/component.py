"""Which records are one person: the touched component, read after its locks are held (R13, R14)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sqlalchemy import Connection

from upkept.contract import Retryable
from upkept.people.identity import Blocked, Node, Resolution, resolve
from upkept.people.values import Interval, LinkFact
from upkept.store import claims
from upkept.store.claims import Identifier
from upkept.store.engine import Contended
from upkept.store.records import Record

T = TypeVar("T")

TRIES = 10
UNCOUNTED = frozenset({"api", "console", "csv", "rules"})
"""Our own doors do not count towards the ten records a weak link may gather (R14)."""

LINKING = frozenset({"email", "user_id"})


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
    """Everything that could be one person with the seeds: record ids, their intervals, and explicit links."""

    intervals: dict[str, Sequence[Interval]] = field(default_factory=dict)
    links: dict[str, tuple[str, str, int, str, bool, str]] = field(default_factory=dict)


def closure(
    connection: Connection, seeds: Iterable[str], fresh: Mapping[str, Sequence[Interval]], blocked: Blocked
) -> Component:
    """Follow identifiers and links from `seeds`; `fresh` are intervals that are not written yet."""
    at_hand: dict[Identifier, set[str]] = {}
    for record, intervals in fresh.items():
        for identifier in _identifiers(intervals, blocked):
            at_hand.setdefault(identifier, set()).add(record)
    found = Component()
    asked: set[Identifier] = set()
    frontier = set(seeds)
    while frontier:
        stored = claims.of(connection, sorted(frontier - fresh.keys()))
        for record in frontier:
            found.intervals[record] = fresh[record] if record in fresh else stored.get(record, [])
        wanted = {i for record in frontier for i in _identifiers(found.intervals[record], blocked)} - asked
        asked |= wanted
        links = claims.links_of(connection, sorted(frontier))
        found.links |= links
        reached = claims.holders(connection, sorted(wanted))
        reached.update(*(at_hand.get(identifier, ()) for identifier in wanted))
        reached.update(end for link in links.values() for end in link[:2])
        frontier = reached - found.intervals.keys()
    return found


def settle(
    component: Component, records: Mapping[str, Record], *, link_unverified: bool, blocked: Blocked
) -> Resolution:
    """Decide the component from its sorted links; raises `Outgrown` unless every record of it is at hand."""
    if not records.keys() >= component.intervals.keys():
        raise Outgrown(frozenset(component.intervals))
    nodes = [_node(records[id_], intervals) for id_, intervals in sorted(component.intervals.items())]
    links = [
        LinkFact(id_, records[a].key, records[b].key, at, strength, cut, reason)  # type: ignore[arg-type]
        for id_, (a, b, at, strength, cut, reason) in sorted(component.links.items())
    ]
    return resolve(nodes, links, link_unverified=link_unverified, blocked=blocked)


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
