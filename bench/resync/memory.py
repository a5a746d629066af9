"""What processes hold while something goes on, and whether that is flat."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from types import TracebackType
from typing import Final, Self

from bench.processes import memory

EVERY: Final = 0.25
GROWTH: Final = 1.05
"""Memory is flat if the median of the last quarter is at most so many times that of the second quarter: the first is
left to what is loaded and filled once."""


@dataclass(slots=True)
class Sampler:
    """For a `with` block: the PSS of some processes in MiB, again and again. `pids` says which, by name."""

    pids: Mapping[str, Callable[[], Collection[int]]]
    seen: dict[str, list[float]] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while True:
            began = time.monotonic()
            for name, pids in self.pids.items():
                self.seen.setdefault(name, []).append(memory(pids()).pss)
            if self._ended.wait(max(0.0, EVERY - (time.monotonic() - began))):
                return


def quarters(seen: Sequence[float]) -> list[float]:
    """The median of each quarter of the time; a short series has fewer to look at in each."""
    edges = [len(seen) * part // 4 for part in range(5)]
    return [median(seen[start : max(end, start + 1)]) for start, end in pairwise(edges)]


def is_flat(seen: Sequence[float]) -> bool:
    _, second, _, last = quarters(seen)
    return last <= second * GROWTH
