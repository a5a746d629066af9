"""Which attribute a Stripe field feeds: the table an operator can override in `upkept.toml`.

Paths are those of Stripe's API reference, with a few that read the same in every API version: of a customer
`default_payment_method` (its default source where it has none) and `discount.coupon`, of a subscription
`current_period_start`, `current_period_end`, `plan.name`, `plan.price`, `plan.interval`, `plan.interval_count`, of a
charge `amount_captured`. A subscription's attributes are those of the main one, a charge's those of the last that
succeeded, an invoice's those of the newest. What is summed up from several objects (`stripe_mrr`,
`stripe_lifetime_value`, …) is in `summarize`.
"""

from __future__ import annotations

from typing import Any, Final

from upkept.contract import WITHDRAWN, FieldMap, Rule, Said, Scalar
from upkept_stripe.money import money
from upkept_stripe.shapes import Object, id_of


def reference(value: Any, _around: Object) -> Scalar:
    """The converter `id`: the id of a reference, expanded or not."""
    return id_of(value)


_NAMES: Final = {
    "customer": (
        ("id", "stripe_id", "text"),
        ("created", "stripe_created_at", "unix_time"),
        ("email", "email", "text"),
        ("name", "name", "text"),
        ("phone", "phone", "text"),
        ("balance", "stripe_account_balance", "money"),
        ("delinquent", "stripe_delinquent", "boolean"),
        ("default_payment_method", "stripe_default_payment_method", "id"),
        ("discount.coupon", "stripe_coupon", "id"),
    ),
    "subscription": (
        ("status", "stripe_subscription_status", "text"),
        ("plan.name", "stripe_plan", "text"),
        ("plan.price", "stripe_plan_price", "plain"),
        ("plan.interval", "stripe_plan_interval", "text"),
        ("plan.interval_count", "stripe_plan_interval_count", "plain"),
        ("current_period_start", "stripe_subscription_period_start_at", "unix_time"),
        ("current_period_end", "stripe_subscription_period_end_at", "unix_time"),
        ("cancel_at_period_end", "stripe_cancel_at_period_end", "boolean"),
        ("cancel_at", "stripe_cancel_at", "unix_time"),
        ("trial_end", "stripe_trial_end_at", "unix_time"),
    ),
    "charge": (
        ("amount_captured", "stripe_last_charge_amount", "money"),
        ("created", "stripe_last_charge_at", "unix_time"),
    ),
}

FIELDS: Final = FieldMap(
    rules=tuple(
        Rule(of=of, path=path, attribute=attribute, convert=convert)
        for of, rules in _NAMES.items()
        for path, attribute, convert in rules
    ),
    converters={"money": money, "id": reference},
)

OWN: Final = "stripe_"


def is_changed(fields: FieldMap, of: str) -> bool:
    """Whether an operator changed the rules for this type."""
    return fields.for_type(of) != FIELDS.for_type(of)


def mapped(fields: FieldMap, of: str, source: Object) -> dict[str, Said]:
    """What one object says through the field map.

    A null that feeds an attribute we share with others (`email`, `name`, a mapped `tier`) withdraws what Stripe said;
    it does not say that the person has none: a customer without a name must not wipe the name our app knows. The same
    for a metadata key that is gone, which a snapshot shows by leaving it out.
    """
    said: dict[str, Said] = dict(fields.apply(of, source))
    metadata = source.get("metadata")
    for rule in fields.for_type(of):
        name = rule.attribute
        if name in said:
            if said[name] is None and not name.startswith(OWN):
                said[name] = WITHDRAWN
        elif rule.path.startswith("metadata.") and isinstance(metadata, dict):
            said[name] = WITHDRAWN
    return said
