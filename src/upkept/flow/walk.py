"""Walks: rebuild, forget and undo, as runs that go on where they stood, a bounded transaction at a time.

Whoever steps a walk (a worker, or the command that asked for it) holds its lease; each turn moves the cursor in the
transaction of its effects, so a kill at any point costs nothing but the turn under way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from sqlalchemy import Connection

from upkept.contract import Retryable
from upkept.flow import alarm
from upkept.flow.bells import Bell
from upkept.flow.component import holding
from upkept.flow.hub import Hub
from upkept.flow.normalize import waiting
from upkept.flow.runs import claim, fail
from upkept.store import audit, runs, tombstones
from upkept.store.runs import Run

log = structlog.get_logger(__name__)

SECOND: Final = 1_000_000
STEP: Final = 2 * SECOND
"""After so long a step ends at the next turn; the bell it returns goes on."""
BUG_TRIES: Final = 3
REPORT: Final = "report"
"""The cursor of a walk that has done its work and only reports."""

Now = Callable[[], int]


class FenceBroken(Exception):
    """Another process took the walk over; what this turn did is thrown away."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one transaction did: where the walk stands now, what was looked at and what changed."""

    cursor: str
    scanned: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Walk:
    """`turn` does a bounded piece from `run.cursor` on; `report` says at the end what came of it."""

    turn: Callable[[Connection, Hub, Run, frozenset[str], int], Turn]
    report: Callable[[Connection, Run], str | None]


def start(
    hub: Hub, kind: str, name: str, params: Mapping[str, Any], *, cursor: str, total: int | None, actor: str, now: int
) -> tuple[Run, bool]:
    """Begin a walk, or join the same one that is under way; True if it is a new one."""
    with hub.store.write() as connection:
        latest = runs.latest(connection, name, kind)
        if latest is not None and latest.open and dict(latest.params) == dict(params):
            return latest, False
        run, _ = runs.start(connection, kind, name, params, now, cursor=cursor, total=total)
        subjects = [f"run {run.id}", *([name] if name else []), *(f"{key} {value}" for key, value in params.items())]
        audit.note(connection, kind, subjects, actor=actor, now=now)
        return run, True


def step(hub: Hub, run_id: int, walk: Walk, *, now: Now) -> tuple[Bell, ...]:
    """Walk on for about two seconds; what to ring next. Nothing if another process walks."""
    run = claim(hub, run_id, now=now())
    if run is None:
        return ()
    until = now() + STEP
    try:
        while run.open and now() < until:
            run = _turn(hub, run, walk, now)
    except FenceBroken:
        log.warning("fence_broken", run=run.id, cure="none needed: another process took the walk over")
        return ()
    except Exception as error:
        _stopped(hub, run, error, now())
        return ()
    except BaseException:
        _let_go(hub, run, now())
        raise
    if run.open:
        _let_go(hub, run, now())
        return (Bell("bulk", "run", (run.id,)),)
    return ()


def _turn(hub: Hub, run: Run, walk: Walk, now: Now) -> Run:
    if run.cursor == REPORT:
        return _end(hub, run, walk, now())

    def once(also: frozenset[str]) -> Turn:
        with hub.store.write() as connection:
            moment = now()
            tombstones.beside_others(connection)
            turn = walk.turn(connection, hub, run, also, moment)
            runs.add(connection, run.id, changed=turn.changed, unchanged=turn.scanned - turn.changed)
            moved = runs.advance(
                connection, run, now=moment, cursor=turn.cursor, state="pulling", scanned=turn.scanned, admitted=0,
                unchanged=0, total=None,
            )  # fmt: skip
            if not moved:
                raise FenceBroken
        return turn

    return replace(run, cursor=holding(once).cursor)


def _end(hub: Hub, run: Run, walk: Walk, now: int) -> Run:
    with hub.store.read() as connection:
        reason = walk.report(connection, run)
    with hub.store.write() as connection:
        if not runs.close(connection, run, "complete", now=now, reason=reason):
            raise FenceBroken
    alarm.settle(hub, _key(run), now=now)
    return replace(run, state="complete")


def _stopped(hub: Hub, run: Run, error: Exception, now: int) -> None:
    """The cursor stays where it is. An error that nobody foresaw may pass by itself; a bug does not."""
    foreseen = isinstance(error, Retryable)
    reason = str(error) if foreseen else f"{type(error).__name__}; see the log"
    if not foreseen:
        log.exception("walk_failed", kind=run.kind, run=run.id)
    if foreseen or run.attempts + 1 < BUG_TRIES:
        with hub.store.write() as connection:
            runs.postpone(connection, run, until=now + waiting(run.attempts), reason=reason)
        return
    fail(hub, run, reason, now=now, keep_cursor=True)
    alarm.sound(hub, _key(run), run.connection, f"{run.kind} stopped: {reason}", f"upkept {run.kind} again", now=now)


def _let_go(hub: Hub, run: Run, now: int) -> None:
    try:
        with hub.store.write() as connection:
            runs.release(connection, run, next_attempt_at=now)
    except Retryable as error:
        log.warning("run_not_released", run=run.id, error=type(error).__name__, cure="none: its lease runs out")


def _key(run: Run) -> str:
    return f"{run.kind}:{run.connection}"
