"""Identifiers: who held which when, the rows two workers lock to see each other's claims, and explicit links."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, text

from upkept.people.values import Interval, LinkFact, RecordKey
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
    for kind, values in sorted(_by_kind(gone).items()):
        statement = "DELETE FROM identifiers WHERE kind = ? AND value {set}"
        bulk.change_within(connection, statement, sorted(values), extra=(kind,))


def of(connection: Connection, record_ids: Iterable[str]) -> dict[str, list[Interval]]:
    """Every interval of these records."""
    found: dict[str, list[Interval]] = {}
    statement = "SELECT record, kind, value, start_at, end_at, verified FROM claims WHERE record {set}"
    for record, kind, value, start, end, verified in bulk.within(connection, statement, record_ids):
        found.setdefault(record, []).append(Interval(kind, value, start, end, bool(verified)))
    return found


def holders(connection: Connection, wanted: Iterable[Identifier], *, verified: bool = False) -> set[str]:
    """Records that hold or ever held one of these identifiers; `verified` leaves out mere assertions."""
    statement = f"SELECT record FROM claims WHERE kind = ? {'AND verified ' if verified else ''}AND value {{set}}"
    return {
        row[0]
        for kind, values in _by_kind(wanted).items()
        for row in bulk.within(connection, statement, values, extra=(kind,))
    }


def holders_of_each(connection: Connection, wanted: Collection[Identifier]) -> dict[Identifier, set[str]]:
    """`holders` of each of these identifiers."""
    found: dict[Identifier, set[str]] = {one: set() for one in wanted}
    statement = "SELECT value, record FROM claims WHERE kind = ? AND value {set}"
    for kind, values in _by_kind(wanted).items():
        for value, record in bulk.within(connection, statement, values, extra=(kind,)):
            found[kind, value].add(record)
    return found


def _by_kind(identifiers: Iterable[Identifier]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for kind, value in identifiers:
        found.setdefault(kind, []).append(value)
    return found


@dataclass(slots=True)
class Oldest:
    """The records with the oldest holdings of an address, and (start, key) of the first holding beyond them."""

    records: set[str] = field(default_factory=set)
    holdings: int = 0
    first_out: tuple[int, RecordKey] | None = None


def oldest(connection: Connection, addresses: Sequence[str], *, most: int, unverified: bool) -> dict[str, Oldest]:
    """Of each address the first `most` holdings that may link (R13), by (start, record key); never more rows.

    With `unverified`, mere assertions may link too, those of anonymous records excepted.
    """
    may = _MAY_LINK.format(sure=_KNOWN if unverified else "c.verified")
    statement = f"""
        WITH edge AS MATERIALIZED (
            SELECT w.value, (SELECT c.start_at FROM claims c WHERE c.kind = 'email' AND c.value = w.value AND {may}
            ORDER BY c.start_at LIMIT 1 OFFSET {most}) AS at FROM {{rows}}
        )
        SELECT e.value, e.at, c.record FROM edge e LEFT JOIN claims c ON c.kind = 'email' AND c.value = e.value
        AND c.start_at < coalesce(e.at, {_NEVER}) AND {may}
    """
    found: dict[str, Oldest] = {}
    crowded: dict[str, int] = {}
    for address, at, record in bulk.within(connection, statement, addresses):
        held = found.setdefault(address, Oldest())
        if at is not None:
            crowded[address] = at
        if record is not None:
            held.records.add(record)
            held.holdings += 1
    for address, at in sorted(crowded.items()):
        _at_one_time(connection, found[address], address, at, most, may)
    return found


_NEVER = 2**63 - 1
_MAY_LINK = "(c.end_at IS NULL OR c.end_at <> c.start_at) AND {sure}"
_KNOWN = (
    "(c.verified OR NOT EXISTS (SELECT 1 FROM records x WHERE x.id = c.record"
    " AND x.connection = 'app' AND x.type = 'anonymous'))"
)


def _at_one_time(connection: Connection, held: Oldest, address: str, at: int, most: int, may: str) -> None:
    """Of the holdings that began when the first one beyond the oldest did, the keys decide."""
    statement = f"""
        SELECT c.record, r.connection, r.type, r.source_id FROM claims c JOIN records r ON r.id = c.record
        WHERE c.kind = 'email' AND c.value = :address AND c.start_at = :at AND {may}
        ORDER BY r.connection, r.type, r.source_id LIMIT :most
    """
    room = most - held.holdings
    rows = list(connection.execute(text(statement), {"address": address, "at": at, "most": room + 1}))
    held.records |= {row[0] for row in rows[:room]}
    held.holdings = most
    held.first_out = (at, RecordKey(*rows[room][1:]))


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


def known_links(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of these explicit links that stand."""
    return {row[0] for row in bulk.within(connection, "SELECT id FROM links WHERE id {set}", ids)}


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


def any_crowded_out(connection: Connection) -> str | None:
    """One of the records that a crowded address leaves apart (R14)."""
    row = connection.exec_driver_sql("SELECT a FROM conflicts WHERE a = b LIMIT 1").first()
    return None if row is None else str(row[0])


def remove(connection: Connection, record_ids: Iterable[str]) -> None:
    """Delete every claim, link and conflict of these records (erasure, forget)."""
    wanted = list(record_ids)
    bulk.change_within(connection, "DELETE FROM claims WHERE record {set}", wanted)
    for table in ("links", "conflicts"):
        for side in ("a", "b"):
            bulk.change_within(connection, f"DELETE FROM {table} WHERE {side} {{set}}", wanted)
