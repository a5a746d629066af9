"""Small Stripe objects for tests: what the test is about, in the shape of a chosen API version."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from upkept.contract import Fact, FieldMap, Part, RawEvent, RecordRef, Said, Statement, TimelineEvent
from upkept_stripe import connector

T0 = 1_790_000_000
DAY = 86_400
OWNER = RecordRef("customer", "cus_9")

Object = dict[str, Any]


def event(kind: str, shown: Object, *, created: int = T0, before: Object | None = None, **more: Any) -> RawEvent:
    """A snapshot event as bytes; a body with `created` absent if it is given as None."""
    data = {"object": shown} | ({} if before is None else {"previous_attributes": before})
    body = {"id": "evt_1", "object": "event", "type": kind, "created": created, "livemode": False, "data": data, **more}
    return RawEvent(id="evt_1", kind=kind, body=json.dumps(body).encode())


def read(shown: Object, *, at: int = T0, account: str | None = None) -> RawEvent:
    body = {"object": "upkept.read", "read_at": at, "account": account, "data": {"object": shown}}
    return RawEvent(id="read:1", kind=f"read.{shown['object']}", body=json.dumps(body).encode())


def said(event: RawEvent, fields: FieldMap = connector.fields) -> list[Statement]:
    return list(connector.normalize(event, fields))


def fact(event: RawEvent, fields: FieldMap = connector.fields) -> Fact:
    """The first fact of an event."""
    return next(one for one in said(event, fields) if isinstance(one, Fact))


def told(event: RawEvent) -> TimelineEvent | None:
    """The timeline event of an event, if it makes one."""
    return next((one for one in said(event) if isinstance(one, TimelineEvent)), None)


def customer(**more: Any) -> Object:
    return {"id": "cus_9", "object": "customer", "email": "ann@example.com", "currency": "usd", **more}


def price(amount: int | None = 1000, interval: str = "month", every: int = 1, **more: Any) -> Object:
    recurring = {"interval": interval, "interval_count": every, "usage_type": more.pop("usage_type", "licensed")}
    return {
        "id": "price_1",
        "object": "price",
        "currency": "usd",
        "unit_amount": amount,
        "recurring": recurring,
        **more,
    }


def item(quantity: int | None = 1, **more: Any) -> Object:
    made = {"id": "si_1", "price": more.pop("price", None) or price(), "quantity": quantity, **more}
    return {"current_period_start": T0, "current_period_end": T0 + 30 * DAY, **made}


def subscription(*items: Object, id: str = "sub_1", **more: Any) -> Object:
    made = {
        "id": id,
        "object": "subscription",
        "customer": "cus_9",
        "status": "active",
        "created": T0,
        "currency": "usd",
    }
    return {**made, "items": {"object": "list", "data": list(items or (item(),))}, **more}


def charge(id: str = "ch_1", amount: int = 1000, **more: Any) -> Object:
    made = {"id": id, "object": "charge", "customer": "cus_9", "amount": amount, "currency": "usd", "created": T0}
    return {**made, "status": "succeeded", "amount_captured": amount, "amount_refunded": 0, **more}


def invoice(id: str = "in_1", paid: int = 1000, **more: Any) -> Object:
    made = {"id": id, "object": "invoice", "customer": "cus_9", "currency": "usd", "created": T0, "status": "paid"}
    return {**made, "amount_due": paid, "amount_paid": paid, **more}


def part(event: RawEvent, fields: FieldMap = connector.fields) -> Part:
    """The part that one event makes."""
    made = fact(event, fields)
    return Part(ref=made.record, fields=made.fields, deleted=made.deleted is True)


def parts(*shown: Object) -> list[Part]:
    """The parts that reads of these objects make."""
    return [part(read(one)) for one in shown]


def summary(parts: Iterable[Part], fields: Mapping[str, Said] | None = None) -> dict[str, Said]:
    """What is summarized of them and shown, whatever their order."""
    listed = list(parts)
    assert connector.summarize is not None
    made = connector.summarize(fields or {}, listed)
    assert made == connector.summarize(fields or {}, listed[::-1])
    return {name: one.value for name, one in made.items() if name[0] != "_"}
