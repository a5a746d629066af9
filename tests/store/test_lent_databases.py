"""The databases that tests are lent: as good as new, or gone."""

from __future__ import annotations

import psycopg
import pytest
from tests.postgres import PostgresServer


def run(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        done = connection.execute(statement.encode())
        return done.fetchall() if done.description else []


def test_rows_and_numbers_are_gone_and_whoever_is_connected_is_cut_off(
    postgres_server: PostgresServer, migrated_postgres: str
) -> None:
    url = postgres_server.lend(migrated_postgres)
    sequence = run(url, "SELECT relname FROM pg_class WHERE relkind = 'S' ORDER BY relname")[0][0]
    run(url, f"SELECT nextval('{sequence}'), nextval('{sequence}')")
    run(url, "INSERT INTO walked (run, record, type) VALUES (1, 'r', 't')")
    guest = psycopg.connect(url)
    postgres_server.give_back(url)
    with pytest.raises(psycopg.OperationalError):
        guest.execute("SELECT 1")
    again = postgres_server.lend(migrated_postgres)
    assert again == url
    assert run(again, f"SELECT nextval('{sequence}')") == [(1,)]
    assert run(again, "SELECT count(*) FROM walked") == [(0,)]
    assert run(again, "SELECT count(*) FROM alembic_version") == [(1,)]
    postgres_server.give_back(again)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE more (id int)",
        "ALTER TABLE walked ADD COLUMN more int",
        "ALTER TABLE inbox DISABLE TRIGGER ALL; CREATE INDEX more ON walked (type)",
        "UPDATE alembic_version SET version_num = 'other'",
        "DROP TABLE alembic_version",
    ],
)
def test_what_is_more_than_rows_goes_with_its_database(
    postgres_server: PostgresServer, migrated_postgres: str, change: str
) -> None:
    url = postgres_server.lend(migrated_postgres)
    run(url, change)
    postgres_server.give_back(url)
    other = postgres_server.lend(migrated_postgres)
    assert other != url
    assert run(other, "SELECT to_regclass('more')") == [(None,)]
    postgres_server.give_back(other)
