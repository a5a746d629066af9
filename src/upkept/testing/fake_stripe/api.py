"""The API calls of the Stripe stand-in: which there are, what they take, what they do."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from upkept.testing.fake_stripe import sales, writes
from upkept.testing.fake_stripe.call import Call, Do
from upkept.testing.fake_stripe.forms import Params, boolean
from upkept.testing.fake_stripe.ledger import Ledger
from upkept.testing.fake_stripe.shapes import list_of, plan_of
from upkept.testing.fake_stripe.table import ApiError, Object, missing
from upkept.testing.fake_stripe.world import thin_event, thin_id

PAGING: Final = frozenset({"limit", "starting_after", "ending_before", "created"})
FILTERS: Final = {
    "customer": {"email", "test_clock"},
    "subscription": {"customer", "status", "collection_method", "price"},
    "invoice": {"customer", "status", "subscription", "collection_method"},
    "charge": {"customer", "payment_intent"},
    "event": {"type", "types", "delivery_success"},
    "refund": {"charge", "payment_intent"},
    "dispute": {"charge", "payment_intent"},
    "product": {"active"},
    "price": {"active", "product", "currency", "type"},
    "payment_method": {"customer", "type"},
}


def retrieve(of: str) -> Do:
    return lambda call: call.show(of, call.ledger.get(of, call.id))


def listed(of: str) -> Do:
    """A list with Stripe's paging and this type's filters; an unknown parameter is an error, as at Stripe."""

    def do(call: Call) -> Object:
        unknown = sorted(call.params.keys() - PAGING - FILTERS[of])
        if unknown:
            raise ApiError(400, f"Received unknown parameter: {unknown[0]}", code="parameter_unknown", param=unknown[0])
        rows, more = call.ledger.tables[of].page(call.params, _where(of, call))
        shown = [call.ledger.view(of, row, call.version) for row in rows]
        answer = {"list": list_of(shown, f"/v1/{of}s", has_more=more)}
        for path in call.expand:
            call.ledger.expand(answer, f"list.{path}", call.version)
        return dict(answer["list"])

    return do


def _where(of: str, call: Call) -> Callable[[Object], bool]:
    params, ledger = call.params, call.ledger
    if of == "event":
        return _events_where(params, ledger)
    status = params.get("status", "current" if of == "subscription" else None)
    ended = ("canceled", "incomplete_expired")
    equal = {key: value for key, value in params.items() if key in FILTERS[of] - {"status", "active", "price"}}

    def where(row: Object) -> bool:
        if (status == "current" and row["status"] in ended) or (status == "ended" and row["status"] not in ended):
            return False
        if status not in (None, "all", "current", "ended") and row["status"] != status:
            return False
        if "active" in params and row.get("active", True) != boolean(params["active"]):
            return False
        if "price" in params and all(item["price"] != params["price"] for item in row["items"]):
            return False
        return all(_field(row, key) == value for key, value in equal.items())

    return where


def _field(row: Object, key: str) -> Any:
    if key == "subscription":
        return ((row.get("parent") or {}).get("subscription_details") or {}).get("subscription")
    return row.get(key)


def _events_where(params: Params, ledger: Ledger) -> Callable[[Object], bool]:
    types = params.get("types")
    if types is not None and "type" in params:
        raise ApiError(400, "You may only specify one of these parameters: type, types.", param="types")
    if types is not None and not 1 <= len(types) <= 20:
        raise ApiError(400, "You may specify up to 20 event types.", param="types")
    wanted = set(types or ([params["type"]] if "type" in params else ()))
    failed = "delivery_success" in params and not boolean(params["delivery_success"])
    # A prefix with a star ("customer.*") is allowed in `type`.
    prefixes = tuple(one[:-1] for one in wanted if one.endswith("*"))

    def where(row: Object) -> bool:
        if not ledger.events_kept(row) or (failed and row["id"] not in ledger.undelivered):
            return False
        return not wanted or row["type"] in wanted or (bool(prefixes) and row["type"].startswith(prefixes))

    return where


def retrieve_event(call: Call) -> Object:
    event = call.ledger.get("event", call.id)
    if not call.ledger.events_kept(event):
        raise missing("event", call.id)
    return call.show("event", event)


def retrieve_thin_event(call: Call) -> Object:
    rows = call.ledger.tables["event"].rows
    event = next((row for row in rows.values() if thin_id(row["id"]) == call.id), None)
    if event is None or not call.ledger.events_kept(event):
        raise ApiError(404, "The event was not found.", code="not_found")
    return thin_event(call.ledger, event)


def retrieve_plan(call: Call) -> Object:
    return plan_of(call.ledger.get("price", call.id))


def account(call: Call) -> Object:
    ledger = call.ledger
    return {
        "id": ledger.account, "object": "account", "business_profile": {"name": "Fake Stripe"}, "business_type": None,
        "capabilities": {}, "charges_enabled": True, "country": "US", "created": ledger.born,
        "default_currency": "usd", "details_submitted": True, "email": "owner@example.com", "metadata": {},
        "payouts_enabled": True, "settings": {}, "type": "standard",
    }  # fmt: skip


def balance(call: Call) -> Object:
    nothing = [{"amount": 0, "currency": "usd", "source_types": {"card": 0}}]
    return {"object": "balance", "available": nothing, "livemode": call.ledger.livemode, "pending": nothing}


@dataclass(frozen=True, slots=True)
class Route:
    """`name` is what statistics call it."""

    name: str
    pattern: re.Pattern[str]
    do: Do
    list_name: str | None = None


def _route(name: str, do: Do, list_name: str | None = None) -> Route:
    return Route(name, re.compile(re.sub(r"\\\{id\\\}", "(?P<id>[^/]+)", re.escape(name))), do, list_name)


ROUTES: Final = (
    *(_route(f"GET /v1/{of}s", listed(of), f"{of}s") for of in FILTERS),
    *(_route(f"GET /v1/{of}s/{{id}}", retrieve(of)) for of in FILTERS if of != "event"),
    _route("GET /v1/events/{id}", retrieve_event),
    _route("GET /v2/core/events/{id}", retrieve_thin_event),
    _route("GET /v1/account", account),
    _route("GET /v1/balance", balance),
    _route("POST /v1/customers", writes.create_customer),
    _route("POST /v1/customers/{id}", writes.update_customer),
    _route("DELETE /v1/customers/{id}", writes.delete_customer),
    _route("POST /v1/products", writes.create_product),
    _route("POST /v1/prices", writes.create_price),
    _route("POST /v1/plans", writes.create_plan),
    _route("GET /v1/plans/{id}", retrieve_plan),
    _route("POST /v1/payment_methods", writes.create_payment_method),
    _route("POST /v1/payment_methods/{id}/attach", writes.attach_payment_method),
    _route("POST /v1/payment_methods/{id}/detach", writes.detach_payment_method),
    _route("POST /v1/subscriptions", sales.create_subscription),
    _route("POST /v1/subscriptions/{id}", sales.update_subscription),
    _route("DELETE /v1/subscriptions/{id}", sales.cancel_subscription),
    _route("POST /v1/invoices/{id}/pay", sales.pay_invoice),
    _route("POST /v1/invoices/{id}/void", sales.end_invoice("voided", "voided_at")),
    _route(
        "POST /v1/invoices/{id}/mark_uncollectible",
        sales.end_invoice("marked_uncollectible", "marked_uncollectible_at"),
    ),
    _route("POST /v1/charges", sales.create_charge),
    _route("POST /v1/refunds", sales.create_refund),
    _route("POST /v1/disputes/{id}/close", sales.close_dispute),
)


def routed(method: str, path: str) -> tuple[Route, str]:
    """The route of a call and the id in its path."""
    for route in ROUTES:
        if found := route.pattern.fullmatch(f"{method} {path}"):
            return route, found.groupdict().get("id", "")
    raise ApiError(404, f"Unrecognized request URL ({method}: {path}).")
