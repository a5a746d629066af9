"""What Stripe's billing does when subscriptions begin, renew, fail and end, in the stand-in's small world.

https://docs.stripe.com/billing/subscriptions/overview, https://docs.stripe.com/billing/subscriptions/webhooks.
Left out: proration, coupons, taxes, metered prices, schedules, test clocks.
"""

from __future__ import annotations

import calendar
from datetime import UTC, datetime
from typing import Any, Final

from upkept.testing.fake_stripe.ledger import DAY, Ledger
from upkept.testing.fake_stripe.table import ApiError, Object

TRIAL_WARNING: Final = 3 * DAY
"""`trial_will_end` comes three days before."""

DECLINED: Final = {"failure_code": "card_declined", "failure_message": "Your card was declined."}
LIVE_STATES: Final = ("active", "trialing", "past_due")


def plus_interval(start: int, recurring: Object) -> int:
    """`start` plus a price's interval: calendar months, the day cut to the month's last."""
    count, interval = recurring.get("interval_count", 1), recurring.get("interval", "month")
    if interval in ("day", "week"):
        return int(start + count * DAY * (7 if interval == "week" else 1))
    at = datetime.fromtimestamp(start, UTC)
    months = at.month - 1 + count * (12 if interval == "year" else 1)
    year, month = at.year + months // 12, months % 12 + 1
    day = min(at.day, calendar.monthrange(year, month)[1])
    return int(at.replace(year=year, month=month, day=day).timestamp())


def subscribe(ledger: Ledger, customer: Object, items: list[Object], **options: Any) -> Object:
    """Begin a subscription: with a trial, with a first payment, or (`send_invoice`) with an open invoice."""
    now = ledger.clock.now()
    price = ledger.get("price", items[0]["price"])
    trial_end = options.pop("trial_end", None)
    invoiced = options.get("collection_method") == "send_invoice"
    behavior = options.pop("payment_behavior", None)
    method = options.get("default_payment_method") or method_of(customer)
    if not (trial_end or invoiced or method or behavior == "default_incomplete"):
        raise ApiError(
            400,
            "This customer has no attached payment source or default payment method. Please consider adding a "
            "default payment method.",
            code="resource_missing",
        )
    end = trial_end or plus_interval(now, price.get("recurring") or {})
    subscription = ledger.create(
        "subscription",
        customer=customer["id"],
        items=[{**item, "id": ledger.new_id("si"), "created": now} for item in items],
        currency=price["currency"],
        status="trialing" if trial_end else "active" if invoiced else "incomplete",
        billing_cycle_anchor=end if trial_end else now,
        start_date=now,
        current_period_start=now,
        current_period_end=end,
        trial_start=now if trial_end else None,
        trial_end=trial_end,
        **options,
    )
    if customer.get("currency") is None:
        ledger.change("customer", customer, "customer.updated", currency=price["currency"])
    invoice = bill(ledger, subscription, "subscription_create", free=bool(trial_end))
    ledger.emit("customer.subscription.created", "subscription", subscription)
    if behavior != "default_incomplete":
        settle(ledger, invoice, method)
    return subscription


def method_of(owner: Object) -> str | None:
    """The payment method a customer or subscription has by default."""
    found = (
        owner.get("default_payment_method")
        or (owner.get("invoice_settings") or {}).get("default_payment_method")
        or owner.get("default_source")
    )
    return str(found) if found else None


def bill(ledger: Ledger, subscription: Object, reason: str, *, free: bool = False) -> Object:
    """A finalized invoice for the subscription's period."""
    customer = ledger.get("customer", subscription["customer"])
    id, now = ledger.new_id("in", 24), ledger.clock.now()
    lines = [_line(ledger, subscription, item, id, free=free) for item in subscription["items"]]
    total = sum(line["amount"] for line in lines)
    details = {"metadata": subscription.get("metadata", {}), "subscription": subscription["id"]}
    sequence = customer.get("next_invoice_sequence", 1)
    invoice = ledger.create(
        "invoice", id, customer=customer["id"], lines=lines, amount_due=total, amount_remaining=total,
        subtotal=total, subtotal_excluding_tax=total, total=total, total_excluding_tax=total,
        billing_reason=reason, collection_method=subscription.get("collection_method", "charge_automatically"),
        currency=subscription["currency"], customer_email=customer.get("email"), customer_name=customer.get("name"),
        number=f"{customer['id'][-8:].upper()}-{sequence:04d}", ending_balance=0, effective_at=now,
        parent={"type": "subscription_details", "quote_details": None, "subscription_details": details},
        period_start=now, period_end=now, status="open",
        hosted_invoice_url=f"https://invoice.stripe.com/i/{ledger.account}/test_{id}",
        status_transitions={"finalized_at": now, "marked_uncollectible_at": None, "paid_at": None, "voided_at": None},
    )  # fmt: skip
    customer["next_invoice_sequence"] = sequence + 1
    subscription["latest_invoice"] = id
    ledger.emit("invoice.created", "invoice", {**invoice, "status": "draft", "number": None})
    ledger.emit("invoice.finalized", "invoice", invoice)
    return invoice


