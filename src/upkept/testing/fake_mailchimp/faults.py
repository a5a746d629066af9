"""How the Mailchimp stand-in misbehaves, on request; and its errors, in the shape that Mailchimp gives them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final

Object = dict[str, Any]

MOST_AT_ONCE: Final = 10
"""Calls that Mailchimp takes at once from one account."""


class Problem(Exception):
    """An answer of `application/problem+json`."""

    def __init__(self, status: int, title: str, detail: str = "") -> None:
        super().__init__(title)
        self.status, self.title, self.detail = status, title, detail
        self.errors: list[Object] = []

    def said(self) -> Object:
        return {
            "type": "https://mailchimp.com/developer/marketing/docs/errors/",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": "10ce6c36-5379-d506-af72-293f72699eee",
            **({"errors": self.errors} if self.errors else {}),
        }


class Broken(Exception):
    """Do not answer as asked but as `fail_next` says."""


@dataclass
class Faults:
    """`POST /_faults` sets any of these by name, `DELETE /_faults` ends them all.

    The API:
    - `fail_next`: one entry for each call to come: a status, None (this one goes well), "reset" (the connection
      breaks), "html" (a proxy's 502), "nothing" (a 502 without a body), "empty" (200 and `{}`), "garbage" (200 and
      half a JSON), "array" (200 and no object), "page" (a list that shows nothing and promises more), "stranger"
      (another member).
    - `revoked`: every key gets 401. `slow`: seconds before each answer. `at_once`: calls taken at once.
    - `unstable`: rows of a list that changed in one second come in another order each time.
    - `batch_seconds`: how long a batch takes; `batch_broken`: its answers are no archive.

    Webhooks:
    - `duplicate`, `drop`: shares (0 to 1) of deliveries made twice, or never.
    - `delay`: seconds before each delivery; `reorder`: up to so many seconds more, at random.
    - `retry_delays`: seconds before each further try after an answer that is not 2xx (Mailchimp: 75 minutes in all).
    """

    fail_next: list[Any] = field(default_factory=list)
    revoked: bool = False
    slow: float = 0.0
    at_once: int = MOST_AT_ONCE
    unstable: bool = False
    batch_seconds: float = 0.0
    batch_broken: bool = False
    duplicate: float = 0.0
    drop: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    retry_delays: list[float] = field(default_factory=lambda: [0.2, 0.5, 1.0, 2.0, 4.0])

    def set(self, said: Object) -> None:
        unknown = said.keys() - {one.name for one in fields(self)}
        if unknown:
            raise Problem(400, "Unknown Fault", ", ".join(sorted(unknown)))
        for name, value in said.items():
            setattr(self, name, value)

    def end(self) -> None:
        self.__dict__.update(Faults().__dict__)

    def due(self) -> None:
        """Fail this call if it is one of `fail_next`."""
        if not self.fail_next:
            return
        how = self.fail_next.pop(0)
        if isinstance(how, int):
            raise Problem(how, {429: "Too Many Requests", 403: "Forbidden"}.get(how, "Internal Server Error"))
        if how is not None:
            raise Broken(str(how))
