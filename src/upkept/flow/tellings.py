"""Tellings: what happened to people, owed to the destinations whose rule names it (SEMANTICS R16, R18).

An event is owed from the transaction that brings it: what stood before the rule did is never told, nor what a replay
says again. It goes on one record of the person's, to which it is bound until it was told; while there is none, it waits
for as long as it is news. A destination is never told what it said itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import structlog
from sqlalchemy import Connection as OpenStore

from upkept.contract import WITHDRAWN, Happened
from upkept.flow.hub import Hub
from upkept.flow.plan import Plan
from upkept.log import SECRET_NAMES
from upkept.people.facts import DAY, decode, from_us
from upkept.registry import Connection
from upkept.store import tellings
from upkept.store.records import Record
from upkept.store.tellings import Place, Telling

log = structlog.get_logger(__name__)

NEWS: Final = 3 * DAY
"""So old an event may be when it comes, and wait for a record to be noted on (R18)."""
MOST_A_DAY: Final = 50
"""Events of one record and day (UTC) that one destination is told of: a program that runs wild floods nobody."""


def note(connection: OpenStore, hub: Hub, plan: Plan, happened: Collection[tuple[str, str]], *, now: int) -> set[str]:
    """Of the events that just came to stand, those that others must know; the records that they are about."""
    asked = [one for one in hub.destinations if one.tells]
    if not asked or not happened:
        return set()
    fresh: dict[Place, int] = {}
    for (record, id_, name, at, *_), _ in plan.events:
        if (record, id_) in happened and at >= now - NEWS:
            source = plan.records[record][0].connection
            told = (one.name for one in asked if name in one.tells and one.name != source)
            fresh.update((Place(record, id_, destination), at) for destination in told)
    kept = list(_bounded(connection, fresh, now))
    tellings.add(connection, kept)
    return {place.record for place, _ in kept}


def _bounded(connection: OpenStore, fresh: dict[Place, int], now: int) -> Iterator[tuple[Place, int]]:
    held: Counter[tuple[str, str, int]] = Counter()
    if fresh:
        held.update(tellings.counts(connection, {place.record for place in fresh}, since=now - NEWS))
    beyond: Counter[tuple[str, str, int]] = Counter()
    for place, at in sorted(fresh.items(), key=lambda one: (one[1], one[0])):
        day = (place.record, place.destination, at // DAY)
        if held[day] < MOST_A_DAY:
            held[day] += 1
            yield place, at
        else:
            beyond[day] += 1
    for (record, destination, _), events in beyond.items():
        log.warning("events_not_told", destination=destination, record=record, events=events,
                    cure=f"none: of one record no more than {MOST_A_DAY} events of a day are told")  # fmt: skip


def due(destination: Connection, theirs: Sequence[Record], untold: Sequence[Telling], *, now: int
        ) -> Iterator[tuple[Telling, Record]]:  # fmt: skip
    """What the destination is to be told now, oldest first, each with the record of `theirs` to note it on."""
    on = destination.connector.told_on
    able = {record.id: record for record in theirs if record.key.type in on}
    best = max(able.values(), key=lambda one: (-on.index(one.key.type), one.issued_at, one.key), default=None)
    for one in untold:
        if best is None or one.place.destination != destination.name or one.name not in destination.tells:
            continue
        if one.target in able or one.at >= now - NEWS:
            yield one, able.get(one.target or "", best)


def event(one: Telling) -> Happened:
    """The event in the words of the contract, without what is named like a secret."""
    decoded = {name: decode(value) for name, value in one.metadata.items() if not SECRET_NAMES.search(name)}
    said = {name: value for name, value in decoded.items() if value is not WITHDRAWN}
    return Happened(name=one.name, at=from_us(one.at), source=one.source, metadata=said)
