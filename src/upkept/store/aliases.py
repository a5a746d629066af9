"""Old ids whose record went while its person lived on through others: each leads to one of these (R15).

Nothing of what the record said is left in it: two ids, which are keyed hashes. A record that comes back bears its own
id again, and its row here counts no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from upkept.store import bulk
from upkept.store.tables import aliases


def leads_to(connection: Connection, id_: str) -> str | None:
    """The record that an id leads to whose own record went; it need not stand any more."""
    return connection.scalar(aliases.select().with_only_columns(aliases.c.record).where(aliases.c.id == id_))


def of(connection: Connection, record_ids: Iterable[str]) -> list[str]:
    """The ids of records that went and that lead to these."""
    statement = (
        "SELECT id FROM aliases WHERE NOT EXISTS (SELECT 1 FROM records WHERE records.id = aliases.id) AND record {set}"
    )
    return [row[0] for row in bulk.within(connection, statement, record_ids)]


def pass_on(connection: Connection, gone: Iterable[str], heirs: Mapping[str, str]) -> None:
    """The records `gone` went; their ids, and those that led to them, lead to their heirs from now on.

    Where nobody is left, what led to a record goes on naming it: it may come back (forgotten, then pulled again).
    """
    led = bulk.within(connection, "SELECT id, record FROM aliases WHERE record {set}", sorted(heirs))
    rows = {**{id_: heirs[record] for id_, record in led}, **heirs}
    bulk.change_within(connection, "DELETE FROM aliases WHERE id {set}", sorted(gone))
    conflict = "(id) DO UPDATE SET record = excluded.record"
    found = sorted((id_, record) for id_, record in rows.items() if id_ != record)
    bulk.insert(connection, aliases, ("id", "record"), found, conflict=conflict)


def remove(connection: Connection, ids: Iterable[str]) -> None:
    """Leave nothing of these records' ids, nor of those that led to them (erasure)."""
    wanted = sorted(ids)
    for side in ("id", "record"):
        bulk.change_within(connection, f"DELETE FROM aliases WHERE {side} {{set}}", wanted)
