"""From a customer's parts to the billing context on the person. Pure, and blind to the order of the parts.

**Several subscriptions.** `stripe_plan`, `stripe_subscription_status`, … are those of the *main* one: the best status
(active, trialing, past due, unpaid, paused, incomplete, canceled, expired), then the newest, then the greater id.

**Monthly revenue** counts subscriptions that are active or past due: those we deliver and bill. A trial is worth
nothing until it is paid for, an unpaid or paused one until it is paid for again.

**The customer's coupon** comes off each of them that has no discount of its own.

**Currency.** `stripe_currency` is that of the main subscription, else of the newest payment; sums are of that currency.

**The last charge**, where no charge was ever told of but a paid invoice was, is the payment of the newest such invoice.

**Past due since** is when the event said that the status changed; where it was missed, when the oldest open invoice of
the subscription fell due, else when the unpaid period began.

**The card** is the one the main subscription names, else the customer's default, else the newest on file, else the one
charged last.

A note to `combine` tells how good the main subscription is.

Every part that could change a value is among those it `used`, so its stamp is never older than its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from upkept.contract import WITHDRAWN, Part, RecordRef, Said, Summary
from upkept_stripe import discounts
from upkept_stripe.lifetime import bare_id, number, paid_in_all
from upkept_stripe.money import major
from upkept_stripe.parts import (
    BRAND,
    CARD,
    CHARGE,
    COUPON,
    CREATED,
    CURRENCY,
    DISCOUNT,
    DUE,
    ENDS_AT,
    ENDS_THEN,
    EVERY,
    EXPIRES,
    INTERVAL,
    INVOICE,
    MAPPED,
    OF_SUBSCRIPTION,
    OFF_STRIPE,
    PAID,
    PAID_AT,
    PAID_BY,
    PAST_DUE,
    PERIOD_END,
    PERIOD_START,
    PLAN,
    PRICE,
    STATUS,
    SUBSCRIPTION,
    TRIAL_ENDS,
)
from upkept_stripe.shapes import NOTHING
from upkept_stripe.subscription import DUNNING

BEST_FIRST: Final = {
    status: rank
    for rank, status in enumerate(
        ("active", "trialing", "past_due", "unpaid", "paused", "incomplete", "canceled", "incomplete_expired")
    )
}
EARNING: Final = frozenset({"active", "past_due"})
CURRENT: Final = frozenset({"active", "trialing", "past_due"})
"""Subscriptions that the customer has and that renew."""

UNPAID: Final = frozenset({"open", "uncollectible"})

OF_MAIN_SUBSCRIPTION: Final = (
    ("stripe_subscription_status", STATUS),
    ("stripe_plan", PLAN),
    ("stripe_plan_price", PRICE),
    ("stripe_plan_interval", INTERVAL),
    ("stripe_plan_interval_count", EVERY),
    ("stripe_subscription_period_start_at", PERIOD_START),
    ("stripe_subscription_period_end_at", PERIOD_END),
    ("stripe_cancel_at_period_end", ENDS_THEN),
    ("stripe_cancel_at", ENDS_AT),
    ("stripe_trial_end_at", TRIAL_ENDS),
)
"""What the unchanged field map makes of the main subscription; a test keeps the two tables equal."""

DEFAULT_CARD: Final = "stripe_default_payment_method"
"""The customer's own attribute that names the payment method it is charged to."""
CUSTOMER_COUPON: Final = "stripe_coupon"
"""The customer's own attribute that names its coupon."""

BEST: Final = "_best"
"""The note of how good the main subscription is: its status's place, its time, its id."""

T = TypeVar("T")
Values = Iterator[tuple[str, Said, tuple[RecordRef, ...]]]


def summarize(fields: Mapping[str, Said], parts: Iterable[Part], /) -> Mapping[str, Summary]:
    """The summarized attributes of one customer."""
    of: dict[str, list[Part]] = {SUBSCRIPTION: [], CHARGE: [], INVOICE: [], CARD: [], DISCOUNT: []}
    for part in parts:
        if not part.deleted and part.ref.type in of:
            of[part.ref.type].append(part)
    for group in of.values():
        group.sort(key=_age, reverse=True)
    subscriptions, charges, invoices = of[SUBSCRIPTION], of[CHARGE], of[INVOICE]
    main = max(subscriptions, key=_rank, default=None)
    coupon = next((one for one in of[DISCOUNT] if one.fields.get(COUPON) == fields.get(CUSTOMER_COUPON)), None)
    return {
        name: Summary(value, used)
        for values in (
            _subscriptions(main, subscriptions, invoices, coupon),
            _payments(main, charges, invoices),
            _card(fields, main, charges, of[CARD]),
        )
        for name, value, used in values
    }


