"""Removing every row of some records, in one place, so that a new table is not forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from upkept.people.values import RecordKey
from upkept.store import (
    aliases,
    bulk,
    claims,
    facts,
    outbox,
    people,
    readbacks,
    records,
    repeats,
    tellings,
    timeline,
    told,
)


def with_parts(connection: Connection, ids: Iterable[str]) -> set[str]:
    """These records and their parts, those too that were theirs once."""
    wanted = set(ids)
    return wanted | records.parts_of(connection, sorted(wanted)).keys() | facts.parts_ever_of(connection, wanted)


def brought_by(connection: Connection, ids: Iterable[str]) -> list[int]:
    """The inbox rows that said something about these records."""
    wanted = sorted(ids)
    stores = (facts, timeline, claims, repeats)
    return sorted({row for store in stores for row in store.inbox_ids(connection, wanted)})


def mentioned(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of the records that something other than a fact or a consent statement speaks of."""
    wanted = list(ids)
    found: set[str] = set()
    for table, column in (("counters", "record"), ("links", "a"), ("links", "b"), ("records", "owner")):
        rows = bulk.within(connection, f"SELECT DISTINCT {column} FROM {table} WHERE {column} {{set}}", wanted)
        found |= {row[0] for row in rows}
    return found


def remove_records(
    connection: Connection, ids: Iterable[str], *, heirs: Mapping[str, str] | None = None
) -> set[RecordKey]:
    """Delete these records, what they said, claimed and did. Their keys.

    Their ids lead to their `heirs` from now on; without these (an erasure) not even the ids are left. The people they
    were among must be derived again by the caller; people left without a record are removed here.
    """
    wanted = sorted(set(ids))
    if not wanted:
        return set()
    stood = records.load(connection, wanted)
    repeats.forget_records(connection, wanted)
    facts.remove(connection, wanted)
    timeline.remove(connection, wanted)
    claims.remove(connection, wanted)
    told.remove(connection, wanted)
    tellings.remove(connection, wanted)
    readbacks.remove(connection, [record.key for record in stood.values()])
    records.remove(connection, wanted)
    if heirs is None:
        aliases.remove(connection, wanted)
    else:
        aliases.pass_on(connection, wanted, heirs)
    held = {record.person for record in stood.values() if record.person is not None}
    left = {record.person for record in records.of_people(connection, sorted(held)).values()}
    people.remove(connection, sorted(held - left))
    outbox.remove(connection, sorted(held - left))
    return {record.key for record in stood.values()}


@dataclass(frozen=True, slots=True)
class Tally:
    """How much stands of some records."""

    records: int
    parts: int
    facts: int
    events: int


def tally(connection: Connection, ids: Iterable[str]) -> Tally:
    """How much an erasure of these records and parts removes."""
    wanted = sorted(ids)
    return Tally(
        records=_count(connection, "SELECT count(*) FROM records WHERE NOT part AND id {set}", wanted),
        parts=_count(connection, "SELECT count(*) FROM records WHERE part AND id {set}", wanted),
        facts=_count(connection, "SELECT count(*) FROM facts WHERE record {set}", wanted),
        events=_count(connection, "SELECT count(*) FROM timeline WHERE record {set}", wanted),
    )


def _count(connection: Connection, statement: str, ids: list[str]) -> int:
    return sum(row[0] for row in bulk.within(connection, statement, ids))


def without_records(connection: Connection, people_ids: Iterable[str]) -> set[str]:
    """Those of the people who hold no record."""
    wanted = set(people_ids)
    held = bulk.within(connection, "SELECT DISTINCT person FROM records WHERE person {set}", sorted(wanted))
    return wanted - {row[0] for row in held}
