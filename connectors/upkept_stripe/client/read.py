"""Reading one object: what a thin event points at, or a record the hub wants to see again.

A **thin event** of a v1 object (https://docs.stripe.com/event-destinations) is completed by its *snapshot twin*
where Stripe keeps one: `GET /v2/core/events/{id}` names it in `snapshot_event`. The twin carries what a plain read does
not (which event it was, so the timeline says "trial will end"; the values before), and it has the id a snapshot
endpoint or a pull would bring, so that running both changes nothing. Without a twin (events expire after 30 days) the
related object itself is read.

A **read** is an envelope: `{"object": "upkept.read", "read_at": unix seconds, "account": acct_… or null,
"data": {"object": …}}`. An object Stripe no longer knows is read as `{"id", "object", "deleted": true}`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from upkept.contract import Context, Permanent, RawEvent, Retryable, Skipped
from upkept_stripe.client.api import Account, Answer, ask
from upkept_stripe.client.errors import Forbidden, NotFound, Refused
from upkept_stripe.parts import DISCOUNT

CARD_ON_FILE: Final = ("invoice_settings.default_payment_method", "default_source")
"""Of a customer; else it needs a call for each one."""

PAID_BY: Final = ("payments",)
"""Of an invoice: since basil (2025-03-31) the only link to the charge that paid it."""

COUPON: Final = ("discount.source.coupon",)
"""Of a customer: what its coupon takes off its subscriptions."""

COUPONS: Final = ("discounts.source.coupon",)
"""Of a subscription: what its discounts take off; elsewhere they are ids alone."""

EXPANDED: Final[Mapping[str, tuple[str, ...]]] = {
    "customer": ("subscriptions", *CARD_ON_FILE, *COUPON),
    "subscription": COUPONS,
    "invoice": PAID_BY,
}
"""A read-back of a customer carries the current subscriptions: one call for a person's billing context."""

READABLE: Final = frozenset({"customer", "subscription", "invoice", "charge"})
OWNED: Final = {
    "payment_method": "customer",
    "dispute": "charge",
    "refund": "charge",
}
"""What to read for an object that is not a record or part of ours: the field that names its owner, and its type."""


def fetch(event: RawEvent, config: Account, ctx: Context) -> RawEvent:
    """Complete a thin event, or read back the object that `event.kind` `read.<type>` and `event.id` name.

    `id` is the object's (`cus_9`) or, for a connected account, `acct_…/cus_9`.
    """
    if event.thin:
        return _completed(event, config, ctx)
    account, _, id = event.id.rpartition("/")
    of = event.kind.removeprefix("read.")
    if of == DISCOUNT:
        of = "customer"  # whose id ours bears; Stripe reads no discount by itself
    return _of_ours(of, id, config, ctx, account=account or config.account)


def envelope(found: Mapping[str, Any], *, read_at: int, account: str | None) -> RawEvent:
    """A read of one object. Its id holds a digest: two reads within one second may show different states."""
    of, id = str(found.get("object", "")), str(found.get("id", ""))
    body = _bytes({"object": "upkept.read", "read_at": read_at, "account": account, "data": {"object": found}})
    name = f"{account}/{id}" if account else id
    digest = hashlib.sha256(body).hexdigest()[:12]
    return RawEvent(id=f"read:{of}:{name}:{read_at}:{digest}", kind=f"read.{of}", body=body)


def snapshot(event: Mapping[str, Any], *, account: str | None) -> RawEvent:
    """An event read from the API, as its webhook would have brought it (there Connect events name `account`)."""
    if not event.get("id") or not event.get("type"):
        raise Retryable("Stripe events: the answer is not an event; the hub asks again")
    named = event if event.get("account") or not account else {**event, "account": account}
    return RawEvent(id=str(event["id"]), kind=str(event["type"]), body=_bytes(named))


def _read(
    of: str, id: str, config: Account, ctx: Context, *, account: str | None, context: str | None = None
) -> RawEvent:
    try:
        answer = _expanded(of, id, config, ctx, account=account, context=context)
    except NotFound as error:
        if error.other_mode:
            raise Skipped(f"Stripe {of} {id} is of the other mode (test, live) than `api_key`") from error
        if not error.gone:
            raise
        return envelope({"id": id, "object": of, "deleted": True}, read_at=error.read_at, account=account)
    if answer.body.get("object") != of or not answer.body.get("id"):
        raise Retryable(f"Stripe {of}s.retrieve: the answer is not a {of}; the hub asks again")
    return envelope(answer.body, read_at=answer.read_at, account=account)


def _expanded(of: str, id: str, config: Account, ctx: Context, *, account: str | None, context: str | None) -> Answer:
    """One object with what is worth expanding; without it for a key that may not read that, or a stand-in."""
    path, endpoint, expand = f"/v1/{of}s/{quote(id, safe='')}", f"{of}s.retrieve", list(EXPANDED.get(of, ()))
    try:
        return ask(path, config, ctx, endpoint=endpoint, params={"expand": expand}, account=account, context=context)
    except (Forbidden, Refused):
        if not expand:
            raise
    return ask(path, config, ctx, endpoint=endpoint, account=account, context=context)


def _completed(event: RawEvent, config: Account, ctx: Context) -> RawEvent:
    notice = _parsed(event)
    context = notice.get("context") or None
    account = str(context).rpartition("/")[2] if context else None
    try:
        full = ask(
            f"/v2/core/events/{quote(str(notice['id']), safe='')}",
            config,
            ctx,
            endpoint="v2.core.events.retrieve",
            context=context,
        )
        if twin_id := full.body.get("snapshot_event"):
            path = f"/v1/events/{quote(str(twin_id), safe='')}"
            twin = ask(path, config, ctx, endpoint="events.retrieve", context=context)
            return snapshot(twin.body, account=account)
    except (Forbidden, NotFound, Refused) as error:
        ctx.log.info("stripe event not readable; its object is read instead", event_id=event.id, reason=str(error))
    return _related(notice, config, ctx, account=account, context=context)


def _related(
    notice: Mapping[str, Any], config: Account, ctx: Context, *, account: str | None, context: str | None
) -> RawEvent:
    related = notice.get("related_object") or {}
    of, id = str(related.get("type", "")), str(related.get("id", ""))
    return _of_ours(of, id, config, ctx, account=account, context=context)


def _of_ours(
    of: str, id: str, config: Account, ctx: Context, *, account: str | None, context: str | None = None
) -> RawEvent:
    """Read an object, or for one that only belongs to something of ours that something."""
    if of in OWNED:
        path = f"/v1/{of}s/{quote(id, safe='')}"
        try:
            owned = ask(path, config, ctx, endpoint=f"{of}s.retrieve", account=account, context=context)
        except NotFound as error:
            raise Skipped(f"Stripe {of} {id} is gone; whatever it belonged to has an event of its own") from error
        of, id = OWNED[of], str(owned.body.get(OWNED[of]) or "")
    if of not in READABLE or not id:
        raise Skipped(f"Stripe object of type {of!r}: nothing of ours is read from it")
    return _read(of, id, config, ctx, account=account, context=context)


def _parsed(event: RawEvent) -> Mapping[str, Any]:
    try:
        notice = json.loads(event.body)
    except ValueError as error:
        raise Permanent(f"Stripe thin event {event.id}: the body is not JSON") from error
    if not isinstance(notice, dict) or "id" not in notice:
        raise Permanent(f"Stripe thin event {event.id}: the body is not an event")
    return notice


def _bytes(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
