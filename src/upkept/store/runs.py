"""Runs: one resync, import or rebuild with its progress, worked on under a lease and fenced like the inbox.

A run goes `pulling` -> `applying` -> `complete`, `failed` or `cancelled`. One resync of a connection is open at a
time; who asks for a second joins it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import orjson
from sqlalchemy import Connection, and_, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from upkept.people.facts import canonical
from upkept.store import bulk
from upkept.store.tables import jobs, runs

State = Literal["pulling", "applying", "complete", "failed", "cancelled"]
OPEN: Final = ("pulling", "applying")
LEASE: Final = 60_000_000
"""How long one page may take, in microseconds, before another process may take the run over."""
RECENT: Final = 200
"""Runs of a connection among which its last full walk is looked for: two days of pulls every quarter of an hour."""
ALIVE: Final = "pulls_looked_for"
"""The row of `jobs` that shows when a beat was last alive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as stored. `scanned` objects were seen; of those `admitted` went to the inbox, the rest was known.

    `total` is the vendor's count or an estimate. `missing` are records a full walk did not show. `compacted` are facts
    it brought that are part of floors (R4). `reason` says why it waits or failed, and what to do. `lease_epoch` is the
    fence of who works on it.
    """

    id: int
    kind: str
    connection: str
    state: State
    params: Mapping[str, Any]
    cursor: str | None
    total: int | None
    scanned: int
    admitted: int
    changed: int
    unchanged: int
    failed: int
    missing: int
    compacted: int
    reason: str | None
    started_at: int
    moved_at: int
    finished_at: int | None
    next_attempt_at: int
    attempts: int
    lease_until: int | None
    lease_epoch: int
    holder: str | None

    @property
    def open(self) -> bool:
        """Is there still something to do?"""
        return self.state in OPEN

    @property
    def rate(self) -> float:
        """Objects scanned per second, since the start."""
        seconds = (self.moved_at - self.started_at) / 1_000_000
        return self.scanned / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The estimate of what the walk still takes; None if there is no total or no rate yet."""
        if self.state != "pulling" or self.total is None or not self.rate:
            return None
        return max(self.total - self.scanned, 0) / self.rate


_COLUMNS = tuple(runs.c[field.name] for field in fields(Run))


def start(
    connection: Connection,
    kind: str,
    name: str,
    params: Mapping[str, Any],
    now: int,
    *,
    cursor: str | None = None,
    total: int | None = None,
) -> tuple[Run, bool]:
    """A new run of connection `name`, or the resync that is under way; True if it is a new one."""
    insert = postgresql.insert(runs) if bulk.on_postgresql(connection) else sqlite.insert(runs)
    row = connection.execute(
        insert.values(
            kind=kind, connection=name, state="pulling", params=canonical(dict(params)).decode(), cursor=cursor,
            total=total, started_at=now, moved_at=now, next_attempt_at=now,
        ).on_conflict_do_nothing().returning(*_COLUMNS)
    ).first()  # fmt: skip
    if row is not None:
        return _run(row), True
    under_way = open_resync(connection, name)
    # The one in the way can only have closed since the insert was refused.
    return (under_way, False) if under_way else start(connection, kind, name, params, now, cursor=cursor, total=total)


def open_resync(connection: Connection, name: str) -> Run | None:
    """The resync of connection `name` that is under way."""
    query = select(*_COLUMNS).where(runs.c.kind == "resync", runs.c.connection == name, runs.c.state.in_(OPEN))
    row = connection.execute(query).first()
    return _run(row) if row else None


def get(connection: Connection, run_id: int) -> Run | None:
    """One run."""
    row = connection.execute(select(*_COLUMNS).where(runs.c.id == run_id)).first()
    return _run(row) if row else None


def listed(connection: Connection, *, limit: int = 50, name: str | None = None) -> list[Run]:
    """Runs, newest first."""
    query = select(*_COLUMNS).order_by(runs.c.id.desc()).limit(limit)
    if name is not None:
        query = query.where(runs.c.connection == name)
    return [_run(row) for row in connection.execute(query)]


def latest(connection: Connection, name: str, kind: str = "resync") -> Run | None:
    """The newest run of a connection."""
    query = select(*_COLUMNS).where(runs.c.connection == name, runs.c.kind == kind)
    row = connection.execute(query.order_by(runs.c.id.desc()).limit(1)).first()
    return _run(row) if row else None


