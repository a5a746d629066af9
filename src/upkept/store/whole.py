"""The whole derived store as rows in an order that both databases agree on, streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import orjson
from sqlalchemy import Connection

from upkept.store import bulk
from upkept.store.engine import Store

Rows = Iterator[list[Any]]

CHUNK = 2_000
LONGEST_MS = 3_600_000


@contextmanager
def snapshot(store: Store) -> Iterator[Connection]:
    """One moment of the store, however long it is looked at and whatever is written meanwhile."""
    with store.read() as connection:
        if bulk.on_postgresql(connection):
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {LONGEST_MS}")
        yield connection


def people(connection: Connection) -> Rows:
    """[hash, segments] of every person. The hash covers record keys, attributes and consent."""
    for hash_, segments in _stream(connection, "SELECT hash, segments FROM people ORDER BY hash"):
        yield [hash_, orjson.loads(segments) if isinstance(segments, str) else segments]


def counters(connection: Connection) -> Rows:
    """[connection, type, source id, event name, count] of every counter."""
    return _stream(
        connection,
        "SELECT r.connection, r.type, r.source_id, c.name, c.n FROM counters c JOIN records r ON r.id = c.record "
        "ORDER BY r.connection, r.type, r.source_id, c.name",
    )


def conflicts(connection: Connection) -> Rows:
    """[keys of two records, the lesser first, and why they are not one person]; there are few of them."""
    key = "{0}.connection, {0}.type, {0}.source_id"
    rows = _stream(
        connection,
        f"SELECT {key.format('a')}, {key.format('b')}, c.reason FROM conflicts c "
        "JOIN records a ON a.id = c.a JOIN records b ON b.id = c.b",
    )
    yield from sorted([*sorted((row[:3], row[3:6])), row[6]] for row in rows)


def consent(connection: Connection) -> Rows:
    """[id] of every consent statement: content-addressed, and the same after an erasure blanked its evidence."""
    return _stream(connection, "SELECT id FROM consent ORDER BY id")


def tombstones(connection: Connection) -> Rows:
    """[kind, subject, at] of every tombstone. A record's holds for ever, so when it was laid says nothing."""
    return _stream(
        connection,
        "SELECT kind, subject, CASE kind WHEN 'record' THEN NULL ELSE at END FROM tombstones ORDER BY kind, subject",
    )


def _stream(connection: Connection, statement: str) -> Rows:
    with closing(connection.exec_driver_sql(statement, execution_options={"yield_per": CHUNK})) as rows:
        for row in rows:
            yield list(row)
