"""Mailchimp's errors in our words, translated once.

Who acts next decides the class (https://mailchimp.com/developer/marketing/docs/errors/). An answer is
`application/problem+json`: `{"type", "title", "status", "detail", "instance"}`, and the title says what it is:

    401; 403 of the API itself                          Config     the operator
    429, 408, 5xx, no answer, an unreadable answer      Retryable  the hub
    404                                                 NotFound   the caller in this package decides
    400 "Member In Compliance State", "Forgotten …"     Locked     the caller: nobody but the person may lift it
    400, 405, 422 and other titles                      Refused    the caller, else an engineer

Messages are ours, and no error of the SDK is chained to them: Mailchimp's `detail` quotes addresses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from upkept.contract import Config, Permanent, Retryable, UpkeptError


class NotFound(Permanent):
    """Mailchimp knows no such thing (and it was Mailchimp that said so)."""


class Refused(Permanent):
    """Mailchimp does not take the request as it is; `title` is its word for why."""

    def __init__(self, message: str, *, title: str = "") -> None:
        super().__init__(message)
        self.title = title


class Locked(Refused):
    """The member left, bounced or was erased there, and only itself can come back (R11)."""


LOCKS: Final = ("member in compliance state", "forgotten email not subscribed")
TOO_FAST: Final = 2.0
"""Seconds to wait where Mailchimp has enough of us; its Retry-After, if there is one, never gets past the SDK."""

_TITLE: Final = re.compile(r"[A-Za-z][A-Za-z ]{1,63}")
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_. ]{0,63}")


def translated(status: int | None, body: Any, *, endpoint: str) -> UpkeptError:
    """Our error for an answer that is none. `body` is whatever the SDK made of it: a dict, a text or an exception."""
    problem = _problem(body)
    title = _title(problem)
    what = _described(endpoint, status, title)
    if status is None or status in (408, 425) or status >= 500 or status < 400:
        return Retryable(f"{what}: the hub asks again")
    if status == 429:
        return Retryable(f"{what}: Mailchimp takes 10 calls at once; the hub asks again", after=TOO_FAST)
    if not title:  # a proxy's or a firewall's page
        return Retryable(f"{what}: the answer is not Mailchimp's; the hub asks again; if it persists, see base_url")
    if status in (401, 403):
        return Config(
            f"{what}: Mailchimp refuses the key; set `api_key` of this connection to one that is not revoked "
            "(Mailchimp, Profile, Extras, API keys) and of a user who may manage the audiences, then `upkept check`"
        )
    if status == 404:
        return NotFound(f"{what}: no such object; check `audiences` and `base_url`")
    if title.lower() in LOCKS:
        return Locked(f"{what}: only the person can lift that", title=title)
    fields = _fields(problem)
    return Refused(f"{what}{': ' + ', '.join(fields) if fields else ''}: not accepted as it is", title=title)


def _problem(body: Any) -> Mapping[str, Any]:
    """The problem document. The SDK parses `application/json`, not `application/problem+json`."""
    if isinstance(body, str | bytes):
        try:
            body = json.loads(body)
        except (ValueError, RecursionError):
            return {}
    return body if isinstance(body, Mapping) else {}


def _title(problem: Mapping[str, Any]) -> str:
    title = problem.get("title")
    return title if isinstance(title, str) and _TITLE.fullmatch(title) else ""


def _fields(problem: Mapping[str, Any]) -> list[str]:
    """The names of the fields it does not like; their messages quote values."""
    errors = problem.get("errors")
    named = (one.get("field") for one in errors if isinstance(one, Mapping)) if isinstance(errors, list) else ()
    return [name for name in named if isinstance(name, str) and _FIELD.fullmatch(name)][:5]


def _described(endpoint: str, status: int | None, title: str) -> str:
    parts = [f"HTTP {status}" if status else "no answer", *([title] if title else [])]
    return f"Mailchimp {endpoint} ({', '.join(parts)})"
