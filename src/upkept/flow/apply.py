"""Apply: one batch of inbox rows, claimed, normalized and taken into the store, each exactly once in effect.

A row that breaks its batch is found by applying the rows one by one. The claim's epoch is checked in the effect
transaction, so a worker that slept through its lease cannot write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from upkept.contract import Retryable
from upkept.failpoints import reach
from upkept.flow import alarm, echo, opt_outs
from upkept.flow.bells import Bell, bells_for
from upkept.flow.carry import opt_outs_alone
from upkept.flow.component import TRIES, Unsettled, holding
from upkept.flow.effect import write
from upkept.flow.hub import Hub
from upkept.flow.normalize import Work, failed, normalize
from upkept.flow.plan import Plan, plan
from upkept.flow.prune import leave_out
from upkept.flow.refuse import refuse
from upkept.flow.settle import Effect
from upkept.store import consent, inbox, runs
from upkept.store.inbox import Claimed, Outcome
from upkept.store.row_key import row_key

log = structlog.get_logger(__name__)

AT_ONCE = {"postgresql": 250, "sqlite": 25}
"""Rows in one transaction. SQLite has one writer: whoever answers a sender waits some 20 ms for ours."""
FULL = 250
"""Rows of a full batch."""
LONG = 200_000
"""Microseconds after which a row has waited long, where a batch could be fuller."""
TRIES_TOGETHER = 2
"""A batch whose component outgrows its locks is tried again with the larger set, then row by row."""


class FenceBroken(Exception):
    """Another worker took these rows over after our lease ended; what we computed is thrown away."""


@dataclass(slots=True)
class Applied:
    """What became of a batch, in rows; `people` changed; and what to ring next."""

    done: int = 0
    changed: int = 0
    skipped: int = 0
    dead: int = 0
    retried: int = 0
    people: int = 0
    clamped: int = 0
    bells: tuple[Bell, ...] = field(default=())


def apply(hub: Hub, ids: Sequence[int], *, now: Callable[[], int], beside: bool = False) -> Applied:
    """Claim those of `ids` that are free and apply them. Raises `Retryable` when the database is away.

    `beside`: rows that waited long take along what waits beside them until the batch is full, so that a backlog is
    worked off in large batches however small the bells were.
    """
    rows = _claim(hub, ids, now(), beside=beside)
    reach("apply.claimed")
    applied = Applied()
    if rows:
        works, ended = normalize(hub, [row for row in rows if not row.thin], now=now())
        _settle_outcomes(hub, ended, applied, now())
        at_once = AT_ONCE[hub.store.dialect]
        void = [work for work in works if work.is_void]
        works = [work for work in works if not work.is_void] if void else works
        for start in range(0, len(works), at_once):
            _apply(hub, works[start : start + at_once], applied, now)
        for work in void:
            _apply(hub, [work], applied, now)
    return applied


def _claim(hub: Hub, ids: Sequence[int], now: int, *, beside: bool) -> list[Claimed]:
    with hub.store.write_at_once() as connection:
        rows = inbox.claim(connection, ids, now=now)
    if beside and 0 < len(rows) < FULL and rows[0].received_at < now - LONG:
        with hub.store.write_at_once() as connection:
            rows += inbox.claim_next(connection, rows[0].lane, now=now, limit=FULL - len(rows))
    return rows


def _apply(hub: Hub, works: list[Work], applied: Applied, now: Callable[[], int]) -> None:
    """A batch at once; if it breaks, its rows one by one."""
    if not works:
        return
    try:
        _take_in(hub, works, applied, now)
    except FenceBroken:
        log.warning("fence_broken", rows=len(works), cure="none needed: another worker took the rows over")
    except Exception as error:
        if isinstance(error, Retryable) and not isinstance(error, Unsettled):
            raise  # the database is away: the lease runs out and the rows are offered again
        if len(works) > 1:
            for work in works:
                _apply(hub, [work], applied, now)
            return
        _settle_outcomes(hub, [failed(_kept(hub, works[0], now()), error, now=now())], applied, now())


def _kept(hub: Hub, work: Work, now: int) -> Claimed:
    """The row of a delivery that cannot be applied. Its opt-outs are in force, and it is tried for ever for them."""
    row = work.row
    if not work.opts_out:
        return row
    key = row_key(row.connection, row.dedup_key)
    said = opt_outs.among(hub, row.connection, work.consents, received_at=row.received_at)
    with hub.store.write() as connection:
        consent.insert(connection, [(fact, key) for fact in said], now=now)
        if row.lowering == "no":
            inbox.may_lower(connection, row.id)
    return row if row.lowering != "no" else replace(row, lowering="may")


def _take_in(hub: Hub, works: list[Work], applied: Applied, now: Callable[[], int]) -> None:
    def once(also: frozenset[str]) -> tuple[Plan, list[Outcome], Effect]:
        planned = plan(hub, works)
        with hub.store.write() as connection:
            moment = now()
            leave_out(connection, planned, now=moment)
            refused = refuse(connection, hub, planned, now=moment)
            learnt = echo.mark(connection, hub, planned)
            take = opt_outs_alone if works[0].is_void else write
            effect = take(connection, hub, planned, now=moment, also=also)
            echo.keep(connection, learnt)
            outcomes = [refused.get(w.row.id) or w.end for w in works]
            _count_runs(connection, outcomes, effect.news)
            if not inbox.finish(connection, outcomes):
                raise FenceBroken
            inbox.remove(connection, [w.row.id for w in works if w.row.lowering == "forgotten"])
            reach("apply.before_commit")
        return planned, outcomes, effect

    planned, outcomes, effect = holding(once, tries=TRIES_TOGETHER if len(works) > 1 else TRIES)
    reach("apply.after_commit")
    alarm.opt_outs_read(hub, (work.row for work in works), now=now())
    _count(applied, outcomes)
    applied.changed += len(effect.news)
    applied.people += len(effect.people)
    applied.bells += tuple(bells_for(((id_, "outbound") for id_ in effect.wished), task="push"))
    applied.clamped += planned.clamped


def _settle_outcomes(hub: Hub, outcomes: Sequence[Outcome], applied: Applied, now: int) -> None:
    if not outcomes:
        return
    with hub.store.write() as connection:
        _count_runs(connection, outcomes, set())
        if not inbox.finish(connection, outcomes):
            log.warning("fence_broken", rows=len(outcomes), cure="none needed: another worker took the rows over")
            connection.rollback()
            return
    _count(applied, outcomes)
    alarm.rows_in_trouble(hub, outcomes, now=now)
    alarm.opt_outs_read(hub, (one.row for one in outcomes if one.state == "skipped"), now=now)


def _count_runs(connection: object, outcomes: Sequence[Outcome], news: set[int]) -> None:
    tally: dict[int, list[int]] = {}
    for outcome in outcomes:
        if outcome.row.run is not None and outcome.state != "new":
            counts = tally.setdefault(outcome.row.run, [0, 0, 0])
            counts[2 if outcome.state == "dead" else 0 if outcome.row.id in news else 1] += 1
    for run, (changed, unchanged, dead) in sorted(tally.items()):
        runs.add(connection, run, changed=changed, unchanged=unchanged, failed=dead)  # type: ignore[arg-type]


def _count(applied: Applied, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        match outcome.state:
            case "done":
                applied.done += 1
            case "skipped":
                applied.skipped += 1
            case "dead":
                applied.dead += 1
            case "new":
                applied.retried += 1
