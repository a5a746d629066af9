"""What the load generator posts: signed Stripe events, each new, all computable again from a run and a number.

Number `n` of a run is a `customer.subscription.updated`, an `invoice.paid` or a `charge.succeeded` of one of the
customers, a second after number `n - 1`. So the judge knows, without asking anybody, what must stand in the store.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from upkept.testing.fake_stripe.shapes import NEW_VERSION, shaped

SECRET: Final = "whsec_" + "b" * 32
KINDS: Final = ("customer.subscription.updated", "invoice.paid", "charge.succeeded")
FIRST: Final = "customer.created"
PLANS: Final = (2_900, 4_900, 9_900, 19_900)
"""Unit amounts of the monthly prices a subscription moves between, in cents."""
DAY: Final = 86_400
MONTH: Final = 30 * DAY
_MASK: Final = (1 << 64) - 1


class Event(NamedTuple):
    """What number `n` says. `amount` is the price, or what was paid, in cents."""

    id: str
    kind: str
    customer: int
    created: int
    amount: int


@dataclass(frozen=True, slots=True)
class Run:
    """A series of events nobody has sent before: `name` makes their ids new, `origin` is the second of number 0."""

    name: str
    customers: int
    origin: int

    def event(self, n: int) -> Event:
        """Number `n`; the first `customers` numbers create the customers."""
        if n < self.customers:
            return Event(f"evt_{self.name}{n:08d}", FIRST, n, self.origin + n, 0)
        mixed = _mixed(n)
        amount = PLANS[mixed % len(PLANS)]
        customer = (mixed >> 20) % self.customers
        return Event(f"evt_{self.name}{n:08d}", KINDS[n % len(KINDS)], customer, self.origin + n, amount)

    def body(self, n: int) -> bytes:
        """Number `n` as Stripe words it: compact JSON of 2.3 to 2.9 KB (a new customer: 1 KB)."""
        id_, kind, customer, created, amount = self.event(n)
        return _TEMPLATES[kind] % {
            b"event": id_.encode(),
            b"created": b"%d" % created,
            b"customer": customer_id(self.name, customer).encode(),
            b"object": b"%s%08d" % (self.name.encode(), n),
            b"sub": b"%s%06d" % (self.name.encode(), customer),
            b"amount": b"%d" % amount,
            b"end": b"%d" % (created + MONTH),
        }


def customer_id(run: str, customer: int) -> str:
    """The id Stripe would show of a customer of that run."""
    return f"cus_{run}{customer:06d}"


def email(run: str, customer: int) -> str:
    return f"{customer_id(run, customer)}@example.com"


def requests(run: Run, numbers: range, *, path: str, host: str, now: int | None = None) -> Iterator[bytes]:
    """Whole HTTP/1.1 requests, signed now: good for five minutes."""
    at = b"%d" % (int(time.time()) if now is None else now)
    key = SECRET.encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json; charset=utf-8\r\n"
        "User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\nAccept: */*\r\n"
    ).encode()
    for n in numbers:
        body = run.body(n)
        signature = hmac.digest(key, at + b"." + body, hashlib.sha256).hex().encode()
        yield b"%bContent-Length: %d\r\nStripe-Signature: t=%b,v1=%b\r\n\r\n%b" % (
            head, len(body), at, signature, body
        )  # fmt: skip


def _mixed(n: int) -> int:
    """A number that looks random and is always the same (two rounds of multiply and fold)."""
    for factor in (0xD1B54A32D192ED03, 0xAEF17502108EF2D9):
        n = (n + 0x632BE59BD9B4E019) * factor & _MASK
        n ^= n >> 29
    return n


def _template(kind: str, object_: dict[str, Any], before: dict[str, Any] | None = None) -> bytes:
    """An event around an object, with `%(name)b` where numbers differ."""
    data: dict[str, Any] = {"object": object_}
    if before is not None:
        data["previous_attributes"] = before
    envelope = {
        "id": "@event@",
        "object": "event",
        "api_version": NEW_VERSION,
        "created": "#created#",
        "data": data,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": "req_@object@", "idempotency_key": None},
        "type": kind,
    }
    text = orjson.dumps(envelope).replace(b"%", b"%%")
    for name in (b"event", b"created", b"customer", b"object", b"sub", b"amount", b"end"):
        place = b"%%(%b)b" % name
        text = text.replace(b'"#%b#"' % name, place).replace(b"@%b@" % name, place)
    return text


def _find(_of: str, _id: str) -> dict[str, Any]:
    return {
        "id": "price_@amount@",
        "object": "price",
        "active": True,
        "billing_scheme": "per_unit",
        "created": 1_700_000_000,
        "currency": "usd",
        "livemode": False,
        "lookup_key": None,
        "metadata": {},
        "nickname": "Plan @amount@",
        "product": "prod_bench",
        "recurring": {"interval": "month", "interval_count": 1, "usage_type": "licensed"},
        "type": "recurring",
        "unit_amount": "#amount#",
    }


def _customer() -> dict[str, Any]:
    row = {"id": "@customer@", "created": "#created#", "email": "@customer@@example.com", "name": "Customer @customer@"}
    return shaped("customer", row, NEW_VERSION, _find)


def _subscription() -> dict[str, Any]:
    row = {
        "id": "sub_@sub@",
        "customer": "@customer@",
        "created": 1_700_000_000,
        "currency": "usd",
        "status": "active",
        "start_date": 1_700_000_000,
        "billing_cycle_anchor": 1_700_000_000,
        "current_period_start": "#created#",
        "current_period_end": "#end#",
        "default_payment_method": "pm_@customer@",
        "latest_invoice": "in_@object@",
        "items": [{"id": "si_@sub@", "created": 1_700_000_000, "price": "price", "quantity": 1}],
    }
    return shaped("subscription", row, NEW_VERSION, _find)


def _invoice() -> dict[str, Any]:
    parent = {"metadata": {}, "subscription": "sub_@sub@"}
    line = {
        "id": "il_@object@",
        "amount": "#amount#",
        "currency": "usd",
        "description": "1 x Plan",
        "invoice": "in_@object@",
        "period": {"start": "#created#", "end": "#end#"},
        "price": {"id": "price_@amount@", "product": "prod_bench"},
        "quantity": 1,
        "subscription": "sub_@sub@",
    }
    row = {
        "id": "in_@object@",
        "customer": "@customer@",
        "created": "#created#",
        "currency": "usd",
        "status": "paid",
        "lines": [line],
        "amount_due": "#amount#",
        "amount_paid": "#amount#",
        "amount_remaining": 0,
        "subtotal": "#amount#",
        "total": "#amount#",
        "attempted": True,
        "attempt_count": 1,
        "billing_reason": "subscription_cycle",
        "parent": {"type": "subscription_details", "quote_details": None, "subscription_details": parent},
        "period_start": "#created#",
        "period_end": "#end#",
        "status_transitions": {"finalized_at": "#created#", "paid_at": "#created#"},
    }
    return shaped("invoice", row, NEW_VERSION, _find)


def _charge() -> dict[str, Any]:
    card = {
        "amount_authorized": "#amount#", "authorization_code": "123456", "brand": "visa",
        "checks": {"address_line1_check": None, "address_postal_code_check": "pass", "cvc_check": "pass"},
        "country": "US", "exp_month": 12, "exp_year": 2034, "extended_authorization": {"status": "disabled"},
        "fingerprint": "Xt5EWLLDS7FJjR1c", "funding": "credit", "incremental_authorization": {"status": "unavailable"},
        "installments": None, "last4": "4242", "mandate": None, "multicapture": {"status": "unavailable"},
        "network": "visa", "network_token": {"used": False}, "network_transaction_id": "751091019521",
        "overcapture": {"maximum_amount_capturable": "#amount#", "status": "unavailable"},
        "regulated_status": "unregulated", "three_d_secure": None, "wallet": None,
    }  # fmt: skip
    row = {
        "id": "ch_@object@",
        "customer": "@customer@",
        "created": "#created#",
        "currency": "usd",
        "amount": "#amount#",
        "amount_captured": "#amount#",
        "payment_intent": "pi_@object@",
        "payment_method": "pm_@customer@",
        "payment_method_details": {"type": "card", "card": card},
        "receipt_email": "@customer@@example.com",
        "receipt_url": "https://pay.stripe.com/receipts/payment/@object@",
    }
    return shaped("charge", row, NEW_VERSION, _find)


_TEMPLATES: Final = {
    FIRST: _template(FIRST, _customer()),
    "customer.subscription.updated": _template(
        "customer.subscription.updated", _subscription(), {"latest_invoice": "in_before"}
    ),
    "invoice.paid": _template("invoice.paid", _invoice()),
    "charge.succeeded": _template("charge.succeeded", _charge()),
}
