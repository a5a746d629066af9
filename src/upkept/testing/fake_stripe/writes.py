"""The writing calls of the Stripe stand-in for customers, their cards, and what is for sale."""

from __future__ import annotations

from typing import Final

from upkept.testing.fake_stripe import billing
from upkept.testing.fake_stripe.call import Call
from upkept.testing.fake_stripe.forms import Params, integer
from upkept.testing.fake_stripe.ledger import Ledger
from upkept.testing.fake_stripe.shapes import plan_of
from upkept.testing.fake_stripe.table import ApiError, Object, missing

CUSTOMER_FIELDS: Final = {
    "address", "balance", "default_source", "description", "email", "invoice_settings", "metadata", "name",
    "payment_method", "phone", "preferred_locales", "shipping", "source", "tax_exempt",
}  # fmt: skip
TEST_CARDS: Final = {
    "visa": ("visa", "4242"), "mastercard": ("mastercard", "4444"), "amex": ("amex", "0005"),
    "chargeCustomerFail": ("visa", "0341"),
}  # fmt: skip
TEST_NUMBERS: Final = {
    "4242424242424242": "visa", "5555555555554444": "mastercard", "378282246310005": "amex",
    "4000000000000341": "chargeCustomerFail",
}  # fmt: skip


def merged(row: Object, params: Params) -> Params:
    """Metadata is merged, an empty value removes; any other empty string is null."""
    values = {key: (None if value == "" else value) for key, value in params.items()}
    if "metadata" in params:
        joined = {**row.get("metadata", {}), **(params["metadata"] or {})}
        values["metadata"] = {key: value for key, value in joined.items() if value != ""}
    return values


def _customer_values(call: Call, row: Object) -> Params:
    unknown = sorted(call.params.keys() - CUSTOMER_FIELDS)
    if unknown:
        raise ApiError(400, f"Received unknown parameter: {unknown[0]}", code="parameter_unknown", param=unknown[0])
    values = merged(row, call.params)
    if "balance" in values:
        values["balance"] = integer(values["balance"], 0)
    if "invoice_settings" in values:
        known = row.get("invoice_settings") or {"custom_fields": None, "footer": None, "rendering_options": None}
        given = {key: value or None for key, value in values["invoice_settings"].items()}
        values["invoice_settings"] = {"default_payment_method": None, **known, **given}
    values.pop("payment_method", None)
    values.pop("source", None)
    return values


def create_customer(call: Call) -> Object:
    row = call.ledger.create("customer", **_customer_values(call, {}))
    row.setdefault("metadata", {})
    row["invoice_prefix"] = row["id"][-8:].upper()
    _attach_given(call, row)
    call.ledger.emit("customer.created", "customer", row)
    return call.show("customer", row)


def update_customer(call: Call) -> Object:
    row = living(call)
    _attach_given(call, row)
    call.ledger.change("customer", row, "customer.updated", **_customer_values(call, row))
    return call.show("customer", row)


def delete_customer(call: Call) -> Object:
    row = living(call)
    for id in call.ledger.subscriptions_of.get(row["id"], ()):
        subscription = call.ledger.get("subscription", id)
        if subscription["status"] not in ("canceled", "incomplete_expired"):
            billing.end(call.ledger, subscription)
    call.ledger.emit("customer.deleted", "customer", row)
    row["deleted"] = True
    return call.show("customer", row)


def living(call: Call, id: str | None = None) -> Object:
    row = call.ledger.get("customer", id or call.id, **({"param": "customer", "status": 400} if id else {}))
    if row.get("deleted"):
        raise missing("customer", row["id"])
    return row


def _attach_given(call: Call, row: Object) -> None:
    if method := call.params.get("payment_method"):
        _attach(call.ledger, payment_method(call.ledger, method), row)
    if source := call.params.get("source"):
        brand, last4 = TEST_CARDS.get(source.removeprefix("tok_"), TEST_CARDS["visa"])
        card = call.ledger.create("card", brand=brand.title(), last4=last4, exp_month=12, exp_year=2030,
                                  customer=row["id"])  # fmt: skip
        if last4 == "0341":
            call.ledger.declining.add(card["id"])
        row["default_source"] = card["id"]
        call.ledger.emit("customer.source.created", "card", card)


