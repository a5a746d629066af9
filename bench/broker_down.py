"""A broker that is frozen or gone: senders must not feel it, and nothing may wait for it to come back."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Final

from bench.load import SECOND, Report
from bench.phases import Sent
from bench.systems import Upkept, await_applied

from bench import phases

POSTS: Final = 1_000
CONNECTIONS: Final = 32
PATIENCE: Final = 120.0


@dataclass(frozen=True, slots=True)
class Outage:
    """What senders saw, and how long it took until everything was applied: since the broker's return, or since the
    last answer where it does not return. `left` is what was not."""

    accept: Report
    applied_after: float
    left: int


def outages(hub: Upkept, sent: Sent) -> dict[str, Outage]:
    """Freeze the broker of a running hub for 1,000 posts; then end it for good before 1,000 more."""
    found = {"frozen": frozen(hub, sent, hub.processes["broker"].running.pid)}
    hub.stop("broker")
    found["gone"] = _applied(hub, sent, _posted(hub, sent, POSTS))
    return found


def frozen(hub: Upkept, sent: Sent, pid: int, *, posts: int = POSTS) -> Outage:
    """Post while the broker's process does not move, then let it go on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        report = _posted(hub, sent, posts)
    finally:
        os.kill(pid, signal.SIGCONT)
    return _applied(hub, sent, report)


def _posted(hub: Upkept, sent: Sent, posts: int) -> Report:
    report = phases.post(phases.job(hub, sent, connections=CONNECTIONS, seconds=60, count=posts))
    sent.add(report)
    return report


def _applied(hub: Upkept, sent: Sent, report: Report) -> Outage:
    began = time.monotonic_ns()
    ended, left = await_applied(hub, sent.accepted, patience=PATIENCE)
    return Outage(report, max(0.0, (ended - began) / SECOND), left)
