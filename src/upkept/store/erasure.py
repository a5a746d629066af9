"""Removing every row of some records, in one place, so that a new table is not forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from upkept.people.values import RecordKey
from upkept.store import claims, facts, inbox, outbox, people, readbacks, records, timeline


def remove_records(connection: Connection, ids: Iterable[str]) -> set[RecordKey]:
    """Delete these records and their parts, what they said, claimed and did, and blank what brought it. Their keys.

    Their people must be derived again by the caller; people left without a record are removed here.
    """
    wanted = set(ids)
    if not wanted:
        return set()
    wanted |= records.parts_of(connection, sorted(wanted)).keys() | facts.parts_ever_of(connection, wanted)
    stood = records.load(connection, sorted(wanted))
    everything = sorted(wanted)
    inbox.blank(
        connection, sorted({*facts.inbox_ids(connection, everything), *timeline.inbox_ids(connection, everything)})
    )
    facts.remove(connection, everything)
    timeline.remove(connection, everything)
    claims.remove(connection, everything)
    readbacks.remove(connection, [record.key for record in stood.values()])
    records.remove(connection, everything)
    held = {record.person for record in stood.values() if record.person is not None}
    left = {record.person for record in records.of_people(connection, sorted(held)).values()}
    people.remove(connection, sorted(held - left))
    outbox.remove(connection, sorted(held))
    return {record.key for record in stood.values()}
