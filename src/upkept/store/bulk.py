"""Set-based statements that read the same for both databases.

PostgreSQL gets one array per column in binary (text arrays escape every element and halve the speed), and a value
that is the same in every row once; SQLite gets JSON for look-ups and multi-row VALUES for writes. Rows are sorted by
the caller where locks matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, Table
from sqlalchemy.dialects import postgresql

from upkept.people.facts import canonical
from upkept.store.engine import Statements

AnyRow = Row[*tuple[Any, ...]]

SQLITE_VARIABLES = 30_000
_POSTGRESQL = postgresql.dialect()  # type: ignore[no-untyped-call]


def on_postgresql(connection: Statements) -> bool:
    return connection.dialect.name == "postgresql"


def insert(
    connection: Statements,
    table: Table,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    conflict: str = "",
    returning: str = "",
) -> list[AnyRow]:
    """INSERT many rows at once; `conflict` is the ON CONFLICT clause, `returning` the columns to give back.

    Two rows of one call must not share the key of an ON CONFLICT DO UPDATE.
    """
    if not rows:
        return []
    tail = (f" ON CONFLICT {conflict}" if conflict else "") + (f" RETURNING {returning}" if returning else "")
    head = f"INSERT INTO {table.name} ({', '.join(columns)})"
    if on_postgresql(connection):
        sent = _send(table, columns, rows, keys=1)
        # Without WHERE the grammar takes ON CONFLICT for a join's ON.
        statement = f"{head} SELECT {', '.join(sent.places.values())} FROM {sent.source} WHERE true{tail}"
        result = connection.exec_driver_sql(statement, sent.parameters)
        return [*result.fetchall()] if returning else []
    found: list[AnyRow] = []
    step = max(1, SQLITE_VARIABLES // len(columns))
    marks = "(" + ", ".join("?" * len(columns)) + ")"
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        statement = f"{head} VALUES {', '.join([marks] * len(chunk))}{tail}"
        result = connection.exec_driver_sql(statement, tuple(value for row in chunk for value in row))
        if returning:
            found.extend(result.fetchall())
    return found


def update(
    connection: Connection,
    table: Table,
    key: Sequence[str],
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    where: str = "",
) -> int:
    """UPDATE many rows at once by key; each row gives the key's values, then the columns'. Rows updated."""
    if not rows:
        return 0
    names = [*key, *columns]
    if on_postgresql(connection):
        match = " AND ".join(f"{table.name}.{column} = v.{column}" for column in key)
        sent = _send(table, names, rows, keys=len(key))
        sets = ", ".join(f"{column} = {sent.places[column]}" for column in columns)
        statement = f"UPDATE {table.name} SET {sets} FROM {sent.source} WHERE {match}{f' AND {where}' if where else ''}"
        return connection.exec_driver_sql(statement, sent.parameters).rowcount
    # Not "WITH v AS … UPDATE": Python's sqlite3 counts rows only for statements that begin with UPDATE.
    total = 0
    step = max(1, SQLITE_VARIABLES // len(names))
    marks = "(" + ", ".join("?" * len(names)) + ")"
    place = {column: f"v.column{number}" for number, column in enumerate(names, start=1)}
    match = " AND ".join(f"{table.name}.{column} = {place[column]}" for column in key) + (
        f" AND {where}" if where else ""
    )
    sets = ", ".join(f"{column} = {place[column]}" for column in columns)
    for start in range(0, len(rows), step):
        chunk = rows[start : start + step]
        statement = f"UPDATE {table.name} SET {sets} FROM (VALUES {', '.join([marks] * len(chunk))}) AS v WHERE {match}"
        total += connection.exec_driver_sql(statement, tuple(value for row in chunk for value in row)).rowcount
    return total


def within(
    connection: Statements, statement: str, values: Iterable[Any], *, kind: str = "text", extra: Sequence[Any] = ()
) -> list[AnyRow]:
    """Run `statement`, whose one `{set}` stands for "is one of `values`", with `?` for each of `extra` before it.

    `{rows}` in its place stands for the values as a table `w` with the column `value`.
    """
    wanted = list(values)
    if not wanted:
        return []
    if on_postgresql(connection):
        sql = statement.replace("?", "%b").format(set=f"= ANY(%b::{kind}[])", rows=f"unnest(%b::{kind}[]) AS w(value)")
        return [*connection.exec_driver_sql(sql, (*extra, wanted)).fetchall()]
    sql = statement.format(set="IN (SELECT value FROM json_each(?))", rows="json_each(?) AS w")
    return [*connection.exec_driver_sql(sql, (*extra, canonical(wanted).decode())).fetchall()]


def change_within(
    connection: Connection, statement: str, values: Iterable[Any], *, kind: str = "text", extra: Sequence[Any] = ()
) -> int:
    """`within` for a statement that changes rows; how many it changed."""
    wanted = list(values)
    if not wanted:
        return 0
    if on_postgresql(connection):
        sql = statement.replace("?", "%b").format(set=f"= ANY(%b::{kind}[])")
        return connection.exec_driver_sql(sql, (*extra, wanted)).rowcount
    sql = statement.format(set="IN (SELECT value FROM json_each(?))")
    return connection.exec_driver_sql(sql, (*extra, canonical(wanted).decode())).rowcount


@dataclass(frozen=True, slots=True)
class _Sent:
    """Rows on their way to PostgreSQL: where a statement finds each column's value, in this order, then `source`."""

    places: dict[str, str]
    source: str
    parameters: tuple[Any, ...]


def _send(table: Table, names: Sequence[str], rows: Sequence[Sequence[Any]], *, keys: int) -> _Sent:
    """The first `keys` columns always go as arrays."""
    places: dict[str, str] = {}
    arrays: dict[str, str] = {}
    once: list[Any] = []
    each: list[list[Any]] = []
    for number, (name, values) in enumerate(zip(names, zip(*rows, strict=True), strict=True)):
        kind = _sql_type(table, name)
        if number >= keys and values.count(values[0]) == len(values):
            places[name] = f"%b::{kind}"
            once.append(values[0])
        else:
            places[name] = f"v.{name}"
            arrays[name] = f"%b::{kind}[]"
            each.append(list(values))
    source = f"unnest({', '.join(arrays.values())}) AS v({', '.join(arrays)})"
    return _Sent(places, source, (*once, *each))


@cache
def _sql_type(table: Table, column: str) -> str:
    return str(table.c[column].type.compile(dialect=_POSTGRESQL)).split(" COLLATE")[0]
