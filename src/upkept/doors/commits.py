"""Shared commits: requests that arrive together share one INSERT and one COMMIT, and each waits for it.

While a commit is under way the next batch collects, so the load itself sets the batch. Writer threads have their
own database connections and take turns; the second one is there for when a commit hangs. SQLite takes one writer
at a time, so it gets one. What is pending is bounded by rows and bytes; beyond that, and when the database does
not answer in time, the sender is asked to come back.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from queue import Empty, SimpleQueue
from typing import Final

import structlog

from upkept.contract import Retryable
from upkept.flow.bells import Bell
from upkept.flow.receive import Kept, Received

log = structlog.get_logger(__name__)

Keep = Callable[[Sequence[Received]], list[Kept]]

BATCH_ROWS: Final = 256
PENDING_ROWS: Final = 10_000
PENDING_BYTES: Final = 64 << 20
TURN: Final = 0.05
"""Seconds a writer waits for the commit before its own."""
ANSWER_WITHIN: Final = 8.0
"""Seconds until a sender is told 503 while its commit hangs; the vendors hang up after ten and more."""


class Busy(Retryable):
    """The hub cannot store more just now; nothing of the request was kept."""


@dataclass(slots=True)
class Waiting:
    """A request on its way into the inbox."""

    received: Received
    size: int
    since: float
    kept: asyncio.Future[Kept]


class Commits:
    """The door's way into the inbox. `put` and the answers belong to the event loop, writing to the threads."""

    def __init__(self, keep: Keep, ring: Callable[[Sequence[Bell]], None], *, writers: int) -> None:
        self._keep = keep
        self._ring = ring
        self._arriving: SimpleQueue[Waiting | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._write, args=(n,), name=f"commit-{n}", daemon=True) for n in range(writers)
        ]
        self._turn = threading.Lock()
        self._began = [inf] * writers
        self._stuck = False
        self._open: deque[Waiting] = deque()
        self._loop: asyncio.AbstractEventLoop
        self._watch: asyncio.Task[None] | None = None
        self.pending_rows = 0
        self.pending_bytes = 0

    def start(self) -> None:
        """Begin writing; called on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._watch = self._loop.create_task(self._give_up_in_time())
        for thread in self._threads:
            thread.start()

    async def stop(self) -> None:
        """Write what is pending, then end the threads."""
        if self._watch is not None:
            self._watch.cancel()
        for _ in self._threads:
            self._arriving.put(None)
        for thread in self._threads:
            await asyncio.to_thread(thread.join, ANSWER_WITHIN)

    def put(self, received: Received, size: int) -> asyncio.Future[Kept]:
        """Queue a request for the next commit. Raises `Busy` when too much is pending or every commit hangs.

        The future fails with `Busy` if no commit comes about in time.
        """
        rows = len(received.arrivals)
        if self.pending_rows + rows > PENDING_ROWS or self.pending_bytes + size > PENDING_BYTES:
            raise Busy("too much is waiting to be stored", after=2)
        if self._stuck:
            raise Busy("the database does not answer", after=5)
        self.pending_rows += rows
        self.pending_bytes += size
        waiting = Waiting(received, size, time.monotonic(), self._loop.create_future())
        self._open.append(waiting)
        self._arriving.put(waiting)
        return waiting.kept

    def _write(self, number: int) -> None:
        while (first := self._arriving.get()) is not None:
            # One commit at a time makes the largest batches; a writer that hangs is not waited for.
            ours = self._turn.acquire(timeout=TURN)
            batch = self._with_what_arrived(first)
            self._began[number] = time.monotonic()
            try:
                kept = self._keep([waiting.received for waiting in batch])
                self._ring([bell for one in kept for bell in one.bells])
            except Exception as error:
                kept = [Kept(error=error) for _ in batch]
            self._began[number] = inf
            if ours:
                self._turn.release()
            self._loop.call_soon_threadsafe(self._answer, batch, kept)

    def _with_what_arrived(self, first: Waiting) -> list[Waiting]:
        batch = [first]
        rows = len(first.received.arrivals)
        while rows < BATCH_ROWS:
            try:
                more = self._arriving.get_nowait()
            except Empty:
                break
            if more is None:  # the end is for a writer that waits
                self._arriving.put(None)
                break
            batch.append(more)
            rows += len(more.received.arrivals)
        return batch

    def _answer(self, batch: list[Waiting], kept: list[Kept]) -> None:
        for waiting, one in zip(batch, kept, strict=True):
            self.pending_rows -= len(waiting.received.arrivals)
            self.pending_bytes -= waiting.size
            if not waiting.kept.done():
                waiting.kept.set_result(one)

    async def _give_up_in_time(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            late = time.monotonic() - ANSWER_WITHIN
            self._stuck = max(self._began) < late
            while self._open and (self._open[0].kept.done() or self._open[0].since < late):
                waiting = self._open.popleft()
                if not waiting.kept.done():
                    waiting.kept.set_exception(Busy("the database did not answer in time", after=5))
