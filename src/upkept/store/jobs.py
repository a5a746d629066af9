"""Periodic jobs claimed by slot, so that any number of beats is safe; and pulses, which show a worker is alive."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, case

from upkept.store import bulk
from upkept.store.tables import jobs, pulses


def claim(connection: Connection, slots: Mapping[str, int], *, now: int) -> set[str]:
    """The jobs of `slots` (name to slot number) that are ours to do: nobody claimed that slot or a later one."""
    rows = [(name, slot, now) for name, slot in sorted(slots.items())]
    claimed = bulk.insert(
        connection, jobs, ("name", "slot", "claimed_at"), rows,
        conflict="(name) DO UPDATE SET slot = excluded.slot, claimed_at = excluded.claimed_at "
        "WHERE jobs.slot < excluded.slot", returning="name",
    )  # fmt: skip
    return {row[0] for row in claimed}


def rung(connection: Connection, name: str, *, now: int) -> None:
    """A pulse is about to be sent. One that is not heard yet keeps its time, so the silence grows."""
    bulk.insert(
        connection, pulses, ("name", "rung_at"), [(name, now)],
        conflict="(name) DO UPDATE SET rung_at = excluded.rung_at "
        "WHERE pulses.heard_at >= pulses.rung_at OR pulses.rung_at IS NULL",
    )  # fmt: skip


def not_rung(connection: Connection, name: str) -> None:
    """The broker did not take the pulse, so nobody can be expected to hear any."""
    connection.execute(pulses.update().where(pulses.c.name == name).values(rung_at=pulses.c.heard_at))


def heard(connection: Connection, name: str, *, now: int) -> None:
    """A pulse came through to the worker, whose clock may be behind that of the one who sent it."""
    at = case((pulses.c.rung_at > now, pulses.c.rung_at), else_=now)
    connection.execute(pulses.update().where(pulses.c.name == name).values(heard_at=at))


def unheard_since(connection: Connection, name: str) -> int | None:
    """When the oldest pulse that nobody heard was sent; None if the last one was heard, or none was sent."""
    row = connection.execute(pulses.select().where(pulses.c.name == name)).one_or_none()
    if row is None or row.rung_at is None or (row.heard_at is not None and row.heard_at >= row.rung_at):
        return None
    return int(row.rung_at)


def last_heard(connection: Connection) -> int | None:
    """When any worker last heard a pulse; None if none ever did."""
    row = connection.exec_driver_sql("SELECT max(heard_at) FROM pulses").one()
    return None if row[0] is None else int(row[0])
