"""Databases of a run: new, and gone at its end."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import orjson
import psycopg

SERVER: Final = os.environ.get("UPKEPT_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
LOCAL: Final = ("127.0.0.1", "localhost", "::1", None, "")


class Database(Protocol):
    """One database. Statements mark their parameters with `?`; a list is written `IN (?)` for both kinds."""

    @property
    def kind(self) -> str: ...
    @property
    def url(self) -> str: ...
    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read; `IN (?)` takes all of `values`."""

    def analyze(self) -> None:
        """Let the planner see what is there."""

    def pids(self) -> set[int]:
        """The server's processes that work for this database, if they are on this machine."""

    def close(self) -> None: ...


@dataclass(slots=True)
class Sqlite:
    """A file."""

    url: str
    _connection: sqlite3.Connection
    kind: str = "sqlite"

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        marks = ", ".join("?" * len(values))
        return self._connection.execute(statement.replace("IN (?)", f"IN ({marks})"), values).fetchall()

    def analyze(self) -> None:
        self._connection.execute("ANALYZE")

    def pids(self) -> set[int]:
        return set()

    def close(self) -> None:
        self._connection.close()


@dataclass(slots=True)
class Postgres:
    """A database of a server."""

    url: str
    _connection: psycopg.Connection[tuple[Any, ...]]
    kind: str = "postgresql"

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        sql = statement.replace("IN (?)", "= ANY(%s)").encode()
        return self._connection.execute(sql, [list(values)] if values else None).fetchall()

    def analyze(self) -> None:
        self._connection.execute("VACUUM ANALYZE")

    def pids(self) -> set[int]:
        if urlsplit(self.url).hostname not in LOCAL:
            return set()
        found = self._connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return {int(row[0]) for row in found}

    def close(self) -> None:
        self._connection.close()


def document(value: Any) -> dict[str, Any]:
    """A JSON column's value, which SQLite gives as text."""
    found: dict[str, Any] = orjson.loads(value) if isinstance(value, str) else value
    return found


def connect(url: str) -> Database:
    """Look into a database that stands."""
    if url.startswith("sqlite"):
        path = url.removeprefix("sqlite:///")
        return Sqlite(url, sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False))
    return Postgres(url, psycopg.connect(url, autocommit=True))


@contextmanager
def empty(kind: str, name: str, folder: Path) -> Iterator[str]:
    """The URL of a new database of that kind; it is gone afterwards."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / name}.sqlite3"
        return
    database = f"upkept_bench_{name}_{os.getpid()}"
    with psycopg.connect(SERVER, autocommit=True) as server:
        server.execute(f'CREATE DATABASE "{database}"'.encode())
        try:
            yield urlsplit(SERVER)._replace(path=f"/{database}").geturl()
        finally:
            server.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'.encode())


def postgres_answers() -> str | None:
    """None if the server can be used; else why not."""
    try:
        psycopg.connect(SERVER, connect_timeout=3).close()
    except psycopg.OperationalError as error:
        return str(error).strip().splitlines()[0]
    return None
