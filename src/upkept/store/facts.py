"""Facts: immutable, content-addressed; a fact known already is refused by its key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import orjson
from sqlalchemy import Connection

from upkept.people.facts import canonical
from upkept.people.values import AdmittedFact
from upkept.store import bulk, repeats
from upkept.store.tables import facts

NewFact = tuple[str, AdmittedFact, int, int | None]
"""(record id, fact, inbox id, run)."""


def insert(connection: Connection, new: Sequence[NewFact]) -> set[tuple[str, str]]:
    """Store what is not known yet; the (record, fact_id) of those that were news."""
    unique = {(record, fact.fact_id): (record, fact, inbox, run) for record, fact, inbox, run in reversed(new)}
    rows = [
        (record, fact.fact_id, fact.at, fact.kind, fact.sequence, canonical(fact.doc).decode(), inbox, run)
        for _, (record, fact, inbox, run) in sorted(unique.items(), key=lambda item: item[0])
    ]
    columns = ("record", "fact_id", "at", "kind", "sequence", "doc", "inbox", "run")
    found = bulk.insert(
        connection, facts, columns, rows, conflict="(record, fact_id) DO NOTHING", returning="record, fact_id"
    )
    return {(row[0], row[1]) for row in found}


def of(connection: Connection, record_ids: Iterable[str]) -> dict[str, list[AdmittedFact]]:
    """Every stored fact of these records, in no order."""
    found: dict[str, list[AdmittedFact]] = {}
    statement = "SELECT record, fact_id, at, kind, sequence, doc FROM facts WHERE record {set}"
    for record, fact_id, at, kind, sequence, doc in bulk.within(connection, statement, record_ids):
        found.setdefault(record, []).append(AdmittedFact(fact_id, at, kind, sequence, orjson.loads(doc)))
    return found


def parts_ever_of(connection: Connection, owners: Iterable[str]) -> set[str]:
    """Parts of which a fact once named one of these owners, though another owns them now.

    Looks through all facts of parts: erasures are rare, and an index would be paid for by every event.
    """
    found: set[str] = set()
    statement = "SELECT connection, type, source_id FROM records WHERE NOT part AND id {set}"
    for name, type_, source in bulk.within(connection, statement, owners):
        needle = '"o":' + canonical([type_, source]).decode()
        contains = "position(%b in f.doc)" if bulk.on_postgresql(connection) else "instr(f.doc, ?)"
        mark = "%b" if bulk.on_postgresql(connection) else "?"
        rows = connection.exec_driver_sql(
            f"SELECT DISTINCT f.record FROM records r JOIN facts f ON f.record = r.id "
            f"WHERE r.part AND r.connection = {mark} AND {contains} > 0",
            (name, needle),
        )
        found |= {row[0] for row in rows}
    return found


def inbox_ids(connection: Connection, record_ids: Iterable[str]) -> list[int]:
    """The inbox rows that brought these records' facts."""
    rows = bulk.within(connection, "SELECT DISTINCT inbox FROM facts WHERE record {set}", record_ids)
    return sorted(row[0] for row in rows)


def remove_by_inbox(connection: Connection, inbox_rows: Collection[int]) -> set[str]:
    """Withdraw what these inbox rows said and no other did; the records that must be folded again."""
    passed = _pass_on(connection, "inbox {set}", inbox_rows, by="bigint")
    statement = "DELETE FROM facts WHERE inbox {set} RETURNING record"
    return passed | {row[0] for row in bulk.within(connection, statement, inbox_rows, kind="bigint")}


def of_run(connection: Connection, run: int) -> tuple[int, int]:
    """How many facts a run brought that still stand, and of how many records."""
    row = connection.exec_driver_sql(f"SELECT count(*), count(DISTINCT record) FROM facts WHERE run = {int(run)}").one()
    return row[0], row[1]


def records_of_run(connection: Connection, run: int, *, limit: int) -> list[str]:
    """Some records of which a run said something."""
    query = f"SELECT DISTINCT record FROM facts WHERE run = {int(run)} LIMIT {int(limit)}"
    return sorted(row[0] for row in connection.exec_driver_sql(query))


def remove_by_run(connection: Connection, run: int, record_ids: Collection[str]) -> int:
    """Void what a run said about these records and nobody else did; how many facts."""
    _pass_on(connection, f"run = {int(run)} AND record {{set}}", record_ids, by="text")
    statement = f"DELETE FROM facts WHERE run = {int(run)} AND record {{set}}"
    return bulk.change_within(connection, statement, record_ids)


def remove(connection: Connection, record_ids: Iterable[str]) -> None:
    """Delete every fact of these records (erasure, forget)."""
    bulk.change_within(connection, "DELETE FROM facts WHERE record {set}", record_ids)


def older(connection: Connection, *, before: int, recent: int | None, after: str, limit: int) -> list[str]:
    """Records behind `after` with facts older than `before` that a floor may stand for.

    Those of the run `recent` and of later ones may not, nor whatever of their records is not older than they.
    """
    apart = (
        f" AND NOT EXISTS (SELECT 1 FROM facts r WHERE r.record = f.record AND r.run >= {int(recent)} AND r.at <= f.at)"
        if recent is not None
        else ""
    )
    mark = "%b" if bulk.on_postgresql(connection) else "?"
    rows = connection.exec_driver_sql(
        f"SELECT DISTINCT f.record FROM facts f WHERE f.record > {mark} AND f.at < {int(before)}{apart} "
        f"ORDER BY f.record LIMIT {int(limit)}",
        (after,),
    )
    return [row[0] for row in rows]


def first_of_runs(connection: Connection, record_ids: Iterable[str], *, since: int) -> dict[str, int]:
    """When the first fact of a run, `since` or later, lies for each of these records that has one."""
    statement = f"SELECT record, min(at) FROM facts WHERE run >= {int(since)} AND record {{set}} GROUP BY record"
    return {row[0]: row[1] for row in bulk.within(connection, statement, record_ids)}


def remove_some(connection: Connection, record: str, fact_ids: Iterable[str]) -> list[int]:
    """Delete facts that a floor now stands for (R4); of each that a run brought, that run."""
    gone = list(fact_ids)
    repeats.forget_facts(connection, record, gone)
    statement = "DELETE FROM facts WHERE record = ? AND fact_id {set} RETURNING run"
    return [row[0] for row in bulk.within(connection, statement, gone, extra=(record,)) if row[0] is not None]


def _pass_on(connection: Connection, where: str, values: Collection[int | str], *, by: str) -> set[str]:
    """What another row said too belongs to that one, and to its run; the records concerned."""
    passed = repeats.heirs(connection, "fact", where, values, by=by)
    rows = [(heir.record, heir.id, int(heir.doc), heir.inbox, heir.run) for heir in passed]
    bulk.update(connection, facts, ("record", "fact_id"), ("at", "inbox", "run"), rows)
    return {heir.record for heir in passed}
