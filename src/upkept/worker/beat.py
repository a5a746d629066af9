"""The clock: periodic jobs, each claimed by its slot in SQL, so that any number of clocks (or none) is safe.

The sweeper runs in the courier and in the worker's main process; everything else in the courier. Between two
ticks nothing is asked of the database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from upkept.flow import alarm, nightly, prune, push, runs, segments, sweep
from upkept.flow.bells import TaskName
from upkept.flow.compact import compact
from upkept.flow.hub import Hub
from upkept.queue import Ringer
from upkept.store import jobs
from upkept.worker import pulse
from upkept.worker.process import clock, process
from upkept.worker.retry import ending
from upkept.worker.steps import STEPS, applied

log = structlog.get_logger(__name__)

TICK: Final = 5.0
BROKER_SICK: Final = 15.0
"""Seconds without one bell that could be rung, after which the sweeper works inline. What arrived just behind the end
of a broker is missed after some 15 s (`store.due.QUIET` and a tick), and must be applied within 60."""
WORKER_DEAF: Final = 15.0
"""Seconds that a pulse may stay unheard; then the sweeper works for the worker. Celery may die with its broker: then
nobody hears what is rung behind the broker's return. The first pulse is sent up to 20 s after that (a ringer that
failed rests for 10 s), so with a tick it is 40 s at the worst until the sweeper begins; 60 are promised."""
SHARE: Final = 4.0
"""Seconds of one tick that a longer job gets; it goes on in the next one."""
COMPACTED: Final = 100
"""Records whose old facts are compacted in one transaction."""
PRUNED: Final = 100
"""Deliveries or events that are looked at in one transaction."""

NO_VENDOR: Final[tuple[TaskName, ...]] = ("apply",)
"""The steps that ask no vendor anything."""

Steps = Iterator[None]


@dataclass(frozen=True, slots=True)
class Job:
    """`do` is taken step by step: a fork of the pool's next child waits for one step only, and a long job shares the
    clock with the others."""

    name: str
    every: float
    do: Callable[[Hub, Ringer], Steps]


def sweeping(hub: Hub, ringer: Ringer) -> Steps:
    """Offer again what is due; apply inline where the broker is sick, the worker deaf or a row stays unclaimed."""
    return _sweeping(hub, ringer, inline=NO_VENDOR)


def sweeping_vendors_too(hub: Hub, ringer: Ringer) -> Steps:
    """The courier's sweep: it can take any step inline. The worker's process loads no vendor SDK."""
    return _sweeping(hub, ringer, inline=tuple(STEPS))


def _sweeping(hub: Hub, ringer: Ringer, *, inline: Collection[TaskName]) -> Steps:
    now = clock()
    alone = ringer.sick_seconds() > BROKER_SICK or pulse.pulse_age(hub.store, now=now) > WORKER_DEAF
    push.let_go(hub, now=now)
    found = sweep.look(hub, now=now, alone=alone)
    if not found.bells:
        return
    if alone:
        for bell in sorted(found.bells, key=lambda bell: bell.queue != "consent"):
            if bell.task in inline:
                ringer.ring(STEPS[bell.task](hub, bell.ids))
                yield
        return
    sweep.offered(hub, found, now=now)
    if not ringer.ring(found.bells):
        sweep.not_offered(hub, found, now=now)
    if found.unclaimed:
        ringer.ring(applied(hub, found.unclaimed))
        yield


def pulsing(hub: Hub, ringer: Ringer) -> Steps:
    """Send a pulse to each worker; one that the broker did not take was not sent."""
    for name, queue in pulse.LANES.items():
        with hub.store.write() as connection:
            jobs.rung(connection, name, now=clock())
        if not ringer.ring_one("pulse", queue, [name]):
            with hub.store.write() as connection:
                jobs.not_rung(connection, name)
        yield


def pulling(hub: Hub, ringer: Ringer) -> Steps:
    """Start the scheduled pulls that are due."""
    ringer.ring(runs.due(hub, clock()))
    yield


def comparing(hub: Hub, ringer: Ringer) -> Steps:
    """Start the nightly comparisons that are due."""
    ringer.ring(nightly.due(hub, clock()))
    yield


def asking_the_time(hub: Hub, _ringer: Ringer) -> Steps:
    """Ask time-based segments about the next people in turn (R17)."""
    segments.due(hub, clock())
    yield


def compacting(hub: Hub, _ringer: Ringer) -> Steps:
    """Compact facts that are older than the floor, until none is left (R4)."""
    while compact(hub, now=clock(), limit=COMPACTED):
        yield


def pruning(hub: Hub, _ringer: Ringer) -> Steps:
    """Prune deliveries and events of long ago, until none is left."""
    for step in (prune.deliveries, prune.events):
        while step(hub, now=clock(), limit=PRUNED):
            yield


def looking_for_shared_addresses(hub: Hub, _ringer: Ringer) -> Steps:
    """Tell of an address that so many claim that it links nobody any more (R14), and when that is over."""
    alarm.shared_addresses(hub, now=clock())
    yield


def looking_for_refused_pushes(hub: Hub, _ringer: Ringer) -> Steps:
    """End the alerts of what destinations refused where nothing of it is left; offer opt-outs again."""
    push.refused(hub, now=clock())
    yield


OF_THE_WORKER: Final = (Job("sweep", TICK, sweeping),)
OF_THE_COURIER: Final = (
    Job("sweep", TICK, sweeping_vendors_too),
    Job("pulse", pulse.EVERY, pulsing),
    Job("pulls", TICK, pulling),
    Job("nightly", 300.0, comparing),
    Job("segments", 10.0, asking_the_time),
    Job("shared addresses", 60.0, looking_for_shared_addresses),
    Job("refused pushes", 60.0, looking_for_refused_pushes),
    Job("floor", 86_400.0, compacting),
    Job("prune", 86_400.0, pruning),
)


class Clock(threading.Thread):
    """Ticks until it is stopped. A job that fails is told and has its next slot."""

    def __init__(self, known: Sequence[Job]) -> None:
        super().__init__(name="clock", daemon=True)
        self._known = {job.name: job for job in known}
        self._ending = threading.Event()
        self._slots: dict[str, int] = {}
        self._under_way: dict[str, Steps] = {}

    def run(self) -> None:
        while not self._ending.wait(TICK):
            self.tick()

    def stop(self) -> None:
        self._ending.set()
        if self.is_alive():
            self.join(timeout=10)

    def tick(self) -> None:
        """Claim the slots that have come, begin what was claimed, and go on with what is under way."""
        try:
            with process.stepping():
                hub, ringer = process.hub(), process.ringer()
                claimed = self._claim(hub)
                if process.has_its_hands_full(within=pulse.STUCK):
                    pulse.busy(hub.store, now=clock())
            self._under_way.update({job.name: job.do(hub, ringer) for job in claimed})
        except Exception as error:
            self._failed("tick", error)
        for name in list(self._under_way):
            if not self._goes_on(name):
                del self._under_way[name]

    def _claim(self, hub: Hub) -> list[Job]:
        now = clock()
        slots = {name: int(now / (job.every * 1_000_000)) for name, job in self._known.items()}
        come = {name: slot for name, slot in slots.items() if self._slots.get(name) != slot}
        if not come:
            return []
        with hub.store.write() as connection:
            claimed = jobs.claim(connection, come, now=now)
        self._slots.update(come)
        return [self._known[name] for name in come if name in claimed]

    def _goes_on(self, name: str) -> bool:
        """Take a job as far as its share of this tick; is it still under way?"""
        until = time.monotonic() + SHARE
        try:
            while time.monotonic() < until and not self._ending.is_set():
                with process.stepping():
                    if next(self._under_way[name], self) is self:
                        return False
        except Exception as error:
            self._failed(name, error)
            return False
        return True

    def _failed(self, job: str, error: Exception) -> None:
        end = ending(error)
        tell = log.error if end.level == "error" else log.info
        tell("job_failed", job=job, error=type(error).__name__, cure=end.cure,
             **({"exc_info": error} if end.traceback else {"detail": str(error)}))  # fmt: skip
