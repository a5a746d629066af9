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
from queue import SimpleQueue
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
    """The door's way into the inbox. All but `_write` belongs to the event loop; the threads only write."""

    def __init__(self, keep: Keep, ring: Callable[[Sequence[Bell]], None], *, writers: int) -> None:
        self._keep = keep
        self._ring = ring
        self._arrived: deque[Waiting] = deque()
        self._due = False
        self._batches: SimpleQueue[list[Waiting] | None] = SimpleQueue()
        self._under_way: dict[int, float] = {}
        self._threads = [threading.Thread(target=self._write, name=f"commit-{n}", daemon=True) for n in range(writers)]
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
        while self._arrived:
            self._batches.put(self._next_batch())
        for _ in self._threads:
            self._batches.put(None)
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
        self._arrived.append(waiting)
        if not self._due:
            # Not at once: whatever else the loop has at hand shall go along, and the writer's thread shall not
            # take the interpreter from the loop while it still reads.
            self._due = True
            self._loop.call_soon(self._hand_over)
        return waiting.kept

    def _hand_over(self) -> None:
        """One commit at a time makes the largest batches; one that hangs is not waited for."""
        self._due = False
        if not self._arrived:
            return
        now = time.monotonic()
        if self._under_way:
            free = TURN - (now - max(self._under_way.values()))
            if free > 0 or len(self._under_way) == len(self._threads):
                self._due = True
                self._loop.call_later(max(free, TURN / 2), self._hand_over)
                return
        batch = self._next_batch()
        self._under_way[id(batch)] = now
        self._batches.put(batch)

    def _next_batch(self) -> list[Waiting]:
        """What arrived first, up to a bound."""
        batch = [self._arrived.popleft()]
        rows = len(batch[0].received.arrivals)
        while self._arrived and rows < BATCH_ROWS:
            batch.append(self._arrived.popleft())
            rows += len(batch[-1].received.arrivals)
        return batch

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                kept = self._keep([waiting.received for waiting in batch])
                self._ring([bell for one in kept for bell in one.bells])
            except Exception as error:
                kept = [Kept(error=error) for _ in batch]
            self._loop.call_soon_threadsafe(self._answer, batch, kept)

    def _answer(self, batch: list[Waiting], kept: list[Kept]) -> None:
        self._under_way.pop(id(batch), None)
        for waiting, one in zip(batch, kept, strict=True):
            self.pending_rows -= len(waiting.received.arrivals)
            self.pending_bytes -= waiting.size
            if not waiting.kept.done():
                waiting.kept.set_result(one)
        self._hand_over()

    async def _give_up_in_time(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            late = time.monotonic() - ANSWER_WITHIN
            began = self._under_way.values()
            self._stuck = len(began) == len(self._threads) and max(began) < late
            while self._open and (self._open[0].kept.done() or self._open[0].since < late):
                waiting = self._open.popleft()
                if not waiting.kept.done():
                    waiting.kept.set_exception(Busy("the database did not answer in time", after=5))
