"""Webhooks of the Stripe stand-in: signed, at least once, in no order, tried again when the answer is not 2xx.

https://docs.stripe.com/webhooks: events go to endpoints that want their type; events of connected accounts only to
endpoints with `connect`. Each try is signed anew, with the machine's time whatever the stand-in's clock says.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from dataclasses import dataclass

from upkept.testing.fake_stripe.faults import Faults
from upkept.testing.fake_stripe.table import Object
from upkept.testing.post import DELIVERED, Letter, RetryingPostman, asked, outcome


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


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint. `undelivered` is kept by the ledger: ids of events that did not arrive yet."""

    event_id: str
    endpoint: Endpoint
    body: bytes
    undelivered: set[str]


def signature(secrets: tuple[str, ...], body: bytes, at: int) -> str:
    """The Stripe-Signature header: one v1 for each live secret, and test mode's v0, which proves nothing."""
    signed = str(at).encode() + b"." + body
    marks = [f"v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}" for secret in secrets]
    return ",".join([f"t={at}", *marks, f"v0={hashlib.sha256(body).hexdigest()}"])


class Postman(RetryingPostman[Delivery]):
    """Delivers signed events."""

    def __init__(self, faults: Faults, *, seed: int = 0) -> None:
        super().__init__(faults, seed=seed)
        self.endpoints: dict[str, Endpoint] = {}
        self._skewed = faults

    def tell(self, event_id: str, endpoint: Endpoint, shown: Object, undelivered: set[str]) -> None:
        """Post an event to an endpoint."""
        if not self.post(Delivery(event_id, endpoint, json.dumps(shown, indent=2).encode(), undelivered)):
            undelivered.add(event_id)

    def settle(self, letter: Letter[Delivery], how: str) -> None:
        undelivered = letter.what.undelivered
        (undelivered.discard if how == DELIVERED else undelivered.add)(letter.what.event_id)
        super().settle(letter, how)

    def send(self, what: Delivery) -> str:
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature(
                what.endpoint.secrets, what.body, int(time.time() + self._skewed.signature_skew)
            ),
        }
        return outcome(asked("POST", what.endpoint.url, what.body, headers)[0])
