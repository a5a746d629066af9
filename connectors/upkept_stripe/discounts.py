"""What recurring discounts take off a subscription's month, kept apart from its gross amount.

A subscription's own discounts come off it; one that has none of its own is lowered by the coupon of its customer
(https://docs.stripe.com/billing/subscriptions/coupons).

Newer events name a subscription's discounts by id alone (`"discounts": ["di_1"]`); only older ones and expanded reads
show the coupon. So a payload always says which discounts there are, and says what they take off only if it shows it:
an event with ids alone neither adds a discount nor undoes one that another payload told of. The same holds for the
customer's: every payload names its coupon, but since clover (2025-09-30) only an expanded read shows what it takes off.

All coupons together are one linear map of the gross month, `gross * a - b`, kept as text with exact fractions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from upkept_stripe.money import Ratio, decimal_ratio, per_month, whole
from upkept_stripe.parts import AMOUNT, COUPON, CURRENCY, DISCOUNTS, EVERY, GROSS, INTERVAL, OFF, PERCENT
from upkept_stripe.shapes import NOTHING, Object, id_of, inner, rows, text

LASTING: Final = frozenset({"forever", "repeating"})
"""Durations of coupons that recur; one that counts `once` lowers an invoice, not the monthly revenue."""


def ids(subscription: Object) -> str | None:
    """The ids of its discounts, sorted; None if it has none."""
    named = subscription.get("discounts")
    listed = named.get("data") if isinstance(named, dict) else named
    found = {id for one in listed if (id := _id(one))} if isinstance(listed, list) else set()
    if not found and (single := inner(subscription, "discount")) and (id := _id(single)):
        found = {id}
    return ",".join(sorted(found)) or None


def off(subscription: Object, rhythm: tuple[int, int]) -> str | None:
    """What the coupons shown take off a month of such billing periods; None if no coupon is shown."""
    shown = shown_by(subscription)
    if not shown:
        return None
    kept, less = together(shown.values(), rhythm)
    return f"{','.join(sorted(shown))}|{kept.over}/{kept.under}|{less.over}/{less.under}"


def coupon_of(discount: Object) -> Any:
    """Of a discount, its coupon, expanded or not; None if it shows none."""
    return discount.get("coupon") or inner(discount, "source").get("coupon")


def terms(coupon: Object) -> dict[str, Any]:
    """What a part keeps of a customer's coupon; see `parts.DISCOUNT`."""
    lasts = text(coupon.get("duration")) in LASTING
    return {
        COUPON: id_of(coupon),
        PERCENT: coupon.get("percent_off") if lasts and decimal_ratio(coupon.get("percent_off")) else None,
        AMOUNT: whole(coupon.get("amount_off")) if lasts else None,
        CURRENCY: text(coupon.get("currency")),
    }


def net(fields: Mapping[str, Any], of_customer: Mapping[str, Any]) -> int:
    """A folded subscription's month in minor units, its known recurring discounts taken off.

    `of_customer` has the terms of the customer's coupon; it is empty if there is none, or none is known.
    """
    gross, told, current = fields.get(GROSS), fields.get(OFF), fields.get(DISCOUNTS)
    if not isinstance(gross, int) or isinstance(gross, bool):
        return 0
    if not isinstance(current, str):
        return _less(gross, fields, of_customer) if of_customer else gross
    if not isinstance(told, str):
        return gross
    of, kept, less = told.split("|")
    if not set(of.split(",")) <= set(current.split(",")):
        return gross  # these discounts are over
    return _month(gross, *(Ratio(*map(int, fraction.split("/"))) for fraction in (kept, less)))


def shown_by(discounted: Object) -> dict[str, Object]:
    """The coupons that a payload of a subscription or an item shows, by the id of their discount."""
    discounts = rows(discounted, "discounts")
    if not discounts and (single := inner(discounted, "discount")):
        discounts = [single]
    found = {}
    for discount in discounts:
        if (coupon := _coupon(discount)) and (id := _id(discount)):
            found[id] = coupon
    return found


def together(coupons: Iterable[Object], rhythm: tuple[int, int]) -> tuple[Ratio, Ratio]:
    """`kept` and `less` of the map `revenue * kept - less` that these coupons, which recur or not, make of a month."""
    kept, less = Ratio(1), Ratio()
    for coupon in coupons:
        if text(coupon.get("duration")) in LASTING:
            _lower(coupon.get("percent_off"), coupon.get("amount_off"), rhythm, kept, less)
    return kept, less


def _less(gross: int, fields: Mapping[str, Any], of_customer: Mapping[str, Any]) -> int:
    """A month without what the customer's coupon takes off; an amount, off each invoice, is of its own currency."""
    amount = of_customer.get(AMOUNT) if of_customer.get(CURRENCY) == fields.get(CURRENCY) else None
    kept, less = Ratio(1), Ratio()
    rhythm = per_month(fields.get(INTERVAL), fields.get(EVERY)) or (1, 1)
    _lower(of_customer.get(PERCENT), amount, rhythm, kept, less)
    return _month(gross, kept, less)


def _month(gross: int, kept: Ratio, less: Ratio) -> int:
    """What the map leaves of a gross month, in whole minor units."""
    month = Ratio(gross * kept.over, kept.under)
    month.plus(-less.over, less.under)
    return month.rounded() or 0


def _lower(percent_off: Any, amount_off: Any, rhythm: tuple[int, int], kept: Ratio, less: Ratio) -> None:
    percent, amount = decimal_ratio(percent_off), whole(amount_off)
    if percent is not None and percent[0] <= 100 * percent[1]:
        for part in (kept, less):
            part.times(100 * percent[1] - percent[0], 100 * percent[1])
    elif amount is not None and amount > 0:
        less.plus(amount * rhythm[0], rhythm[1])


def _id(discount: Any) -> str | None:
    """Of a discount, expanded or not; of its coupon where the discount has none (the oldest shapes)."""
    if not isinstance(discount, dict):
        return id_of(discount)
    return id_of(discount) or id_of(_coupon(discount)) or "discount"


def _coupon(discount: Object) -> Object:
    shown = coupon_of(discount)
    return shown if isinstance(shown, dict) else NOTHING
