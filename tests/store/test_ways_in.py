"""The ways into the store: what a transaction keeps, and what a single statement keeps, or says when it cannot."""

from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest
from sqlalchemy.exc import DBAPIError

from upkept.contract import Retryable
from upkept.store import meta
from upkept.store.engine import Store

ON_POSTGRESQL = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)


class Change(Exception):
    """What a step raises in the midst of its transaction."""


SET = "INSERT INTO meta (name, value) VALUES ('a', 'b')"


def kept(store: Store) -> str | None:
    with store.read() as connection:
        return meta.read(connection, "a")


def test_a_transaction_that_breaks_keeps_nothing(store: Store) -> None:
    with suppress(Change), store.write() as connection:
        connection.exec_driver_sql(SET)
        raise Change
    assert kept(store) is None
    with store.read() as connection:
        connection.exec_driver_sql(SET)
    assert kept(store) is None
    with store.write() as connection:
        connection.exec_driver_sql(SET)
    assert kept(store) == "b"


def test_a_single_statement_is_kept_when_it_is_left(store: Store) -> None:
    with store.write_at_once() as connection:
        assert connection.exec_driver_sql(SET, ()).rowcount == 1
    assert kept(store) == "b"


@ON_POSTGRESQL  # on SQLite it is a transaction like any other
def test_a_single_statement_that_fails_tells_no_values(store: Store) -> None:
    with pytest.raises(DBAPIError) as raised, store.write_at_once() as connection:
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (%b)", ("ann@x.example",))
    assert "ann@x.example" not in str(raised.value)


@ON_POSTGRESQL
def test_a_server_that_ended_all_connections_costs_one_try(store: Store) -> None:
    with store.write_at_once() as one, store.write_at_once() as other:
        pids = [c.exec_driver_sql("SELECT pg_backend_pid()", ()).fetchone()[0] for c in (one, other)]
    with psycopg.connect(store.engine.url.set(drivername="postgresql").render_as_string(False)) as killer:
        assert (
            killer.execute("SELECT pg_terminate_backend(unnest(%s::int[]), 5000)", (pids,)).fetchall() == [(True,)] * 2
        )
    with pytest.raises(Retryable, match="the database is not available"), store.write_at_once() as connection:
        connection.exec_driver_sql(SET, ())
    with store.write_at_once() as connection:
        connection.exec_driver_sql(SET, ())
    assert kept(store) == "b"
