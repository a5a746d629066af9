"""Who else said it (R1): the further inbox rows that told what was known already.

A fact, a link, an event and a consent statement stand once, with the row that brought them first. When that row is
read anew or its run is undone, what it brought passes on to the next row that said the same; only what nobody else
said goes. What is told once costs nothing here.

A row that something passed on to stays listed; so whoever takes back what rows said calls `forget_rows` first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import Connection

from upkept.store import bulk, row_key
from upkept.store.tables import repeats

Kind = Literal["fact", "event", "link", "consent"]
Place = tuple[str, str]
"""(record id, id of what was said). A link stands at its first record; consent names none in the clear ("")."""
Told = tuple[str, str, int, str]
"""(record id, id, inbox row, what the id does not tell): of an event its name, time and metadata, of a link the reason,
of a fact or a consent statement its effective time, for that is never later than the arrival of the row (R3)."""

_PLACES: Final[Mapping[Kind, tuple[str, str, str]]] = {
    "fact": ("facts", "record", "fact_id"),
    "event": ("timeline", "record", "id"),
    "link": ("links", "a", "id"),
    "consent": ("consent", "''", "id"),
}
"""Where each kind stands: table, record and id."""


@dataclass(frozen=True, slots=True)
class Heir:
    """The next row that said it, and the run that row belongs to."""

    record: str
    id: str
    inbox: int
    doc: str
    run: int | None
    inbox_key: str


def further(told: Iterable[Told], new: Collection[Place]) -> Iterator[Told]:
    """What was told by rows that did not bring it: what is `new` was brought by the first row of `told` that has it."""
    first: dict[Place, int] = {}
    for one in told:
        record, id_, row, _ = one
        if (record, id_) not in new or first.setdefault((record, id_), row) != row:
            yield one


def note(connection: Connection, kind: Kind, told: Iterable[Told]) -> None:
    """Remember that these rows said it too."""
    unique = {(record, id_, row): (kind, record, id_, row, doc) for record, id_, row, doc in told}
    rows = [row for _, row in sorted(unique.items())]
    bulk.insert(connection, repeats, ("kind", "record", "id", "inbox", "doc"), rows, conflict="DO NOTHING")


def standing(connection: Connection, rows: Iterable[int]) -> set[tuple[Kind, str, str]]:
    """(kind, record id, id) of all that these rows said and that stands; of a link once for either record."""
    statement = f"""
        WITH mine AS (SELECT i.id, {row_key.IN_SQL} AS key FROM inbox i WHERE i.id {{set}})
        SELECT 'fact', f.record, f.fact_id FROM mine JOIN facts f ON f.inbox = mine.id
        UNION SELECT 'event', t.record, t.id FROM mine JOIN timeline t ON t.inbox = mine.id
        UNION SELECT 'link', l.a, l.id FROM mine JOIN links l ON l.inbox = mine.id
        UNION SELECT 'link', l.b, l.id FROM mine JOIN links l ON l.inbox = mine.id
        UNION SELECT 'consent', '', c.id FROM mine JOIN consent c ON c.inbox_key = mine.key
        UNION SELECT r.kind, r.record, r.id FROM mine JOIN repeats r ON r.inbox = mine.id
        UNION SELECT r.kind, l.b, r.id FROM mine JOIN repeats r ON r.inbox = mine.id
            JOIN links l ON r.kind = 'link' AND l.id = r.id
    """
    return {(row[0], row[1], row[2]) for row in bulk.within(connection, statement, sorted(rows), kind="bigint")}


def heirs(connection: Connection, kind: Kind, where: str, values: Iterable[Any], *, by: str) -> list[Heir]:
    """To whom what stands `where` (with one `{set}`, of SQL type `by`) passes on, if anybody else said it."""
    table, record, id_ = _PLACES[kind]
    statement = f"""
        WITH chosen AS (
            SELECT r.record, r.id, min(r.inbox) AS inbox FROM (SELECT {record} AS a, {id_} AS b FROM {table}
            WHERE {where}) AS s JOIN repeats r ON r.kind = '{kind}' AND r.record = s.a AND r.id = s.b
            GROUP BY r.record, r.id
        )
        SELECT r.record, r.id, r.inbox, r.doc, i.run, {row_key.IN_SQL} FROM chosen c
        JOIN repeats r ON r.kind = '{kind}' AND r.record = c.record AND r.id = c.id AND r.inbox = c.inbox
        JOIN inbox i ON i.id = r.inbox
    """
    found = (Heir(*row) for row in bulk.within(connection, statement, values, kind=by))
    return sorted(found, key=lambda heir: (heir.record, heir.id))


def forget_rows(connection: Connection, rows: Iterable[int], *, since: int | None = None) -> None:
    """These rows count no more as those that said something too, save the events that stand before `since`."""
    statement = "DELETE FROM repeats WHERE inbox {set}"
    if since is not None:
        statement += (
            " AND NOT (kind = 'event' AND EXISTS (SELECT 1 FROM timeline t WHERE t.record = repeats.record "
            f"AND t.id = repeats.id AND t.at < {int(since)}))"
        )
    bulk.change_within(connection, statement, sorted(rows), kind="bigint")


def inbox_ids(connection: Connection, record_ids: Iterable[str]) -> list[int]:
    """The inbox rows that said something of these records which another row had said before."""
    rows = bulk.within(connection, "SELECT DISTINCT inbox FROM repeats WHERE record {set}", sorted(record_ids))
    return sorted(row[0] for row in rows)


def forget_records(connection: Connection, record_ids: Iterable[str]) -> None:
    """Nobody said anything of these records (erasure, forget). Their links must still stand."""
    wanted = sorted(record_ids)
    bulk.change_within(connection, "DELETE FROM repeats WHERE record {set}", wanted)
    theirs = "DELETE FROM repeats WHERE kind = 'link' AND id IN (SELECT id FROM links WHERE b {set})"
    bulk.change_within(connection, theirs, wanted)


def forget_facts(connection: Connection, record: str, fact_ids: Iterable[str]) -> None:
    """A floor stands for these facts now (R4)."""
    statement = "DELETE FROM repeats WHERE kind = 'fact' AND record = ? AND id {set}"
    bulk.change_within(connection, statement, fact_ids, extra=(record,))


def hush(connection: Connection, subjects: Iterable[str]) -> set[str]:
    """Forget who else said the consent statements about these subjects (erasure); the keys of those rows."""
    wanted = sorted(subjects)
    said = "kind = 'consent' AND id IN (SELECT id FROM consent WHERE subject {set})"
    rows = f"SELECT DISTINCT {row_key.IN_SQL} FROM inbox i WHERE i.id IN (SELECT inbox FROM repeats WHERE {said})"
    keys = {row[0] for row in bulk.within(connection, rows, wanted)}
    bulk.change_within(connection, f"DELETE FROM repeats WHERE {said}", wanted)
    return keys
