"""One bounded step of any run, by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from upkept.flow import forget, pull, rebuild, undo, walk
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.flow.walk import Now, Walk
from upkept.store import runs

WALKS: Final[Mapping[str, Walk]] = {"rebuild": rebuild.WALK, "forget": forget.WALK, "undo": undo.WALK}


def step(hub: Hub, run_id: int, *, now: Now) -> tuple[Bell, ...]:
    """Take a run one step further; what to ring next."""
    with hub.store.read() as connection:
        run = runs.get(connection, run_id)
    if run is None or not run.open:
        return ()
    found = WALKS.get(run.kind)
    return walk.step(hub, run_id, found, now=now) if found is not None else pull.step(hub, run_id, now=now)
