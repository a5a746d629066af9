"""A vendor account's calls per second and calls at once, shared by all workers of all machines.

Calls get times on one line per account (virtual scheduling, as in the GCRA of ITU-T I.371): a lease moves
`free_at` forward by the time its calls need at the vendor's rate, and so owns that stretch of the line. Clocks of
the machines must agree (NTP), as everywhere in the hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from upkept.store import bulk
from upkept.store.tables import quotas, slots

SLOT = 120_000_000
"""How long a slot is held at most, in microseconds: longer than any call. It is what a killed holder costs where
nobody can see that it is gone."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One of the account's concurrent calls."""

    account: str
    number: int
    holder: str


def lease(connection: Connection, account: str, *, calls: int, interval: float, now: int, latest: int) -> int | None:
    """Own a stretch of `calls` times `interval` microseconds; its start, or None if it would begin after `latest`."""
    on_postgresql = bulk.on_postgresql(connection)
    greatest, mark = ("greatest", "%b") if on_postgresql else ("max", "?")
    length = round(calls * interval)
    row = connection.exec_driver_sql(
        f"INSERT INTO quotas (account, free_at) VALUES ({mark}, {int(now) + length}) "
        f"ON CONFLICT (account) DO UPDATE SET free_at = {greatest}(quotas.free_at, {int(now)}) + {length} "
        f"WHERE quotas.free_at <= {int(latest)} RETURNING free_at",
        (account,),
    ).first()
    return None if row is None else int(row[0]) - length


def free_at(connection: Connection, account: str) -> int:
    """When the next call of this account could be leased; 0 if there was none yet."""
    query = quotas.select().where(quotas.c.account == account)
    row = connection.execute(query).first()
    return row.free_at if row else 0


def hold(connection: Connection, account: str, *, until: int) -> None:
    """The vendor said when to come back: no worker gets a call of this account before `until`."""
    greatest = "greatest" if bulk.on_postgresql(connection) else "max"
    bulk.insert(
        connection, quotas, ("account", "free_at"), [(account, until)],
        conflict=f"(account) DO UPDATE SET free_at = {greatest}(quotas.free_at, excluded.free_at)",
    )  # fmt: skip


def take_slot(connection: Connection, account: str, *, limit: int, holder: str, now: int) -> Slot | None:
    """One of the account's `limit` slots; None while all are held."""
    rows = [(account, number, 0) for number in range(limit)]
    bulk.insert(connection, slots, ("account", "number", "until"), rows, conflict="(account, number) DO NOTHING")
    on_postgresql = bulk.on_postgresql(connection)
    mark = "%b" if on_postgresql else "?"
    skip = " FOR UPDATE SKIP LOCKED" if on_postgresql else ""
    row = connection.exec_driver_sql(
        f"UPDATE slots SET until = {int(now + SLOT)}, holder = {mark} WHERE account = {mark} AND number = ("
        f"SELECT number FROM slots WHERE account = {mark} AND number < {int(limit)} AND until < {int(now)} "
        f"ORDER BY number LIMIT 1{skip}) RETURNING number",
        (holder, account, account),
    ).first()
    return None if row is None else Slot(account, int(row[0]), holder)


def holders(connection: Connection, account: str) -> list[str]:
    """Who holds the account's slots."""
    return list(
        connection.scalars(select(slots.c.holder).where(slots.c.account == account, slots.c.holder.is_not(None)))
    )


def take_away(connection: Connection, account: str, gone: Sequence[str]) -> None:
    """These hold nothing any more."""
    if gone:
        held = slots.update().where(slots.c.account == account, slots.c.holder.in_(gone))
        connection.execute(held.values(until=0, holder=None))


def give_back(connection: Connection, slot: Slot) -> None:
    """The call is over."""
    connection.execute(
        slots.update()
        .where(slots.c.account == slot.account, slots.c.number == slot.number, slots.c.holder == slot.holder)
        .values(until=0, holder=None)
    )
