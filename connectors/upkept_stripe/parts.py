"""What a part's fact keeps: the words that `normalize` writes and `summarize` reads.

Names begin with an underscore and are short, because every stored fact repeats them; people see `LABELS` instead. Where
an operator changed the field map of a type, a part has `MAPPED` and, under their own names, the attributes that the map
makes of it; where not, `summarize` knows which attribute is made of what, and no fact carries anything twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SUBSCRIPTION: Final = "subscription"
INVOICE: Final = "invoice"
CHARGE: Final = "charge"
CARD: Final = "payment_method"
"""Payment methods, and the older cards and sources: whatever can be charged. Most are cards."""
DISCOUNT: Final = "discount"
"""What the coupon of a customer takes off. It bears the customer's id: a customer has one at a time."""

MAPPED: Final = "_f"

STATUS: Final = "_s"
CREATED: Final = "_at"
CURRENCY: Final = "_c"

GROSS: Final = "_m"  # subscription: minor units a month before its discounts, None if its price has no unit amount
DISCOUNTS: Final = "_di"  # the ids of its discounts
OFF: Final = "_off"  # what they take off a month, from a payload that shows their coupons; see `discounts`
PLAN: Final = "_n"
PRICE: Final = "_u"  # of one unit, major units
INTERVAL: Final = "_i"
EVERY: Final = "_ic"  # interval_count
PERIOD_START: Final = "_ps"
PERIOD_END: Final = "_pe"
ENDS_THEN: Final = "_ce"  # cancel_at_period_end
ENDS_AT: Final = "_ca"  # cancel_at
TRIAL_ENDS: Final = "_te"
PAST_DUE: Final = "_pd"  # when it became past due; stated by the event that shows the change, ended by a good status
PAID_BY: Final = "_pm"  # the payment method it is charged to

PAID: Final = "_p"  # invoice: amount_paid; charge: what was captured
PAID_AT: Final = "_pt"
OFF_STRIPE: Final = "_o"  # invoice: the part of it that was paid out of band
OF_SUBSCRIPTION: Final = "_sub"
OF_INVOICE: Final = "_in"
INTENT: Final = "_pi"
BY_CHARGE: Final = "_ch"
DUE: Final = "_due"

REFUNDED: Final = "_r"
DISPUTE: Final = "_d"  # the dispute's status, from dispute events
DISPUTED: Final = "_da"  # the amount in dispute

COUPON: Final = "_co"  # discount: the coupon's id; what it takes off is kept only if it recurs
PERCENT: Final = "_po"
AMOUNT: Final = "_ao"  # minor units

BRAND: Final = "_b"
EXPIRES: Final = "_x"

LABELS: Final[Mapping[str, str]] = {
    MAPPED: "field_map_is_changed",
    STATUS: "status",
    CREATED: "created",
    CURRENCY: "currency",
    GROSS: "gross_a_month",
    DISCOUNTS: "discounts",
    OFF: "discounts_a_month",
    PLAN: "plan.name",
    PRICE: "plan.price",
    INTERVAL: "plan.interval",
    EVERY: "plan.interval_count",
    PERIOD_START: "current_period_start",
    PERIOD_END: "current_period_end",
    ENDS_THEN: "cancel_at_period_end",
    ENDS_AT: "cancel_at",
    TRIAL_ENDS: "trial_end",
    PAST_DUE: "past_due_since",
    PAID_BY: "payment_method",
    PAID: "amount_paid",
    PAID_AT: "paid_at",
    OFF_STRIPE: "amount_paid_off_stripe",
    OF_SUBSCRIPTION: "subscription",
    OF_INVOICE: "invoice",
    INTENT: "payment_intent",
    BY_CHARGE: "charge",
    DUE: "due_date",
    REFUNDED: "amount_refunded",
    DISPUTE: "dispute.status",
    DISPUTED: "dispute.amount",
    COUPON: "coupon",
    PERCENT: "coupon.percent_off",
    AMOUNT: "coupon.amount_off",
    BRAND: "card.brand",
    EXPIRES: "card.expires_at",
}
"""As Stripe's API and the field map call them, where they do."""
