"""What each task does, as a table: the tasks take it from here, and so does the sweeper where no worker hears."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from upkept.flow import fetch, push, steps
from upkept.flow.apply import apply
from upkept.flow.bells import Bell, TaskName
from upkept.flow.hub import Hub
from upkept.store import gauges
from upkept.worker.process import clock

READBACKS: Final = 50
"""Records read back in one step."""

Step = Callable[[Hub, Sequence[int]], tuple[Bell, ...]]


def applied(hub: Hub, ids: Sequence[int]) -> tuple[Bell, ...]:
    """Apply a batch of inbox rows, and count what only the worker sees where `/metrics` can show it."""
    if not ids:
        return ()
    result = apply(hub, ids, now=clock, beside=True)
    if result.clamped:
        with hub.store.write() as connection:
            gauges.count_clamped(connection, result.clamped)
    return result.bells


def went_on(hub: Hub, ids: Sequence[int]) -> tuple[Bell, ...]:
    """Take runs one bounded step further."""
    return tuple(bell for run in ids for bell in steps.step(hub, run, now=clock))


def fetched(hub: Hub, ids: Sequence[int]) -> tuple[Bell, ...]:
    """Read what thin events point at."""
    return fetch.fetch(hub, ids, now=clock)


def read_back(hub: Hub, _ids: Sequence[int]) -> tuple[Bell, ...]:
    """Read records back whose wish is due."""
    return fetch.read_back(hub, now=clock, limit=READBACKS)


def pushed(hub: Hub, ids: Sequence[int]) -> tuple[Bell, ...]:
    """Tell destinations what they are owed."""
    return push.push(hub, ids, now=clock)


STEPS: Final[Mapping[TaskName, Step]] = {
    "apply": applied,
    "run": went_on,
    "fetch": fetched,
    "read_back": read_back,
    "push": pushed,
}