def _line(ledger: Ledger, subscription: Object, item: Object, invoice: str, *, free: bool) -> Object:
    price = ledger.get("price", item["price"])
    product = ledger.get("product", price["product"])
    return {
        "id": ledger.new_id("il", 24),
        "amount": 0 if free else price["unit_amount"] * item["quantity"],
        "currency": price["currency"],
        "description": f"{item['quantity']} x {product['name']}",
        "invoice": invoice,
        "period": {"start": subscription["current_period_start"], "end": subscription["current_period_end"]},
        "price": ledger.view("price", price),
        "quantity": item["quantity"],
        "subscription": subscription["id"],
    }


def settle(ledger: Ledger, invoice: Object, method: str | None, *, out_of_band: bool = False) -> Object:
    """Try to collect an open invoice, and let its subscription follow."""
    if invoice["collection_method"] == "send_invoice" and not (method or out_of_band):
        return invoice
    if invoice["amount_remaining"] and not out_of_band:
        taken = charge(
            ledger, invoice["amount_remaining"], invoice["currency"], invoice["customer"], method, invoice=invoice["id"]
        )
        invoice["payment"] = {"charge": taken["id"], "payment_intent": taken["payment_intent"]}
        if taken["status"] == "failed":
            return _unpaid(ledger, invoice)
    tries = {"attempt_count": invoice.get("attempt_count", 0) + 1, "attempted": True, "next_payment_attempt": None}
    paid_at = {**invoice["status_transitions"], "paid_at": ledger.clock.now()}
    invoice.update(tries, status="paid", amount_remaining=0, amount_paid=invoice["total"], status_transitions=paid_at)
    ledger.emit("invoice.paid", "invoice", invoice)
    if not out_of_band:
        ledger.emit("invoice.payment_succeeded", "invoice", invoice)
    customer = ledger.get("customer", invoice["customer"])
    if customer.get("delinquent"):
        ledger.change("customer", customer, "customer.updated", delinquent=False)
    subscription = _subscription_of(ledger, invoice)
    if subscription and subscription["status"] in ("incomplete", "past_due", "unpaid"):
        ledger.change("subscription", subscription, "customer.subscription.updated", status="active")
    return invoice


def _unpaid(ledger: Ledger, invoice: Object) -> Object:
    now = ledger.clock.now()
    first = invoice["billing_reason"] == "subscription_create"
    invoice.update(
        attempt_count=invoice.get("attempt_count", 0) + 1,
        attempted=True,
        next_payment_attempt=None if first else now + 3 * DAY,
    )
    ledger.emit("invoice.payment_failed", "invoice", invoice)
    subscription = _subscription_of(ledger, invoice)
    if subscription and subscription["status"] in ("active", "trialing"):
        ledger.change("subscription", subscription, "customer.subscription.updated", status="past_due")
        customer = ledger.get("customer", invoice["customer"])
        ledger.change("customer", customer, "customer.updated", delinquent=True)
    return invoice


def _subscription_of(ledger: Ledger, invoice: Object) -> Object | None:
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    return ledger.get("subscription", details["subscription"]) if "subscription" in details else None


def charge(
    ledger: Ledger, amount: int, currency: str, customer: str | None, method: str | None, **values: Any
) -> Object:
    """Take money from a card; a card that declines makes a failed charge."""
    card = _card(ledger, method)
    fails = method is None or method in ledger.declining
    outcome: Object = {"status": "succeeded"}
    if fails:
        outcome = {"status": "failed", "paid": False, "captured": False, **DECLINED}
    taken = ledger.create(
        "charge", amount=amount, amount_captured=0 if fails else amount, currency=currency, customer=customer,
        payment_method=method, payment_method_details={"card": card, "type": "card"} if card else None,
        payment_intent=ledger.new_id("pi", 24), receipt_url=None, **outcome, **values,
    )  # fmt: skip
    ledger.emit("charge.failed" if fails else "charge.succeeded", "charge", taken)
    return taken


