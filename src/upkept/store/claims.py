"""Identifiers: who held which when, the rows two workers lock to see each other's claims, and explicit links."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from sqlalchemy import Connection

from upkept.people.values import Interval, LinkFact
from upkept.store import bulk, repeats
from upkept.store.tables import claims, conflicts, identifiers, links

Identifier = tuple[str, str]
"""(kind, normalized value)."""


def lock(connection: Connection, wanted: Iterable[Identifier]) -> None:
    """Insert or lock identifier rows, in order; held until the transaction ends."""
    rows = sorted(set(wanted))
    bulk.insert(
        connection, identifiers, ("kind", "value"), rows, conflict="(kind, value) DO UPDATE SET kind = excluded.kind"
    )


def lock_held(connection: Connection, record_ids: Iterable[str]) -> None:
    """Lock all that these records ever held: folded again, they may hold what somebody else states at this moment."""
    lock(connection, ever(connection, record_ids))


def ever(connection: Connection, record_ids: Iterable[str]) -> set[Identifier]:
    """What these records hold or ever held."""
    statement = "SELECT DISTINCT kind, value FROM claims WHERE record {set}"
    return {(row[0], row[1]) for row in bulk.within(connection, statement, sorted(record_ids))}


def forget(connection: Connection, gone: Iterable[Identifier]) -> None:
    """Remove the lockable rows of identifiers that nobody holds any more (erasure)."""
    by_kind: dict[str, list[str]] = {}
    for kind, value in gone:
        by_kind.setdefault(kind, []).append(value)
    for kind, values in sorted(by_kind.items()):
        statement = "DELETE FROM identifiers WHERE kind = ? AND value {set}"
        bulk.change_within(connection, statement, sorted(values), extra=(kind,))


def open_by_record(connection: Connection, record_ids: Iterable[str]) -> dict[str, set[Identifier]]:
    """What each record holds now."""
    found: dict[str, set[Identifier]] = {}
    statement = "SELECT record, kind, value FROM claims WHERE end_at IS NULL AND record {set}"
    for record, kind, value in bulk.within(connection, statement, record_ids):
        found.setdefault(record, set()).add((kind, value))
    return found


def of(connection: Connection, record_ids: Iterable[str]) -> dict[str, list[Interval]]:
    """Every interval of these records."""
    found: dict[str, list[Interval]] = {}
    statement = "SELECT record, kind, value, start_at, end_at, verified FROM claims WHERE record {set}"
    for record, kind, value, start, end, verified in bulk.within(connection, statement, record_ids):
        found.setdefault(record, []).append(Interval(kind, value, start, end, bool(verified)))
    return found


def holders(connection: Connection, wanted: Iterable[Identifier], *, verified: bool = False) -> set[str]:
    """Records that hold or ever held one of these identifiers; `verified` leaves out mere assertions."""
    by_kind: dict[str, list[str]] = {}
    for kind, value in wanted:
        by_kind.setdefault(kind, []).append(value)
    statement = f"SELECT record FROM claims WHERE kind = ? {'AND verified ' if verified else ''}AND value {{set}}"
    return {
        row[0] for kind, values in by_kind.items() for row in bulk.within(connection, statement, values, extra=(kind,))
    }


def current_and_past(connection: Connection, kind: str, value: str) -> tuple[set[str], set[str]]:
    """Records that hold the identifier now, and those that held it once."""
    now: set[str] = set()
    past: set[str] = set()
    query = claims.select().with_only_columns(claims.c.record, claims.c.end_at)
    for record, end in connection.execute(query.where(claims.c.kind == kind, claims.c.value == value)):
        (now if end is None else past).add(record)
    return now, past - now


def open_contacts(connection: Connection) -> Iterator[tuple[str, str, str]]:
    """(kind, value, record) of every address and number held now."""
    query = "SELECT kind, value, record FROM claims WHERE end_at IS NULL AND kind IN ('email', 'phone')"
    for row in connection.exec_driver_sql(query, execution_options={"yield_per": 5_000}):
        yield row[0], row[1], row[2]


def replace(connection: Connection, intervals: Mapping[str, Sequence[Interval]]) -> None:
    """Write these records' intervals in place of what stood there."""
    bulk.change_within(connection, "DELETE FROM claims WHERE record {set}", intervals)
    rows = sorted(
        {
            (i.kind, i.value, record, i.start): (i.kind, i.value, record, i.start, i.end, i.verified)
            for record, held in intervals.items()
            for i in held
        }.values()
    )
    columns = ("kind", "value", "record", "start_at", "end_at", "verified")
    bulk.insert(connection, claims, columns, rows)


