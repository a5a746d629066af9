"""Webhooks of the Stripe stand-in: signed, at least once, in no order, tried again when the answer is not 2xx.

https://docs.stripe.com/webhooks: events go to endpoints that want their type; events of connected accounts only to
endpoints with `connect`. Each try is signed anew, with the machine's time whatever the stand-in's clock says.
"""

from __future__ import annotations

import hashlib
import heapq
import hmac
import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from upkept.testing.fake_stripe_faults import Faults
from upkept.testing.fake_stripe_table import Object

TIMEOUT: Final = 10.0
SENDERS: Final = 4


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where events go. `thin` makes them notifications of the v2 kind; `events` None means all."""

    id: str
    url: str
    secrets: tuple[str, ...]
    events: frozenset[str] | None = None
    thin: bool = False
    connect: bool = False

    def wants(self, type: str, *, connected: bool) -> bool:
        return connected == self.connect and (self.events is None or type in self.events or "*" in self.events)


@dataclass(order=True, slots=True)
class Delivery:
    """One event on its way to one endpoint."""

    due: float
    number: int
    event_id: str = field(compare=False)
    endpoint: Endpoint = field(compare=False)
    body: bytes = field(compare=False)
    done: set[str] = field(compare=False)
    tries: int = field(default=0, compare=False)


def signature(secrets: tuple[str, ...], body: bytes, at: int) -> str:
    """The Stripe-Signature header: one v1 for each live secret, and test mode's v0, which proves nothing."""
    signed = str(at).encode() + b"." + body
    marks = [f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in secrets]
    return ",".join([f"t={at}", *marks, f"v0={hashlib.sha256(body).hexdigest()}"])


class Postman:
    """Delivers in threads of its own. `undelivered` sets are kept by the ledgers; `counts` says how it went."""

    def __init__(self, faults: Faults, *, seed: int = 0) -> None:
        self.endpoints: dict[str, Endpoint] = {}
        self.counts: Counter[str] = Counter()
        self._faults = faults
        self._random = random.Random(seed)  # noqa: S311
        self._queue: list[Delivery] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._open = 0
        self._stopping = False
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(SENDERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(TIMEOUT)

    @property
    def pending(self) -> int:
        return self._open

    def post(self, event_id: str, endpoint: Endpoint, shown: Object, undelivered: set[str]) -> None:
        """Queue an event for an endpoint, with the faults of the moment."""
        body = json.dumps(shown, indent=2).encode()
        copies = 1
        with self._changed:
            if self._random.random() < self._faults.drop:
                self.counts["dropped"] += 1
                undelivered.add(event_id)
                return
            if self._random.random() < self._faults.duplicate:
                self.counts["duplicated"] += 1
                copies = 2
            for _ in range(copies):
                due = time.monotonic() + self._faults.delay + self._random.random() * self._faults.reorder
                delivery = Delivery(due, next(self._numbers), event_id, endpoint, body, undelivered)
                heapq.heappush(self._queue, delivery)
                self._open += 1
            self._changed.notify_all()

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until nothing is on its way, retries included."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._open:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _run(self) -> None:
        while delivery := self._next():
            status = self._send(delivery)
            with self._changed:
                self._settle(delivery, status)
                self._changed.notify_all()

    def _next(self) -> Delivery | None:
        with self._changed:
            while not self._stopping:
                if not self._queue:
                    self._changed.wait()
                    continue
                wait = self._queue[0].due - time.monotonic()
                if wait <= 0:
                    return heapq.heappop(self._queue)
                self._changed.wait(wait)
        return None

    def _settle(self, delivery: Delivery, status: int) -> None:
        self.counts["tries"] += 1
        if 200 <= status < 300:
            self.counts["delivered"] += 1
            delivery.done.discard(delivery.event_id)
            self._open -= 1
            return
        self.counts[f"status_{status}"] += 1
        delivery.done.add(delivery.event_id)
        if delivery.tries >= len(self._faults.retry_delays) or self._stopping:
            self.counts["given_up"] += 1
            self._open -= 1
            return
        delivery.due = time.monotonic() + self._faults.retry_delays[delivery.tries]
        delivery.tries += 1
        self.counts["retried"] += 1
        heapq.heappush(self._queue, delivery)

    def _send(self, delivery: Delivery) -> int:
        """The status of the answer; 0 if there was none."""
        url = urlsplit(delivery.endpoint.url)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature(
                delivery.endpoint.secrets, delivery.body, int(time.time() + self._faults.signature_skew)
            ),
        }
        connection_type = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        connection = connection_type(url.netloc, timeout=TIMEOUT)
        try:
            connection.request("POST", url.path or "/", delivery.body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()