def claim(connection: Connection, run_id: int, *, holder: str, now: int, gone: str | None = None) -> Run | None:
    """Lease an open run; None if it is closed or another works on it. `gone` is a holder known to be dead."""
    free = or_(runs.c.lease_until.is_(None), runs.c.lease_until < now)
    if gone is not None:
        free = or_(free, runs.c.holder == gone)
    query = runs.update().where(runs.c.id == run_id, runs.c.state.in_(OPEN), free)
    leased = {"lease_until": now + LEASE, "lease_epoch": runs.c.lease_epoch + 1, "holder": holder}
    row = connection.execute(query.values(leased).returning(*_COLUMNS)).first()
    return _run(row) if row else None


def advance(
    connection: Connection,
    run: Run,
    *,
    now: int,
    cursor: str | None,
    state: State,
    scanned: int,
    admitted: int,
    unchanged: int,
    total: int | None,
) -> bool:
    """Move the cursor, in the transaction that stored the page, and extend the lease. False: the fence broke."""
    return _held(
        connection, run,
        cursor=cursor, state=state, scanned=runs.c.scanned + scanned, admitted=runs.c.admitted + admitted,
        unchanged=runs.c.unchanged + unchanged, total=runs.c.total if total is None else total, moved_at=now,
        attempts=0, reason=None, lease_until=now + LEASE,
    )  # fmt: skip


def release(connection: Connection, run: Run, *, next_attempt_at: int) -> bool:
    """Give the lease back, to go on at `next_attempt_at`. False: it was lost meanwhile."""
    return _held(connection, run, next_attempt_at=next_attempt_at, lease_until=None, holder=None)


def postpone(connection: Connection, run: Run, *, until: int, reason: str) -> bool:
    """Give the lease back after a failed try; the cursor stays where it is."""
    return _held(
        connection, run,
        next_attempt_at=until, attempts=run.attempts + 1, reason=reason, lease_until=None, holder=None,
    )  # fmt: skip


def close(
    connection: Connection,
    run: Run,
    state: State,
    *,
    now: int,
    reason: str | None,
    failed: int | None = None,
    missing: int = 0,
    keep_cursor: bool = False,
) -> bool:
    """End a run. `failed` replaces the count; a cursor that is kept lets `reopen` go on. False: the fence broke."""
    values: dict[str, Any] = {
        "state": state, "reason": reason, "finished_at": now, "lease_until": None, "holder": None, "missing": missing,
    }  # fmt: skip
    if failed is not None:
        values["failed"] = failed
    if not keep_cursor:
        values["cursor"] = None
    return _held(connection, run, **values)


def cancel(connection: Connection, run_id: int, *, now: int, reason: str) -> bool:
    """End an open run whoever works on it: the epoch moves, so that one cannot write any more."""
    query = runs.update().where(runs.c.id == run_id, runs.c.state.in_(OPEN))
    values = {
        "state": "cancelled", "reason": reason, "finished_at": now, "lease_until": None, "holder": None,
        "cursor": None, "lease_epoch": runs.c.lease_epoch + 1,
    }  # fmt: skip
    return bool(connection.execute(query.values(values)).rowcount)


def reopen(connection: Connection, run_id: int, *, now: int) -> Run | None:
    """Go on with a failed run from its kept cursor; None if it has none."""
    stopped = and_(runs.c.state == "failed", runs.c.cursor.is_not(None))
    query = runs.update().where(runs.c.id == run_id, stopped)
    values = {"state": "pulling", "reason": None, "finished_at": None, "attempts": 0, "next_attempt_at": now}
    row = connection.execute(query.values(values).returning(*_COLUMNS)).first()
    return _run(row) if row else None


def give_up(connection: Connection, name: str) -> None:
    """A new run of this connection has begun: those that stopped on the way are not gone on with."""
    stopped = runs.update().where(runs.c.connection == name, runs.c.state == "failed", runs.c.cursor.is_not(None))
    connection.execute(stopped.values(cursor=None))


