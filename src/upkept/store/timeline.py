"""What happened to people, and how often (R16)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import orjson
from sqlalchemy import Connection

from upkept.people.facts import canonical
from upkept.people.values import Json
from upkept.store import bulk, repeats
from upkept.store.tables import counters, timeline

NewEvent = tuple[str, str, str, int, str, int]
"""(record id, event id, name, at, metadata as canonical JSON, inbox id)."""


def insert(connection: Connection, new: Sequence[NewEvent]) -> set[tuple[str, str]]:
    """Store events not yet there and count just those; the (record, id) of the new ones."""
    unique = {(row[0], row[1]): row for row in reversed(new)}
    columns = ("record", "id", "name", "at", "metadata", "inbox")
    rows = [row for _, row in sorted(unique.items(), key=lambda item: item[0])]
    found = bulk.insert(
        connection, timeline, columns, rows, conflict="(record, id) DO NOTHING", returning="record, id, name, at"
    )
    counted: dict[tuple[str, str], tuple[int, int, int]] = {}
    for record, _, name, at in found:
        n, first, last = counted.get((record, name), (0, at, at))
        counted[record, name] = (n + 1, min(first, at), max(last, at))
    least, most = ("LEAST", "GREATEST") if bulk.on_postgresql(connection) else ("min", "max")
    bulk.insert(
        connection, counters, ("record", "name", "n", "first_at", "last_at"),
        [(*key, *value) for key, value in sorted(counted.items())],
        conflict="(record, name) DO UPDATE SET n = counters.n + excluded.n, "
        f"first_at = {least}(counters.first_at, excluded.first_at), "
        f"last_at = {most}(counters.last_at, excluded.last_at)",
    )  # fmt: skip
    return {(row[0], row[1]) for row in found}


def of(connection: Connection, record_ids: Iterable[str]) -> list[tuple[int, str, str, Json]]:
    """(at, name, record, metadata) of these records' events, oldest first: a person's timeline is the union."""
    statement = "SELECT at, name, record, metadata, id FROM timeline WHERE record {set} ORDER BY at, id"
    return [(row[0], row[1], row[2], orjson.loads(row[3])) for row in bulk.within(connection, statement, record_ids)]


def counts(connection: Connection, record_ids: Iterable[str]) -> list[tuple[str, str, int]]:
    """(record, event name, count)."""
    statement = "SELECT record, name, n FROM counters WHERE record {set} ORDER BY record, name"
    return [(row[0], row[1], row[2]) for row in bulk.within(connection, statement, record_ids)]


def seen(connection: Connection, names: Iterable[str]) -> set[str]:
    """Those of the names that were ever counted."""
    statement = "SELECT w.value FROM {rows} WHERE EXISTS (SELECT 1 FROM counters c WHERE c.name = w.value)"
    return {row[0] for row in bulk.within(connection, statement, sorted(names))}


def inbox_ids(connection: Connection, record_ids: Iterable[str]) -> list[int]:
    """The inbox rows that brought these records' events."""
    return sorted(
        {row[0] for row in bulk.within(connection, "SELECT inbox FROM timeline WHERE record {set}", record_ids)}
    )


def told(event: NewEvent) -> repeats.Told:
    """The event as one that may be known already."""
    record, id_, *doc, inbox = event
    return record, id_, inbox, canonical(doc).decode()


def remove_by_inbox(connection: Connection, inbox_rows: Collection[int], *, since: int | None = None) -> set[str]:
    """Withdraw what happened according to these inbox rows and no other, and its counts; the records concerned.

    What another row told of too stands as that one told it. What happened before `since` stays.
    """
    theirs = "inbox {set}" if since is None else f"at >= {int(since)} AND inbox {{set}}"
    passed = repeats.heirs(connection, "event", theirs, inbox_rows, by="bigint")
    statement = f"DELETE FROM timeline WHERE {theirs} RETURNING record, name"
    gone = Counter((row[0], row[1]) for row in bulk.within(connection, statement, inbox_rows, kind="bigint"))
    for (record, name), n in sorted(gone.items()):
        here = (counters.c.record == record) & (counters.c.name == name)
        connection.execute(counters.update().where(here).values(n=counters.c.n - n))
        connection.execute(counters.delete().where(here, counters.c.n <= 0))
    insert(connection, [(heir.record, heir.id, *orjson.loads(heir.doc), heir.inbox) for heir in passed])
    return {record for record, _ in gone}


def remove(connection: Connection, record_ids: Iterable[str]) -> None:
    """Delete these records' events and counts (erasure, forget)."""
    wanted = list(record_ids)
    for table in ("timeline", "counters"):
        bulk.change_within(connection, f"DELETE FROM {table} WHERE record {{set}}", wanted)
