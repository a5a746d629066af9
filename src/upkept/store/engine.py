"""Opening the store, and the two ways into it: `read` and `write`.

SQLite takes one writer at a time. Its own waiting is unfair (waits of 5 s were measured), so writers queue on
a lock file first and then BEGIN IMMEDIATE; DEFERRED transactions that read before they write fail with
"database is locked" whatever the time-out. WAL with `synchronous=FULL` keeps what was committed through a
power cut. PostgreSQL runs READ COMMITTED: every decision is made on rows locked in one order. Both drivers commit
every statement by itself unless we say BEGIN.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event, make_url
from sqlalchemy import Dialect as SQLDialect
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import StaticPool

from upkept.contract import Config, Retryable

Dialect = Literal["sqlite", "postgresql"]


class Contended(Retryable):
    """The database chose this transaction to give way (deadlock, lock time-out): try it again at once."""


BUSY_SECONDS = 30
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
GIVE_WAY = frozenset({"40P01", "40001", "55P03"})


class Statements(Protocol):
    """What runs SQL in the driver's own style: a SQLAlchemy connection, or `AtOnce`."""

    @property
    def dialect(self) -> SQLDialect: ...

    def exec_driver_sql(self, statement: str, parameters: Any = ..., /) -> Any:
        """The rows, and `rowcount`."""


@dataclass(frozen=True, slots=True)
class AtOnce:
    """Statements straight on a connection of the driver, each committed by itself."""

    dialect: SQLDialect
    _driver: Any

    def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> Any:
        return self._driver.execute(statement, parameters)


@dataclass(frozen=True, slots=True)
class Store:
    """An open database. `read()` and `write()` yield a connection inside one transaction."""

    engine: Engine
    dialect: Dialect
    lock_file: Path | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent look; nothing written here is kept."""
        with unavailable_is_retryable(), self.engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction: committed on a clean exit, rolled back on an exception.

        Raises `Retryable` when the database is away or a lock could not be had in time.
        """
        begin = "BEGIN" if self.dialect == "postgresql" else "BEGIN IMMEDIATE"
        with unavailable_is_retryable(), self._our_turn(), self.engine.connect() as connection:
            connection.exec_driver_sql(begin)
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise
            connection.commit()

    @contextmanager
    def write_at_once(self) -> Iterator[Statements]:
        """`write` for a single statement, which PostgreSQL commits by itself: one round trip instead of three.

        There it goes straight to the driver: SQLAlchemy's own way doubles the process time of a small commit.
        """
        if self.dialect != "postgresql":
            with self.write() as connection:
                yield connection
            return
        failed = self.engine.dialect.loaded_dbapi.Error
        with unavailable_is_retryable():
            try:
                pooled = self.engine.raw_connection()
                try:
                    yield AtOnce(self.engine.dialect, pooled.driver_connection)
                except failed:
                    self._drop(pooled)
                    raise
                finally:
                    pooled.close()
            except failed as error:
                raise DBAPIError.instance(None, None, error, failed) from error

    def _drop(self, pooled: PoolProxiedConnection) -> None:
        """Use it no more; if its server went away, none of those that were opened before it."""
        lost = pooled.driver_connection is not None and pooled.driver_connection.closed
        pooled.invalidate()
        if lost:
            self.engine.dispose()

    @contextmanager
    def _our_turn(self) -> Iterator[None]:
        if self.dialect == "postgresql":
            yield
            return
        if self.lock_file is None:
            with self._turn:
                yield
            return
        handle = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def close(self) -> None:
        """Give back every connection; a forked child calls this before its first use."""
        self.engine.dispose()


@contextmanager
def unavailable_is_retryable() -> Iterator[None]:
    """The database away, too busy or deadlocked becomes `Retryable`: the hub tries again by itself."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        if getattr(error.orig, "sqlstate", None) in GIVE_WAY:
            raise Contended(f"the database asked for another try: {_first_line(error)}", after=1) from error
        raise Retryable(f"the database is not available: {_first_line(error)}", after=5) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise Retryable(f"the database is not available: {_first_line(error)}", after=5) from error
        raise


def open_store(url: str, *, pool_size: int = 4) -> Store:
    """The store behind `url`: `sqlite:///…`, `sqlite://` (memory) or `postgresql://…`."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(url, parsed.database)
    if parsed.get_backend_name() == "postgresql":
        return _open_postgresql(parsed.set(drivername="postgresql+psycopg"), pool_size)
    raise Config(
        f"UPKEPT_DATABASE_URL: {parsed.get_backend_name()!r} is not supported; use sqlite:///… or postgresql://…"
    )


def _open_sqlite(url: str, database: str | None) -> Store:
    in_memory = database in (None, "", ":memory:")
    options: dict[str, Any] = {"poolclass": StaticPool} if in_memory else {"pool_size": 4, "max_overflow": 12}
    engine = create_engine(
        url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False, "isolation_level": None}, **options
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")

    lock_file = None if in_memory or database is None else Path(database + ".turn")
    return Store(engine=engine, dialect="sqlite", lock_file=lock_file)


def _open_postgresql(url: Any, pool_size: int) -> Store:
    from upkept.store.binary import BinaryCursor  # loads psycopg, which SQLite does without

    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=8,
        pool_timeout=5,
        pool_pre_ping=False,
        connect_args={
            "cursor_factory": BinaryCursor,
            "connect_timeout": 3,
            "application_name": "upkept",
            "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
            " -c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15000,
        },
    )
    return Store(engine=engine, dialect="postgresql")


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
