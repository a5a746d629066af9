"""Prune: deliveries whose work is over and events of long ago go, and nothing that anybody was told changes.

Facts, consent, links and identifier intervals are no part of it (facts are compacted, R4). Counts of events stay (R16),
and so do deliveries that are dead or wait, and those of runs whose facts are still apart. A delivery that came again
must change nothing. Where every time in it is the sender's, it says what is known already, so it may go whole; one that
has only the time of its arrival would be news, so its key stays to recognise it by. An event is known by its row only,
so what happened before the horizon is closed: it is not taken any more, whether it was pruned or never seen, and makes
no record stand. A replay does not withdraw it either; an undo, a forget and an erasure withdraw what still stands.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection

from upkept.contract import Fact, Statement
from upkept.flow.hub import Hub
from upkept.flow.plan import Plan
from upkept.flow.traces import says
from upkept.people.facts import DAY, to_us
from upkept.settings import SHORTEST_DAYS
from upkept.store import meta, pruning, runs, tellings, traces
from upkept.store.pruning import Row
from upkept.store.traces import Body

DELIVERIES_PLACE: Final = "deliveries pruned up to"
EVENTS_PLACE: Final = "events pruned up to"
EVENTS_UNTIL: Final = "events pruned before"
READ: Final = "read."


def deliveries(hub: Hub, *, now: int, limit: int) -> int:
    """Look at the next `limit` deliveries and prune the old ones, in one transaction. 0: none that is old is left.

    Like compaction it remembers where it stands, so any process may call it, at any time.
    """
    if not hub.settings.inbox_days:
        return 0
    before = now - hub.settings.inbox_days * DAY
    with hub.store.read() as connection:
        recent = runs.first_since(connection, now - hub.settings.floor_days * DAY)
        after = int(meta.read(connection, DELIVERIES_PLACE) or 0)
        page = pruning.deliveries(connection, after=after, limit=limit)
        old = [row for row in page if _over(row, before, recent)]
        bodies = {body.id: body for body in traces.told(connection, [row.id for row in old])}
    old = [row for row in old if row.id in bodies]  # the others were forgotten between the two looks
    husks = {row.id for row in old if not _comes_again_unchanged(hub, row, bodies[row.id])}
    ended = not any(row.received_at < before for row in page)
    with hub.store.write() as connection:
        gone = pruning.remove(connection, {row.id for row in old} - husks, husks)
        if gone:
            pruning.count(connection, pruning.DELIVERIES, gone)
        meta.keep(connection, DELIVERIES_PLACE, "0" if ended else str(page[-1].id))
    return 0 if ended else len(page)


def _over(row: Row, before: int, recent: int | None) -> bool:
    of_a_run_apart = row.run is not None and recent is not None and row.run >= recent
    return row.state in ("done", "skipped") and not row.blank and row.received_at < before and not of_a_run_apart


def _comes_again_unchanged(hub: Hub, row: Row, body: Body) -> bool:
    """Would this delivery say nothing new if it came again without its row?"""
    if row.kind.startswith(READ) or row.thin:
        return True  # we asked for it, and would ask anew
    if row.run is not None:
        return False  # the run may have been undone: it must not be said again
    if row.state == "skipped":
        return True
    said = says(hub, body)
    return said is not None and all(_dated(one, row.received_at) for one in said)


def _dated(said: Statement, received_at: int) -> bool:
    """Is its time the sender's own? One that was ahead of ours was replaced by the time of arrival (R3)."""
    time = said.observed_at if isinstance(said, Fact) else said.at
    return time is not None and to_us(time) <= received_at


def events(hub: Hub, *, now: int, limit: int) -> int:
    """Look at the next `limit` events and prune those of long ago, in one transaction. 0: the walk is over.

    A walk prunes up to the horizon that the walk before it announced, so no batch that was under way at that moment
    can take an event that goes now.
    """
    if not hub.settings.timeline_days:
        return 0
    with hub.store.write() as connection:
        place = meta.read(connection, EVENTS_PLACE) or ""
        if not place:
            _announce(connection, now - hub.settings.timeline_days * DAY)
        until = int(meta.read(connection, EVENTS_UNTIL) or 0)
        if not place:
            tellings.prune(connection, before=until)
        record, _, id_ = place.partition("\x1f")
        page = pruning.events(connection, after=(record, id_), limit=limit) if until else []
        recent = runs.first_since(connection, now - hub.settings.floor_days * DAY)
        gone = [one for one in page if one[2] < until and not (one[3] and recent is not None and one[3] >= recent)]
        pruning.remove_events(connection, gone)
        if gone:
            pruning.count(connection, pruning.EVENTS, len(gone))
        meta.keep(connection, EVENTS_PLACE, "\x1f".join(page[-1][:2]) if page else "")
    return len(page)


def _announce(connection: Connection, horizon: int) -> None:
    """From now on no event from before the horizon is taken. It never moves back: what was pruned stays so."""
    announced = pruning.horizon(connection)
    meta.keep(connection, EVENTS_UNTIL, str(announced or 0))
    meta.keep(connection, pruning.HORIZON, str(max(horizon, announced or horizon)))


def leave_out(connection: Connection, plan: Plan, *, now: int) -> None:
    """Take events from before the horizon out of a batch: they may have been counted and pruned."""
    if any(event[3] < now - SHORTEST_DAYS * DAY for event, _ in plan.events):
        horizon = pruning.horizon(connection)
        if horizon is not None:
            plan.leave_out(horizon)
