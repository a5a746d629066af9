"""The webhook door: is it Stripe, and which event is it? No network, no SDK.

The signature scheme is Stripe's (https://docs.stripe.com/webhooks#verify-manually): `Stripe-Signature` carries a time
`t` and one or more `v1` signatures of `<t>.<raw body>`; other schemes are ignored. Unlike the SDK we refuse a time in
the future as well: a signature that is valid for years is a replay waiting to happen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from upkept.contract import RawEvent, Rejected, Request, Skipped
from upkept.contract.signing import hex_signed
from upkept_stripe.config import StripeConfig, is_live, webhook_secrets
from upkept_stripe.payload import Unreadable, read_object

TOLERANCE: Final = 300
"""Seconds that the signed time and our clock may differ, either way (Stripe's own default)."""

FETCHED_TYPES: Final = frozenset(
    {"customer", "subscription", "invoice", "charge", "payment_method", "discount", "dispute", "refund"}
)
"""Objects a thin event may point at that tell us something once they are read."""

_TIME: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_ID: Final = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


def verify(request: Request, config: StripeConfig, /, *, now: datetime) -> None:
    """Raise `Rejected` (401) unless Stripe signed these very bytes within five minutes of `now`."""
    secrets = webhook_secrets(config)
    if not secrets:
        raise Rejected("no signing secret is configured; set webhook_secret of this connection to the endpoint's "
                       "signing secret (whsec_…)")  # fmt: skip
    time, signatures = _signature(request.headers.get("stripe-signature", ""))
    if not hex_signed((time.encode(), b".", request.body), signatures, secrets):
        raise Rejected("the signature does not match: webhook_secret is not this endpoint's, or the body was changed "
                       "on the way (it must arrive byte for byte)")  # fmt: skip
    age = now.timestamp() - int(time)
    if age > TOLERANCE:
        raise Rejected(f"the signature is {age:.0f} s old, more than {TOLERANCE} s: a replay, or a clock is wrong; "
                       "check that this machine's clock is synchronised")  # fmt: skip
    if age < -TOLERANCE:
        raise Rejected(f"the signature is from {-age:.0f} s in the future, more than {TOLERANCE} s: a clock is wrong; "
                       "check that this machine's clock is synchronised")  # fmt: skip


def split(request: Request, config: StripeConfig, /) -> tuple[RawEvent, ...]:
    """The one event of a request. Its id is Stripe's event id, which is unique over all accounts (Connect too).

    A *thin* event (https://docs.stripe.com/event-destinations) names an object without showing it. It and its
    snapshot twin have different ids, so both pass the inbox; they meet again in `fetch`, which completes the thin one
    by the twin itself (same event id: the inbox knows it) or, if Stripe no longer has the twin, by reading the object.
    Then the two say the same about the object, and facts are content-addressed: the second changes nothing.

    Raises `Rejected` (400) for what is not an event, `Skipped` for an event of another mode or account.
    """
    try:
        event = read_object(request.body)
    except Unreadable as error:
        raise Rejected(f"{error}; nothing is stored", status=400) from None
    id, kind, shape = event.get("id"), event.get("type"), event.get("object")
    if not isinstance(id, str) or not isinstance(kind, str) or not _ID.fullmatch(id) or not _ID.fullmatch(kind):
        raise Rejected("the body is not a Stripe event: it has no id or no type; nothing is stored", status=400)
    if shape not in ("event", "v2.core.event"):
        raise Rejected('the body is not a Stripe event: "object" is neither "event" nor "v2.core.event"', status=400)
    thin = shape == "v2.core.event"
    reason = _other_mode(event, config) or _other_account(
        _thin_account(event) if thin else event.get("account"), config
    )
    if reason is not None:
        raise Skipped(reason, kind=kind)
    return (RawEvent(id=id, kind=kind, body=request.body, thin=thin and _points_at_ours(event)),)


def _signature(header: str) -> tuple[str, list[str]]:
    """The signed time and the `v1` signatures of a `Stripe-Signature` header."""
    if not header:
        raise Rejected("no Stripe-Signature header: only Stripe posts here; if this was Stripe, a proxy drops headers")
    time = ""
    signatures = []
    for item in header.split(","):
        scheme, _, value = item.strip().partition("=")
        if scheme == "t":
            time = value
        elif scheme == "v1":
            signatures.append(value)
    if not _TIME.fullmatch(time) or not signatures:
        raise Rejected("the Stripe-Signature header is not of the form t=…,v1=…")
    return time, signatures


def _other_mode(event: Mapping[str, Any], config: StripeConfig) -> str | None:
    """Why an event is of the other mode than the key's, if it is."""
    live, sent = is_live(config), event.get("livemode")
    if live is None or not isinstance(sent, bool) or live is sent:
        return None
    return (
        f"a {_mode(sent)} mode event, but api_key is of {_mode(live)} mode; point the {_mode(sent)} mode endpoint at "
        "another connection, or exchange the key"
    )


def _mode(live: bool) -> str:
    return "live" if live else "test"


def _other_account(account: Any, config: StripeConfig) -> str | None:
    """Why an event is not of the account that the connection is for, if it is not."""
    if not config.account or account == config.account:
        return None
    if account:
        return "an event of another connected account than `account` of this connection names"
    return (
        "an event of the platform itself, but this connection is for the connected account that `account` names; "
        "remove `account` if this endpoint is not a Connect endpoint"
    )


def _thin_account(event: Mapping[str, Any]) -> str | None:
    """The account in whose context a thin event happened: `acct_…`, or the last of an organisation's path."""
    context = event.get("context")
    return context.rpartition("/")[2] or None if isinstance(context, str) else None


def _points_at_ours(event: Mapping[str, Any]) -> bool:
    related = event.get("related_object")
    return isinstance(related, dict) and related.get("type") in FETCHED_TYPES
