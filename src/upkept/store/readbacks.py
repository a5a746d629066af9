"""Wishes to read a record back from its vendor: one row per record, however many ties and late facts asked (R7)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from upkept.store import bulk
from upkept.store.tables import readbacks

LEASE = 120_000_000
"""How long a claimed read may take, in microseconds, before another courier may try."""

Wish = tuple[str, str, str, str, int]
"""(connection, type, source id, reason, due_at)."""


@dataclass(frozen=True, slots=True)
class Due:
    """A claimed wish. `lease_until` and `wishes` are its fence: a wish made meanwhile asks for another read."""

    connection: str
    type: str
    source_id: str
    reason: str
    due_at: int
    wishes: int
    attempts: int
    lease_until: int


_KEY = ("connection", "type", "source_id")
_COLUMNS = (*_KEY, "reason", "due_at")


def wish(connection: Connection, rows: Iterable[Wish]) -> None:
    """Ask for a record to be read at `due_at`; of two wishes for one record the earlier time stands."""
    earliest: dict[tuple[str, str, str], Wish] = {}
    for row in rows:
        if row[:3] not in earliest or row[4] < earliest[row[:3]][4]:
            earliest[row[:3]] = row
    sooner = "min(readbacks.due_at, excluded.due_at)"
    if bulk.on_postgresql(connection):
        sooner = "least(readbacks.due_at, excluded.due_at)"
    bulk.insert(
        connection, readbacks, _COLUMNS, sorted(earliest.values()),
        conflict=f"({', '.join(_KEY)}) DO UPDATE SET wishes = readbacks.wishes + 1, due_at = {sooner}",
    )  # fmt: skip


def claim(connection: Connection, *, now: int, limit: int, passed_over: Collection[str] = ()) -> list[Due]:
    """Lease up to `limit` wishes whose time has come, earliest first; connections in `passed_over` wait."""
    on_postgresql = bulk.on_postgresql(connection)
    mark = "%b" if on_postgresql else "?"
    others = f" AND connection NOT IN ({', '.join([mark] * len(passed_over))})" if passed_over else ""
    skip = " FOR UPDATE SKIP LOCKED" if on_postgresql else ""
    key = f"({', '.join(_KEY)})"
    rows = connection.exec_driver_sql(
        f"UPDATE readbacks SET lease_until = {int(now + LEASE)} WHERE {key} IN ("
        f"SELECT {', '.join(_KEY)} FROM readbacks WHERE due_at <= {int(now)} "
        f"AND (lease_until IS NULL OR lease_until < {int(now)}){others} ORDER BY due_at LIMIT {int(limit)}{skip}) "
        f"RETURNING {', '.join(_COLUMNS)}, wishes, attempts, lease_until",
        tuple(sorted(passed_over)),
    )
    return sorted((Due(*row) for row in rows), key=lambda due: (due.due_at, due.connection, due.type, due.source_id))


def settle(connection: Connection, due: Due, *, again_at: int) -> bool:
    """The record was read. A wish made since the claim stays, for `again_at`. False: the lease was lost."""
    gone = connection.execute(readbacks.delete().where(*_held(due), readbacks.c.wishes == due.wishes)).rowcount
    return bool(gone) or postpone(connection, due, due_at=again_at, attempts=0)


def postpone(connection: Connection, due: Due, *, due_at: int, attempts: int) -> bool:
    """Give the wish back for later. False: the lease was lost."""
    values = {"due_at": due_at, "attempts": attempts, "lease_until": None}
    return bool(connection.execute(readbacks.update().where(*_held(due)).values(values)).rowcount)


def drop(connection: Connection, due: Due) -> None:
    """Give the wish up: there is nothing to read it from."""
    connection.execute(readbacks.delete().where(*_held(due)))


def remove(connection: Connection, keys: Iterable[tuple[str, str, str]]) -> None:
    """Take back every wish about these records (erasure, forget)."""
    for name, type_, source in keys:
        connection.execute(
            readbacks.delete().where(
                readbacks.c.connection == name, readbacks.c.type == type_, readbacks.c.source_id == source
            )
        )


def due_by(connection: Connection, name: str, *, at: int) -> int:
    """How many wishes of one connection are due by `at`."""
    query = select(func.count()).where(readbacks.c.connection == name, readbacks.c.due_at <= at)
    return int(connection.execute(query.select_from(readbacks)).scalar_one())


def waiting(connection: Connection) -> Sequence[tuple[str, int]]:
    """(connection, wishes that wait), for `status`."""
    rows = connection.exec_driver_sql("SELECT connection, count(*) FROM readbacks GROUP BY connection ORDER BY 1")
    return [(row[0], row[1]) for row in rows]


def _held(due: Due) -> tuple[ColumnElement[bool], ...]:
    return (
        readbacks.c.connection == due.connection,
        readbacks.c.type == due.type,
        readbacks.c.source_id == due.source_id,
        readbacks.c.lease_until == due.lease_until,
    )
