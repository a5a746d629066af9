"""The inbox: what arrived, durable before it is answered, claimed under a lease and fenced.

A row goes `new` -> `claimed` -> `done`, `skipped` or `dead`; a failed try goes back to `new` with a later
`next_attempt_at`; one that nobody will ever read, a person may give up (`given_up`). Readers look for work by state,
never by "id greater than the last seen": PostgreSQL hands out ids before commit, so a slow transaction would be
skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, func

from upkept.store import bulk, repeats
from upkept.store.bulk import AnyRow
from upkept.store.engine import Statements
from upkept.store.tables import inbox

Lane = Literal["consent", "inbound", "bulk"]
Lowering = Literal["no", "may", "undone", "forgotten"]
"""Whether a row can hold an opt-out. One that may is tried for ever, in whatever lane (SEMANTICS B). Of one whose run
was undone, or whose connection was forgotten, before it could be read, nothing but its opt-outs counts any more."""

MOST_ATTEMPTS = 30_000
"""What is tried every hour, for ever, is counted up to here: the column is a small one."""

AT_THE_DOOR = "skipped:"
"""How the dedup key of a delivery begins that was skipped before it was split into events."""

GIVEN_UP = "given_up"
"""The state of a row that may hold an opt-out, cannot be read, and was given up by a person. Its bytes stay."""

LEASE = 30_000_000
"""How long a claimed batch may take, in microseconds, before another worker may take it over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A row to store. `settled` is the reason of one that needs no work (`skipped`)."""

    connection: str
    dedup_key: str
    kind: str
    body: bytes
    received_at: int
    lane: Lane = "inbound"
    lowering: Lowering = "no"
    thin: bool = False
    run: int | None = None
    settled: str | None = None


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row claimed for work; `epoch` is the fence."""

    id: int
    connection: str
    dedup_key: str
    kind: str
    body: bytes
    received_at: int
    lane: str
    lowering: Lowering
    thin: bool
    attempts: int
    run: int | None
    epoch: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work on a claimed row ended. `retry_at` belongs to state `new`."""

    row: Claimed
    state: Literal["done", "skipped", "dead", "new"]
    reason: str | None = None
    retry_at: int = 0


_COLUMNS = (
    "dedup_key", "connection", "kind", "body", "received_at", "lane", "state", "lowering", "thin", "next_attempt_at",
    "reason", "run",
)  # fmt: skip


def store(connection: Statements, arrivals: Sequence[Arrival]) -> dict[tuple[str, str], int]:
    """Insert what is not yet there; the ids of the new rows that need work, by (connection, dedup_key)."""
    unique = {(arrival.connection, arrival.dedup_key): arrival for arrival in reversed(arrivals)}
    rows = [
        (
            a.dedup_key, a.connection, a.kind, a.body, a.received_at, a.lane,
            "new" if a.settled is None else "skipped", a.lowering, a.thin, a.received_at, a.settled, a.run,
        )
        for _, a in sorted(unique.items(), key=lambda item: item[0])
    ]  # fmt: skip
    found = bulk.insert(
        connection, inbox, _COLUMNS, rows, conflict="(connection, dedup_key) DO NOTHING",
        returning="id, connection, dedup_key, state",
    )  # fmt: skip
    return {(row[1], row[2]): row[0] for row in found if row[3] == "new"}


def known(connection: Connection, name: str, keys: Iterable[str]) -> set[str]:
    """Those of `keys` that connection `name` has brought before."""
    statement = "SELECT dedup_key FROM inbox WHERE connection = ? AND dedup_key {set}"
    return {row[0] for row in bulk.within(connection, statement, sorted(set(keys)), extra=(name,))}


def thin(connection: Connection, ids: Iterable[int]) -> dict[str, list[int]]:
    """Those of `ids` that wait for `fetch`, oldest first, by connection."""
    found: dict[str, list[int]] = {}
    statement = "SELECT connection, id FROM inbox WHERE thin AND id {set}"
    for name, id_ in sorted(tuple(row) for row in bulk.within(connection, statement, ids, kind="bigint")):
        found.setdefault(name, []).append(id_)
    return found


def thin_left(connection: Connection, name: str, *, now: int) -> list[int]:
    """The row of this connection that has waited longest for `fetch` and that nobody works on; empty if none does."""
    rows = bulk.within(connection, _THIN.replace("{limit}", "1"), [name], extra=(now,))
    return [row[0] for row in rows]


_CLAIM = """
UPDATE inbox SET state = 'claimed', lease_until = ?, lease_epoch = lease_epoch + 1 WHERE id IN ({chosen} {skip})
RETURNING id, connection, dedup_key, kind, body, received_at, lane, lowering, thin, attempts, run,
    lease_epoch
