"""What the hub remembers of a connection: where its pull stands, and whether it waits for a person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from upkept.store import bulk
from upkept.store.tables import connections


@dataclass(frozen=True, slots=True)
class Standing:
    """`pulled_at`: everything the vendor did before it was pulled; `walked_at`: when the last full walk ended.

    Times in microseconds. A paused connection is not read from until its cure or the next slow try.
    """

    name: str
    cursor: str | None
    pulled_at: int | None
    walked_at: int | None
    paused_at: int | None
    paused_reason: str | None


def standing(connection: Connection, name: str) -> Standing:
    """Where a connection stands; one that was never seen stands at nothing."""
    row = connection.execute(connections.select().where(connections.c.name == name)).first()
    return Standing(*row) if row else Standing(name, None, None, None, None, None)


def all_standings(connection: Connection) -> dict[str, Standing]:
    """Every connection that was ever seen, by name."""
    rows = connection.execute(connections.select().order_by(connections.c.name))
    return {row.name: Standing(*row) for row in rows}


def first_seen(connection: Connection, names: Iterable[str], *, cursor: str, now: int) -> None:
    """Incremental pulls of these begin at `cursor`, unless they have begun already."""
    rows = [(name, cursor, now) for name in sorted(names)]
    bulk.insert(
        connection, connections, ("name", "cursor", "pulled_at"), rows,
        conflict="(name) DO UPDATE SET cursor = excluded.cursor, pulled_at = excluded.pulled_at "
        "WHERE connections.pulled_at IS NULL",
    )  # fmt: skip


def pulled(connection: Connection, name: str, *, cursor: str, at: int, walked_at: int | None) -> None:
    """A pull that began `at` reached its end: the next one begins at `cursor`. `walked_at` if it showed everything."""
    columns = ("name", "cursor", "pulled_at") + (() if walked_at is None else ("walked_at",))
    sets = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
    row = (name, cursor, at) + (() if walked_at is None else (walked_at,))
    bulk.insert(connection, connections, columns, [row], conflict=f"(name) DO UPDATE SET {sets}")


def pause(connection: Connection, name: str, *, reason: str, now: int) -> None:
    """A person must act: `reason` names the cure."""
    bulk.insert(
        connection, connections, ("name", "paused_at", "paused_reason"), [(name, now, reason)],
        conflict="(name) DO UPDATE SET paused_at = excluded.paused_at, paused_reason = excluded.paused_reason",
    )  # fmt: skip


def resume(connection: Connection, name: str) -> bool:
    """Read from it again; True if it was paused."""
    query = connections.update().where(connections.c.name == name, connections.c.paused_at.is_not(None))
    return bool(connection.execute(query.values(paused_at=None, paused_reason=None)).rowcount)


def paused(connection: Connection) -> frozenset[str]:
    """The connections that wait for a person."""
    query = connections.select().with_only_columns(connections.c.name).where(connections.c.paused_at.is_not(None))
    return frozenset(row[0] for row in connection.execute(query))
