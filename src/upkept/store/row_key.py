"""An inbox row as consent statements name it, whatever becomes of its id: its connection and its dedup key."""

from __future__ import annotations

from typing import Final

SEPARATOR: Final = "\x1f"
IN_SQL: Final = f"i.connection || '{SEPARATOR}' || i.dedup_key"
"""The key of an inbox row `i`."""


def row_key(connection: str, dedup_key: str) -> str:
    """The key of a row."""
    return f"{connection}{SEPARATOR}{dedup_key}"


def parted(key: str) -> tuple[str, str]:
    """The connection and the dedup key that a key was made of."""
    connection, _, dedup_key = key.partition(SEPARATOR)
    return connection, dedup_key