def create_product(call: Call) -> Object:
    values = merged({}, call.params)
    row = call.ledger.create("product", values.pop("id", None), updated=call.ledger.clock.now(), **values)
    call.ledger.emit("product.created", "product", row)
    return call.show("product", row)


def create_price(call: Call) -> Object:
    return call.show("price", new_price(call.ledger, call.params))


def new_price(ledger: Ledger, params: Params, id: str | None = None) -> Object:
    if "unit_amount" not in params or "currency" not in params:
        raise ApiError(400, "Missing required param: unit_amount or currency.", code="parameter_missing")
    product = params.get("product")
    if product is None:
        now = ledger.clock.now()
        product = ledger.create("product", name=params.get("product_data", {}).get("name", "Product"), updated=now)[
            "id"
        ]
    ledger.get("product", product, param="product", status=400)
    recurring = params.get("recurring")
    shape = {"interval_count": 1, "meter": None, "trial_period_days": None, "usage_type": "licensed"}
    row = ledger.create(
        "price", id, product=product, currency=params["currency"], unit_amount=integer(params["unit_amount"]),
        recurring=recurring and {**shape, **recurring, "interval_count": integer(recurring.get("interval_count"), 1)},
        nickname=params.get("nickname"), metadata=params.get("metadata", {}),
        type="recurring" if recurring else "one_time",
    )  # fmt: skip
    ledger.emit("price.created", "price", row)
    return row


def create_plan(call: Call) -> Object:
    params, product = call.params, call.params.get("product")
    given = {"product_data": product} if isinstance(product, dict) else {"product": product}
    recurring = {"interval": params.get("interval", "month"), "interval_count": params.get("interval_count", "1")}
    price = {"unit_amount": params.get("amount"), "currency": params.get("currency"), "recurring": recurring, **given}
    extra: Params = {key: params[key] for key in ("nickname", "metadata") if key in params}
    return plan_of(new_price(call.ledger, {**price, **extra}, params.get("id")))


def create_payment_method(call: Call) -> Object:
    card = call.params.get("card") or {}
    kind = TEST_NUMBERS.get(card.get("number", ""), card.get("token", "tok_visa").removeprefix("tok_"))
    return call.show("payment_method", new_method(call.ledger, kind, card))


def new_method(ledger: Ledger, kind: str, card: Params) -> Object:
    brand, last4 = TEST_CARDS.get(kind, TEST_CARDS["visa"])
    shown = {
        "brand": brand, "checks": None, "country": "US", "display_brand": brand,
        "exp_month": integer(card.get("exp_month"), 12), "exp_year": integer(card.get("exp_year"), 2030),
        "fingerprint": "fake", "funding": "credit", "generated_from": None, "last4": last4, "networks": None,
        "three_d_secure_usage": {"supported": True}, "wallet": None,
    }  # fmt: skip
    row = ledger.create("payment_method", card=shown)
    if last4 == "0341":
        ledger.declining.add(row["id"])
    return row


def payment_method(ledger: Ledger, id: str) -> Object:
    """A payment method; Stripe's ready-made ones (`pm_card_visa`) make a new one each time."""
    if id.startswith("pm_card_"):
        return new_method(ledger, id.removeprefix("pm_card_"), {})
    return ledger.get("payment_method", id, param="payment_method", status=400)


def _attach(ledger: Ledger, method: Object, customer: Object) -> Object:
    method["customer"] = customer["id"]
    ledger.emit("payment_method.attached", "payment_method", method)
    return method


def attach_payment_method(call: Call) -> Object:
    method, customer = payment_method(call.ledger, call.id), living(call, call.params.get("customer", ""))
    return call.show("payment_method", _attach(call.ledger, method, customer))


def detach_payment_method(call: Call) -> Object:
    row = call.ledger.get("payment_method", call.id)
    call.ledger.change("payment_method", row, "payment_method.detached", customer=None)
    return call.show("payment_method", row)
