"""Ringing off the request's path: one thread takes the bells of many commits and rings them together."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog

from upkept.failpoints import reach
from upkept.flow.bells import IDS_PER_BELL, Bell, Queue, TaskName

if TYPE_CHECKING:
    from upkept.queue import Ringer

log = structlog.get_logger(__name__)

WINDOW: Final = 0.03
"""Seconds in which the ids of one lane become one message."""
BOUND: Final = 50_000
"""Ids waiting to be rung; more are dropped and left to the sweeper."""
LANES: Final[dict[str, int]] = {"consent": 0, "outbound": 1, "inbound": 2, "bulk": 3}


class Publisher:
    """A bounded set of ids to ring. A broker that is away costs the request path nothing."""

    def __init__(self, ringer: Callable[[], Ringer]) -> None:
        self._make_ringer = ringer
        self._ringer: Ringer | None = None
        self._ids: dict[tuple[Queue, TaskName], list[int]] = {}
        self._lock = threading.Lock()
        self._something = threading.Event()
        self._ending = threading.Event()
        self.warm = threading.Event()
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ring what waits, once, and end."""
        self._ending.set()
        self._something.set()
        self._thread.join(timeout=5)

    def offer(self, bells: Sequence[Bell]) -> None:
        """Take bells to be rung soon; never blocks and never raises."""
        if not bells:
            return
        with self._lock:
            waiting = sum(map(len, self._ids.values()))
            for bell in bells:
                if waiting > BOUND:
                    self.dropped += len(bell.ids)
                    continue
                self._ids.setdefault((bell.queue, bell.task), []).extend(bell.ids)
        self._something.set()

    def sick_seconds(self) -> float:
        """For how long the broker has not taken a message."""
        return self._ringer.sick_seconds() if self._ringer is not None else 0.0

    def _run(self) -> None:
        ringer = self._ringer = self._make_ringer()
        # The first message costs imports and a connection: spend that before the door opens.
        ringer.ring([Bell("inbound", "apply", ())])
        self.warm.set()
        while not self._ending.is_set():
            self._something.wait()
            self._ending.wait(WINDOW)
            self._something.clear()
            self._ring_all(ringer)
        ringer.close()

    def _ring_all(self, ringer: Ringer) -> None:
        with self._lock:
            taken, self._ids = self._ids, {}
        for (queue, task), ids in sorted(taken.items(), key=lambda item: LANES[item[0][0]]):
            for start in range(0, len(ids), IDS_PER_BELL):
                part = tuple(ids[start : start + IDS_PER_BELL])
                reach("publish.before")
                if not ringer.ring([Bell(queue, task, part)]):
                    self.dropped += len(part)
                reach("publish.after")