def add(connection: Connection, run_id: int, *, changed: int = 0, unchanged: int = 0, failed: int = 0) -> None:
    """Count how inbox rows of a run ended, in the transaction of their effects."""
    query = runs.update().where(runs.c.id == run_id)
    connection.execute(
        query.values(
            changed=runs.c.changed + changed, unchanged=runs.c.unchanged + unchanged, failed=runs.c.failed + failed
        )
    )


def count_compacted(connection: Connection, tally: Mapping[int, int]) -> None:
    """So many facts of these runs became part of floors."""
    for run_id, facts in sorted(tally.items()):
        query = runs.update().where(runs.c.id == run_id)
        connection.execute(query.values(compacted=runs.c.compacted + facts))


def first_since(connection: Connection, at: int) -> int | None:
    """The first run that began at `at` or later."""
    row = connection.execute(select(runs.c.id).where(runs.c.started_at >= at).order_by(runs.c.id).limit(1)).first()
    return int(row[0]) if row else None


def latest_walk(connection: Connection, name: str, *, state: State | None = None) -> Run | None:
    """The newest full walk of a connection; with `state`, the newest that ended so. Looked for among its last runs."""
    query = select(*_COLUMNS).where(runs.c.kind == "resync", runs.c.connection == name)
    if state is not None:
        query = query.where(runs.c.state == state)
    found = map(_run, connection.execute(query.order_by(runs.c.id.desc()).limit(RECENT)))
    return next((run for run in found if run.params.get("mode") == "full"), None)


_OPEN = "queue = 'open'"
_IN_VAIN = f"({_OPEN} AND lowering <> 'no' AND attempts >= CASE WHEN thin THEN 12 ELSE 3 END)"
"""A row that may hold an opt-out is tried for ever; after so many tries no run waits for it. A thin row needs a vendor,
who may be away for a while."""


def unsettled(connection: Connection, run_id: int) -> bool:
    """Is there an inbox row of the run that the run waits for?"""
    query = f"SELECT 1 FROM inbox WHERE run = {int(run_id)} AND {_OPEN} AND NOT {_IN_VAIN} LIMIT 1"
    return connection.exec_driver_sql(query).first() is not None


def unread_rows(connection: Connection, run_id: int) -> int:
    """How many inbox rows of the run may hold an opt-out and were tried in vain so far."""
    query = f"SELECT count(*) FROM inbox WHERE run = {int(run_id)} AND {_IN_VAIN}"
    return int(connection.exec_driver_sql(query).scalar_one())


def waiting_rows(connection: Connection, run_id: int, *, now: int, limit: int) -> list[tuple[int, bool]]:
    """(id, thin) of rows of the run whose time has come and that nobody works on, oldest first."""
    rows = connection.exec_driver_sql(
        f"SELECT id, thin FROM inbox WHERE run = {int(run_id)} AND {_OPEN} "
        f"AND next_attempt_at <= {int(now)} AND (state = 'new' OR lease_until < {int(now)}) "
        f"ORDER BY id LIMIT {int(limit)}"
    )
    return [(row[0], bool(row[1])) for row in rows]


def dead_rows(connection: Connection, run_id: int) -> int:
    """How many inbox rows of the run are dead letters."""
    query = f"SELECT count(*) FROM inbox WHERE run = {int(run_id)} AND queue = 'dead'"
    return int(connection.exec_driver_sql(query).scalar_one())


def hub_was_alive(connection: Connection) -> int | None:
    """When a beat last looked for pulls to start."""
    row = connection.execute(select(jobs.c.claimed_at).where(jobs.c.name == ALIVE)).first()
    return row[0] if row else None


def hub_is_alive(connection: Connection, *, now: int) -> None:
    """A beat looks for pulls to start."""
    bulk.insert(
        connection, jobs, ("name", "slot", "claimed_at"), [(ALIVE, 0, now)],
        conflict="(name) DO UPDATE SET claimed_at = excluded.claimed_at",
    )  # fmt: skip


def _held(connection: Connection, run: Run, **values: Any) -> bool:
    query = runs.update().where(runs.c.id == run.id, runs.c.lease_epoch == run.lease_epoch, runs.c.state.in_(OPEN))
    return bool(connection.execute(query.values(values)).rowcount)


def _run(row: Any) -> Run:
    values = dict(row._mapping)
    return Run(**{**values, "params": orjson.loads(values["params"])})
