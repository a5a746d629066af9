"""What grew old: deliveries whose work is over, and events that were counted. Counts of what went stay."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam

from upkept.store import bulk, meta
from upkept.store.tables import meta as meta_table
from upkept.store.tables import repeats, timeline

DELIVERIES: Final = "pruned deliveries"
EVENTS: Final = "pruned events"
HORIZON: Final = "events taken from"
HUSK: Final = "pruned: its bytes are gone, its key stays"


@dataclass(frozen=True, slots=True)
class Row:
    """A delivery, without its bytes. `blank`: it has none any more."""

    id: int
    kind: str
    state: str
    received_at: int
    run: int | None
    thin: bool
    blank: bool


def deliveries(connection: Connection, *, after: int, limit: int) -> list[Row]:
    """The next deliveries behind `after`, in order."""
    rows = connection.exec_driver_sql(
        "SELECT id, kind, state, received_at, run, thin, length(body) = 0 FROM inbox "
        f"WHERE id > {int(after)} ORDER BY id LIMIT {int(limit)}"
    )
    return [Row(row[0], row[1], row[2], row[3], row[4], bool(row[5]), bool(row[6])) for row in rows]


def remove(connection: Connection, gone: Collection[int], husks: Collection[int]) -> int:
    """Remove deliveries and empty others, if their work is still over; how many. One that said what another had said
    before is emptied only: what the other brought may pass on to it (`store.repeats`)."""
    again = "SELECT DISTINCT inbox FROM repeats WHERE inbox {set}"
    heirs = {row[0] for row in bulk.within(connection, again, sorted(gone), kind="bigint")}
    over = "state IN ('done', 'skipped')"
    removed = bulk.change_within(
        connection, f"DELETE FROM inbox WHERE {over} AND id {{set}}", sorted(set(gone) - heirs), kind="bigint"
    )
    emptied = bulk.change_within(
        connection, f"UPDATE inbox SET body = ?, reason = ? WHERE {over} AND id {{set}}",
        sorted(heirs | set(husks)), kind="bigint", extra=(b"", HUSK),
    )  # fmt: skip
    return removed + emptied


Event = tuple[str, str, int, int | None]
"""(record id, event id, at, the run whose delivery brought it)."""


def events(connection: Connection, *, after: tuple[str, str], limit: int) -> list[Event]:
    """The next events behind `after`, by record and id."""
    mark = "%b" if bulk.on_postgresql(connection) else "?"
    rows = connection.exec_driver_sql(
        f"SELECT t.record, t.id, t.at, i.run FROM (SELECT record, id, at, inbox FROM timeline "
        f"WHERE (record, id) > ({mark}, {mark}) ORDER BY record, id LIMIT {int(limit)}) AS t "
        "LEFT JOIN inbox i ON i.id = t.inbox ORDER BY t.record, t.id",
        after,
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


def remove_events(connection: Connection, gone: Sequence[Event]) -> None:
    """Remove events and leave their counts (R16); who else told of them is forgotten too."""
    if not gone:
        return
    rows = [{"r": record, "e": id_} for record, id_, *_ in gone]
    connection.execute(
        timeline.delete().where(timeline.c.record == bindparam("r"), timeline.c.id == bindparam("e")), rows
    )
    told = (repeats.c.kind == "event", repeats.c.record == bindparam("r"), repeats.c.id == bindparam("e"))
    connection.execute(repeats.delete().where(*told), rows)


def count(connection: Connection, name: str, rows: int) -> None:
    """So many more went."""
    bulk.insert(
        connection, meta_table, ("name", "value"), [(name, str(rows))],
        conflict="(name) DO UPDATE SET "
        "value = CAST(CAST(meta.value AS BIGINT) + CAST(excluded.value AS BIGINT) AS TEXT)",
    )  # fmt: skip


def counts(connection: Connection) -> dict[str, int]:
    """How much went since the installation: `deliveries` and `events`."""
    return {
        name.rpartition(" ")[2]: int(meta.read(connection, name) or 0)
        for name in (DELIVERIES, EVENTS)
    }  # fmt: skip


def horizon(connection: Connection) -> int | None:
    """Events from before this moment are not taken any more: they may have been pruned. None: all are taken."""
    announced = meta.read(connection, HORIZON)
    return None if announced is None else int(announced)
