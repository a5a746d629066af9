"""How the Marketo stand-in misbehaves, on request."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field, fields
from typing import Any, Final

Object = dict[str, Any]

MESSAGES: Final = {
    "601": "Access token invalid",
    "602": "Access token expired",
    "603": "Access denied",
    "606": "Max rate limit '100' exceeded with in '20' secs",
    "607": "Daily API Request Limit reached",
    "608": "API Temporarily Unavailable",
    "610": "Requested resource not found",
    "611": "System error",
    "615": "Concurrent access limit reached",
    "713": "Transient Error",
    "1003": "Invalid data",
    "1006": "Field not found",
}


class Fails(Exception):
    """An answer with `success` false: HTTP 200 and a code."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(message or MESSAGES.get(code, "Failed"))
        self.code = code


class Answers(Exception):
    """Do not answer as asked but with this HTTP status, or as `how` says."""

    def __init__(self, status: int = 0, how: str = "") -> None:
        super().__init__(how or str(status))
        self.status = status
        self.how = how


@dataclass
class Faults:
    """`POST /_faults` sets any of these by name, `DELETE /_faults` ends them all.

    The API:
    - `fail_next`: one entry for each call to come: a number is an HTTP status, a text of digits a response code,
      "reset" breaks the connection, "html" is a proxy's 502, "login" an HTML page with 200, "garbage" half a JSON,
      "array" a JSON that is no object.
    - `rate_limit`: calls in 20 seconds, beyond which it answers 606. `quota`: 607. `revoked`: the identity service
      knows the client no more. `forbidden`: ends of paths that answer 603. `stubborn`: every token is invalid.
    - `scan`: activities of all types that one call looks at. `lag`: seconds until an activity is listed. `circle`:
      pages of activities promise more and do not advance.
    - `slow`: seconds before each answer. `race`: seconds between looking for a lead and creating it, in which another
      call may do the same.

    Exports:
    - `export_seconds` until a job is complete. `queue_full`, `export_quota`: 1029. `fail_exports`: so many jobs fail.
      `no_range`: files come whole. `lost_files`: they are gone.

    Webhooks, which Marketo sends once:
    - `duplicate`, `drop`: shares (0 to 1) of calls made twice, or never. `delay`: seconds before each call; `reorder`:
      up to so many seconds more, at random.
    """

    fail_next: list[Any] = field(default_factory=list)
    rate_limit: int | None = None
    quota: bool = False
    revoked: bool = False
    forbidden: list[str] = field(default_factory=list)
    stubborn: bool = False
    scan: int = 300
    lag: float = 0.0
    circle: bool = False
    slow: float = 0.0
    race: float = 0.0
    export_seconds: float = 0.0
    queue_full: bool = False
    export_quota: bool = False
    fail_exports: int = 0
    no_range: bool = False
    lost_files: bool = False
    duplicate: float = 0.0
    drop: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0

    def set(self, said: Object) -> None:
        unknown = said.keys() - {one.name for one in fields(self)}
        if unknown:
            raise ValueError(f"unknown faults: {', '.join(sorted(unknown))}")
        for name, value in said.items():
            setattr(self, name, value)

    def end(self) -> None:
        self.__dict__.update(Faults().__dict__)


@dataclass
class Gate:
    """What every API call passes before it is answered; counts what went through."""

    faults: Faults
    calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    requests: deque[Object] = field(default_factory=lambda: deque(maxlen=2000))
    open: int = 0
    most_open: int = 0
    _times: deque[float] = field(default_factory=deque)

    def admit(self, path: str) -> None:
        """Count a call; raise `Fails` or `Answers` if a fault says so."""
        self.calls[path] += 1
        if self.faults.fail_next:
            self._fail(self.faults.fail_next.pop(0))
        if self.faults.quota:
            self._refuse("607")
        if any(path.endswith(end) for end in self.faults.forbidden):
            self._refuse("603")
        now = time.monotonic()
        while self._times and self._times[0] < now - 20:
            self._times.popleft()
        if self.faults.rate_limit is not None and len(self._times) >= self.faults.rate_limit:
            self._refuse("606")
        self._times.append(now)

    def _fail(self, how: Any) -> None:
        if isinstance(how, int):
            self.refused[f"HTTP {how}"] += 1
            raise Answers(status=how)
        if str(how).isdigit():
            self._refuse(str(how))
        raise Answers(how=str(how))

    def _refuse(self, code: str) -> None:
        self.refused[code] += 1
        raise Fails(code)
