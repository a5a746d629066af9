"""Fetch: what a thin event points at, and records that are to be read back (SEMANTICS E).

The vendor is asked outside of any transaction. An answer is a new inbox row, stored in the transaction that ends
the thin row or the wish, so `normalize` stays pure; its opt-outs are in force with it. Its time is the moment before
the vendor was asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import structlog

from upkept.contract import Config, Permanent, RawEvent, Retryable, Skipped
from upkept.contract.connector import FetchMany
from upkept.flow import alarm, opt_outs
from upkept.flow.bells import Bell
from upkept.flow.compare import READ, bells, keep
from upkept.flow.context import PAUSED_AGAIN, STEP, VendorContext, hold, take_slot
from upkept.flow.hub import Hub
from upkept.flow.normalize import failed, waiting
from upkept.people.facts import from_us
from upkept.registry import Connection
from upkept.store import connections, inbox, quotas, readbacks, runs
from upkept.store.inbox import Arrival, Claimed, Outcome
from upkept.store.readbacks import Due

log = structlog.get_logger(__name__)

SECOND: Final = 1_000_000
READERS: Final = 3
"""How many couriers complete rows of one connection at a time. The vendor's quota may last for two calls a second and
the rows come by thousands: they must not hold every courier, for an opt-out may wait for one."""
CLAIMED_AT_ONCE: Final = 4
"""Few, because a claimed row is nobody else's and a slow vendor takes seconds for each."""
READ_AT_ONCE: Final = 100
"""Where the vendor shows many in one call."""
READ_AGAIN: Final = 2 * SECOND
"""Vendors' seconds are whole: a wish made while the record was read waits until the second is over (R7)."""
BUG_TRIES: Final = 12

Now = Callable[[], int]


