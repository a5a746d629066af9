"""The writing calls of the Stripe stand-in for subscriptions, invoices and payments."""

from __future__ import annotations

from upkept.testing.fake_stripe import billing
from upkept.testing.fake_stripe.call import Call, Do
from upkept.testing.fake_stripe.forms import Params, boolean, integer
from upkept.testing.fake_stripe.ledger import DAY, Ledger
from upkept.testing.fake_stripe.table import ApiError, Object, missing
from upkept.testing.fake_stripe.writes import living, merged, new_method, new_price, payment_method


def create_subscription(call: Call) -> Object:
    params, ledger = dict(call.params), call.ledger
    customer = living(call, params.pop("customer", ""))
    items = [_new_item(ledger, item) for item in params.pop("items", ())]
    if not items:
        raise ApiError(400, "Missing required param: items.", code="parameter_missing", param="items")
    trial_days, trial_end = params.pop("trial_period_days", None), params.pop("trial_end", None)
    until = ledger.clock.now() + int(trial_days) * DAY if trial_days else integer(trial_end)
    values = _subscription_values({}, params)
    return call.show("subscription", billing.subscribe(ledger, customer, items, trial_end=until, **values))


def _new_item(ledger: Ledger, item: Params) -> Object:
    price = item.get("price") or item.get("plan")
    if price is None and "price_data" in item:
        price = new_price(ledger, item["price_data"])["id"]
    ledger.get("price", price, param="items[0][price]", status=400)
    return {"price": price, "quantity": integer(item.get("quantity"), 1)}


def _subscription_values(row: Object, params: Params) -> Params:
    values = merged(row, params)
    for name in ("cancel_at", "days_until_due", "trial_end"):
        if name in values and values[name] is not None:
            values[name] = int(values[name])
    if "cancel_at_period_end" in values:
        values["cancel_at_period_end"] = boolean(values["cancel_at_period_end"])
    values.pop("proration_behavior", None)
    return values


def update_subscription(call: Call) -> Object:
    ledger, row = call.ledger, call.ledger.get("subscription", call.id)
    if row["status"] in ("canceled", "incomplete_expired"):
        raise missing("subscription", call.id)
    params = dict(call.params)
    now, items = ledger.clock.now(), params.pop("items", None)
    if params.get("trial_end") == "now":
        params["trial_end"] = str(now)
    values = _subscription_values(row, params)
    if items is not None:
        values["items"] = _changed_items(ledger, row["items"], items)
    if "cancel_at_period_end" in values:
        ending = values["cancel_at_period_end"]
        values |= {"cancel_at": row["current_period_end"] if ending else None, "canceled_at": now if ending else None}
    if values.get("trial_end") is not None:
        ended = values["trial_end"] <= now
        values |= {"status": "active" if ended else "trialing", "current_period_end": values["trial_end"]}
        if ended:
            price = ledger.get("price", row["items"][0]["price"])
            end = billing.plus_interval(now, price.get("recurring") or {})
            values |= {"current_period_start": now, "current_period_end": end, "billing_cycle_anchor": now}
    ledger.change("subscription", row, "customer.subscription.updated", **values)
    return call.show("subscription", row)


def _changed_items(ledger: Ledger, old: list[Object], given: list[Params]) -> list[Object]:
    items = {item["id"]: dict(item) for item in old}
    for item in given:
        id = item.get("id")
        if id is None:
            new = {**_new_item(ledger, item), "id": ledger.new_id("si"), "created": ledger.clock.now()}
            items[new["id"]] = new
        elif boolean(item.get("deleted")):
            items.pop(id, None)
        elif id in items:
            items[id] |= {"price": item.get("price") or item.get("plan") or items[id]["price"]}
            items[id] |= {"quantity": integer(item.get("quantity"), items[id]["quantity"])}
        else:
            raise missing("subscription_item", id, param="items", status=400)
    return list(items.values())


def cancel_subscription(call: Call) -> Object:
    row = call.ledger.get("subscription", call.id)
    if row["status"] in ("canceled", "incomplete_expired"):
        raise missing("subscription", call.id)
    return call.show("subscription", billing.end(call.ledger, row))


def pay_invoice(call: Call) -> Object:
    ledger, row = call.ledger, call.ledger.get("invoice", call.id)
    if row["status"] != "open":
        raise ApiError(400, "Invoice is already paid", code="invoice_already_paid")
    customer = ledger.get("customer", row["customer"])
    given = call.params.get("payment_method")
    method = payment_method(ledger, given)["id"] if given else billing.method_of(customer)
    billing.settle(ledger, row, method, out_of_band=boolean(call.params.get("paid_out_of_band")))
    if row["status"] != "paid":
        message = "Your card was declined."
        raise ApiError(402, message, type="card_error", code="card_declined", decline_code="generic_decline")
    return call.show("invoice", row)


def end_invoice(status: str, moment: str) -> Do:
    """Void an open invoice, or mark it uncollectible."""

    def do(call: Call) -> Object:
        row = call.ledger.get("invoice", call.id)
        if row["status"] != "open":
            raise ApiError(400, "You can only do this to an open invoice.", code="invoice_not_editable")
        moments = {**row["status_transitions"], moment: call.ledger.clock.now()}
        row.update(status="void" if status == "voided" else status, status_transitions=moments)
        call.ledger.emit(f"invoice.{status}", "invoice", row)
        return call.show("invoice", row)

    return do


def create_charge(call: Call) -> Object:
    customer = living(call, call.params["customer"]) if "customer" in call.params else {}
    method = call.params.get("source") or billing.method_of(customer)
    if method and method.startswith("tok_"):
        method = new_method(call.ledger, method.removeprefix("tok_"), {})["id"]
    amount, currency = int(call.params["amount"]), call.params["currency"]
    row = billing.charge(call.ledger, amount, currency, customer.get("id"), method)
    if row["status"] == "failed":
        raise ApiError(402, "Your card was declined.", type="card_error", code="card_declined", charge=row["id"])
    return call.show("charge", row)


def create_refund(call: Call) -> Object:
    params, charges = call.params, call.ledger.tables["charge"]
    intent = params.get("payment_intent")
    if intent:
        found = next((row for row in charges.rows.values() if row.get("payment_intent") == intent), None)
        if found is None:
            raise missing("payment_intent", intent, param="payment_intent")
    else:
        found = charges.get(params.get("charge"), param="charge", status=404)
    row = billing.refund(call.ledger, found, integer(params.get("amount")), params.get("reason"))
    return call.show("refund", row)


def close_dispute(call: Call) -> Object:
    row = call.ledger.get("dispute", call.id)
    row["status"] = "lost"
    call.ledger.emit("charge.dispute.closed", "dispute", row)
    return call.show("dispute", row)
