"""Stripe's errors in our words, translated once.

Who acts next decides the class (https://docs.stripe.com/error-handling, https://docs.stripe.com/error-low-level):

    401, 403 (Forbidden), an account or feature that is not enabled   Config     the operator
    429, 409, 5xx, no answer, an unreadable answer        Retryable  the hub, after Retry-After if Stripe gave one
    404                                                   NotFound   the caller in this package decides
    400                                                   Refused    the caller, else an engineer
    anything else                                         Permanent  an engineer

Messages are ours: Stripe's own may quote the request, and the request may hold personal data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import stripe
from stripe import oauth_error

from upkept.contract import Config, Permanent, Retryable, UpkeptError


class Forbidden(Config):
    """The key is good and may not do this (403)."""


class NotFound(Permanent):
    """There is no such thing at `read_at` (unix seconds, Stripe's clock).

    `gone` says that Stripe itself knows no such object; a bare 404 may come from anything on the way.
    `other_mode`: it exists, but in the other mode (test, live) than the key's.
    """

    def __init__(self, message: str, *, gone: bool, other_mode: bool = False) -> None:
        super().__init__(message)
        self.gone = gone and not other_mode
        self.other_mode = other_mode
        self.read_at = 0


class Refused(Permanent):
    """Stripe does not take the request as it is (400)."""


MAX_RETRY_AFTER: Final = 86_400.0
"""Seconds; a longer Retry-After is a mistake somewhere, and a day later we ask again."""

_OPERATOR: Final = (
    stripe.AuthenticationError,
    stripe.PermissionError,
    stripe.BlockedByStripeError,
    stripe.CapabilityNotEnabledError,
    stripe.FeatureNotEnabledError,
    oauth_error.OAuthError,
)
_LATER: Final = (
    stripe.RateLimitError,
    stripe.APIConnectionError,
    stripe.QuotaExceededError,
    stripe.TemporarySessionExpiredError,
)
_KEY_CODES: Final = frozenset(
    {"account_invalid", "api_key_expired", "livemode_mismatch", "platform_api_key_expired", "secret_key_required"}
)
_LATER_CODES: Final = frozenset({"lock_timeout", "rate_limit", "api_connection_error"})


def translated(error: stripe.StripeError, *, endpoint: str) -> UpkeptError:
    """Our error for any error of the SDK; raise it `from` the original."""
    what = _describe(error, endpoint)
    if error.http_status == 403:
        return Forbidden(f"{what}: {_cure(error)}")
    if isinstance(error, _OPERATOR) or error.code in _KEY_CODES or error.http_status == 401:
        return Config(f"{what}: {_cure(error)}")
    if isinstance(error, _LATER) or _is_passing(error):
        return Retryable(f"{what}: the hub asks again", after=_retry_after(error))
    if error.http_status == 404 or error.code == "resource_missing":
        gone = isinstance(error, stripe.InvalidRequestError) and "Unrecognized request URL" not in str(error)
        other_mode = "similar object exists in" in str(error)
        return NotFound(f"{what}: no such object; check `base_url` and `account`", gone=gone, other_mode=other_mode)
    if error.http_status == 400:
        return Refused(f"{what}: the request is not accepted as it is")
    return Permanent(f"{what}: not expected here; report it with the request id")


def _is_passing(error: stripe.StripeError) -> bool:
    status = error.http_status
    if header(error, "stripe-should-retry") == "true" or error.code in _LATER_CODES:
        return True
    if status is None or status < 400:
        return isinstance(error, stripe.APIError)
    return status in (408, 409, 425, 429) or status >= 500


def _cure(error: stripe.StripeError) -> str:
    if isinstance(error, stripe.AuthenticationError) or error.http_status == 401:
        return (
            "Stripe refuses the key; set `api_key` of this connection to a valid secret or restricted key "
            "(Stripe Dashboard, Developers, API keys), then `upkept check`"
        )
    return (
        "the key may not do this; give the restricted key read access to Customers, Subscriptions, Invoices, Charges, "
        "Payment Methods and Events, and check `account` of this connection, then `upkept check`"
    )


def _describe(error: stripe.StripeError, endpoint: str) -> str:
    parts = [f"HTTP {error.http_status}" if error.http_status else "no answer"]
    if isinstance(error.code, str) and re.fullmatch(r"[a-z0-9_]{1,64}", error.code):
        parts.append(error.code)
    request_id = header(error, "request-id")
    if re.fullmatch(r"req_[A-Za-z0-9]{1,64}", request_id):
        parts.append(request_id)
    return f"Stripe {endpoint} ({', '.join(parts)})"


def _retry_after(error: stripe.StripeError) -> float | None:
    """Seconds from the header the SDK never reads; a date counts from the answer's own Date."""
    value = header(error, "retry-after")
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_between(header(error, "date"), value)
    return min(max(seconds, 0.0), MAX_RETRY_AFTER) if math.isfinite(seconds) else None


def _seconds_between(start: str, end: str) -> float:
    try:
        return (parsedate_to_datetime(end) - parsedate_to_datetime(start)).total_seconds()
    except (TypeError, ValueError):
        return math.nan


def header(error: stripe.StripeError, name: str) -> str:
    """A header of the answer. For a body that is not JSON, SDK 16 passes the headers as `json_body`."""
    sources: tuple[Any, ...] = (error.headers, error.json_body)
    for source in sources:
        value = source.get(name) if isinstance(source, Mapping) else None
        if isinstance(value, str):
            return value
    return ""
