"""What is due and nobody works on: the sweeper's look at inbox, runs and read-backs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, exists, select

from upkept.store.bulk import change_within
from upkept.store.tables import readbacks, runs

QUIET = 10_000_000
"""How long a first bell is given, in microseconds, before its row is offered again."""
AGAIN = 20_000_000
"""How long an offer is given, beside `QUIET`, before the next one."""


def inbox_rows(
    connection: Connection, *, now: int, limit: int, bulk: bool = False, offered: bool = False
) -> list[Row[Any]]:
    """(id, lane, thin, received_at, attempts) of rows to offer again, of `bulk` or of the other lanes, the longest
    waiting first.

    A row is due when it is `new` and older than `QUIET`, when its retry has come, or when its lease is dead. `offered`
    ones are no more waited for: of a row that was never tried, `next_attempt_at` only tells when it is offered again.
    """
    free = f"(attempts = 0 OR next_attempt_at <= {int(now)}) "
    quiet = f"next_attempt_at <= {int(now)} AND (next_attempt_at <= {int(now) - QUIET} OR attempts > 0) "
    # `queue` is written out: with a bound parameter no partial index can be used.
    statement = (
        "SELECT id, lane, thin, received_at, attempts FROM inbox "
        f"WHERE queue = 'open' AND {free if offered else quiet}"
        f"AND lane {'=' if bulk else '<>'} 'bulk' AND (state = 'new' OR lease_until < {int(now)}) "
        f"ORDER BY next_attempt_at, id LIMIT {int(limit)}"
    )
    return list(connection.exec_driver_sql(statement))


def inbox_offered(connection: Connection, ids: Sequence[int], *, now: int) -> None:
    """These are about to be rung: leave them be for a while. A row that was worked on in between keeps its own time."""
    # Not by `queue`, for the reason told at inbox.claim.
    change_within(
        connection,
        "UPDATE inbox SET next_attempt_at = ? WHERE next_attempt_at <= ? "
        "AND state IN ('new', 'claimed') AND id {set}",
        sorted(ids), kind="bigint", extra=(now + AGAIN, now),
    )  # fmt: skip


def inbox_not_offered(connection: Connection, ids: Sequence[int], *, now: int) -> None:
    """What was to be rung at `now` could not be: it is due again at once."""
    change_within(
        connection,
        "UPDATE inbox SET next_attempt_at = ? WHERE next_attempt_at = ? AND id {set}",
        sorted(ids), kind="bigint", extra=(now - QUIET, now + AGAIN),
    )  # fmt: skip


def open_runs(connection: Connection, *, now: int, limit: int) -> list[tuple[int, str, str | None]]:
    """(id, kind, who steps it or None) of runs that are not finished and whose time has come."""
    due = select(runs.c.id, runs.c.kind, runs.c.holder, runs.c.lease_until).where(
        runs.c.finished_at.is_(None), runs.c.next_attempt_at <= now
    )
    rows = connection.execute(due.order_by(runs.c.next_attempt_at, runs.c.id).limit(limit))
    return [
        (row.id, row.kind, row.holder if row.lease_until is not None and row.lease_until >= now else None)
        for row in rows
    ]


def any_readback(connection: Connection, *, now: int) -> bool:
    """Is there a record to read back?"""
    due = exists().where(readbacks.c.due_at <= now, readbacks.c.lease_until.is_(None) | (readbacks.c.lease_until < now))
    return bool(connection.scalar(select(due)))
