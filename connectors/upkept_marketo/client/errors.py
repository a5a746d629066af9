"""Marketo's errors in our words, translated once.

They come on three levels (https://experienceleague.adobe.com/en/docs/marketo-developer/marketo/rest/error-codes):

- **HTTP**: what stands between us and Marketo, and 401 of the identity service; 413 and 414 for what is too long.
- **Response**: HTTP 200 with `success` false and codes 6xx, 7xx and some of 1xxx.
- **Record**: `success` true, and the record `skipped` for reasons 1xxx, in the order of the input.

    601, 602                              Unauthorized  the client asks for a new token, once
    604, 606, 608, 611, 614, 615, 713, …  Retryable     the hub, later
    607, 1029 of the daily quota          Retryable     the hub, after midnight in the United States' Central time
    603, 616, 703, 1008, 1009             Config        the operator
    702                                   NoData        no failure: there is nothing
    anything else                         Refused       the caller in this package, else an engineer

Messages are ours: Marketo's own may quote the request, and the request may hold personal data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import httpx

from upkept.contract import Config, Permanent, Retryable, UpkeptError

CENTRAL: Final = ZoneInfo("America/Chicago")
"""Where Marketo's days begin, winter and summer."""

RATE_WINDOW: Final = 20.0
"""Seconds over which Marketo counts calls."""

MAX_RETRY_AFTER: Final = 86_400.0

_LATER: Final = frozenset({"500", "502", "604", "608", "611", "614", "713", "719"})
_OPERATOR: Final[Mapping[str, str]] = {
    "603": "the API user may not do this; give its role Read-Only Activity, Read-Only Activity Metadata and Read-Write "
    "Person, and let this machine's address in if API access is limited to some",
    "616": "the subscription does not include this API",
    "703": "the subscription does not have this feature",
    "1008": "the API user has no access to the partition of this lead",
    "1009": "the subscription has partitions, and one must be named; give the API user a workspace with one",
}
_CODE: Final = re.compile(r"[0-9]{3,4}", re.ASCII)


class Unauthorized(Retryable):
    """The access token is invalid or has expired."""


class NoData(Permanent):
    """Nothing fits what was asked for."""


class Refused(Permanent):
    """Marketo does not take the request as it is. `code` is its reason."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


def of_response(errors: Any, *, endpoint: str, now: datetime) -> UpkeptError:
    """Our error for the `errors` of an answer whose `success` is false."""
    first = errors[0] if isinstance(errors, list) and errors else None
    said = first if isinstance(first, Mapping) else {}
    code, message = str(said.get("code", "")), str(said.get("message", ""))
    what = f"Marketo {endpoint} ({code if _CODE.fullmatch(code) else 'no code'})"
    if code in ("601", "602"):
        return Unauthorized(f"{what}: the access token is not accepted")
    if code == "606":
        return Retryable(f"{what}: more than 100 calls in 20 seconds; the hub goes on by itself", after=RATE_WINDOW)
    if code == "615":
        return Retryable(f"{what}: all ten concurrent calls are taken; the hub goes on by itself", after=2.0)
    if code == "607" or (code == "1029" and "quota" in message.lower()):
        quota = "export quota" if code == "1029" else "quota of calls"
        return Retryable(
            f"{what}: today's {quota} is used up; the hub goes on after midnight, Central time",
            after=until_midnight(now),
        )
    if code == "1029":
        return Retryable(f"{what}: ten exports wait already; the hub asks again")
    if code in _LATER:
        return Retryable(f"{what}: the hub asks again")
    if code == "702":
        return NoData(f"{what}: nothing found")
    if code in _OPERATOR:
        return Config(f"{what}: {_OPERATOR[code]}; then `upkept check`")
    if not _CODE.fullmatch(code):
        return Retryable(f"{what}: the answer is not Marketo's; the hub asks again")
    return Refused(f"{what}: the request is not accepted as it is", code=code)


def of_status(response: httpx.Response, *, endpoint: str) -> UpkeptError | None:
    """Our error for an HTTP status; None for 2xx."""
    status = response.status_code
    what = f"Marketo {endpoint} (HTTP {status})"
    if 200 <= status < 300:
        return None
    if status == 401:
        return Unauthorized(f"{what}: the access token is not accepted")
    if status in (403, 404):
        return Config(f"{what}: no API there; check `base_url`, and whether Marketo lets this machine's address in")
    if status in (408, 425, 429) or status >= 500 or status < 400:
        return Retryable(f"{what}: the hub asks again", after=_retry_after(response))
    return Refused(f"{what}: the request is not accepted as it is", code=str(status))


def until_midnight(now: datetime) -> float:
    """Seconds until the quotas begin anew."""
    there = now.astimezone(CENTRAL)
    midnight = datetime.combine(there.date() + timedelta(days=1), datetime.min.time(), CENTRAL)
    return max(midnight.timestamp() - now.timestamp(), 1.0)


def _retry_after(response: httpx.Response) -> float | None:
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if seconds == seconds else None
