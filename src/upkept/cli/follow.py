"""Following a run from the command line: driving it here, under the same leases as the workers, and showing it.

So a resync works without `upkept up`, and beside it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from upkept.flow.apply import apply
from upkept.flow.bells import Bell
from upkept.flow.fetch import fetch, read_back
from upkept.flow.hub import Hub
from upkept.flow.steps import step
from upkept.people.facts import from_us
from upkept.store import jobs, readbacks, runs
from upkept.store.runs import Run

BATCH: Final = 200
LOOK: Final = 0.2
"""Seconds between two looks at a run that somebody else works on."""
SOON: Final = 3_000_000
"""Microseconds until which a read-back is waited for: those of ties are due after two seconds."""
NO_PROGRESS: Final = 10.0
LINE_EVERY: Final = 5.0
ALIVE: Final = 60_000_000
"""A worker that heard a pulse so many microseconds ago lives; one is sent every 15 s."""

Show = Callable[[Run], None]


def clock() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


def worker_lives(hub: Hub) -> bool:
    """Does a worker hear its pulses? Then a run goes on without us."""
    with hub.store.read() as open_store:
        heard = jobs.last_heard(open_store)
    return heard is not None and clock() - heard < ALIVE


def drive(hub: Hub, run_id: int, show: Show) -> Run:
    """Work on a run until it is closed, by whomever."""
    while True:
        run = _look(hub, run_id)
        show(run)
        if not run.open:
            return run
        if not _advance(hub, run):
            time.sleep(LOOK)


def finish_read_backs(hub: Hub, name: str) -> int:
    """Do the read-backs of a connection that are due now or in a moment; how many there were."""
    done, idle_since = 0, time.monotonic()
    while (waiting := _due(hub, name)) and time.monotonic() - idle_since < NO_PROGRESS:
        ring(hub, read_back(hub, now=clock))
        if (left := _due(hub, name)) < waiting:
            done, idle_since = done + waiting - left, time.monotonic()
        else:
            time.sleep(LOOK)
    return done


def ring(hub: Hub, bells: Iterable[Bell]) -> None:
    """Do here what the bells of rows ask for; runs and further read-backs are the caller's."""
    waiting = list(bells)
    while waiting:
        bell = waiting.pop()
        if bell.task == "apply":
            waiting += apply(hub, bell.ids, now=clock).bells
        elif bell.task == "fetch":
            waiting += fetch(hub, bell.ids, now=clock)


@contextmanager
def shown(title: str) -> Iterator[Show]:
    """A progress bar on a terminal, a line now and then elsewhere; on standard error, so JSON stays alone."""
    if sys.stderr.isatty():
        with _bar(title) as show:
            yield show
    else:
        yield _lines(title)


def as_json(run: Run) -> dict[str, Any]:
    """A run as the commands print it."""
    return {
        "id": run.id, "kind": run.kind, "connection": run.connection, "state": run.state, "params": dict(run.params),
        "scanned": run.scanned, "total": run.total, "changed": run.changed, "unchanged": run.unchanged,
        "failed": run.failed, "missing": run.missing, "rate": round(run.rate, 1),
        "seconds_left": None if run.seconds_left is None else round(run.seconds_left),
        "reason": run.reason, "started_at": moment(run.started_at), "moved_at": moment(run.moved_at),
        "finished_at": moment(run.finished_at),
    }  # fmt: skip


def moment(at: int | None) -> str | None:
    """A time as ISO 8601."""
    return None if at is None else from_us(at).isoformat(timespec="seconds")


def report(run: Run) -> list[str]:
    """The end of a run in words."""
    took = ((run.finished_at or run.moved_at) - run.started_at) / 1_000_000
    counts = (
        f"scanned {run.scanned:,}, changed {run.changed:,}, unchanged {run.unchanged:,}, failed {run.failed:,}"
        f" in {took:,.0f} s"
    )
    lines = [f"{run.connection}: run {run.id} is {run.state}: {counts}"]
    return [*lines, run.reason] if run.reason else lines


def _look(hub: Hub, run_id: int) -> Run:
    with hub.store.read() as open_store:
        run = runs.get(open_store, run_id)
    if run is None:
        raise LookupError(f"run {run_id} is gone")
    return run


def _advance(hub: Hub, run: Run) -> bool:
    """One piece of work on a run; False if there is none for us now."""
    now = clock()
    with hub.store.read() as open_store:
        rows = runs.waiting_rows(open_store, run.id, now=now, limit=BATCH)
        settled = run.state == "applying" and not rows and not runs.unsettled(open_store, run.id)
    if rows:
        ring(hub, [Bell("bulk", "apply", tuple(row for row, thin in rows if not thin))])
        ring(hub, [Bell("outbound", "fetch", tuple(row for row, thin in rows if thin))])
        return True
    if settled or (run.state == "pulling" and run.next_attempt_at <= now):
        step(hub, run.id, now=clock)
        return _look(hub, run.id).lease_epoch != run.lease_epoch
    return False


def _due(hub: Hub, name: str) -> int:
    with hub.store.read() as open_store:
        return readbacks.due_by(open_store, name, at=clock() + SOON)


@contextmanager
def _bar(title: str) -> Iterator[Show]:
    from rich import progress as rich  # only a terminal needs it
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(),
        rich.TextColumn("{task.fields[rate]}"), rich.TimeElapsedColumn(), rich.TimeRemainingColumn(),
        rich.TextColumn("{task.fields[note]}"),
    )  # fmt: skip
    with rich.Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None, rate="", note="")

        def show(run: Run) -> None:
            total = None if run.total is None else max(run.total, run.scanned)
            progress.update(
                task, completed=run.scanned, total=total, rate=f"{run.rate:,.0f}/s", note=_note(run)
            )  # fmt: skip

        yield show


def _lines(title: str) -> Show:
    last: list[float] = [time.monotonic()]

    def show(run: Run) -> None:
        if run.open and time.monotonic() - last[0] < LINE_EVERY:
            return
        last[0] = time.monotonic()
        if not run.open:
            return
        of = f" of about {run.total:,}" if run.total else ""
        left = f", about {run.seconds_left:,.0f} s left" if run.seconds_left is not None else ""
        note = f" ({_note(run)})" if _note(run) else ""
        print(f"{title}: scanned {run.scanned:,}{of}, {run.rate:,.0f}/s{left}{note}", file=sys.stderr, flush=True)

    return show


def _note(run: Run) -> str:
    if run.reason:
        return run.reason
    return "applying" if run.state == "applying" else ""