"""
# Where ids are given, `state` is asked, not `queue`: the statistics of the partial index `inbox_open` say "nothing is
# open", so PostgreSQL would read the whole backlog for every batch (12,000 rows: 8 ms).
_THESE = """
SELECT id FROM inbox WHERE (state = 'new' OR state = 'claimed' AND lease_until < ?) AND id {set} ORDER BY id
"""
_NEXT = """
SELECT id FROM inbox WHERE queue = 'open' AND state = 'new' AND NOT thin AND next_attempt_at <= ? AND lane {set}
ORDER BY next_attempt_at, id LIMIT {limit}
"""

# The time of a row that was never tried only tells when it is offered again (`store.due`).
_THIN = """
SELECT id FROM inbox WHERE queue = 'open' AND state = 'new' AND thin AND (attempts = 0 OR next_attempt_at <= ?)
AND connection {set} ORDER BY id LIMIT {limit}
"""


def claim(connection: Statements, ids: Iterable[int], *, now: int) -> list[Claimed]:
    """Take those of `ids` that are free, oldest first; rows that another worker is taking are passed over."""
    return _claimed(connection, _THESE, ids, kind="bigint", now=now)


def claim_next(connection: Statements, lane: str, *, now: int, limit: int) -> list[Claimed]:
    """Take the `limit` rows of a lane that have waited longest and that nobody works on."""
    return _claimed(connection, _NEXT.replace("{limit}", str(int(limit))), [lane], kind="text", now=now)


def claim_thin(connection: Statements, name: str, *, now: int, limit: int) -> list[Claimed]:
    """Take the `limit` rows of a connection that have waited longest for `fetch` and that nobody works on."""
    return _claimed(connection, _THIN.replace("{limit}", str(int(limit))), [name], kind="text", now=now)


def _claimed(connection: Statements, chosen: str, values: Iterable[object], *, kind: str, now: int) -> list[Claimed]:
    skip = "FOR UPDATE SKIP LOCKED" if bulk.on_postgresql(connection) else ""
    statement = _CLAIM.replace("{chosen}", chosen).replace("{skip}", skip)
    rows = bulk.within(connection, statement, values, kind=kind, extra=(now + LEASE, now))
    return sorted((Claimed(*row) for row in rows), key=lambda row: row.id)


def finish(connection: Connection, outcomes: Sequence[Outcome]) -> bool:
    """Write how rows ended, in the transaction of their effects. False: a fence was broken, roll back."""
    rows = [
        (o.row.id, o.row.epoch, o.state, _tried(o), o.retry_at, o.reason)
        for o in sorted(outcomes, key=lambda outcome: outcome.row.id)
    ]
    changed = bulk.update(
        connection, inbox, ("id", "lease_epoch"), ("state", "attempts", "next_attempt_at", "reason"), rows,
        where="inbox.state = 'claimed'",
    )  # fmt: skip
    return changed == len(rows)


def _tried(outcome: Outcome) -> int:
    return min(outcome.row.attempts + (outcome.state in ("new", "dead")), MOST_ATTEMPTS)


def may_lower(connection: Connection, id_: int) -> None:
    """A row turned out to hold an opt-out that its kind does not declare."""
    connection.execute(inbox.update().where(inbox.c.id == id_).values(lowering="may"))


def give_up(connection: Connection, ids: Sequence[int], *, reason: str) -> int:
    """Take rows that wait off the queue, those too that a worker has at this moment: its fence breaks. How many."""
    return bulk.change_within(
        connection,
        "UPDATE inbox SET state = ?, reason = ? WHERE state IN ('new', 'claimed') AND id {set}",
        sorted(ids), kind="bigint", extra=(GIVEN_UP, reason),
    )  # fmt: skip


def remove(connection: Connection, ids: Sequence[int]) -> None:
    """Remove rows that are of no use any more."""
    if ids:
        repeats.forget_rows(connection, ids)
        bulk.change_within(connection, "DELETE FROM inbox WHERE id {set}", sorted(ids), kind="bigint")


def unread(connection: Connection, name: str) -> bool:
    """Is there a row of this connection that may hold an opt-out, failed and will be tried again?"""
    query = inbox.select().with_only_columns(inbox.c.id).where(
        inbox.c.queue == "open", inbox.c.state == "new", inbox.c.connection == name, inbox.c.lowering != "no",
        inbox.c.attempts > 0,
    )  # fmt: skip
    return connection.execute(query.limit(1)).first() is not None


def dead(connection: Connection, *, connection_name: str | None = None, limit: int = 1000) -> list[AnyRow]:
    """Dead rows, newest first: id, connection, kind, received_at, attempts, reason."""
    return listed(connection, state="dead", connection_name=connection_name, limit=limit)


def listed(
    connection: Connection, *, state: str | None = None, connection_name: str | None = None, limit: int = 100
) -> list[AnyRow]:
    """Rows newest first: id, connection, kind, state, received_at, attempts, reason. Bodies are not shown."""
    query = inbox.select().with_only_columns(
        inbox.c.id, inbox.c.connection, inbox.c.kind, inbox.c.state, inbox.c.received_at, inbox.c.attempts,
        inbox.c.reason,
    )  # fmt: skip
    if state:
        query = query.where(inbox.c.state == state)
    if connection_name:
        query = query.where(inbox.c.connection == connection_name)
    return list(connection.execute(query.order_by(inbox.c.id.desc()).limit(limit)))


def replay(
    connection: Connection, *, now: int, ids: Sequence[int] = (), state: str | None = None, name: str | None = None
) -> list[tuple[int, str]]:
    """Offer rows again, whatever became of them, with their attempts at zero; (id, lane) of each.

    Rows that an erasure blanked have nothing to say any more. Those skipped at the door stay: they are of another
    account or mode, which nothing but the door checks.
    """
    query = inbox.update().values(state="new", attempts=0, next_attempt_at=now, reason=None, lease_until=None)
    if ids:
        query = query.where(inbox.c.id.in_(ids))
    if state:
        query = query.where(inbox.c.state == state)
    if name:
        query = query.where(inbox.c.connection == name)
    query = query.where(inbox.c.state != "claimed", func.length(inbox.c.body) > 0)
    query = query.where(~inbox.c.dedup_key.startswith(AT_THE_DOOR, autoescape=True))
    rows = connection.execute(query.returning(inbox.c.id, inbox.c.lane))
    return sorted((row[0], row[1]) for row in rows)


def states(connection: Connection, ids: Iterable[int]) -> list[tuple[int, str]]:
    """(id, state) of rows."""
    found = bulk.within(connection, "SELECT id, state FROM inbox WHERE id {set}", ids, kind="bigint")
    return sorted((row[0], row[1]) for row in found)


def counts(connection: Connection) -> list[AnyRow]:
    """(connection, state, rows, oldest received_at) of everything that is not done."""
    return list(
        connection.exec_driver_sql(
            "SELECT connection, state, count(*), min(received_at) FROM inbox "
            "WHERE queue IN ('open', 'dead') GROUP BY connection, state ORDER BY connection, state"
        )
    )
