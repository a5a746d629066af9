"""Access tokens that all workers share, sealed by the caller before they come here."""

from __future__ import annotations

from sqlalchemy import Connection

from upkept.store import bulk
from upkept.store.tables import tokens


def keep(connection: Connection, name: str, token: str, *, sealed: bytes, expires_at: int) -> None:
    """The newest token `token` of connection `name`."""
    bulk.insert(
        connection, tokens, ("connection", "name", "sealed", "expires_at"), [(name, token, sealed, expires_at)],
        conflict="(connection, name) DO UPDATE SET sealed = excluded.sealed, expires_at = excluded.expires_at",
    )  # fmt: skip


def read(connection: Connection, name: str, token: str, *, valid_at: int) -> bytes | None:
    """The sealed token, or None if there is none that is still valid at `valid_at`."""
    query = tokens.select().where(tokens.c.connection == name, tokens.c.name == token, tokens.c.expires_at > valid_at)
    row = connection.execute(query).first()
    return bytes(row.sealed) if row else None
