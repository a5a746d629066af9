"""Pull: one bounded step of a run, from its cursor on.

A page's news, the opt-outs in it, the cursor and the counters are one transaction, and the vendor is asked outside of
it: a kill at any point costs at most one page that is asked for again. The cursor never moves past an error. What a
page says is true at the moment before it was asked for, and that is the time its rows get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog
from sqlalchemy import Connection as Store

from upkept.contract import Config, Page, Permanent, RawEvent, Retryable
from upkept.failpoints import reach
from upkept.flow import alarm, opt_outs
from upkept.flow.bells import Bell
from upkept.flow.compare import READ, Compared, bells, compare, keep
from upkept.flow.context import VendorContext
from upkept.flow.hub import Hub
from upkept.flow.normalize import waiting
from upkept.flow.runs import claim, fail, is_full, pull_key, settle
from upkept.people.facts import from_us
from upkept.registry import Connection
from upkept.store import connections, inbox, quotas, runs, walked
from upkept.store.inbox import Arrival
from upkept.store.runs import Run

log = structlog.get_logger(__name__)

SECOND: Final = 1_000_000
STEP: Final = 2 * SECOND
"""After so long a step ends at the next page; the bell it returns goes on."""
LONGEST_HOLD: Final = 60 * SECOND
PATIENT_TRIES: Final = 5
"""After so many tries in vain a person is told; the run goes on by itself all the same."""
BUG_TRIES: Final = 3
"""An error nobody foresaw may pass by itself (a task's time limit, a library's own class); a bug does not."""

Now = Callable[[], int]


class FenceBroken(Exception):
    """Another process took the run over; what we read is thrown away."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A page as a dry run sees it: nothing is stored. `news` counts what would be admitted."""

    compared: Compared
    cursor: str | None
    total: int | None
    scanned: int
    news: int


def step(hub: Hub, run_id: int, *, now: Now) -> tuple[Bell, ...]:
    """Work on a run for about two seconds; what to ring next. Nothing if another process works on it."""
    run = claim(hub, run_id, now=now())
    if run is None:
        return ()
    try:
        return settle(hub, run, now=now) if run.state == "applying" else _pull(hub, run, now)
    except FenceBroken:
        log.warning("fence_broken", run=run.id, cure="none needed: another process took the run over")
        return ()
    except BaseException:
        _let_go(hub, run, now)
        raise


def preview(hub: Hub, connection: Connection, cursor: str | None, *, now: Now) -> Iterator[Preview]:
    """The pages from `cursor` on, compared with the store and not stored. Raises the vendor's errors."""
    assert connection.connector.pull is not None  # noqa: S101  # `flow.runs.pullable` has looked
    pages = connection.connector.pull(cursor, connection.config, VendorContext(hub, connection, now))
    while True:
        asked_at = now()
        page = next(pages, None)
        if page is None:
            return
        compared = compare(hub, connection, page.events, received_at=asked_at)
        events = [event.id for event in compared.news if not event.kind.startswith(READ)]
        with hub.store.read() as open_store:
            known = inbox.known(open_store, connection.name, events)
        yield Preview(compared, page.cursor, page.total, len(page.events), len(compared.news) - len(known))


def _pull(hub: Hub, run: Run, now: Now) -> tuple[Bell, ...]:
    connection = hub.connections.get(run.connection)
    if connection is None or connection.connector.pull is None:
        fail(hub, run, f"connection {run.connection!r} cannot be pulled any more; see upkept.toml", now=now())
        return ()
    rung: list[Bell] = []
    first, until, cursor = True, now() + STEP, run.cursor
    pages = connection.connector.pull(run.cursor, connection.config, VendorContext(hub, connection, now))
    while True:
        asked_at = now()
        try:
            page = next(pages, None) or Page(events=(), cursor=None)
            cursor = _moved(cursor, page)
        except Exception as error:
            _stopped(hub, run, connection, error, now())
            return tuple(rung)
        rung += _take_in(hub, run, connection, page, asked_at, now)
        if first:
            _answered(hub, run, now())
        first = False
        if page.cursor is None or now() >= until:
            return (*rung, *_go_on(hub, run, now))


def _moved(before: str | None, page: Page) -> str | None:
    """The cursor after a page; one that stands still would be pulled for ever."""
    if page.cursor is not None and page.cursor == before:
        raise Permanent("the vendor's list does not move on: two pages end at the same place")
    return page.cursor


