"""How stand-ins deliver webhooks: late, twice, in no order or not at all, as the faults of the moment say."""

from __future__ import annotations

import heapq
import http.client
import itertools
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

TIMEOUT: Final = 10.0
DELIVERED: Final = "delivered"


class Faults(Protocol):
    """`drop` and `duplicate` are shares of what is posted, `delay` and `reorder` seconds."""

    drop: float
    duplicate: float
    delay: float
    reorder: float


class RetryFaults(Faults, Protocol):
    """`retry_delays` are seconds, one for each further try."""

    @property
    def retry_delays(self) -> Sequence[float]: ...


@dataclass(order=True, slots=True)
class Letter(Generic[T]):
    """What is on its way, and when it goes out."""

    due: float
    number: int
    what: T = field(compare=False)
    tries: int = field(default=0, compare=False)


class Postman(ABC, Generic[T]):
    """Delivers in `senders` threads of its own, once each; `counts` says how it went."""

    senders: ClassVar[int] = 4
    timeout: ClassVar[float] = TIMEOUT
    """Seconds that an answer may take."""

    def __init__(self, faults: Faults, *, seed: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self.numbers = itertools.count()
        self.changed = threading.Condition()
        self.stopping = False
        self.pending = 0
        self._faults = faults
        self._random = random.Random(seed)  # noqa: S311
        self._queue: list[Letter[T]] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.senders)]

    @abstractmethod
    def send(self, what: T) -> str:
        """Try once; `DELIVERED`, or what went wrong in a word."""

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self.changed:
            self.stopping = True
            self.changed.notify_all()
        for thread in self._threads:
            thread.join(self.timeout)

    def post(self, what: T) -> bool:
        """Queue it, with the faults of the moment; False if it is lost."""
        with self.changed:
            if self._random.random() < self._faults.drop:
                self.counts["dropped"] += 1
                return False
            twice = self._random.random() < self._faults.duplicate
            if twice:
                self.counts["duplicated"] += 1
            for _ in range(1 + twice):
                due = time.monotonic() + self._faults.delay + self._random.random() * self._faults.reorder
                self.put(Letter(due, next(self.numbers), what))
                self.pending += 1
            self.changed.notify_all()
            return True

    def put(self, letter: Letter[T]) -> None:
        """Let it wait for its time; the caller holds `changed`."""
        heapq.heappush(self._queue, letter)

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until nothing is on its way, further tries included."""
        deadline = time.monotonic() + timeout
        with self.changed:
            while self.pending:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self.changed.wait(left)
        return True

    def settle(self, letter: Letter[T], how: str) -> None:
        """What becomes of it after a try; called with `changed` held."""
        self.counts[how] += 1
        self.pending -= 1

    def _run(self) -> None:
        while letter := self._next():
            how = self.send(letter.what)
            with self.changed:
                self.settle(letter, how)
                self.changed.notify_all()

    def _next(self) -> Letter[T] | None:
        with self.changed:
            while not self.stopping:
                wait = self._queue[0].due - time.monotonic() if self._queue else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._queue)
                self.changed.wait(wait)
        return None


class RetryingPostman(Postman[T]):
    """Tries again what was not delivered, until it gives up."""

    def __init__(self, faults: RetryFaults, *, seed: int = 0) -> None:
        super().__init__(faults, seed=seed)
        self._retrying = faults

    def settle(self, letter: Letter[T], how: str) -> None:
        self.counts["tries"] += 1
        self.counts[how] += 1
        if how == DELIVERED:
            self.pending -= 1
            return
        delays = self._retrying.retry_delays
        if letter.tries >= len(delays) or self.stopping:
            self.counts["given_up"] += 1
            self.pending -= 1
            return
        letter.due = time.monotonic() + delays[letter.tries]
        letter.tries += 1
        self.counts["retried"] += 1
        self.put(letter)


def asked(
    method: str, address: str, body: bytes | None, headers: Mapping[str, str], *, timeout: float = TIMEOUT
) -> tuple[int, bytes]:
    """The status and the body of the answer; status 0 if there was none."""
    url = urlsplit(address)
    connection_type = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = connection_type(url.netloc, timeout=timeout)
    try:
        connection.request(method, url.path or "/", body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def outcome(status: int) -> str:
    """A status in a word."""
    return DELIVERED if 200 <= status < 300 else f"status_{status}"
