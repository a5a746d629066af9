"""The tasks. A message carries ids; SQL says what is to be done with them."""

from __future__ import annotations

from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.queue import app
from upkept.store import jobs
from upkept.worker import steps
from upkept.worker.process import clock
from upkept.worker.retry import attempt


@app.task(name="upkept.apply")
def apply(ids: list[int]) -> None:
    """Apply a batch of inbox rows."""
    attempt("apply", lambda hub: steps.applied(hub, ids))


@app.task(name="upkept.run")
def run(ids: list[int]) -> None:
    """Take runs one bounded step further."""
    attempt("run", lambda hub: steps.went_on(hub, ids))


@app.task(name="upkept.fetch")
def fetch(ids: list[int]) -> None:
    """Read what thin events point at."""
    attempt("fetch", lambda hub: steps.fetched(hub, ids))


@app.task(name="upkept.read_back")
def read_back(ids: list[int]) -> None:
    """Read records back whose wish is due."""
    attempt("read_back", lambda hub: steps.read_back(hub, ids))


@app.task(name="upkept.push")
def push(ids: list[int]) -> None:
    """Tell destinations what they are owed."""
    attempt("push", lambda hub: steps.pushed(hub, ids))


@app.task(name="upkept.pulse")
def pulse(name: str) -> None:
    """A worker that hears this is alive, and so is the way to it."""
    attempt("pulse", lambda hub: _heard(hub, name))


def _heard(hub: Hub, name: str) -> tuple[Bell, ...]:
    with hub.store.write() as connection:
        jobs.heard(connection, name, now=clock())
    return ()
