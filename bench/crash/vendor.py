"""A vendor that posts until it is answered 2xx, over and over the same bytes, freshly signed.

Beside it a newsletter, which tells now and then that one of the customers unsubscribed.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from bench.crash.letters import unsubscription
from bench.events import SECRET, Run, email

PATIENCE: Final = 120.0
AGAIN: Final = 0.15
LETTER_EVERY: Final = 20
"""Every so many numbers one customer unsubscribes."""


@dataclass(slots=True)
class Vendor:
    """Posts the numbers `0 … count-1` of `run` at about `rate` a second from several threads.

    `in_force` looks, as soon as a letter is answered 2xx, whether its opt-out stands; `late` are those that did not.
    """

    run: Run
    count: int
    port: int
    rate: float
    in_force: Callable[[int], bool]
    threads: int = 8
    accepted: set[int] = field(default_factory=set)
    letters: set[int] = field(default_factory=set)
    late: set[int] = field(default_factory=set)
    refused: int = 0
    answers: dict[int, int] = field(default_factory=dict)
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _crew: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._crew = [threading.Thread(target=self._work, daemon=True) for _ in range(self.threads)]
        for thread in self._crew:
            thread.start()

    @property
    def busy(self) -> bool:
        return any(thread.is_alive() for thread in self._crew)

    def join(self) -> None:
        for thread in self._crew:
            thread.join(PATIENCE)

    def _take(self) -> int | None:
        with self._lock:
            if self._next >= self.count:
                return None
            self._next += 1
            return self._next - 1

    def _work(self) -> None:
        pause = self.threads / self.rate
        while (number := self._take()) is not None:
            began = time.monotonic()
            # One in ten answers gets lost: the vendor delivers again what was accepted.
            for _ in range(2 if number % 10 == 0 else 1):
                self._deliver("/hooks/stripe", self.run.body(number), number, self.accepted, began + PATIENCE)
                if number % LETTER_EVERY == 0:
                    self._deliver("/hooks/letters", self._letter(number), number, self.letters, began + PATIENCE)
                    if number in self.letters and not self.in_force(number):
                        self.late.add(number)
            time.sleep(max(0.0, pause - (time.monotonic() - began)))

    def unsubscribed(self, number: int) -> str:
        """The address that a letter is about."""
        return email(self.run.name, number // LETTER_EVERY % self.run.customers)

    def _letter(self, number: int) -> bytes:
        return unsubscription(number, self.unsubscribed(number), self.run.origin + number)

    def _deliver(self, path: str, body: bytes, number: int, accepted: set[int], until: float) -> None:
        while time.monotonic() < until:
            status = self._post(path, body)
            with self._lock:
                self.answers[status] = self.answers.get(status, 0) + 1
                if 200 <= status < 300:
                    accepted.add(number)
                    return
            time.sleep(AGAIN)

    def _post(self, path: str, body: bytes) -> int:
        """The status, or 0 if the connection broke: then nobody knows."""
        at = b"%d" % int(time.time())
        signature = hmac.digest(SECRET.encode(), at + b"." + body, hashlib.sha256).hex()
        headers = {"Stripe-Signature": f"t={at.decode()},v1={signature}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            with suppress(OSError):
                connection.close()
