"""The load generator: keep-alive connections on one epoll, one request at a time on each, in a process of its own.

Closed loop: every connection sends its next request when it has its answer. Open loop (`rate`): requests are due at
fixed times whatever the server does, and a latency counts from the time it was due, so a stall shows in full.
All requests are built and signed before the first is sent. Bounded in number and in time.

    python -m bench.load < job.json      prints "ready", waits for a line, prints a report as JSON
"""

from __future__ import annotations

import gc
import os
import select
import socket
import sys
import time
from array import array
from dataclasses import asdict, dataclass, field
from typing import Final

import orjson
from bench.events import Run, requests

ANSWER_SECONDS: Final = 30.0
"""How long the last answers are waited for."""
SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What to send: numbers `first` up to `first + count` of a run, until `seconds` are over. `rate` 0: closed loop.

    `again`: when all are sent, begin anew (for a server that does not look at them). `mark`: the time of every so
    many accepted answers is reported.
    """

    host: str
    port: int
    path: str
    run: Run
    first: int
    count: int
    connections: int
    seconds: float
    rate: float = 0.0
    again: bool = False
    mark: int = 0


@dataclass(slots=True)
class Report:
    """What came of it. Times are nanoseconds of the machine's monotonic clock, latencies milliseconds.

    `refused` maps each number that was not answered 2xx to its status (0: the connection broke).
    """

    sent: int = 0
    accepted: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    began: int = 0
    ended: int = 0
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0
    marks: dict[int, int] = field(default_factory=dict)
    cpu: float = 0.0

    @property
    def seconds(self) -> float:
        return (self.ended - self.began) / SECOND

    @property
    def rate(self) -> float:
        """Accepted a second, from the first request to the last answer."""
        return self.accepted / self.seconds if self.ended > self.began else 0.0


@dataclass(slots=True)
class _Lane:
    """One connection. `number` is what it waits for, -1 if nothing."""

    socket: socket.socket
    number: int = -1
    since: int = 0
    partial: bytes = b""


class Generator:
    """Sends one job."""

    def __init__(self, job: Job) -> None:
        self._job = job
        numbers = range(job.first, job.first + job.count)
        self._requests = list(requests(job.run, numbers, path=job.path, host=f"{job.host}:{job.port}"))
        self._epoll = select.epoll()
        self._lanes: dict[int, _Lane] = {}
        self._free: list[_Lane] = []
        self._whole: set[bytes] = set()
        self._latencies = array("q")
        self._report = Report()
        self._deadline = 0
        for _ in range(job.connections):
            self._connect()

    def run(self) -> Report:
        """Send, wait for the last answer, and tell."""
        report, job = self._report, self._job
        before = os.times()
        report.began = time.monotonic_ns()
        self._deadline = report.began + int(job.seconds * SECOND)
        if job.rate:
            self._open_loop(SECOND / job.rate)
        else:
            for lane in self._free:
                self._send(lane, time.monotonic_ns())
            self._free.clear()
            while self._waiting():
                self._answers(1.0)
        report.ended = time.monotonic_ns()
        after = os.times()
        report.cpu = after.user + after.system - before.user - before.system
        ordered = sorted(self._latencies)
        if ordered:
            report.p50, report.p99 = (ordered[int(len(ordered) * q)] / 1e6 for q in (0.5, 0.99))
            report.worst = ordered[-1] / 1e6
        return report

    def _open_loop(self, gap: float) -> None:
        due = float(self._report.began)
        while True:
            now = time.monotonic_ns()
            more = due < self._deadline and self._left()
            while more and due <= now and self._free:
                self._send(self._free.pop(), int(due))
                due += gap
                more = due < self._deadline and self._left()
            if not more and not self._waiting():
                return
            # select() waits to the microsecond where epoll knows milliseconds only.
            wait = max(0.0, (due - time.monotonic_ns()) / SECOND) if more and self._free else 1.0
            if select.select([self._epoll.fileno()], [], [], wait)[0]:
                self._answers(0.0)

    def _answers(self, timeout: float) -> None:
        for handle, _ in self._epoll.poll(timeout):
            lane = self._lanes[handle]
            try:
                data = lane.socket.recv(65_536)
            except OSError:
                data = b""
            if not data:
                self._broken(lane)
                continue
            if lane.partial:
                data = lane.partial + data
                lane.partial = b""
            if data in self._whole:
                self._done(lane, 200)
            elif (status := _status(data)) is None:
                lane.partial = data
            else:
                if status < 300 and len(self._whole) < 1_000:
                    self._whole.add(data)
                self._done(lane, status)

    def _done(self, lane: _Lane, status: int) -> None:
        now = time.monotonic_ns()
        report, number = self._report, lane.number
        lane.number = -1
        if status < 300:
            report.accepted += 1
            self._latencies.append(now - lane.since)
            if self._job.mark and number % self._job.mark == 0:
                report.marks[number] = now
        else:
            report.refused[number] = status
        if self._job.rate:
            self._free.append(lane)
        elif now < self._deadline and self._left():
            self._send(lane, now)

    def _send(self, lane: _Lane, since: int) -> None:
        place = self._report.sent
        request = self._requests[place % len(self._requests)]
        lane.number, lane.since = self._job.first + place, since
        self._report.sent = place + 1
        # A blocking socket takes all of it: it is smaller than the socket's buffer.
        lane.socket.sendall(request)

    def _left(self) -> bool:
        return self._job.again or self._report.sent < self._job.count

    def _waiting(self) -> bool:
        """Is any answer outstanding? Those that never come are refused in the end."""
        late = [lane for lane in self._lanes.values() if lane.number >= 0]
        if late and time.monotonic_ns() > self._deadline + ANSWER_SECONDS * SECOND:
            self._report.refused.update((lane.number, 0) for lane in late)
            return False
        return bool(late)

    def _broken(self, lane: _Lane) -> None:
        self._epoll.unregister(lane.socket)
        del self._lanes[lane.socket.fileno()]
        lane.socket.close()
        if lane.number >= 0:
            self._report.refused[lane.number] = 0
        if len(self._report.refused) > 10_000:
            raise ConnectionError("the server closes its connections")
        fresh = self._connect()
        if not self._job.rate and time.monotonic_ns() < self._deadline and self._left():
            self._free.remove(fresh)
            self._send(fresh, time.monotonic_ns())

    def _connect(self) -> _Lane:
        made = socket.create_connection((self._job.host, self._job.port), timeout=10)
        made.settimeout(None)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lane = _Lane(made)
        self._lanes[made.fileno()] = lane
        self._epoll.register(made, select.EPOLLIN)
        self._free.append(lane)
        return lane


def _status(data: bytes) -> int | None:
    """The status of a whole answer; None if more must come. Answers have a length or no body."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    status = int(head[9:12])
    length = 0 if status in (204, 304) else None
    for line in head.lower().split(b"\r\n")[1:]:
        if line.startswith(b"content-length:"):
            length = int(line[15:])
    if length is None:
        raise ValueError("an answer without Content-Length; the generator does not read chunks")
    return status if len(body) >= length else None


def main() -> int:
    document = orjson.loads(sys.stdin.readline())
    job = Job(**{**document, "run": Run(**document["run"])})
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    gc.disable()
    generator = Generator(job)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    report = generator.run()
    sys.stdout.buffer.write(orjson.dumps(asdict(report), option=orjson.OPT_NON_STR_KEYS) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
