"""Give up deliveries that may hold an opt-out and that nobody will ever read: their connector is gone for good.

A person's deliberate act with a reason; nothing gives one up by itself. The bytes stay, so a replay takes it back, and
forgetting the connection again removes them. A delivery that can be read, or may be once its vendor answers, is
refused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from upkept.contract import UpkeptError
from upkept.flow import alarm
from upkept.flow.hub import Hub
from upkept.flow.traces import opts_out
from upkept.store import audit, inbox, traces
from upkept.store.traces import Body


class NoSuchDelivery(UpkeptError):
    """The inbox has no row of such an id."""


class Refused(UpkeptError):
    """One of them must not be given up; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What is lost by it, as far as anybody can tell."""

    id: int
    connection: str
    kind: str
    received_at: int


def preview(hub: Hub, ids: Collection[int]) -> list[Delivery]:
    """What giving these rows of the inbox up would lose. Raises `NoSuchDelivery` or `Refused`; all or nothing."""
    with hub.store.read() as connection:
        return _hopeless(connection, hub, ids)


def give_up(hub: Hub, ids: Collection[int], *, reason: str, now: int, actor: str) -> list[Delivery]:
    """Take them off the queue, for this `reason`; a connection's alert ends with its last. Raises as `preview` does."""
    with hub.store.write() as connection:
        lost = _hopeless(connection, hub, ids)
        if inbox.give_up(connection, [one.id for one in lost], reason=f"given up by {actor}: {reason}") != len(lost):
            raise Refused("one of them was worked on at this moment; nothing was given up, ask again")
        subjects = [f"inbox {one.id} of {one.connection}" for one in lost]
        audit.note(connection, "give up", [*subjects, f"because: {reason}"], actor=actor, now=now)
    alarm.settle_opt_outs(hub, {one.connection for one in lost}, now=now)
    return lost


def _hopeless(connection: Connection, hub: Hub, ids: Collection[int]) -> list[Delivery]:
    rows = traces.told(connection, ids)
    if unknown := sorted(set(ids) - {row.id for row in rows}):
        raise NoSuchDelivery(f"the inbox has no row {_listed(unknown)}; see: upkept inbox --state new")
    if refused := [f"inbox {row.id} {why}" for row in rows if (why := _hope(hub, row))]:
        raise Refused("\n".join([*refused, "nothing was given up"]))
    return [Delivery(row.id, row.connection, row.kind, row.received_at) for row in rows]


def _hope(hub: Hub, row: Body) -> str | None:
    """Why this row must not be given up; None if nothing can be hoped for."""
    if not row.waits:
        return f"is {row.state}: nothing is tried there any more"
    if row.lowering == "no":
        return "holds no opt-out; if it cannot be applied it ends as dead by itself"
    if row.thin and row.connection in hub.connections:
        return (
            f"is asked of its vendor every hour; if that is gone for good, take [connections.{row.connection}] out of "
            "upkept.toml first"
        )
    if opts_out(hub, row) is not None:
        return f"can be read; work on it: upkept replay {row.id}"
    return None


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids))
