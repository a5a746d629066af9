"""Shared fixtures: databases and brokers that are real, empty and a test's own.

A service that is absent skips its tests on a developer's machine. Where UPKEPT_REQUIRE_SERVICES=1 or CI=true it
fails them: a green run there means that they ran.

    UPKEPT_TEST_POSTGRES   default postgresql://postgres@127.0.0.1:5432/postgres, a superuser
    UPKEPT_TEST_REDIS      default redis://127.0.0.1:6379; one of its databases 1 to 15 per test process
    UPKEPT_TEST_RABBITMQ   default amqp://guest:guest@127.0.0.1:5672//
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import hypothesis
import psycopg
import pytest
import redis
from tests.postgres import DATABASES, PostgresServer, alive, database_name

from upkept.store.engine import Store, open_store

hypothesis.settings.register_profile("shared cores", deadline=None, print_blob=True)
hypothesis.settings.load_profile("shared cores")

REQUIRED = os.environ.get("UPKEPT_REQUIRE_SERVICES") == "1" or os.environ.get("CI") == "true"
KEPT = ("UPKEPT_TEST_", "UPKEPT_REQUIRE_SERVICES")


def absent(service: str, url: str, why: object) -> NoReturn:
    """Skip on a developer's machine, fail where services are required."""
    address = urlsplit(url)
    message = f"{service} is not reachable at {address.hostname}:{address.port} ({why}); .ci/run starts one"
    if REQUIRED:
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session", autouse=True)
def _environment_of_a_stranger() -> None:
    """No test sees the developer's own UPKEPT_ settings, nor that Ctrl-C is switched off where the tests began."""
    for name in [name for name in os.environ if name.startswith("UPKEPT_") and not name.startswith(KEPT)]:
        del os.environ[name]
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's job in the background; our children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_server(worker_id: str) -> Iterator[PostgresServer]:
    """PostgreSQL, reachable; whatever was made on it is gone at the end."""
    url = os.environ.get("UPKEPT_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
    server = PostgresServer(url, f"{DATABASES}{os.getpid()}_{worker_id}")
    try:
        server.drop_all()
    except psycopg.OperationalError as error:
        absent("PostgreSQL", url, type(error).__name__)
    yield server
    server.drop_all()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """An empty PostgreSQL database of this test's own."""
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of this test's own, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'upkept.sqlite3'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables, to be copied."""
    from upkept.store.migrations import upgrade

    path = tmp_path_factory.mktemp("migrated") / "upkept.sqlite3"
    upgrade(f"sqlite:///{path}")
    store = open_store(f"sqlite:///{path}")
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    """The name of a PostgreSQL database with all tables, to be used as a template."""
    from upkept.store.migrations import upgrade

    url = postgres_server.create()
    upgrade(url)
    return database_name(url)


Made = Callable[[str, Path], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def made_with_tables(request: pytest.FixtureRequest) -> Made:
    """Makes a database with all tables, on "sqlite" (in a folder) or "postgresql", that goes when its block ends."""

    @contextmanager
    def made(on: str, folder: Path) -> Iterator[str]:
        if on == "sqlite":
            path = folder / "upkept.sqlite3"
            shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
            yield f"sqlite:///{path}"
            return
        server: PostgresServer = request.getfixturevalue("postgres_server")
        url = server.lend(request.getfixturevalue("migrated_postgres"))
        try:
            yield url
        finally:
            server.give_back(url)

    return made


@pytest.fixture
def with_tables(made_with_tables: Made, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Makes a database with all tables, on "sqlite" or "postgresql", that goes with the test."""
    with ExitStack() as stack:
        yield lambda on: stack.enter_context(made_with_tables(on, tmp_path))


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, with_tables: Callable[[str], str]) -> str:
    """A database with all tables, once on SQLite and once on PostgreSQL."""
    return with_tables(request.param)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An open store with all tables, once on SQLite and once on PostgreSQL."""
    opened = open_store(store_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def redis_database() -> Iterator[str]:
    """One of the numbered databases of a reachable Redis, ours while this process lives."""
    server = os.environ.get("UPKEPT_TEST_REDIS", "redis://127.0.0.1:6379")
    client = redis.Redis.from_url(f"{server}/0", socket_connect_timeout=2, decode_responses=True)
    me = str(os.getpid())
    try:
        for number in range(1, 16):
            claim = f"upkept-test-database-{number}"
            if not alive(str(client.get(claim) or "none")):
                client.delete(claim)
            if client.set(claim, me, nx=True, ex=3600):
                yield f"{server}/{number}"
                client.delete(claim)
                return
    except redis.RedisError as error:
        absent("Redis", server, type(error).__name__)
    finally:
        client.close()
    pytest.fail("every database of that Redis is taken by another test run")


@pytest.fixture
def redis_url(redis_database: str) -> Iterator[str]:
    """An empty Redis database of this test's own."""
    client = redis.Redis.from_url(redis_database)
    client.flushdb()
    yield redis_database
    client.flushdb()
    client.close()


@pytest.fixture(scope="session")
def rabbitmq_url() -> str:
    """A reachable RabbitMQ; name your queues after your test."""
    url = os.environ.get("UPKEPT_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "127.0.0.1", address.port or 5672), timeout=2).close()
    except OSError as error:
        absent("RabbitMQ", url, type(error).__name__)
    return url
