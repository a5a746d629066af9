"""Schema migrations (alembic), run by `upkept migrate` and by `upkept up`."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection

from upkept.store.engine import Store, open_store

ADVISORY_LOCK = 7_203_117_846
"""Two processes that start at once must not both migrate."""


def upgrade(url: str) -> None:
    """Bring the database to the newest schema; a no-op if it is there."""
    store = open_store(url)
    try:
        upgrade_store(store)
    finally:
        store.close()


def upgrade_store(store: Store) -> None:
    """Bring an open store to the newest schema, in one transaction."""
    with store.write() as connection:
        if store.dialect == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        command.upgrade(_config(connection), "head")


def _config(connection: Connection) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
