"""Stripe's objects as the API words them, in the version asked for.

Field lists follow https://docs.stripe.com/api; the changes between versions https://docs.stripe.com/changelog:

    2019-10-17  customer `account_balance` -> `balance`, subscription `billing` -> `collection_method`
    2020-08-27  customer no longer carries `sources` and `subscriptions` unless expanded
    2022-11-15  charge no longer carries `refunds` unless expanded
    2025-03-31  (basil) billing periods moved from the subscription to its items; an invoice's `subscription` to
                `parent`, its `charge`, `payment_intent` and `paid` to a list of payments

Stored objects are sparse; a template fills in what is null, so that 100,000 customers fit in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from upkept.testing.fake_stripe.table import Object

NEW_VERSION: Final = "2026-10-28.endive"
BASIL: Final = "2025-03-31"


def list_of(data: list[Object], url: str, *, has_more: bool = False) -> Object:
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def template(of: str, text: str, **values: Any) -> Object:
    """An object whose fields named in `text` are null."""
    return {"object": of, **dict.fromkeys(text.split()), "livemode": False, "metadata": {}, **values}


CUSTOMER: Final = template(
    "customer",
    "address currency default_source description discount email name phone shipping test_clock",
    balance=0,
    delinquent=False,
    next_invoice_sequence=1,
    preferred_locales=[],
    tax_exempt="none",
    invoice_settings={"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None},
)
PRODUCT: Final = template(
    "product",
    "default_price description package_dimensions shippable statement_descriptor tax_code unit_label url",
    active=True,
    images=[],
    marketing_features=[],
    type="service",
)
PRICE: Final = template(
    "price",
    "custom_unit_amount lookup_key nickname recurring tiers_mode transform_quantity",
    active=True,
    billing_scheme="per_unit",
    tax_behavior="unspecified",
    type="recurring",
)
PAYMENT_METHOD: Final = template(
    "payment_method",
    "customer",
    allow_redisplay="unspecified",
    type="card",
    billing_details={
        "address": dict.fromkeys(["city", "country", "line1", "line2", "postal_code", "state"]),
        **dict.fromkeys(["email", "name", "phone", "tax_id"]),
    },
)
SUBSCRIPTION: Final = template(
    "subscription",
    "application application_fee_percent billing_cycle_anchor_config billing_thresholds cancel_at canceled_at "
    "days_until_due default_payment_method default_source description ended_at latest_invoice "
    "next_pending_invoice_item_invoice on_behalf_of pause_collection pending_invoice_item_interval "
    "pending_setup_intent pending_update schedule test_clock transfer_data trial_end trial_start",
    automatic_tax={"disabled_reason": None, "enabled": False, "liability": None},
    billing_mode={"type": "classic"},
    cancel_at_period_end=False,
    cancellation_details={"comment": None, "feedback": None, "reason": None},
    collection_method="charge_automatically",
    default_tax_rates=[],
    discounts=[],
    invoice_settings={"account_tax_ids": None, "issuer": {"type": "self"}},
    payment_settings={"payment_method_options": None, "payment_method_types": None,
                      "save_default_payment_method": "off"},
    trial_settings={"end_behavior": {"missing_payment_method": "create_invoice"}},
)  # fmt: skip
INVOICE: Final = template(
    "invoice",
    "account_tax_ids application automatically_finalizes_at confirmation_secret custom_fields customer_address "
    "customer_email customer_name customer_phone customer_shipping default_payment_method default_source description "
    "due_date effective_at ending_balance footer from_invoice hosted_invoice_url invoice_pdf "
    "last_finalization_error latest_revision next_payment_attempt number on_behalf_of parent receipt_number rendering "
    "shipping_cost shipping_details statement_descriptor test_clock webhooks_delivered_at",
    account_country="US",
    account_name="Fake Stripe",
    amount_overpaid=0,
    amount_paid=0,
    amount_shipping=0,
    attempt_count=0,
    attempted=False,
    auto_advance=True,
    automatic_tax={"disabled_reason": None, "enabled": False, "liability": None, "provider": None, "status": None},
    billing_reason="manual",
    collection_method="charge_automatically",
    customer_tax_exempt="none",
    customer_tax_ids=[],
    default_tax_rates=[],
    discounts=[],
    issuer={"type": "self"},
    payment_settings={"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
    post_payment_credit_notes_amount=0,
    pre_payment_credit_notes_amount=0,
    starting_balance=0,
    status="draft",
    total_discount_amounts=[],
    total_pretax_credit_amounts=[],
    total_taxes=[],
)
CHARGE: Final = template(
    "charge",
    "application application_fee application_fee_amount balance_transaction customer description "
    "failure_balance_transaction failure_code failure_message on_behalf_of payment_intent payment_method "
    "payment_method_details receipt_email receipt_number receipt_url review shipping source source_transfer "
    "statement_descriptor statement_descriptor_suffix transfer_data transfer_group",
    amount_captured=0,
    amount_refunded=0,
    calculated_statement_descriptor="FAKE STRIPE",
    billing_details=PAYMENT_METHOD["billing_details"],
    captured=True,
    disputed=False,
    fraud_details={},
    outcome={"advice_code": None, "network_status": "approved_by_network", "reason": None, "risk_level": "normal",
             "seller_message": "Payment complete.", "type": "authorized"},
    paid=True,
    radar_options={},
    refunded=False,
    status="succeeded",
)  # fmt: skip
REFUND: Final = template(
    "refund",
    "balance_transaction description payment_intent reason receipt_number source_transfer_reversal transfer_reversal",
    destination_details={"card": {"reference_status": "pending", "type": "refund"}, "type": "card"},
    status="succeeded",
)
DISPUTE: Final = template(
    "dispute",
    "network_reason_code payment_intent",
    balance_transactions=[],
    evidence={},
    evidence_details={"due_by": None, "has_evidence": False, "past_due": False, "submission_count": 0},
    is_charge_refundable=False,
    status="needs_response",
)
CARD: Final = template(
    "card",
    "address_city address_country address_line1 address_zip customer cvc_check dynamic_last4 name tokenization_method",
    funding="credit",
    country="US",
)
EVENT: Final[Object] = {"object": "event"}

TEMPLATES: Final = {
    "customer": CUSTOMER, "product": PRODUCT, "price": PRICE, "payment_method": PAYMENT_METHOD,
    "subscription": SUBSCRIPTION, "invoice": INVOICE, "charge": CHARGE, "refund": REFUND, "dispute": DISPUTE,
    "card": CARD, "event": EVENT,
}  # fmt: skip


def plan_of(price: Object) -> Object:
    """The plan that is the other face of a recurring price; their ids are one."""
    recurring = price.get("recurring") or {}
    return template(
        "plan",
        "meter nickname tiers_mode transform_usage trial_period_days",
        id=price["id"],
        active=price.get("active", True),
        amount=price["unit_amount"],
        amount_decimal=str(price["unit_amount"]),
        billing_scheme="per_unit",
        created=price["created"],
        currency=price["currency"],
        interval=recurring.get("interval", "month"),
        interval_count=recurring.get("interval_count", 1),
        livemode=price.get("livemode", False),
        metadata=price.get("metadata", {}),
        product=price["product"],
        usage_type="licensed",
    )


Find = Callable[[str, str], Object]
"""The stored object of a type and id."""


def shaped(of: str, row: Object, version: str, find: Find) -> Object:
    """`row` in full, as an account or a request on API `version` sees it. Nested values are shared: do not write."""
    if row.get("deleted"):
        return {"id": row["id"], "object": of, "deleted": True}
    full = {**TEMPLATES[of], **row} if of in TEMPLATES else dict(row)
    shape = SHAPES.get(of)
    return shape(full, version, find) if shape else full


def _customer(full: Object, version: str, _find: Find) -> Object:
    if version < "2019-10-17":
        full["account_balance"] = full.pop("balance")
    return full


def _price(full: Object, _version: str, _find: Find) -> Object:
    return {**full, "unit_amount_decimal": str(full["unit_amount"])}


def _subscription(full: Object, version: str, find: Find) -> Object:
    start, end = full.pop("current_period_start"), full.pop("current_period_end")
    items = [_item(item, full, version, (start, end), find) for item in full["items"]]
    full["items"] = {
        **list_of(items, f"/v1/subscription_items?subscription={full['id']}"),
        "total_count": len(items),
    }
    if version < BASIL:
        single = items[0] if len(items) == 1 else None
        full |= {"current_period_start": start, "current_period_end": end, "discount": None}
        full |= {"plan": single["plan"] if single else None, "quantity": single["quantity"] if single else None}
        del full["billing_mode"]
    if version < "2019-10-17":
        full["billing"] = full.pop("collection_method")
    return full


def _item(item: Object, sub: Object, version: str, period: tuple[int, int], find: Find) -> Object:
    price = find("price", item["price"])
    shape: Object = {
        "id": item["id"],
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": item["created"],
        "discounts": [],
        "metadata": {},
        "plan": plan_of(price),
        "price": shaped("price", price, version, find),
        "quantity": item["quantity"],
        "subscription": sub["id"],
        "tax_rates": [],
    }
    if version >= BASIL:
        return {**shape, "current_period_start": period[0], "current_period_end": period[1]}
    return shape


def _invoice(full: Object, version: str, _find: Find) -> Object:
    payment = full.pop("payment", None) or {}
    full["lines"] = list_of([_line(line, version) for line in full["lines"]], f"/v1/invoices/{full['id']}/lines")
    if version < BASIL:
        details = (full.pop("parent") or {}).get("subscription_details") or {}
        full |= {"charge": payment.get("charge"), "payment_intent": payment.get("payment_intent"), "discount": None}
        full |= {"paid": full["status"] == "paid", "subscription": details.get("subscription"), "tax": None}
        full["subscription_details"] = {"metadata": details.get("metadata")}
    return full


def _line(line: Object, version: str) -> Object:
    shape = template(
        "line_item",
        "",
        id=line["id"],
        amount=line["amount"],
        currency=line["currency"],
        description=line["description"],
        discount_amounts=[],
        discountable=True,
        discounts=[],
        invoice=line["invoice"],
        period=line["period"],
        quantity=line["quantity"],
    )
    if version < BASIL:
        return {**shape, "price": line["price"], "plan": plan_of(line["price"]), "proration": False,
                "subscription": line["subscription"], "type": "subscription"}  # fmt: skip
    details = {"invoice_item": None, "proration": False, "subscription": line["subscription"]}
    pricing = {"price": line["price"]["id"], "product": line["price"]["product"]}
    return {
        **shape,
        "parent": {"type": "subscription_item_details", "subscription_item_details": details},
        "pricing": {"type": "price_details", "price_details": pricing},
        "subtotal": line["amount"],
        "taxes": [],
    }


def _charge(full: Object, version: str, _find: Find) -> Object:
    invoice = full.pop("invoice", None)
    if version < BASIL:
        full["invoice"] = invoice
    return full


SHAPES: Final[dict[str, Callable[[Object, str, Find], Object]]] = {
    "customer": _customer,
    "price": _price,
    "subscription": _subscription,
    "invoice": _invoice,
    "charge": _charge,
}
