"""Who was erased: keyed hashes of record keys and identifiers, kept for ever."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from upkept.people.erasure import Tombstone
from upkept.store import bulk
from upkept.store.tables import tombstones


def beside_others(connection: Connection) -> None:
    """An erasure waits for this transaction, so none can commit between a look at the tombstones and its effects."""
    if bulk.on_postgresql(connection):
        connection.exec_driver_sql("LOCK TABLE tombstones IN ROW SHARE MODE")


def alone(connection: Connection) -> None:
    """Wait for every transaction that is `beside_others`, and let none begin before this one ends."""
    if bulk.on_postgresql(connection):
        connection.exec_driver_sql("LOCK TABLE tombstones IN EXCLUSIVE MODE")


def standing(connection: Connection) -> bool:
    """Is there any tombstone at all? Lets the usual batch skip the hashing."""
    return connection.exec_driver_sql("SELECT 1 FROM tombstones LIMIT 1").first() is not None


def about(connection: Connection, subjects: Iterable[str]) -> list[Tombstone]:
    """The tombstones of these keyed hashes."""
    statement = "SELECT kind, subject, at FROM tombstones WHERE subject {set}"
    return [Tombstone(row[0], row[1], row[2]) for row in bulk.within(connection, statement, subjects)]


def lay(connection: Connection, new: Sequence[Tombstone]) -> None:
    """Lay tombstones; the newest time of one subject counts."""
    rows = sorted({(t.kind, t.subject): (t.kind, t.subject, t.at) for t in sorted(new, key=lambda t: t.at)}.values())
    larger = "GREATEST" if bulk.on_postgresql(connection) else "max"
    bulk.insert(
        connection, tombstones, ("kind", "subject", "at"), rows,
        conflict=f"(kind, subject) DO UPDATE SET at = {larger}(tombstones.at, excluded.at)",
    )  # fmt: skip


def everything(connection: Connection) -> list[Tombstone]:
    """The whole log, for backups: after a restore it is laid first, before any replay."""
    rows = connection.execute(tombstones.select().order_by(tombstones.c.kind, tombstones.c.subject))
    return [Tombstone(row[0], row[1], row[2]) for row in rows]