def _subscriptions(
    main: Part | None, subscriptions: Sequence[Part], invoices: Sequence[Part], coupon: Part | None
) -> Values:
    if main is None:
        return
    used = _refs(subscriptions)
    yield from _attributes(main, used)
    yield BEST, " ".join(map(str, _rank(main))), used
    currency = main.fields.get(CURRENCY)
    terms = coupon.fields if coupon is not None else NOTHING
    revenue = current = 0
    renewals = []
    for one in subscriptions:
        status = one.fields.get(STATUS)
        if status in EARNING and one.fields.get(CURRENCY) == currency:
            revenue += discounts.net(one.fields, terms)
        if status in CURRENT:
            current += 1
            if (renewal := _renewal(one)) is not None:
                renewals.append(renewal)
    yield "stripe_mrr", major(revenue, currency), used if coupon is None else _refs(subscriptions, (coupon,))
    yield "stripe_subscriptions_count", len(subscriptions), used
    yield "stripe_active_subscriptions_count", current, used
    yield "stripe_next_invoice_at", min(renewals, default=None), used
    overdue = [one for one in subscriptions if one.fields.get(STATUS) in DUNNING]
    if overdue:
        since = [moment for one in overdue if (moment := _past_due_since(one, invoices))]
        yield "stripe_past_due_since", min(since, default=None), _refs(subscriptions, invoices)
    else:
        yield "stripe_past_due_since", None, used


def _payments(main: Part | None, charges: Sequence[Part], invoices: Sequence[Part]) -> Values:
    used = _refs(charges, invoices)
    last = _first(charge for charge in charges if number(charge, PAID))
    settled = _first(invoice for invoice in invoices if number(invoice, PAID) > number(invoice, OFF_STRIPE))
    billed = _first(invoice for invoice in invoices if number(invoice, PAID))
    newest = _first(invoices)
    known = (one.fields.get(CURRENCY) for one in (main, last, billed, newest) if one is not None)
    currency = _first(currency for currency in known if isinstance(currency, str))
    if currency is not None:
        yield "stripe_currency", currency, used if main is None else (main.ref,)
    if used:
        yield "stripe_lifetime_value", major(paid_in_all(charges, invoices, currency), currency), used
    if last is not None:
        yield from _attributes(last, used)
    elif settled is not None:
        yield "stripe_last_charge_amount", major(settled.fields.get(PAID), settled.fields.get(CURRENCY)), used
        yield "stripe_last_charge_at", settled.fields.get(PAID_AT) or settled.fields.get(CREATED), used
    failed = _first(charge for charge in charges if charge.fields.get(STATUS) == "failed")
    if failed is not None:
        yield "stripe_last_charge_failed_at", failed.fields.get(CREATED), used
    if newest is not None:
        yield from _attributes(newest, used)


def _card(fields: Mapping[str, Said], main: Part | None, charges: Sequence[Part], cards: Sequence[Part]) -> Values:
    on_file = {bare_id(card): card for card in cards}
    charged = _first(charge for charge in charges if charge.fields.get(BRAND) is not None)
    wanted = (main.fields.get(PAID_BY) if main is not None else None, fields.get(DEFAULT_CARD))
    chosen = _first(on_file[id] for id in wanted if isinstance(id, str) and id in on_file)
    if chosen is None and (charged is None or charged.fields.get(PAID_BY) not in wanted):
        chosen = _first(cards)
    chosen = chosen or charged
    if chosen is not None:
        used = _refs(cards, () if charged is None else (charged,), () if main is None else (main,))
        yield "stripe_card_brand", chosen.fields.get(BRAND), used
        yield "stripe_card_expires_at", chosen.fields.get(EXPIRES), used


def _attributes(part: Part, used: tuple[RecordRef, ...]) -> Values:
    """The attributes of one part that is shown on the person; see `parts`."""
    if part.fields.get(MAPPED) is True:
        for name, value in part.fields.items():
            if name[0] != "_" and value is not WITHDRAWN:
                yield name, value, used
    elif part.ref.type == SUBSCRIPTION:
        for name, kept in OF_MAIN_SUBSCRIPTION:
            yield name, part.fields.get(kept), used
    elif part.ref.type == CHARGE:
        yield "stripe_last_charge_amount", major(part.fields.get(PAID), part.fields.get(CURRENCY)), used
        yield "stripe_last_charge_at", part.fields.get(CREATED), used


def _rank(subscription: Part) -> tuple[int, int, str]:
    status = subscription.fields.get(STATUS)
    best = BEST_FIRST.get(status, len(BEST_FIRST)) if isinstance(status, str) else len(BEST_FIRST)
    return -best, number(subscription, CREATED), subscription.ref.id


def _age(part: Part) -> tuple[int, str]:
    return number(part, CREATED), part.ref.id


def _first(found: Iterable[T]) -> T | None:
    """Of a group, which stands newest first, the newest."""
    return next(iter(found), None)


def _renewal(subscription: Part) -> int | None:
    """When it bills next; None if it ends before it would."""
    end, ends_at = number(subscription, PERIOD_END), number(subscription, ENDS_AT)
    if not end or subscription.fields.get(ENDS_THEN) is True or (ends_at and ends_at <= end):
        return None
    return end


def _past_due_since(subscription: Part, invoices: Sequence[Part]) -> int | None:
    if known := number(subscription, PAST_DUE):
        return known
    id = bare_id(subscription)
    due = [
        number(invoice, DUE)
        for invoice in invoices
        if invoice.fields.get(OF_SUBSCRIPTION) == id and invoice.fields.get(STATUS) in UNPAID
    ]
    return min(due, default=0) or number(subscription, PERIOD_START) or None


def _refs(*groups: Iterable[Part]) -> tuple[RecordRef, ...]:
    return tuple(sorted([part.ref for group in groups for part in group]))
