"""A full resync of people whom nothing happened to: what it wrote, how fast it was, what it held."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from bench.processes import cpu_seconds, used
from bench.resync import desk, ledger
from bench.resync.hub import Standing
from bench.resync.memory import GROWTH, Sampler, is_flat, quarters
from bench.resync.sandboxes import Sandbox

from upkept.store.runs import Run

PUSHED: Final = 100
"""People of whom the vendor was told something before, so that echoes are among the unchanged."""
ROLES: Final = ("courier", "worker")
SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Walked:
    """One walk: what it found, the memory of our processes by name, the time each used, and ours as the vendor."""

    run: Run
    memory: dict[str, list[float]]
    cpu: dict[str, float]
    calls: int

    @property
    def seconds(self) -> float:
        return ((self.run.finished_at or 0) - self.run.started_at) / SECOND

    @property
    def rate(self) -> float:
        """People a second, from the start of the run to its end."""
        return self.run.scanned / self.seconds


@dataclass(slots=True)
class Resync:
    """The walk over the unchanged and what must not have been."""

    walked: Walked
    mistakes: list[str] = field(default_factory=list)
    written: dict[str, ledger.Counts] = field(default_factory=dict)


def take_in(standing: Standing, people: int) -> Walked:
    """The first walk, which is given back; some pushes, and a second walk that takes their echoes in."""
    sandbox, now = standing.sandbox, int(time.time())
    sandbox.seed(people, now - 7_200)
    sandbox.set_clock(now - 7_000)
    standing.await_workers()
    first = walk(standing)
    chosen = random.Random(2).sample(range(people), min(PUSHED, people // 10))
    sandbox.set_clock(now - 3_600)
    standing.tell(*(desk.note(desk.PHONE, number, sandbox.address(number), now - 3_700) for number in chosen))
    standing.await_quiet()
    sandbox.set_clock(now - 3_000)
    walk(standing)
    return first


def walk(standing: Standing) -> Walked:
    """A full resync to its end and until all is quiet."""
    pids = {role: partial(_pids, standing, role) for role in ROLES}
    before = {role: cpu_seconds(found()) for role, found in pids.items()}
    ours, asked = time.process_time(), standing.sandbox.asked()
    with Sampler(pids) as sampler:
        run = standing.await_end(standing.walk())
    cpu = {role: used(before[role], cpu_seconds(found())) for role, found in pids.items()}
    cpu["stand-in"] = time.process_time() - ours
    standing.await_quiet()
    return Walked(run, sampler.seen, cpu, standing.sandbox.asked() - asked)


def resync(standing: Standing, people: int, *, judge_memory: bool) -> Resync:
    """Walk over everybody again and see what it left. `judge_memory`: it takes long enough for that."""
    counted, told = ledger.written(standing.database), len(standing.sandbox.writes())
    before = ledger.contents(standing.database)
    found = Resync(walk(standing))
    after = ledger.contents(standing.database)
    found.mistakes += ledger.differences(before, after)
    run = found.walked.run
    if run.state != "complete" or run.scanned < people or run.admitted or run.missing:
        found.mistakes.append(
            f"run {run.id} is {run.state}: scanned {run.scanned:,} of {people:,}, admitted {run.admitted:,}, "
            f"missing {run.missing:,}"
        )
    if (more := len(standing.sandbox.writes()) - told) > 0:
        found.mistakes.append(f"{more} writes reached the vendor")
    found.mistakes += standing.broken()
    found.written = {name: now.since(counted[name]) for name, now in ledger.written(standing.database).items()}
    if judge_memory:
        found.mistakes += [
            f"the memory of the {role} grew: {' '.join(f'{one:.0f}' for one in quarters(seen))} MiB by quarters"
            for role, seen in found.walked.memory.items()
            if not is_flat(seen)
        ]
    return found


def _pids(standing: Standing, role: str) -> set[int]:
    return standing.cluster.processes[role].pids


def told(sandbox: Sandbox, calls_per_second: float, first: Walked, found: Resync) -> list[str]:
    """The figures, a line each."""
    again = found.walked
    cpu = ", ".join(f"{role} {1e6 * spent / again.run.scanned:,.0f}" for role, spent in again.cpu.items())
    lines = [
        f"first walk, people/s                            {first.rate:,.0f} ({first.run.scanned:,} in "
        f"{first.seconds:,.0f} s, until all is applied)",
        f"resync of the unchanged, people/s               {again.rate:,.0f} ({again.run.scanned:,} in "
        f"{again.seconds:,.0f} s, {again.calls:,} calls)",
        f"the vendor's quota allows, people/s             {calls_per_second * sandbox.rows:,.0f} "
        f"({calls_per_second:g} calls of {sandbox.rows:,})",
        f"process time per person, us                     {cpu}",
    ]
    if found.written:
        wrote = {name: counts for name, counts in found.written.items() if any(counts)}
        lines += [
            f"rows written meanwhile, {name:24}{made:,} made, {changed:,} changed, {gone:,} gone"
            for name, (made, changed, gone) in sorted(wrote.items())
        ]
    for role, seen in again.memory.items():
        shown = " ".join(f"{one:.1f}" for one in quarters(seen))
        lines.append(f"memory of the {role}, PSS by quarters, MiB     {shown} (flat: at most {GROWTH} of the second)")
    return lines
