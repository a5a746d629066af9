"""Invoices, charges and cards, in one shape for all API versions.

Basil (2025-03-31) moved an invoice's subscription under `parent.subscription_details`, took `charge`,
`payment_intent`, `paid` and `paid_out_of_band` from it (a list of `payments` and, later, `amount_paid_off_stripe` stand
in) and `invoice` from the charge. What links a payment to its invoice is kept from wherever it is shown.
"""

from __future__ import annotations

from typing import Any, Final

from upkept_stripe.money import whole
from upkept_stripe.parts import (
    BRAND,
    BY_CHARGE,
    CREATED,
    CURRENCY,
    DUE,
    EXPIRES,
    INTENT,
    OF_INVOICE,
    OF_SUBSCRIPTION,
    OFF_STRIPE,
    PAID,
    PAID_AT,
    PAID_BY,
    REFUNDED,
    STATUS,
)
from upkept_stripe.shapes import Object, card_details, first_whole, id_of, inner, rows, text

INVOICE_ORDER: Final = {"draft": 0, "open": 1, "uncollectible": 2, "void": 3, "paid": 3}
"""How far an invoice has come. Stripe makes several events of it within a second; this, not the kind of event, orders
them, and the same state told by two kinds is one fact."""

INVOICE_DELETED: Final = 4
CHARGE_ORDER: Final = {"pending": 0, "failed": 1, "succeeded": 1}
CHARGE_REFUNDED: Final = 2


def invoice_status(invoice: Object) -> str:
    """Its status; for API versions before 2018-11-08, which have none, what its flags amount to."""
    status = text(invoice.get("status"))
    if status is not None:
        return status
    if invoice.get("paid") is True:
        return "paid"
    if invoice.get("forgiven") is True:
        return "uncollectible"
    if invoice.get("closed") is True:
        return "void"
    return "open" if invoice.get("attempted") is True else "draft"


def invoice_subscription(invoice: Object) -> str | None:
    """The subscription it bills, if any."""
    details = inner(inner(invoice, "parent"), "subscription_details")
    return id_of(invoice.get("subscription")) or id_of(details.get("subscription"))


def invoice_paid(invoice: Object) -> int:
    """Minor units that were paid, on Stripe or outside; API versions before 2018 do not say, a paid one paid what it
    asked for."""
    paid = whole(invoice.get("amount_paid"))
    if paid is None and invoice_status(invoice) == "paid":
        paid = whole(invoice.get("amount_due"))
    return paid or 0


def invoice_kept(invoice: Object) -> dict[str, Any]:
    """What `summarize` needs of an invoice."""
    moments = inner(invoice, "status_transitions")
    created = first_whole(invoice.get("created"), invoice.get("date"))
    fields: dict[str, Any] = {
        STATUS: invoice_status(invoice),
        CREATED: created,
        CURRENCY: text(invoice.get("currency")),
        PAID: invoice_paid(invoice),
        OF_SUBSCRIPTION: invoice_subscription(invoice),
        DUE: first_whole(invoice.get("due_date"), moments.get("finalized_at"), invoice.get("effective_at"), created),
    }
    charge, intent = _payment(invoice)
    off_stripe = whole(invoice.get("amount_paid_off_stripe"))
    if off_stripe is None and invoice.get("paid_out_of_band") is True:
        off_stripe = fields[PAID]
    paid_at = whole(moments.get("paid_at"))
    for name, value in ((BY_CHARGE, charge), (INTENT, intent), (OFF_STRIPE, off_stripe), (PAID_AT, paid_at)):
        if value is not None:
            fields[name] = value
    return fields


def charge_captured(charge: Object) -> int:
    """Minor units that were taken: nothing unless it succeeded, and of an authorisation only what was captured."""
    if charge.get("status") != "succeeded" and not ("status" not in charge and charge.get("paid") is True):
        return 0
    captured = whole(charge.get("amount_captured"))
    if captured is None:
        captured = 0 if charge.get("captured") is False else whole(charge.get("amount"))
    return captured or 0


def charge_refunded(charge: Object) -> int:
    """Minor units that were given back."""
    return whole(charge.get("amount_refunded")) or 0


def charge_order(charge: Object) -> int:
    """How far a charge has come; see `INVOICE_ORDER`."""
    return CHARGE_REFUNDED if charge_refunded(charge) else CHARGE_ORDER.get(str(charge.get("status")), 1)


def charge_kept(charge: Object) -> dict[str, Any]:
    """What `summarize` needs of a charge."""
    fields: dict[str, Any] = {
        STATUS: text(charge.get("status")),
        CREATED: whole(charge.get("created")),
        CURRENCY: text(charge.get("currency")),
        PAID: charge_captured(charge),
        REFUNDED: charge_refunded(charge),
    }
    source = inner(charge, "source")
    card = inner(inner(charge, "payment_method_details"), "card") or inner(source, "card") or source
    brand, expires = card_details(card)
    links = (
        (OF_INVOICE, id_of(charge.get("invoice"))),
        (INTENT, id_of(charge.get("payment_intent"))),
        (PAID_BY, id_of(charge.get("payment_method")) or id_of(source)),
        (BRAND, brand),
        (EXPIRES, expires),
    )
    fields.update((name, value) for name, value in links if value is not None)
    return fields


def card_kept(method: Object) -> dict[str, Any]:
    """What `summarize` needs of a payment method, card or source; brand and expiry are empty for what is no card."""
    brand, expires = card_details(inner(method, "card") or method)
    return {BRAND: brand, EXPIRES: expires, CREATED: whole(method.get("created"))}


def cards_shown(customer: Object) -> list[Object]:
    """The customer's default payment method or source, where the payload shows it and not just its id."""
    wanted = id_of(customer.get("default_source"))
    shown = [
        inner(inner(customer, "invoice_settings"), "default_payment_method"),
        inner(customer, "default_source"),
        *(source for source in rows(customer, "sources") if source.get("id") == wanted),
    ]
    return list({card["id"]: card for card in shown if id_of(card)}.values())


def _payment(invoice: Object) -> tuple[str | None, str | None]:
    """The charge and the payment intent that paid it, if it shows them; of several payments the first."""
    payment = next((inner(row, "payment") for row in rows(invoice, "payments")), None) or {}
    charge = id_of(invoice.get("charge")) or id_of(payment.get("charge"))
    intent = id_of(invoice.get("payment_intent")) or id_of(payment.get("payment_intent"))
    return charge, intent
