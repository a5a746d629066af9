"""The migrations and the tables say the same, on both databases."""

from __future__ import annotations

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from upkept.store.engine import open_store
from upkept.store.migrations import pending, upgrade, upgrade_store
from upkept.store.tables import metadata


def test_a_new_database_gets_every_table(database_url: str) -> None:
    store = open_store(database_url)
    try:
        with store.read() as connection:
            assert pending(connection)
        upgrade(database_url)
        upgrade_store(store)  # a second time changes nothing
        with store.read() as connection:
            assert pending(connection) == []
        plain = create_engine(store.engine.url)  # SQLAlchemy reads a catalogue in text alone
        with plain.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": False})
            assert compare_metadata(context, metadata) == []
        plain.dispose()
    finally:
        store.close()
