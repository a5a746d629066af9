"""How the Stripe stand-in misbehaves, on request."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from typing import Any

from upkept.testing.fake_stripe.table import ApiError, Object


@dataclass
class Faults:
    """`POST /_faults` sets any of these by name, `DELETE /_faults` ends them all.

    The API:
    - `rate_limit`: `{"after": calls, "retry_after": seconds, "times": n}` answers 429 for `times` calls (else until
      ended) once `after` calls went well; `{"per_second": n}` 429 beyond n calls of one endpoint in a second.
    - `fail_next`: one entry for each call to come: a status, "reset" (the connection breaks), "garbage" (200 and half
      a JSON), "array" (200 and no object), "empty" (an empty page that promises more), "html" (a proxy's 502).
    - `revoked`: every key gets 401. `forbidden`: resources ("invoices") that get 403.
    - `freeze`: `{"list": "customers", "page": n}`: that list answers its page n for ever.
    - `slow`: seconds before each answer.

    Webhooks:
    - `duplicate`, `drop`: shares (0 to 1) of deliveries made twice, or never.
    - `delay`: seconds before each delivery; `reorder`: up to so many seconds more, at random.
    - `retry_delays`: seconds before each further try after an answer that is not 2xx (Stripe: hours).
    - `signature_skew`: seconds that the signed time is off.
    """

    rate_limit: Object | None = None
    fail_next: list[Any] = field(default_factory=list)
    revoked: bool = False
    forbidden: list[str] = field(default_factory=list)
    freeze: Object | None = None
    slow: float = 0.0
    duplicate: float = 0.0
    drop: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    retry_delays: list[float] = field(default_factory=lambda: [0.2, 0.5, 1.0, 2.0, 4.0])
    signature_skew: float = 0.0

    def set(self, said: Object) -> None:
        unknown = said.keys() - {one.name for one in fields(self)}
        if unknown:
            raise ApiError(400, f"unknown faults: {', '.join(sorted(unknown))}")
        for name, value in said.items():
            setattr(self, name, value)


class Broken(Exception):
    """Do not answer as asked but as `fail_next` says."""


@dataclass
class Gate:
    """What every API call passes before it is answered; counts what went through."""

    faults: Faults
    calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    peaks: Counter[str] = field(default_factory=Counter)
    requests: deque[Object] = field(default_factory=lambda: deque(maxlen=2000))
    _seconds: Counter[tuple[str, int]] = field(default_factory=Counter)
    _passed: int = 0
    _pages: Counter[str] = field(default_factory=Counter)
    _frozen: dict[str, Object] = field(default_factory=dict)

    def admit(self, endpoint: str, key: str) -> None:
        """Count a call; raise `ApiError` or `Broken` if a fault says so."""
        second = int(time.monotonic())
        self.calls[endpoint] += 1
        self._seconds[endpoint, second] += 1
        self.peaks[endpoint] = max(self.peaks[endpoint], self._seconds[endpoint, second])
        if self.faults.fail_next:
            self._fail(self.faults.fail_next.pop(0))
        if self.faults.revoked or not key.startswith(("sk_", "rk_")):
            shown = f"{key[:8]}{'*' * 12}{key[-4:]}" if key else ""
            raise ApiError(401, f"Invalid API Key provided: {shown}" if key else "You did not provide an API key.")
        resource = endpoint.split("/")[2]
        if resource in self.faults.forbidden:
            permission = f"rak_{resource.removesuffix('s')}_read"
            raise ApiError(403, f"The provided key does not have the required permission '{permission}'.")
        self._limit(endpoint, second)
        self._passed += 1

    def _fail(self, how: Any) -> None:
        if not isinstance(how, int):
            raise Broken(str(how))
        self.refused[str(how)] += 1
        raise ApiError(how, "An error occurred on our side.", type="api_error")

    def _limit(self, endpoint: str, second: int) -> None:
        limit = self.faults.rate_limit
        if limit is None:
            return
        over = self._seconds[endpoint, second] > limit.get("per_second", float("inf"))
        if "after" in limit and self._passed >= limit["after"] and limit.get("times", 1) > 0:
            over = True
            if "times" in limit:
                limit["times"] -= 1
        if over:
            self.refused["429"] += 1
            error = ApiError(429, "Request rate limit exceeded.", code="rate_limit")
            if "retry_after" in limit:
                error.headers["Retry-After"] = str(limit["retry_after"])
            error.headers["Stripe-Rate-Limited-Reason"] = "endpoint-rate"
            raise error

    def page(self, list_name: str, answer: Object) -> Object:
        """The answer of a list, or the frozen page."""
        self._pages[list_name] += 1
        freeze = self.faults.freeze
        if freeze is None or freeze.get("list", list_name) != list_name:
            return answer
        if self._pages[list_name] <= freeze.get("page", 1):
            self._frozen[list_name] = answer
        return self._frozen.setdefault(list_name, answer)
