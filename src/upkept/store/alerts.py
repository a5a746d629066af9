"""What waits for a person: one row per key, counted while it lasts, closed when it is over."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects import postgresql, sqlite

from upkept.store import bulk
from upkept.store.tables import alerts


@dataclass(frozen=True, slots=True)
class Alert:
    """`cure` is the next step of whoever reads it. Times in microseconds."""

    key: str
    connection: str
    message: str
    cure: str
    first_at: int
    last_at: int
    times: int


def raise_(connection: Connection, key: str, name: str, message: str, cure: str, now: int) -> bool:
    """Raise or repeat the alert `key` of connection `name`; True if it was not standing already."""
    insert = postgresql.insert(alerts) if bulk.on_postgresql(connection) else sqlite.insert(alerts)
    standing = alerts.c.resolved_at.is_(None)
    again = {
        "message": message,
        "cure": cure,
        "last_at": now,
        "times": alerts.c.times + 1,
        "first_at": now,
        "resolved_at": None,
    }
    kept = connection.execute(
        alerts.update().where(alerts.c.key == key, standing).values({k: again[k] for k in again if k != "first_at"})
    )
    if kept.rowcount:
        return False
    statement = insert.values(
        key=key, connection=name, message=message, cure=cure, first_at=now, last_at=now, times=1
    ).on_conflict_do_update(index_elements=["key"], set_={**again, "times": 1})
    connection.execute(statement)
    return True


def resolve(connection: Connection, key: str, now: int, *, before: int | None = None) -> bool:
    """Close the alert `key`; True if it stood. With `before`, only if its cause was last seen earlier than that."""
    query = alerts.update().where(alerts.c.key == key, alerts.c.resolved_at.is_(None)).values(resolved_at=now)
    if before is not None:
        query = query.where(alerts.c.last_at < before)
    return bool(connection.execute(query).rowcount)


def unresolved(connection: Connection) -> list[Alert]:
    """The alerts that stand, oldest first."""
    query = alerts.select().with_only_columns(
        alerts.c.key, alerts.c.connection, alerts.c.message, alerts.c.cure, alerts.c.first_at, alerts.c.last_at,
        alerts.c.times,
    )  # fmt: skip
    rows = connection.execute(query.where(alerts.c.resolved_at.is_(None)).order_by(alerts.c.first_at, alerts.c.key))
    return [Alert(*row) for row in rows]


def count(connection: Connection) -> int:
    """How many alerts stand, for `/metrics`."""
    query = select(func.count()).select_from(alerts).where(alerts.c.resolved_at.is_(None))
    return int(connection.execute(query).scalar_one())
