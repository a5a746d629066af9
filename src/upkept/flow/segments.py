"""Segments that ask for the time change without any change of the person; they are asked again by schedule (R17)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from upkept.flow import view
from upkept.flow.hub import Hub
from upkept.people.predicate import time_based
from upkept.store import meta, people

STEP: Final = 2_000
"""People looked at in one step: a tenth of a second."""
PLACE: Final = "segments asked up to"


def due(hub: Hub, now: int) -> int:
    """Ask the time-based segments about the next people in turn; how many people changed. Call it as often as you like.

    Nothing is read where no segment asks for the time.
    """
    if not any(time_based(predicate) for predicate in hub.settings.segments.values()):
        return 0
    with hub.store.read() as connection:
        after = meta.read(connection, PLACE) or ""
        ids = people.everyone(connection, after=after, limit=STEP)
        stale = [
            id_ for id_, row in people.load(connection, ids).items() if view.segments(hub, row, now) != row.segments
        ]
    with hub.store.write() as connection:
        people.lock(connection, stale)
        current = people.load(connection, stale).values()
        moved = [replace(row, segments=view.segments(hub, row, now)) for row in current]
        people.save(connection, moved, now=now)
        meta.keep(connection, PLACE, ids[-1] if len(ids) == STEP else "")
    return len(moved)