StoredLink = tuple[str, str, LinkFact, int | None]
"""(record id a, record id b, link, inbox row). A teammate's word came in no row."""


def add_links(connection: Connection, new: Sequence[StoredLink]) -> set[repeats.Place]:
    """Store explicit links; the (record a, id) of those that were news."""
    unique = {link.id: (a, b, link, inbox) for a, b, link, inbox in reversed(new)}
    rows = [
        (link.id, a, b, link.at, link.strength, link.cut, link.reason, inbox)
        for _, (a, b, link, inbox) in sorted(unique.items())
    ]
    columns = ("id", "a", "b", "at", "strength", "cut", "reason", "inbox")
    found = bulk.insert(connection, links, columns, rows, conflict="(id) DO NOTHING", returning="a, id")
    return {(row[0], row[1]) for row in found}


def inbox_ids(connection: Connection, record_ids: Iterable[str]) -> list[int]:
    """The inbox rows that brought links of these records."""
    wanted = sorted(record_ids)
    sides = (f"SELECT inbox FROM links WHERE inbox IS NOT NULL AND {side} {{set}}" for side in ("a", "b"))
    return sorted({row[0] for statement in sides for row in bulk.within(connection, statement, wanted)})


def remove_links(connection: Connection, inbox_rows: Collection[int]) -> set[str]:
    """Withdraw the links that these inbox rows brought and no other said; the records at their ends.

    What another row said too belongs to that one, with the reason it gave.
    """
    passed = repeats.heirs(connection, "link", "inbox {set}", inbox_rows, by="bigint")
    bulk.update(connection, links, ("id",), ("inbox", "reason"), [(heir.id, heir.inbox, heir.doc) for heir in passed])
    statement = "DELETE FROM links WHERE inbox {set} RETURNING a, b"
    return {end for row in bulk.within(connection, statement, inbox_rows, kind="bigint") for end in row}


def links_of(connection: Connection, record_ids: Iterable[str]) -> dict[str, tuple[str, str, int, str, bool, str]]:
    """Explicit links that touch these records: id -> (a, b, at, strength, cut, reason)."""
    wanted = list(record_ids)
    found: dict[str, tuple[str, str, int, str, bool, str]] = {}
    for side in ("a", "b"):
        statement = f"SELECT id, a, b, at, strength, cut, reason FROM links WHERE {side} {{set}}"
        for id_, a, b, at, strength, cut, reason in bulk.within(connection, statement, wanted):
            found[id_] = (a, b, at, strength, bool(cut), reason)
    return found


def replace_conflicts(connection: Connection, record_ids: Iterable[str], found: Iterable[tuple[str, str, str]]) -> None:
    """The refused links (a, b, reason) among these records, in place of what stood there."""
    members = sorted(record_ids)
    bulk.change_within(connection, "DELETE FROM conflicts WHERE a {set}", members)
    bulk.change_within(connection, "DELETE FROM conflicts WHERE b {set}", members)
    rows = sorted({(min(a, b), max(a, b)): (min(a, b), max(a, b), reason) for a, b, reason in found}.values())
    bulk.insert(
        connection, conflicts, ("a", "b", "reason"), rows, conflict="(a, b) DO UPDATE SET reason = excluded.reason"
    )


def conflicts_of(connection: Connection, record_ids: Iterable[str]) -> list[tuple[str, str, str]]:
    """Refused links (a, b, reason) that touch these records."""
    wanted = list(record_ids)
    return sorted(
        {
            (row[0], row[1], row[2])
            for side in ("a", "b")
            for row in bulk.within(connection, f"SELECT a, b, reason FROM conflicts WHERE {side} {{set}}", wanted)
        }
    )


def remove(connection: Connection, record_ids: Iterable[str]) -> None:
    """Delete every claim, link and conflict of these records (erasure, forget)."""
    wanted = list(record_ids)
    bulk.change_within(connection, "DELETE FROM claims WHERE record {set}", wanted)
    for table in ("links", "conflicts"):
        for side in ("a", "b"):
            bulk.change_within(connection, f"DELETE FROM {table} WHERE {side} {{set}}", wanted)
