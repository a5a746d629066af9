"""A vendor that posts until it is answered 2xx, over and over the same bytes, freshly signed."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from bench.events import SECRET, Run

PATIENCE: Final = 120.0
AGAIN: Final = 0.15


@dataclass(slots=True)
class Vendor:
    """Posts the numbers `0 … count-1` of `run` at about `rate` a second from several threads."""

    run: Run
    count: int
    port: int
    rate: float
    threads: int = 8
    accepted: set[int] = field(default_factory=set)
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
            self._deliver(number, began + PATIENCE)
            if number % 10 == 0:  # the vendor's answer got lost: it delivers again what was accepted
                self._deliver(number, began + PATIENCE)
            time.sleep(max(0.0, pause - (time.monotonic() - began)))

    def _deliver(self, number: int, until: float) -> None:
        body = self.run.body(number)
        while time.monotonic() < until:
            status = self._post(body)
            with self._lock:
                self.answers[status] = self.answers.get(status, 0) + 1
                if 200 <= status < 300:
                    self.accepted.add(number)
                    return
            time.sleep(AGAIN)

    def _post(self, body: bytes) -> int:
        """The status, or 0 if the connection broke: then nobody knows."""
        at = b"%d" % int(time.time())
        signature = hmac.digest(SECRET.encode(), at + b"." + body, hashlib.sha256).hex()
        headers = {"Stripe-Signature": f"t={at.decode()},v1={signature}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/hooks/stripe", body, headers)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            with suppress(OSError):
                connection.close()