def _card(ledger: Ledger, method: str | None) -> Object:
    if method is None:
        return {}
    if method.startswith("card_"):
        card = ledger.get("card", method)
        return {key: card[key] for key in ("brand", "exp_month", "exp_year", "last4")}
    return dict(ledger.get("payment_method", method)["card"])


def end(ledger: Ledger, subscription: Object, reason: str = "cancellation_requested") -> Object:
    """Cancel at once."""
    now = ledger.clock.now()
    details = {"comment": None, "feedback": None, "reason": reason}
    canceled_at = subscription.get("canceled_at") or now
    subscription.update(status="canceled", canceled_at=canceled_at, ended_at=now, cancellation_details=details)
    ledger.emit("customer.subscription.deleted", "subscription", subscription)
    return subscription


def run_until(ledger: Ledger, target: int) -> None:
    """Let billing happen up to `target`, each step at its own second. Looks through all subscriptions each time."""
    while due := min(
        (entry for row in ledger.tables["subscription"].rows.values() for entry in _due(ledger, row)),
        default=None,
        key=lambda entry: entry[0],
    ):
        at, id, step = due
        if at > target:
            return
        ledger.clock.set(max(at, ledger.clock.now()))
        subscription = ledger.get("subscription", id)
        if step == "warn":
            ledger.warned.add(id)
            ledger.emit("customer.subscription.trial_will_end", "subscription", subscription)
        elif subscription.get("cancel_at_period_end") or subscription.get("cancel_at") == at:
            end(ledger, subscription)
        else:
            _renew(ledger, subscription)


def _due(ledger: Ledger, row: Object) -> list[tuple[int, str, str]]:
    if row["status"] not in LIVE_STATES:
        return []
    end_at = min(row["current_period_end"], row.get("cancel_at") or row["current_period_end"])
    entries = [(end_at, row["id"], "end")]
    if row["status"] == "trialing" and row.get("trial_end") and row["id"] not in ledger.warned:
        entries.append((row["trial_end"] - TRIAL_WARNING, row["id"], "warn"))
    return entries


def _renew(ledger: Ledger, subscription: Object) -> None:
    price = ledger.get("price", subscription["items"][0]["price"])
    start = subscription["current_period_end"]
    status = "active" if subscription["status"] == "trialing" else subscription["status"]
    period = {"current_period_start": start, "current_period_end": plus_interval(start, price.get("recurring") or {})}
    ledger.change("subscription", subscription, "customer.subscription.updated", status=status, **period)
    invoice = bill(ledger, subscription, "subscription_cycle")
    customer = ledger.get("customer", subscription["customer"])
    settle(ledger, invoice, method_of(subscription) or method_of(customer))


def refund(ledger: Ledger, taken: Object, amount: int | None, reason: str | None) -> Object:
    """Give money back, all that is left by default."""
    left = taken["amount"] - taken.get("amount_refunded", 0)
    amount = left if amount is None else amount
    if not 0 < amount <= left:
        code = "charge_already_refunded" if not left else "amount_too_large"
        raise ApiError(400, f"Charge {taken['id']} cannot be refunded by that amount.", code=code)
    given = ledger.create(
        "refund", amount=amount, charge=taken["id"], currency=taken["currency"], reason=reason,
        payment_intent=taken.get("payment_intent"),
    )  # fmt: skip
    refunded = taken.get("amount_refunded", 0) + amount
    ledger.emit("refund.created", "refund", given)
    ledger.change("charge", taken, "charge.refunded", amount_refunded=refunded, refunded=refunded == taken["amount"])
    return given


def dispute(ledger: Ledger, taken: Object, reason: str) -> Object:
    """The cardholder objects."""
    taken["disputed"] = True
    opened = ledger.create(
        "dispute", amount=taken["amount"], charge=taken["id"], currency=taken["currency"], reason=reason,
        payment_intent=taken.get("payment_intent"),
    )  # fmt: skip
    ledger.emit("charge.dispute.created", "dispute", opened)
    return opened
