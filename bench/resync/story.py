"""What happens in the disturbed run and in the one that is not, and what must be the same at the end."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from bench.resync import desk
from bench.resync.hub import Standing
from bench.resync.kills import Killer

from upkept.flow.digest import Digest, measure
from upkept.store.runs import Run

AGO: Final = 7_200
"""Seconds before the run began in which all of the story happens, by the clocks of vendor and desk."""
SLOW: Final = 0.05
"""How long the vendor takes for an answer, so that processes are killed while they wait for one."""
WAVES: Final = (6, 9, 14, 6)
"""People that the desk tells of at once: few are written one by one, many in one call."""
BETWEEN: Final = 1.0
"""Seconds from one wave to the next, whether or not all of it has reached the vendor."""
CHANGED: Final = 12
"""Every so many-th person changes at the vendor between the walks."""


@dataclass(frozen=True, slots=True)
class Kills:
    """How often to kill in each phase."""

    killer: Killer
    walk: int
    pushes: int
    resync: int


@dataclass(frozen=True, slots=True)
class End:
    """Where a run of the story ended."""

    digest: Digest
    vendor: Any
    walks: tuple[Run, ...]
    writes: Counter[str]
    broken: list[str]

    @property
    def twice(self) -> int:
        """Writes to the vendor that it had been asked for before, word for word."""
        return sum(times - 1 for times in self.writes.values())


def play(standing: Standing, people: int, *, now: int, kills: Kills | None = None, waves: Sequence[int] = WAVES) -> End:
    """A first walk; pushes; changes at the vendor and a resync. `now` is the same second in every run."""
    sandbox, began = standing.sandbox, now - AGO

    def phase(name: str, times: int) -> AbstractContextManager[None]:
        return nullcontext() if kills is None else kills.killer.at_work(standing, name, times)

    sandbox.seed(people, began)
    sandbox.set_clock(began + 60)
    sandbox.set_slow(SLOW)
    with phase("first walk", kills.walk if kills else 0):
        first = standing.await_end(standing.walk())
    sandbox.set_clock(began + 120)
    chosen = iter(random.Random(1).sample(range(people), sum(waves)))  # the same in every run
    with phase("pushes", kills.pushes if kills else 0):
        for size in waves:
            standing.tell(*(_note(who, sandbox.address(who), began + 100) for who in islice(chosen, size)))
            time.sleep(BETWEEN)
        standing.await_quiet()
    sandbox.set_clock(began + 180)
    for number in range(0, people, CHANGED):
        sandbox.change(number)
    sandbox.set_clock(began + 240)
    with phase("resync", kills.resync if kills else 0):
        second = standing.await_end(standing.walk())
        standing.await_quiet()
    if standing.cluster.failpoints:
        standing.cluster.disarm()
        standing.await_quiet()
    return End(
        measure(standing.hub), sandbox.state(), (first, second), Counter(sandbox.writes()), standing.broken()
    )  # fmt: skip


def divergences(calm: End, shaken: End) -> list[str]:
    """In what the disturbed run ended elsewhere, a line each."""
    found = [f"{what} in the undisturbed run" for what in calm.broken] + shaken.broken
    for name, section in calm.digest.sections.items():
        if shaken.digest.sections[name] != section:
            rows = shaken.digest.sections[name].rows
            found.append(f"the digest's {name} differ: {section.rows:,} rows undisturbed, {rows:,} disturbed")
    if calm.vendor != shaken.vendor:
        found.append("the vendor holds something else")
    if missing := calm.writes.keys() - shaken.writes.keys():
        found.append(f"{len(missing)} writes never reached the vendor, such as {min(missing)[:80]}")
    if more := shaken.writes.keys() - calm.writes.keys():
        found.append(f"{len(more)} writes that no one owed reached the vendor, such as {min(more)[:80]}")
    for before, after in zip(calm.walks, shaken.walks, strict=True):
        if after.scanned < before.scanned:
            found.append(f"run {after.id} scanned {after.scanned:,} of {before.scanned:,}")
    return found


def _note(number: int, address: str, at: int) -> bytes:
    """Every fourth wants no mail any more, the others have a new phone."""
    return desk.note(desk.OPT_OUT if number % 4 == 3 else desk.PHONE, number, address, at)
