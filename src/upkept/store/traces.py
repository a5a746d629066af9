"""What the inbox holds about somebody, and blanking it.

Only rows whose work is over, and those that nobody can read: the others are refused when their turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from upkept.store import bulk
from upkept.store.inbox import Lowering
from upkept.store.row_key import parted


def over(connection: Connection, ids: Iterable[int]) -> list[int]:
    """Those of the rows whose work is over."""
    statement = "SELECT id FROM inbox WHERE state IN ('done', 'skipped', 'dead', 'given_up') AND id {set}"
    return sorted(row[0] for row in bulk.within(connection, statement, sorted(set(ids)), kind="bigint"))


def named(connection: Connection, keys: Iterable[str]) -> list[int]:
    """The rows of these keys, as consent statements carry them."""
    by_connection: dict[str, list[str]] = {}
    for key in keys:
        name, dedup_key = parted(key)
        by_connection.setdefault(name, []).append(dedup_key)
    statement = "SELECT id FROM inbox WHERE connection = ? AND dedup_key {set}"
    found = (bulk.within(connection, statement, sorted(own), extra=(name,)) for name, own in by_connection.items())
    return sorted(row[0] for rows in found for row in rows)


def blank(connection: Connection, ids: Iterable[int]) -> int:
    """Forget the bytes of these rows (erasure); that something arrived stays on record. How many."""
    return bulk.change_within(
        connection,
        "UPDATE inbox SET body = ?, reason = 'erased', "
        "state = CASE state WHEN 'dead' THEN 'skipped' WHEN 'given_up' THEN 'skipped' ELSE state END "
        "WHERE id {set}",
        ids, kind="bigint", extra=(b"",),
    )  # fmt: skip


def give_up(connection: Connection, ids: Iterable[int]) -> int:
    """Forget the bytes of rows that wait and that nobody can read (erasure), off the queue; how many."""
    return bulk.change_within(
        connection,
        "UPDATE inbox SET body = ?, reason = 'erased', state = 'skipped', lease_epoch = lease_epoch + 1 "
        "WHERE state IN ('new', 'claimed') AND id {set}",
        ids, kind="bigint", extra=(b"",),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Body:
    """A row of the inbox, to be read again."""

    id: int
    connection: str
    dedup_key: str
    kind: str
    body: bytes
    received_at: int
    state: str
    lowering: Lowering
    thin: bool
    attempts: int

    @property
    def waits(self) -> bool:
        """Is it still to be worked on?"""
        return self.state in ("new", "claimed")


_COLUMNS = "id, connection, dedup_key, kind, body, received_at, state, lowering, thin, attempts"


def told(connection: Connection, ids: Iterable[int]) -> list[Body]:
    """These rows, in order, whatever became of them."""
    statement = f"SELECT {_COLUMNS} FROM inbox WHERE id {{set}}"
    return sorted(
        (Body(*row) for row in bulk.within(connection, statement, sorted(ids), kind="bigint")), key=lambda row: row.id
    )


def bodies(connection: Connection, *, after: int, limit: int) -> Iterator[Body]:
    """Rows after id `after` that still have their bytes, in id order, one at a time."""
    rows = connection.exec_driver_sql(
        f"SELECT {_COLUMNS} FROM inbox WHERE id > {int(after)} AND length(body) > 0 ORDER BY id LIMIT {int(limit)}",
        execution_options={"yield_per": 50},
    )
    for row in rows:
        yield Body(*row)
