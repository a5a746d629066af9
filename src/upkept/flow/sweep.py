"""Sweep: offer again whatever is due and nobody works on, and work inline where no worker hears.

A broker loses messages, a worker dies between claim and commit, a retry's time comes: all of them are rows in
SQL whose time has come. The sweeper finds them; it is what makes the broker a mere doorbell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from upkept.flow.bells import IDS_PER_BELL, Bell, bells_for
from upkept.flow.hub import Hub
from upkept.flow.runs import is_gone
from upkept.store import due, outbox

LIMIT = 10_000
"""Rows offered in one sweep: more than the workers apply until the next one, which goes on behind them."""
LIMIT_OF_BULK = 2_000
"""The same of a walk's rows, which wait behind each other for minutes. Their own bells are still to come, so what is
offered again says mostly what is done by then: more of it would keep the worker from the bells that bring something."""
TOGETHER = 2_000
"""Rows noted as offered in one transaction, to keep it short."""
RUNS = 100
UNCLAIMED = 90_000_000
"""Microseconds after which a row that was offered again and again is applied by the sweeper itself."""


@dataclass(frozen=True, slots=True)
class Due:
    """What waits: inbox ids, the bells that offer it all again, and the ids nobody took although they were offered."""

    ids: tuple[int, ...]
    bells: tuple[Bell, ...]
    unclaimed: tuple[int, ...]


def look(hub: Hub, *, now: int, alone: bool = False) -> Due:
    """What is due now; where nobody hears a bell (`alone`), what was offered just now too. Nothing is changed."""
    with hub.store.read() as connection:
        rows = due.inbox_rows(connection, now=now, limit=LIMIT, offered=alone)
        rows += due.inbox_rows(connection, now=now, limit=LIMIT if alone else LIMIT_OF_BULK, bulk=True, offered=alone)
        runs = due.open_runs(connection, now=now, limit=RUNS)
        readbacks = due.any_readback(connection, now=now)
        owed = outbox.due(connection, now=now)
    bells = bells_for((row.id, row.lane) for row in rows if not row.thin)
    bells += bells_for(((row.id, "outbound") for row in rows if row.thin), task="fetch")
    bells += [
        Bell("outbound" if kind == "resync" else "bulk", "run", (run,))
        for run, kind, holder in runs
        if holder is None or is_gone(holder)
    ]
    bells += [Bell("outbound", "read_back", ())] if readbacks else []
    bells += [Bell("outbound", "push", (row,)) for _, row in owed]
    unclaimed = [
        row.id for row in rows
        if not row.thin and row.lane != "bulk" and row.attempts == 0 and row.received_at < now - UNCLAIMED
    ]  # fmt: skip
    return Due(tuple(row.id for row in rows), tuple(bells), tuple(unclaimed[:IDS_PER_BELL]))


def offered(hub: Hub, found: Due, *, now: int) -> None:
    """Its bells are about to be rung: the rows are left alone until the next offer is due.

    This comes first: a worker that heard a bell while the rows are locked here would pass over them, and the bell
    would be spent.
    """
    for ids in _parts(found):
        with hub.store.write() as connection:
            due.inbox_offered(connection, ids, now=now)


def not_offered(hub: Hub, found: Due, *, now: int) -> None:
    """Not all of its bells could be rung: the next sweep offers it."""
    for ids in _parts(found):
        with hub.store.write() as connection:
            due.inbox_not_offered(connection, ids, now=now)


def _parts(found: Due) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(found.ids), TOGETHER):
        yield found.ids[start : start + TOGETHER]
