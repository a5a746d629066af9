"""The migrations and the tables say the same, on both databases."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from upkept.store import migrations
from upkept.store.engine import open_store
from upkept.store.migrations import upgrade, upgrade_store
from upkept.store.schema import NEWEST, is_newest, stands_at
from upkept.store.tables import inbox, metadata


def test_a_new_database_gets_every_table(database_url: str) -> None:
    store = open_store(database_url)
    try:
        with store.read() as connection:
            assert stands_at(connection) is None
        upgrade(database_url)
        upgrade_store(store)  # a second time changes nothing
        with store.read() as connection:
            assert is_newest(connection)
        plain = create_engine(store.engine.url)  # SQLAlchemy reads a catalogue in text alone
        with plain.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": False})
            assert compare_metadata(context, metadata) == []
        plain.dispose()
    finally:
        store.close()


def test_the_newest_migration_is_the_head_of_alembic() -> None:
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [NEWEST]


def test_no_id_is_given_twice(tmp_path: Path) -> None:
    """Autogenerate compares no such option. PostgreSQL's sequences never go back anyway."""
    url = f"sqlite:///{tmp_path / 'new.sqlite3'}"
    upgrade(url)
    store = open_store(url)
    with store.read() as connection:
        made = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE sql LIKE '%AUTOINCREMENT%'")
        assert {row[0] for row in made} == {"inbox", "outbox"}
    store.close()
    stated = {name for name, table in metadata.tables.items() if table.dialect_options["sqlite"]["autoincrement"]}
    assert stated == {"inbox", "outbox"}


def test_no_index_asks_for_what_a_claim_changes() -> None:
    """Else PostgreSQL enters each claimed row into every index again."""
    changed = {"state", "lease_until", "lease_epoch"}
    for index in inbox.indexes:
        asked = f"{[column.name for column in index.columns]} {index.dialect_options['postgresql']['where']}"
        assert not any(name in asked for name in changed), index.name
