"""Killing the hub's processes while the vendor is asked, and starting them again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from bench.resync.hub import Standing

LOOK: Final = 0.002
FURTHER: Final = 3
"""A process dies at one of so many calls from now."""
WITHIN: Final = 0.12
"""Seconds after the call came, at random: before the vendor answers, while the page is taken in, behind the commit."""
DOWN: Final = 0.4
TARGETS: Final = ("courier", "courier", "courier", "worker")
"""The courier asks the vendor, to read and to write; the worker applies what was read."""

FAILPOINTS: Final = "pull.before_commit=0.05,pull.after_commit=0.05,apply.before_commit=0.02,apply.after_commit=0.02"
"""What else kills them, at the most delicate places."""


@dataclass(slots=True)
class Killer:
    """Kills at random calls, as often as a block says. `done` tells how often so far, by phase."""

    dice: random.Random
    done: dict[str, int] = field(default_factory=dict)

    @contextmanager
    def at_work(self, standing: Standing, phase: str, times: int) -> Iterator[None]:
        """While the block runs, kill up to `times`; what died runs again at its end."""
        ended = threading.Event()
        thread = threading.Thread(target=self._work, args=(standing, phase, times, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            standing.cluster.revive()

    def _work(self, standing: Standing, phase: str, times: int, ended: threading.Event) -> None:
        asked = standing.sandbox.asked
        for _ in range(times):
            target = asked() + self.dice.randint(1, FURTHER)
            while asked() < target:
                standing.cluster.revive()
                if ended.wait(LOOK):
                    return
            time.sleep(self.dice.uniform(0, WITHIN))
            standing.cluster.kill(self.dice.choice(TARGETS), self.dice)
            self.done[phase] = self.done.get(phase, 0) + 1
            time.sleep(self.dice.uniform(0, DOWN))
            standing.cluster.revive()
        while not ended.wait(LOOK * 10):
            standing.cluster.revive()
