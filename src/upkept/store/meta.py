"""What the database remembers of the installation it belongs to, and where walks that never end stand."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from upkept.store import bulk
from upkept.store.tables import meta


def remember(connection: Connection, values: Mapping[str, str]) -> dict[str, str]:
    """Keep values whose names are new here; what the database holds for each name now."""
    bulk.insert(connection, meta, ("name", "value"), sorted(values.items()), conflict="(name) DO NOTHING")
    return {row[0]: row[1] for row in bulk.within(connection, "SELECT name, value FROM meta WHERE name {set}", values)}


def read(connection: Connection, name: str) -> str | None:
    """One value."""
    rows = bulk.within(connection, "SELECT value FROM meta WHERE name {set}", [name])
    return str(rows[0][0]) if rows else None


def keep(connection: Connection, name: str, value: str) -> None:
    """Write one value."""
    bulk.insert(
        connection, meta, ("name", "value"), [(name, value)], conflict="(name) DO UPDATE SET value = excluded.value"
    )
