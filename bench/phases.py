"""The phases of a round: one measurement each, and what was accepted in it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final

import orjson
from bench.configuration import PATH
from bench.events import Run
from bench.load import SECOND, Job, Report
from bench.processes import Failed, Memory, cpu_seconds, memory, used
from bench.systems import System, await_applied

SETTLE_SECONDS: Final = 15.0
LEAST: Final = 4
"""Events whose delay is measured, on however slow a machine."""
LOOK_SECONDS: Final = 0.01
"""How often it is looked whether an event became visible: the grain of that delay."""


@dataclass(slots=True)
class Sent:
    """What was posted of a run so far: numbers are never used twice, and all accepted ones must be applied."""

    run: Run
    next: int = 0
    accepted: int = 0
    refused: set[int] = field(default_factory=set)

    def numbers(self) -> Iterable[int]:
        """Every accepted number."""
        return (n for n in range(self.next) if n not in self.refused)

    def add(self, report: Report) -> None:
        self.next += report.sent
        self.accepted += report.accepted
        self.refused.update(report.refused)


@dataclass(frozen=True, slots=True)
class Cost:
    """Process time per applied event in microseconds, by part of the system; memory held at the end."""

    cpu: dict[str, float]
    memory: dict[str, Memory]


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """Closed loop with the workers running, until the last event is visible."""

    accept: Report
    applied: float
    lost: int
    cost: Cost


@dataclass(frozen=True, slots=True)
class Delay:
    """Open loop: how long an answer takes, and how long from an answer until the event is visible (milliseconds)."""

    accept: Report
    p50: float
    p99: float
    seen: int


class Generator:
    """A load generator that is ready to begin."""

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._tell(orjson.dumps(asdict(job)))
        self._hear()

    def begin(self) -> None:
        self._tell(b"go")

    def report(self) -> Report:
        """Its report, when it is done."""
        with self._process:
            document = orjson.loads(self._hear())
        for name in ("refused", "marks"):
            document[name] = {int(n): value for n, value in document[name].items()}
        return Report(**document)

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _hear(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed("the load generator ended; its message stands above")
        return line


def job(
    system: System, sent: Sent, *, connections: int, seconds: float, count: int, rate: float = 0.0, mark: int = 0
) -> Job:
    """The next numbers of a run, for a system."""
    return Job(host="127.0.0.1", port=system.port, path=PATH, run=sent.run, first=sent.next, count=count,
               connections=connections, seconds=seconds, rate=rate, mark=mark)  # fmt: skip


def post(job: Job) -> Report:
    """Send a job and wait for its report."""
    generator = Generator(job)
    generator.begin()
    return generator.report()


def ceiling(port: int, run: Run, *, connections: int, seconds: float) -> Report:
    """The bare endpoint's rate with the same bodies, which it does not look at."""
    first = run.customers
    return post(Job(host="127.0.0.1", port=port, path=PATH, run=run, first=first, count=5_000, again=True,
                    connections=connections, seconds=seconds))  # fmt: skip


def accept(system: System, sent: Sent, *, connections: int, seconds: float, count: int) -> Report:
    """How fast it accepts while nobody applies."""
    report = post(job(system, sent, connections=connections, seconds=seconds, count=count))
    sent.add(report)
    return report


def drain(system: System, sent: Sent) -> float:
    """How fast the workers, just started, apply what has waited: events a second from the first to the last."""
    backlog = system.open(sent.accepted)
    while (left := system.open(sent.accepted)) == backlog and left:
        time.sleep(0.1)
    began = time.monotonic_ns()
    ended, _ = await_applied(system, sent.accepted)
    return left * SECOND / max(1, ended - began)


def end_to_end(system: System, sent: Sent, *, connections: int, seconds: float, count: int) -> EndToEnd:
    """Post in a closed loop and wait until all of it is visible."""
    generator = Generator(job(system, sent, connections=connections, seconds=seconds, count=count))
    before = _used(system)
    generator.begin()
    report = generator.report()
    sent.add(report)
    ended, lost = await_applied(system, sent.accepted)
    applied = report.accepted - lost
    after = _used(system)
    cpu = {name: used(before.get(name, {}), now) * 1e6 / max(1, applied) for name, now in after.items()}
    held = {name: memory(process.pids) for name, process in system.processes.items()}
    return EndToEnd(report, applied * SECOND / (ended - report.began), lost, Cost(cpu, held))


def delay(system: System, sent: Sent, *, rate: float, connections: int, seconds: float) -> Delay:
    """Post at a fixed rate; watch when marked events become visible."""
    seconds = max(seconds, LEAST / rate)
    count = int(rate * seconds)
    mark = max(1, count // 500)
    generator = Generator(
        job(system, sent, connections=connections, seconds=seconds, count=count, rate=rate, mark=mark)
    )
    marked = [n for n in range(sent.next, sent.next + count) if n % mark == 0]
    waiting = {sent.run.event(n).id: n for n in marked}
    seen: dict[int, int] = {}
    generator.begin()
    until = time.monotonic() + seconds + SETTLE_SECONDS
    while waiting and time.monotonic() < until:
        window = list(waiting)[:64]
        found = system.visible(window)
        now = time.monotonic_ns()
        for id_ in found:
            seen[waiting.pop(id_)] = now
        time.sleep(LOOK_SECONDS)
    report = generator.report()
    sent.add(report)
    await_applied(system, sent.accepted)
    delays = sorted(max(0, at - report.marks[n]) / 1e6 for n, at in seen.items() if n in report.marks)
    if not delays:
        raise Failed(f"{system.name}: no marked event became visible")
    return Delay(report, delays[len(delays) // 2], delays[int(len(delays) * 0.99)], len(delays))


def _used(system: System) -> dict[str, dict[int, float]]:
    found = {name: cpu_seconds(process.pids) for name, process in system.processes.items()}
    if pids := system.database.pids():
        found["database"] = cpu_seconds(pids)
    return found
