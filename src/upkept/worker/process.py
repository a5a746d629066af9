"""What one worker process holds: its open hub and its ringer, made at the first use, never shared with a child.

The prefork pool forks children from a process that runs threads of its own. So a fork waits until those threads
are between two steps (`stepping`), and a child begins with nothing open: connections of its parent are left
alone, for closing them would say goodbye on the parent's sockets.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from upkept import queue
from upkept.flow.belonging import check_keys
from upkept.flow.hub import Hub
from upkept.flow.opening import open_hub
from upkept.settings import Settings, load

POOL_SIZE: Final = 4


class Process:
    """The parts of this process; `hub()` and `ringer()` open them."""

    def __init__(self) -> None:
        self.settings: Settings | None = None
        self._hub: Hub | None = None
        self._ringer: queue.Ringer | None = None
        self._opening = threading.Lock()
        self._step = threading.Lock()
        self.threads = 0
        """How many tasks this process takes at once in threads of its own; 0 where children take them."""
        self._tasks: dict[object, float] = {}
        self._of_the_parent: list[object] = []

    def hub(self) -> Hub:
        """The hub, on a database that answers and belongs to our keys. Raises `Retryable` or `Config`."""
        with self._opening:
            if self._hub is None:
                hub = open_hub(self._configured(), pool_size=POOL_SIZE)
                try:
                    check_keys(hub)
                except Exception:
                    hub.store.close()
                    raise
                self._hub = hub
            return self._hub

    def ringer(self) -> queue.Ringer:
        with self._opening:
            if self._ringer is None:
                self._ringer = queue.Ringer(self._configured().effective_broker_url)
            return self._ringer

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """One step of a thread beside the pool; no child is forked in the middle of it."""
        with self._step:
            yield

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """One task, from its beginning to its end."""
        task = object()
        self._tasks[task] = time.monotonic()
        try:
            yield
        finally:
            del self._tasks[task]

    def has_its_hands_full(self, *, within: float) -> bool:
        """Is every thread at a task, one of them for less than `within` seconds? Nothing else is heard meanwhile."""
        begun = list(self._tasks.values())
        return 0 < self.threads <= len(begun) and time.monotonic() - max(begun) < within

    def _configured(self) -> Settings:
        if self.settings is None:
            self.settings = load(os.environ)
        return self.settings

    def before_fork(self) -> None:
        self._step.acquire()
        self._opening.acquire()

    def after_fork_in_parent(self) -> None:
        self._opening.release()
        self._step.release()

    def after_fork_in_child(self) -> None:
        self._of_the_parent.append((self._hub, self._ringer))
        self._hub = self._ringer = None
        self._opening = threading.Lock()
        self._step = threading.Lock()


process: Final = Process()
os.register_at_fork(
    before=process.before_fork,
    after_in_parent=process.after_fork_in_parent,
    after_in_child=process.after_fork_in_child,
)


def clock() -> int:
    """Now, in microseconds since 1970 UTC."""
    return time.time_ns() // 1000
