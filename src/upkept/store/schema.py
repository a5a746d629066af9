"""Which schema a database has. Apart from the migrations: a look must not load alembic, as big as SQLAlchemy."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, inspect

from upkept.store.engine import Store

NEWEST: Final = "0001"
"""The migration that no other builds on."""


def stands_at(connection: Connection) -> str | None:
    """The migration this database stands at, None before the first."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
    return row[0] if row else None


def is_newest(connection: Connection) -> bool:
    """Has this database the tables of this version?"""
    return stands_at(connection) == NEWEST


def bring_up(store: Store) -> None:
    """Make the tables of this version, unless they are there."""
    with store.read() as connection:
        if is_newest(connection):
            return
    from upkept.store.migrations import upgrade_store  # loads alembic

    upgrade_store(store)