def _take_in(hub: Hub, run: Run, connection: Connection, page: Page, asked_at: int, now: Now) -> tuple[Bell, ...]:
    compared = compare(hub, connection, page.events, received_at=asked_at)
    arrivals = [_arrival(connection, event, run, asked_at) for event in compared.news]
    with hub.store.write() as open_store:
        new = keep(open_store, arrivals, compared.opt_outs, now=asked_at)
        if is_full(run):
            walked.show(open_store, run.id, compared.shown)
        if page.cursor is None:
            _pulled(open_store, run, page, asked_at)
        moved = runs.advance(
            open_store, run,
            now=now(), cursor=page.cursor, state="pulling" if page.cursor is not None else "applying",
            scanned=len(page.events), admitted=len(new), unchanged=len(page.events) - len(new), total=page.total,
        )  # fmt: skip
        if not moved:
            raise FenceBroken
        reach("pull.before_commit")
    reach("pull.after_commit")
    return bells(new)


def _arrival(connection: Connection, event: RawEvent, run: Run, asked_at: int) -> Arrival:
    # An event that no webhook brought goes first; what a list says of everybody does not. No opt-out waits for either.
    lowering = opt_outs.lowering(connection, event.kind)
    first = lowering != "no" and not event.kind.startswith(READ)
    return Arrival(
        connection=connection.name, dedup_key=event.id, kind=event.kind, body=event.body, received_at=asked_at,
        lane="consent" if first else "bulk", lowering=lowering, thin=event.thin, run=run.id,
    )  # fmt: skip


def _pulled(open_store: Store, run: Run, page: Page, asked_at: int) -> None:
    """Where the next incremental pull begins. One that began later than the last one ended leaves a gap before it."""
    standing = connections.standing(open_store, run.connection)
    gap = run.params.get("mode") == "since" and standing.pulled_at is not None
    if gap and int(run.params["since"]) > int(standing.pulled_at or 0):
        return
    resume = page.resume or f"since:{from_us(run.started_at).isoformat()}"
    connections.pulled(
        open_store, run.connection, cursor=resume, at=run.started_at, walked_at=asked_at if is_full(run) else None
    )


def _go_on(hub: Hub, run: Run, now: Now) -> tuple[Bell, ...]:
    with hub.store.write() as open_store:
        runs.release(open_store, run, next_attempt_at=now())
    return (Bell("outbound", "run", (run.id,)),)


def _answered(hub: Hub, run: Run, now: int) -> None:
    """The vendor answers: whatever said otherwise is over."""
    with hub.store.read() as open_store:
        standing = connections.standing(open_store, run.connection)
    if standing.paused_at is not None:
        alarm.unpause(hub, run.connection, now=now)
    if run.attempts >= PATIENT_TRIES:
        alarm.settle(hub, pull_key(run.connection), now=now)


def _stopped(hub: Hub, run: Run, connection: Connection, error: Exception, now: int) -> None:
    """The table of errors of a pull. The cursor stays where it is."""
    match error:
        case Retryable():
            _postpone(hub, run, connection, error, now)
        case Config():
            cure = alarm.pause(hub, run.connection, str(error), now=now)
            fail(hub, run, f"{error}; {cure}", now=now, keep_cursor=True)
        case Permanent():
            _broken(hub, run, str(error), now)
        case _:
            log.exception("pull_failed", connection=run.connection, run=run.id)
            what = f"{type(error).__name__} in connector {connection.connector.name!r}; see the log"
            if run.attempts + 1 < BUG_TRIES:
                _postpone(hub, run, connection, Retryable(what), now)
            else:
                _broken(hub, run, what, now)


def _postpone(hub: Hub, run: Run, connection: Connection, error: Retryable, now: int) -> None:
    until = now + waiting(run.attempts, error.after)
    with hub.store.write() as open_store:
        if error.after is not None:
            quotas.hold(open_store, connection.account, until=min(until, now + LONGEST_HOLD))
        runs.postpone(open_store, run, until=until, reason=str(error))
    log.info("pull_waits", connection=run.connection, run=run.id, seconds=(until - now) / SECOND, reason=str(error))
    if run.attempts + 1 >= PATIENT_TRIES:
        cure = "none needed if the vendor is away: the run goes on by itself; see base_url if it is not"
        alarm.sound(hub, pull_key(run.connection), run.connection, str(error), cure, now=now)


def _broken(hub: Hub, run: Run, reason: str, now: int) -> None:
    fail(hub, run, reason, now=now)
    alarm.sound(
        hub, pull_key(run.connection), run.connection, reason, f"upkept resync {run.connection} --full", now=now
    )


def _let_go(hub: Hub, run: Run, now: Now) -> None:
    """Whatever happened, the run is free for the next step; if the database is away, its lease runs out."""
    try:
        with hub.store.write() as open_store:
            runs.release(open_store, run, next_attempt_at=now())
    except Exception as error:
        log.warning("run_not_released", run=run.id, error=type(error).__name__, cure="none: its lease runs out")
