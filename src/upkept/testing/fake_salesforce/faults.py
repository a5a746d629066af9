"""How the Salesforce stand-in misbehaves, on request."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, fields
from typing import Any

from upkept.testing.fake_salesforce.shapes import ApiError, Row


@dataclass
class Faults:
    """`POST /_faults` sets any of these by name, `DELETE /_faults` ends them all.

    The API:
    - `fail_next`: one entry for each call to come: a status, an error code ("UNABLE_TO_LOCK_ROW"), "reset" (the
      connection breaks), "html" (a proxy's 502 page), "garbage" (200 and half a JSON), "array" (200 and no object),
      "expired" (401 INVALID_SESSION_ID).
    - `expired`: every session is over, however often a client logs in. `revoked`: no login succeeds.
    - `limit`: `{"after": calls, "times": n}` answers 403 REQUEST_LIMIT_EXCEEDED for `times` calls once `after` went
    well.
    - `locked`: `{id: times}`: writes of these records fail with UNABLE_TO_LOCK_ROW.
    - `hidden`: objects ("Task") and fields ("Lead.Phone") that the integration user may not see.
    - `read_only`: objects of which it may make no rows, as a describe says.
    - `refused`: fields ("Lead.Phone") that a validation rule refuses. `duplicate_rule`: one on the address, blocking.
    - `ambiguous`: external ids need not be unique.
    - `lose_next`: so many writes to come are done, and the connection breaks before the answer.
    - `page`: rows of one answer of a query. `slow`: seconds before each answer.
    - `deletes_kept`: seconds that the log of deletes goes back.
    - `bulk_looks`: looks at a bulk job until it is done. `bulk_fails`: jobs end as Failed. `bulk_lost`: looks until
      a job is forgotten. `bulk_cut`: the next part of a file ends in the middle of a row.

    Outbound messages:
    - `drop`, `duplicate`: shares (0 to 1) of notifications never sent, or sent twice.
    - `delay`: seconds before each is sent; `reorder`: up to so many seconds more, at random.
    - `retry_delays`: seconds before each further try of a message that was not acknowledged (Salesforce: up to 2
    hours).
    """

    fail_next: list[Any] = field(default_factory=list)
    expired: bool = False
    revoked: bool = False
    limit: Row | None = None
    locked: dict[str, int] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    read_only: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    duplicate_rule: bool = False
    ambiguous: bool = False
    lose_next: int = 0
    page: int = 2000
    slow: float = 0.0
    deletes_kept: float = 15 * 86_400
    bulk_looks: int = 1
    bulk_fails: bool = False
    bulk_lost: int = 0
    bulk_cut: bool = False
    drop: float = 0.0
    duplicate: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    retry_delays: list[float] = field(default_factory=lambda: [0.2, 0.4, 0.8, 1.6, 3.2])

    def set(self, said: Row) -> None:
        unknown = said.keys() - {one.name for one in fields(self)}
        if unknown:
            raise ApiError(400, "INVALID_FAULT", f"unknown faults: {', '.join(sorted(unknown))}")
        for name, value in said.items():
            setattr(self, name, value)


class Broken(Exception):
    """Do not answer as asked but as `fail_next` says."""


@dataclass
class Gate:
    """What every call of the API passes before it is answered; keeps the sessions and counts what went through."""

    faults: Faults
    sessions: set[str] = field(default_factory=set)
    calls: Counter[str] = field(default_factory=Counter)
    requests: deque[Row] = field(default_factory=lambda: deque(maxlen=2000))
    logins: int = 0
    used: int = 0

    def admit(self, endpoint: str, token: str) -> None:
        """Count a call; raise `ApiError` or `Broken` if a fault says so, or the session is not good."""
        self.calls[endpoint] += 1
        if self.faults.fail_next:
            self._fail(self.faults.fail_next.pop(0))
        if self.faults.expired or token not in self.sessions:
            raise _expired()
        limit = self.faults.limit
        if limit is not None and self.used >= limit.get("after", 0) and limit.get("times", 1) > 0:
            if "times" in limit:
                limit["times"] -= 1
            raise ApiError(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        self.used += 1

    def _fail(self, how: Any) -> None:
        if how == "expired":
            self.sessions.clear()
            raise _expired()
        if isinstance(how, int):
            code = {403: "INSUFFICIENT_ACCESS", 404: "NOT_FOUND"}.get(how, "UNKNOWN_EXCEPTION")
            raise ApiError(how, code, "An unexpected error occurred.")
        if str(how).isupper():
            raise ApiError(400, str(how), "as you wished")
        raise Broken(str(how))


def _expired() -> ApiError:
    return ApiError(401, "INVALID_SESSION_ID", "Session expired or invalid")
