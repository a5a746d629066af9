"""The outbox: whom a destination must be told about, one row per person, written with the change itself.

A row says only that something is owed. What it is, is worked out when its turn comes, so the newest state goes out and
what was settled meanwhile does not. A delete names the vendor's own record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, select

from upkept.store import bulk, people
from upkept.store.tables import outbox

LEASE = 120_000_000
"""How long a claimed row may take, in microseconds, before another courier may try."""

Action = Literal["upsert", "delete"]
Lane = Literal["consent", "outbound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Tell `destination` about `subject`, a person's id; or delete `subject`, its own id of a record of this `type`."""

    destination: str
    subject: str
    type: str = ""
    action: Action = "upsert"
    lane: Lane = "outbound"


@dataclass(frozen=True, slots=True)
class Due:
    """A claimed row. `lease_until` and `version` are its fence: a wish renewed meanwhile asks for another look."""

    id: int
    destination: str
    subject: str
    type: str
    action: Action
    lane: Lane
    version: int
    attempts: int
    lease_until: int


_DUE = ("id", "destination", "subject", "type", "action", "lane", "version", "attempts", "lease_until")


def write(connection: Connection, wishes: Sequence[Wish], *, now: int) -> list[int]:
    """One row per (destination, subject, action, type); a renewed wish is offered again at once. The ids of the rows.

    What was tried in vain stays counted while the row is on its way: a wish that each try renews must come to an end.
    """
    unique = {(w.destination, w.subject, w.action, w.type): w for w in wishes}
    rows = [
        (w.destination, w.subject, w.action, "new", w.type, w.lane, now)
        for _, w in sorted(unique.items(), key=lambda item: item[0])
    ]
    columns = ("destination", "subject", "action", "state", "type", "lane", "next_attempt_at")
    found = bulk.insert(
        connection, outbox, columns, rows, returning="id",
        conflict="(destination, subject, action, type) DO UPDATE SET state = 'new', version = outbox.version + 1, "
        "attempts = CASE WHEN outbox.state = 'new' THEN outbox.attempts ELSE 0 END, "
        "next_attempt_at = excluded.next_attempt_at, reason = NULL, "
        "lane = CASE WHEN outbox.state = 'new' AND outbox.lane = 'consent' THEN outbox.lane ELSE excluded.lane END",
    )  # fmt: skip
    return [row[0] for row in found]


def destinations(connection: Connection, ids: Sequence[int]) -> list[str]:
    """Whom these rows are for."""
    rows = bulk.within(connection, "SELECT DISTINCT destination FROM outbox WHERE id {set}", ids, kind="bigint")
    return sorted(row[0] for row in rows)


def claim(connection: Connection, destination: str, *, holder: str, now: int, limit: int) -> list[Due]:
    """Lease up to `limit` rows of a destination whose time has come: opt-outs first, then the longest waiting."""
    on_postgresql = bulk.on_postgresql(connection)
    mark, skip = ("%b", " FOR UPDATE SKIP LOCKED") if on_postgresql else ("?", "")
    rows = connection.exec_driver_sql(
        f"UPDATE outbox SET lease_until = {int(now + LEASE)}, holder = {mark} WHERE id IN (SELECT id FROM outbox "
        f"WHERE state = 'new' AND destination = {mark} AND next_attempt_at <= {int(now)} "
        f"AND (lease_until IS NULL OR lease_until < {int(now)}) "
        f"ORDER BY lane, next_attempt_at, id LIMIT {int(limit)}{skip}) RETURNING {', '.join(_DUE)}",
        (holder, destination),
    )
    return sorted((Due(*row) for row in rows), key=lambda due: (due.lane, due.id))


def holders(connection: Connection, *, now: int) -> list[str]:
    """Who holds claimed rows."""
    held = (outbox.c.state == "new", outbox.c.lease_until >= now)
    return sorted(connection.scalars(select(outbox.c.holder).where(*held).distinct()))


def let_go(connection: Connection, gone: Sequence[str]) -> None:
    """These hold nothing any more."""
    held = (outbox.c.holder.in_(gone), outbox.c.lease_until.is_not(None))
    connection.execute(outbox.update().where(*held).values(lease_until=None))


def lost(connection: Connection, dues: Sequence[Due]) -> set[int]:
    """Ids of those claimed rows that are the courier's no longer."""
    ids = [due.id for due in dues]
    rows = bulk.within(connection, "SELECT id, lease_until FROM outbox WHERE id {set}", ids, kind="bigint")
    held = {(row[0], row[1]) for row in rows}
    return {due.id for due in dues if (due.id, due.lease_until) not in held}