def fetch(hub: Hub, ids: Sequence[int], *, now: Now) -> tuple[Bell, ...]:
    """Complete the thin rows among `ids`, and what else waits at their connections; what to ring next."""
    with hub.store.read() as open_store:
        found = inbox.thin(open_store, ids)
        paused = connections.paused(open_store)
    rung: list[Bell] = []
    for name, rows in found.items():
        rung += _in_turn(hub, name, rows, paused, now, until=now() + STEP // len(found))
    return tuple(rung)


def _in_turn(
    hub: Hub, name: str, ids: Sequence[int], paused: frozenset[str], now: Now, *, until: int
) -> list[Bell]:  # fmt: skip
    """Hold one of the connection's places, as long as there is something to read and time to do it."""
    with hub.store.write() as open_store:
        place = take_slot(open_store, f"fetch:{name}", limit=READERS, now=now())
    if place is None:
        return []  # those who are at it take these along
    connection = hub.connections.get(name)
    many = connection.connector.fetch_many if connection is not None and name not in paused else None
    limit = CLAIMED_AT_ONCE if many is None else READ_AT_ONCE
    rung: list[Bell] = []
    away: dict[str, Retryable] = {}
    try:
        while now() < until and name not in away:
            batch, ids = ids[:limit], ids[limit:]
            with hub.store.write() as open_store:
                if batch:
                    rows = inbox.claim(open_store, batch, now=now())
                else:
                    rows = inbox.claim_thin(open_store, name, now=now(), limit=limit)
            asked_at = now()
            shown = {} if connection is None or many is None else _shown(hub, connection, many, rows, now)
            for row in rows:
                if row.dedup_key in shown and connection is not None:
                    rung += _answered(hub, row, connection, shown[row.dedup_key], asked_at, now)
                else:
                    rung += _complete(hub, row, away, paused, now)
            if not batch and not rows:
                break
    finally:
        with suppress(Retryable), hub.store.write() as open_store:
            quotas.give_back(open_store, place)
    with hub.store.read() as open_store:
        left = inbox.thin_left(open_store, name, now=now())
    return [*rung, *([Bell("outbound", "fetch", tuple(left))] if left and name not in away else [])]


def _shown(
    hub: Hub, connection: Connection, many: FetchMany[Any], rows: Sequence[Claimed], now: Now
) -> dict[str, RawEvent]:
    """What the vendor shows in one go, by the key of the row. Of who is missing here `fetch` says why."""
    found: dict[str, RawEvent] = {}
    if len(rows) < 2:
        return found
    try:
        events = [_thin(row) for row in rows]
        for event, answer in many(events, connection.config, VendorContext(hub, connection, now)):
            found[event.id] = answer
    except Exception as error:
        log.info("fetch_many_failed", connection=connection.name, reason=type(error).__name__,
                 cure="none needed: they are read one at a time")  # fmt: skip
    return found


def read_back(hub: Hub, *, now: Now, limit: int = 50) -> tuple[Bell, ...]:
    """Read up to `limit` records back whose time has come, one call each; what to ring next."""
    rung: list[Bell] = []
    until = now() + STEP
    done = 0
    away: set[str] = set()
    while done < limit and now() < until:
        with hub.store.write() as open_store:
            passed_over = connections.paused(open_store) | away
            dues = readbacks.claim(
                open_store, now=now(), limit=min(CLAIMED_AT_ONCE, limit - done), passed_over=passed_over
            )
        if not dues:
            return tuple(rung)
        for due in dues:
            done += 1
            rung += _read(hub, due, away, now)
    return (*rung, Bell("outbound", "read_back", ()))


def _complete(hub: Hub, row: Claimed, away: dict[str, Retryable], paused: frozenset[str], now: Now) -> tuple[Bell, ...]:
    """One thin row. A vendor that is away is not asked again for the rest of the batch."""
    connection = hub.connections.get(row.connection)
    if connection is None or connection.connector.fetch is None:
        _end(hub, row, Permanent(f"connection {row.connection!r} cannot fetch; see upkept.toml"), now)
        return ()
    if row.connection in paused:
        _pause_row(hub, row, "its connection is paused", now)
        return ()
    if row.connection in away:
        _end(hub, row, away[row.connection], now)
        return ()
    asked_at = now()
    try:
        answer = connection.connector.fetch(_thin(row), connection.config, VendorContext(hub, connection, now))
    except Config as error:
        alarm.pause(hub, row.connection, str(error), now=now())
        _pause_row(hub, row, str(error), now)
        away[row.connection] = Retryable(str(error), after=PAUSED_AGAIN / SECOND)
        return ()
    except Exception as error:
        if isinstance(error, Retryable):
            away[row.connection] = error
            hold(hub, connection, error, now=now())
        _end(hub, row, error, now)
        return ()
    return _answered(hub, row, connection, answer, asked_at, now)


def _thin(row: Claimed) -> RawEvent:
    return RawEvent(id=row.dedup_key, kind=row.kind, body=row.body, thin=True, received_at=from_us(row.received_at))


def _answered(
    hub: Hub, row: Claimed, connection: Connection, answer: RawEvent, asked_at: int, now: Now
) -> tuple[Bell, ...]:
    # An event completed under its own id would be taken for the thin row itself.
    event = replace(answer, id=f"{answer.id}@fetched") if answer.id == row.dedup_key else answer
    arrival = Arrival(
        connection=row.connection, dedup_key=event.id, kind=event.kind, body=event.body, received_at=asked_at,
        lane=row.lane,  # type: ignore[arg-type]  # a claimed row's lane is one of ours
        lowering=opt_outs.lowering(connection, event.kind) if row.lowering == "no" else row.lowering, run=row.run,
    )  # fmt: skip
    said = opt_outs.read(hub, connection, event, arrival.lowering, received_at=asked_at)
    with hub.store.write() as open_store:
        new = keep(open_store, [arrival], {event.id: said}, now=asked_at)
        if not new and row.run is not None:
            runs.add(open_store, row.run, unchanged=1)
        if not inbox.finish(open_store, [Outcome(row, "done", None if new else "known already")]):
            log.warning("fence_broken", inbox_id=row.id, cure="none needed: another worker took the row over")
            open_store.rollback()
            return ()
    alarm.opt_outs_read(hub, [row], now=now())
    return bells(new)


def _end(hub: Hub, row: Claimed, error: Exception, now: Now) -> None:
    outcome = failed(row, error, now=now())
    with hub.store.write() as open_store:
        if row.run is not None and outcome.state != "new":
            runs.add(open_store, row.run, unchanged=outcome.state == "skipped", failed=outcome.state == "dead")
        if not inbox.finish(open_store, [outcome]):
            open_store.rollback()
            return
    if outcome.state == "dead":
        cure = f"after a fix: upkept replay {row.id}"
        alarm.sound(hub, f"fetch:{row.connection}", row.connection, outcome.reason or "", cure, now=now())
    elif not isinstance(error, Retryable):
        alarm.rows_in_trouble(hub, [outcome], now=now())


def _pause_row(hub: Hub, row: Claimed, reason: str, now: Now) -> None:
    """Back it goes, and waits for its connection."""
    with hub.store.write() as open_store:
        inbox.finish(open_store, [Outcome(row, "new", reason, retry_at=now() + PAUSED_AGAIN)])


def _read(hub: Hub, due: Due, away: set[str], now: Now) -> tuple[Bell, ...]:
    connection = hub.connections.get(due.connection)
    if connection is None or connection.connector.fetch is None:
        with hub.store.write() as open_store:
            readbacks.drop(open_store, due)
        return ()
    if due.connection in away:
        _later(hub, due, due.due_at, due.attempts)
        return ()
    event = RawEvent(id=due.source_id, kind=f"{READ}{due.type}", body=b"")
    asked_at = now()
    try:
        answer = connection.connector.fetch(event, connection.config, VendorContext(hub, connection, now))
    except Exception as error:
        _unread(hub, due, connection, error, away, now())
        return ()
    arrival = Arrival(
        connection=due.connection, dedup_key=answer.id, kind=answer.kind, body=answer.body, received_at=asked_at,
        lowering=opt_outs.lowering(connection, answer.kind),
    )  # fmt: skip
    said = opt_outs.read(hub, connection, answer, arrival.lowering, received_at=asked_at)
    with hub.store.write() as open_store:
        new = keep(open_store, [arrival], {answer.id: said}, now=asked_at)
        if not readbacks.settle(open_store, due, again_at=now() + READ_AGAIN):
            open_store.rollback()
            return ()
    return bells(new)


def _unread(hub: Hub, due: Due, connection: Connection, error: Exception, away: set[str], now: int) -> None:
    """The table of errors of a read-back."""
    match error:
        case Skipped():
            with hub.store.write() as open_store:
                readbacks.drop(open_store, due)
        case Config():
            away.add(due.connection)
            alarm.pause(hub, due.connection, str(error), now=now)
            _later(hub, due, due.due_at, due.attempts)
        case Retryable():
            away.add(due.connection)
            hold(hub, connection, error, now=now)
            _later(hub, due, now + waiting(due.attempts, error.after), due.attempts + 1)
        case _ if isinstance(error, Permanent) or due.attempts + 1 >= BUG_TRIES:
            _give_up(hub, due, error, now)
        case _:
            log.exception("read_back_failed", connection=due.connection, type=due.type)
            _later(hub, due, now + waiting(due.attempts), due.attempts + 1)


def _give_up(hub: Hub, due: Due, error: Exception, now: int) -> None:
    reason = str(error) if isinstance(error, Permanent) else f"{type(error).__name__}; see the log"
    with hub.store.write() as open_store:
        readbacks.drop(open_store, due)
    message = f"a {due.type} could not be read back: {reason}"
    cure = f"after a fix: upkept resync {due.connection}"
    alarm.sound(hub, alarm.read_back_key(due.connection), due.connection, message, cure, now=now)


def _later(hub: Hub, due: Due, due_at: int, attempts: int) -> None:
    with hub.store.write() as open_store:
        readbacks.postpone(open_store, due, due_at=due_at, attempts=attempts)
