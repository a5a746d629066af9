"""A subscription, in one shape for all API versions.

Before *basil* (2025-03-31) the period stood on the subscription, since then on each of its items
(https://docs.stripe.com/changelog/basil/2025-03-31/deprecate-subscription-current-period-start-and-end). Prices
replaced plans; discounts moved from one `discount` to a list, and their coupon under `source`.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from upkept_stripe import discounts
from upkept_stripe.money import Ratio, major, per_month, unit_price, whole
from upkept_stripe.parts import (
    CREATED,
    CURRENCY,
    DISCOUNTS,
    ENDS_AT,
    ENDS_THEN,
    EVERY,
    GROSS,
    INTERVAL,
    OFF,
    PAID_BY,
    PAST_DUE,
    PERIOD_END,
    PERIOD_START,
    PLAN,
    PRICE,
    STATUS,
    TRIAL_ENDS,
)
from upkept_stripe.shapes import NOTHING, Object, id_of, inner, rows, text

DUNNING: Final = frozenset({"past_due", "unpaid"})
"""Statuses of a subscription whose payment is overdue."""


class Item(NamedTuple):
    """One line of a subscription: so many units of a price."""

    price: Object
    id: str | None
    name: str | None
    currency: str | None
    interval: str | None
    every: int
    quantity: int | None
    monthly: tuple[int, int] | None
    start: int | None
    end: int | None


def items_of(subscription: Object) -> list[Item]:
    """Its items; for the oldest shapes, which have none, its own plan and quantity."""
    found = rows(subscription, "items")
    if not found and (inner(subscription, "plan") or inner(subscription, "price")):
        found = [subscription]
    return [_item(one) for one in found]


def main_item(items: list[Item]) -> Item | None:
    """The item that makes most of the revenue; among equals the one with the smallest price id."""

    def worth(item: Item) -> tuple[float, str]:
        over, under = item.monthly or (-1, 1)
        return -over / under, item.id or ""

    return min(items, key=worth) if items else None


def kept(subscription: Object, items: list[Item]) -> dict[str, Any]:
    """What `summarize` needs of it. `PAST_DUE` is only ended here; the event that shows the change states it."""
    status = text(subscription.get("status"))
    start, end = period_of(subscription, items)
    main = main_item(items)
    unit = unit_price(main.price) if main else None
    fields: dict[str, Any] = {
        STATUS: status,
        CREATED: whole(subscription.get("created")),
        CURRENCY: text(subscription.get("currency")) or next((item.currency for item in items if item.currency), None),
        GROSS: monthly(items),
        DISCOUNTS: discounts.ids(subscription),
        PLAN: main.name if main else None,
        PRICE: major(unit[0], main.currency, under=unit[1]) if main and unit else None,
        INTERVAL: main.interval if main else None,
        EVERY: main.every if main else None,
        PERIOD_START: start,
        PERIOD_END: end,
        ENDS_THEN: subscription.get("cancel_at_period_end") is True,
        ENDS_AT: whole(subscription.get("cancel_at")),
        TRIAL_ENDS: whole(subscription.get("trial_end")),
        PAID_BY: id_of(subscription.get("default_payment_method")) or id_of(subscription.get("default_source")),
    }
    off = discounts.off(subscription, _rhythm(items))
    if off is not None:
        fields[OFF] = off
    if status is not None and status not in DUNNING:
        fields[PAST_DUE] = None
    return fields


def view(subscription: Object, items: list[Item], fields: Object) -> dict[str, Any]:
    """The object with what the field map may name in the same place for every version.

    `current_period_start` and `_end` always stand on the subscription, and `plan` has `name` (nickname, else name, else
    the product's, else lookup key, else id), `price` (one unit, major units), `interval` and `interval_count`.
    """
    main = main_item(items)
    plan = {"name": fields[PLAN], "price": fields[PRICE], "interval": fields[INTERVAL], "interval_count": fields[EVERY]}
    return {
        **subscription,
        "current_period_start": fields[PERIOD_START],
        "current_period_end": fields[PERIOD_END],
        "plan": {**(main.price if main else NOTHING), **plan},
    }


def period_of(subscription: Object, items: list[Item]) -> tuple[int | None, int | None]:
    """The current period: the subscription's own, else that of the item that renews first."""
    start, end = whole(subscription.get("current_period_start")), whole(subscription.get("current_period_end"))
    if end is None:
        dated = [(item.end, item.start) for item in items if item.end is not None]
        if dated:
            end, item_start = min(dated, key=lambda pair: pair[0])
            start = item_start if item_start is not None else start
    return start, end


def monthly(items: list[Item]) -> int | None:
    """Minor units a month, rounded half up once; None if no item has a price that tells.

    Metered items count nothing, as their use is not known; items priced in tiers, which events do not show, count
    nothing either. An item's own discounts are off if the payload shows them; those of the subscription and of the
    customer are kept apart. Taxes never count.
    """
    known = [item for item in items if item.monthly is not None]
    if not known:
        return None
    revenue = Ratio()
    for item in known:
        if item.monthly:
            revenue.plus(*item.monthly)
    return revenue.rounded()


def _rhythm(items: list[Item]) -> tuple[int, int]:
    """How often a month the subscription bills: an amount off counts once per invoice."""
    known = next((item for item in items if item.monthly is not None), None)
    return (per_month(known.interval, known.every) if known else None) or (1, 1)


def _item(item: Object) -> Item:
    price, plan = item.get("price"), item.get("plan")
    shown: Object = price if isinstance(price, dict) else plan if isinstance(plan, dict) else NOTHING
    recurring = inner(shown, "recurring") or shown
    id = id_of(price) or id_of(plan)
    name = (
        text(shown.get("nickname"))
        or text(shown.get("name"))
        or text(inner(shown, "product").get("name"))
        or text(shown.get("lookup_key"))
        or id
    )
    every = whole(recurring.get("interval_count")) or 1
    interval = text(recurring.get("interval"))
    quantity = whole(item.get("quantity"))
    return Item(
        price=shown,
        id=id,
        name=name,
        currency=text(shown.get("currency")),
        interval=interval,
        every=every,
        quantity=quantity,
        monthly=_monthly(item, shown, recurring, quantity, interval, every),
        start=whole(item.get("current_period_start")),
        end=whole(item.get("current_period_end")),
    )


def _monthly(
    item: Object, price: Object, recurring: Object, quantity: int | None, interval: str | None, every: int
) -> tuple[int, int] | None:
    if recurring.get("usage_type") == "metered":
        return 0, 1
    unit, rhythm = unit_price(price), per_month(interval, every)
    if unit is None or rhythm is None:
        return None
    units = _units(1 if quantity is None else max(quantity, 0), inner(price, "transform_quantity"))
    revenue = Ratio(unit[0] * units * rhythm[0], unit[1] * rhythm[1])
    if item.get("discounts"):
        kept, less = discounts.together(discounts.shown_by(item).values(), rhythm)
        revenue.times(kept.over, kept.under)
        revenue.plus(-less.over, less.under)
    return max(revenue.over, 0), revenue.under


def _units(quantity: int, transform: Object) -> int:
    """Billed units: a price may count in packages (`transform_quantity`)."""
    size = whole(transform.get("divide_by"))
    if size is None or size < 1:
        return quantity
    return quantity // size if transform.get("round") == "down" else -(-quantity // size)