def done(connection: Connection, due: Due) -> None:
    """Nothing is owed any more; a wish renewed since the claim stays, one that is being written at this moment too."""
    people.lock(connection, [due.subject])
    if not connection.execute(outbox.delete().where(*_held(due), outbox.c.version == due.version)).rowcount:
        _release(connection, due)


def later(connection: Connection, due: Due, *, at: int, attempts: int, reason: str) -> None:
    """Try again at `at`; a wish renewed since the claim keeps its own time."""
    _end(connection, due, {"next_attempt_at": at, "attempts": attempts, "reason": reason})


def bury(connection: Connection, due: Due, *, reason: str, again_at: int) -> None:
    """It waits for a person, an opt-out until `again_at` at most, unless the wish was renewed since the claim."""
    _end(connection, due, {"state": "dead", "reason": reason, "next_attempt_at": again_at})


def offer_opt_outs(connection: Connection, *, now: int) -> None:
    """Opt-outs that are dead are due again when their time has come; each is tried once then."""
    of_them = (outbox.c.state == "dead", outbox.c.lane == "consent", outbox.c.next_attempt_at <= now)
    connection.execute(outbox.update().where(*of_them).values(state="new"))


def offer(connection: Connection, *, now: int, ids: Sequence[int] = (), destination: str | None = None) -> list[int]:
    """Dead rows are due again, these or all, of one destination or of every one; their ids."""
    query = outbox.update().where(outbox.c.state == "dead")
    if ids:
        query = query.where(outbox.c.id.in_(ids))
    if destination is not None:
        query = query.where(outbox.c.destination == destination)
    values = {"state": "new", "attempts": 0, "next_attempt_at": now, "reason": None, "version": outbox.c.version + 1}
    return sorted(connection.scalars(query.values(values).returning(outbox.c.id)))


def due(connection: Connection, *, now: int) -> list[tuple[str, int]]:
    """(destination, one of its rows that is due and nobody works on), for each that has one."""
    rows = connection.exec_driver_sql(
        f"SELECT destination, min(id) FROM outbox WHERE state = 'new' AND next_attempt_at <= {int(now)} "
        f"AND (lease_until IS NULL OR lease_until < {int(now)}) GROUP BY destination ORDER BY destination"
    )
    return [(row[0], row[1]) for row in rows]


def standing(connection: Connection) -> dict[tuple[str, str], int]:
    """(destination, state) to rows."""
    rows = connection.exec_driver_sql("SELECT destination, state, count(*) FROM outbox GROUP BY destination, state")
    return {(row[0], row[1]): row[2] for row in rows}


def states(connection: Connection, ids: Sequence[int]) -> list[str]:
    """The states of those of these rows that still stand."""
    return [row[0] for row in bulk.within(connection, "SELECT state FROM outbox WHERE id {set}", ids, kind="bigint")]


def listed(connection: Connection, *, state: str | None, destination: str | None, limit: int) -> Sequence[Row[Any]]:
    """(id, destination, subject, type, action, lane, state, attempts, next_attempt_at, reason), oldest first."""
    names = ("id", "destination", "subject", "type", "action", "lane", "state", "attempts", "next_attempt_at", "reason")
    query = outbox.select().with_only_columns(*(outbox.c[name] for name in names)).order_by(outbox.c.id).limit(limit)
    if state is not None:
        query = query.where(outbox.c.state == state)
    if destination is not None:
        query = query.where(outbox.c.destination == destination)
    return list(connection.execute(query))


def settled(connection: Connection, destination: str, subjects: Iterable[str]) -> None:
    """Nothing is owed about these people any more; of whom a courier is telling just now it looks again."""
    wanted, of_them = sorted(subjects), "WHERE action = 'upsert' AND destination = ? AND subject {set}"
    for statement in (
        f"DELETE FROM outbox {of_them} AND lease_until IS NULL",
        f"UPDATE outbox SET version = version + 1 {of_them}",
    ):
        bulk.change_within(connection, statement, wanted, extra=(destination,))


def remove(connection: Connection, subjects: Iterable[str]) -> None:
    """Forget that these people were to be told of; deletes at vendors stay."""
    bulk.change_within(connection, "DELETE FROM outbox WHERE action = 'upsert' AND subject {set}", subjects)


def _end(connection: Connection, due: Due, values: dict[str, Any]) -> None:
    changed = outbox.update().where(*_held(due), outbox.c.version == due.version).values(**values, lease_until=None)
    if not connection.execute(changed).rowcount:
        _release(connection, due)


def _release(connection: Connection, due: Due) -> None:
    connection.execute(outbox.update().where(*_held(due)).values(lease_until=None))


def _held(due: Due) -> tuple[Any, ...]:
    return outbox.c.id == due.id, outbox.c.lease_until == due.lease_until
