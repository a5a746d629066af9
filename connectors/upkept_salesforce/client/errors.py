"""Salesforce's errors in our words, translated once.

The SDK's classes follow the HTTP status alone, and Salesforce says with 403 both "you may not" and "too much today". So
the error codes in the body decide first, then the status:

    401 INVALID_SESSION_ID                         Expired    logged in again once, then the operator
    REQUEST_LIMIT_EXCEEDED (403, no Retry-After)   Retryable  a quarter of an hour later
    locks, time-outs, 5xx, 408, 429, no answer     Retryable  the hub
    other 403                                      Forbidden  the operator
    404, ENTITY_IS_DELETED                         NotFound   the caller in this package decides
    300                                            Permanent  an external id that several records bear
    400                                            Refused    the caller, else an engineer

Messages are ours: Salesforce's own quote values, and values are personal data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from simple_salesforce.exceptions import SalesforceError

from upkept.contract import Config, Permanent, Retryable, UpkeptError

LIMIT_AGAIN: Final = 900.0
"""Seconds after which a spent daily limit is tried again: it is a rolling one, so some of it comes back all the
time."""

MAX_RETRY_AFTER: Final = 86_400.0


class Expired(Config):
    """The session is over (401)."""


class Forbidden(Config):
    """The session is good and may not do this (403)."""


class NotFound(Permanent):
    """There is no such thing, or the user may not see it."""


class Refused(Permanent):
    """Salesforce does not take the request as it is (400); `codes` say why."""

    def __init__(self, message: str, *, codes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.codes = codes


class Busy(Retryable):
    """Somebody else holds the row, or Salesforce is slow: a matter of seconds."""


LIMIT: Final = frozenset({"REQUEST_LIMIT_EXCEEDED", "CONCURRENT_REQUEST_LIMIT_EXCEEDED", "TXN_SECURITY_METERING_ERROR"})
LATER: Final = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",
        "SERVER_UNAVAILABLE",
        "QUERY_TIMEOUT",
        "REQUEST_RUNNING_TOO_LONG",
        "CONCURRENT_PER_ORG_LONG_TXN",
        "UNKNOWN_EXCEPTION",
        "EXCEEDED_QUOTA",
        "ORG_LOCKED",
        "OPERATION_IN_PROGRESS",
    }
)
GONE: Final = frozenset({"ENTITY_IS_DELETED", "NOT_FOUND", "INVALID_CROSS_REFERENCE_KEY"})
OPERATOR: Final = frozenset({"API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED", "INVALID_LOGIN", "PASSWORD_LOCKOUT"})

_CODE: Final = re.compile(r"[A-Z0-9_]{1,80}")


def translated(error: SalesforceError, headers: Mapping[str, str], *, endpoint: str) -> UpkeptError:
    """Our error for any error of the SDK about an answer; raise it `from None`, for theirs quotes the answer."""
    codes, status = codes_in(error.content), error.status
    what = f"Salesforce {endpoint} (HTTP {status}{''.join(f', {code}' for code in codes)})"
    if LIMIT & set(codes):
        return Retryable(f"{what}: the org's limit of calls is spent; the hub asks again", after=LIMIT_AGAIN)
    if LATER & set(codes) or status in (408, 425, 429) or status >= 500:
        return Busy(f"{what}: the hub asks again", after=_retry_after(headers.get("Retry-After", "")))
    if status == 401:
        return Expired(f"{what}: Salesforce refuses the session; see the credentials of this connection")
    if status == 403 or OPERATOR & set(codes):
        return Forbidden(
            f"{what}: the integration user may not do this; give it API access and access to the object and its "
            "fields, then `upkept check`"
        )
    if status == 404 or GONE & set(codes):
        return NotFound(f"{what}: no such thing, or not for the integration user's eyes; check `base_url`")
    if status == 300:
        return Refused(f"{what}: several records bear this external id; make the field unique", codes=codes)
    if status == 400:
        return Refused(f"{what}: the request is not accepted as it is", codes=codes)
    return Busy(f"{what}: not an answer of Salesforce's API; the hub asks again")


def about_record(errors: Any, *, endpoint: str) -> UpkeptError:
    """Our error for one record of several, whose own `errors` Salesforce lists beside the others' success."""
    codes = codes_in(errors)
    what = f"Salesforce {endpoint} ({', '.join(codes) or 'no reason given'})"
    if (LATER | LIMIT) & set(codes):
        return Busy(f"{what}: the hub tries again")
    if GONE & set(codes):
        return NotFound(f"{what}: the record is deleted or merged into another")
    return Refused(f"{what}: Salesforce does not take this record as it is; see the object's rules", codes=codes)


def results(answer: Any, wanted: int, *, endpoint: str) -> list[UpkeptError | None]:
    """What was wrong with each record of a call; None with one that went well."""
    if not isinstance(answer, list) or len(answer) != wanted or not all(isinstance(one, Mapping) for one in answer):
        raise Retryable(f"Salesforce {endpoint}: the answer is not one result for each record; the hub asks again")
    return [
        None if one.get("success") is True else about_record(one.get("errors"), endpoint=endpoint) for one in answer
    ]


def codes_in(content: Any) -> tuple[str, ...]:
    """The error codes of a body, `[{"errorCode": …}]` or of one record `[{"statusCode": …}]`; none in a page of
    HTML."""
    rows = content if isinstance(content, Sequence) and not isinstance(content, str | bytes) else [content]
    found = (row.get("errorCode") or row.get("statusCode") for row in rows if isinstance(row, Mapping))
    return tuple(code for code in found if isinstance(code, str) and _CODE.fullmatch(code))


def _retry_after(value: str) -> float | None:
    try:
        given = float(value)
    except ValueError:
        return None
    return min(max(given, 0.0), MAX_RETRY_AFTER) if math.isfinite(given) else None
