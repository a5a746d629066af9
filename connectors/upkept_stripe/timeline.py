"""Billing events on a person's timeline.

An event is named by the object it happened to and what happened (R16), never by the delivery: Stripe may describe one
change in two events, and the same event comes again. What may happen to one object more than once carries what tells
the times apart: a refund the total refunded, a failed attempt its number, a change of a subscription what changed.
Times are the object's own where it has them, so that two deliveries agree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final
from zlib import crc32

from upkept.contract import RecordRef, Said, Scalar, TimelineEvent
from upkept_stripe.money import major, whole
from upkept_stripe.parts import CURRENCY, PLAN, PRICE, STATUS
from upkept_stripe.payments import charge_captured, charge_refunded, invoice_paid, invoice_subscription
from upkept_stripe.shapes import Object, id_of, inner, rows, text
from upkept_stripe.subscription import Item, items_of, main_item
from upkept_stripe.told import Told, moment

MOST_KEYS: Final = 10
"""Of an event's metadata, as our users' tools expect it (Intercom keeps the first ten)."""


def of_subscription(it: Told, owner: RecordRef, items: list[Item], kept: Mapping[str, Said]) -> Iterator[TimelineEvent]:
    """`subscription created`, `… changed`, `… paused`, `… resumed`, `… cancelled`, and `trial will end`.

    `kept` is what the fact keeps of it.
    """
    shown, id = it.object, it.object["id"]
    match it.kind:
        case "customer.subscription.created":
            made = moment(shown.get("created")) or it.at
            yield _event(owner, "subscription created", id, it.kind, made, _plan(id, items, kept))
        case "customer.subscription.updated":
            changes = _changes(it, items)
            if changes is not None:
                metadata = _first({**_plan(id, items, kept), **changes})
                told_apart = crc32(json.dumps(metadata, sort_keys=True).encode())
                yield _event(owner, "subscription changed", id, f"{_each_time(it)}:{told_apart:08x}", it.at, metadata)
        case "customer.subscription.paused":
            yield _event(owner, "subscription paused", id, _each_time(it), it.at, _plan(id, items, kept))
        case "customer.subscription.resumed":
            yield _event(owner, "subscription resumed", id, _each_time(it), it.at, _plan(id, items, kept))
        case "customer.subscription.deleted":
            ended = moment(shown.get("ended_at")) or moment(shown.get("canceled_at")) or it.at
            yield _event(owner, "subscription cancelled", id, it.kind, ended, _plan(id, items, kept))
        case "customer.subscription.trial_will_end":
            ends = whole(shown.get("trial_end"))
            metadata = _first({**_plan(id, items, kept), "trial_end": ends})
            yield _event(owner, "trial will end", id, f"{it.kind}:{ends or ''}", it.at, metadata)


def of_invoice(it: Told, owner: RecordRef) -> Iterator[TimelineEvent]:
    """`invoice paid`, whichever of Stripe's two events says so, and `invoice payment failed`."""
    shown, id = it.object, it.object["id"]
    match it.kind:
        case "invoice.paid" | "invoice.payment_succeeded":
            paid_at = moment(inner(shown, "status_transitions").get("paid_at")) or it.at
            yield _event(owner, "invoice paid", id, "invoice.paid", paid_at, _bill(shown, invoice_paid(shown)))
        case "invoice.payment_failed":
            attempt = whole(shown.get("attempt_count"))
            metadata = _first({**_bill(shown, whole(shown.get("amount_due"))), "attempt": attempt})
            yield _event(owner, "invoice payment failed", id, f"{it.kind}:{attempt or ''}", it.at, metadata)


def of_charge(it: Told, owner: RecordRef) -> Iterator[TimelineEvent]:
    """`charge succeeded` (once money was taken, not when it was authorised), `charge failed`, `charge refunded`."""
    shown, id = it.object, it.object["id"]
    match it.kind:
        case "charge.succeeded" | "charge.captured" if captured := charge_captured(shown):
            made = moment(shown.get("created")) or it.at
            yield _event(owner, "charge succeeded", id, "charge.succeeded", made, _payment(shown, captured))
        case "charge.failed":
            made = moment(shown.get("created")) or it.at
            metadata = _payment(shown, whole(shown.get("amount")))
            yield _event(owner, "charge failed", id, it.kind, made, _first({**metadata, "reason": _failure(shown)}))
        case "charge.refunded":
            so_far = charge_refunded(shown)
            earlier = whole((it.before or {}).get("amount_refunded")) or 0
            metadata = {**_payment(shown, so_far - earlier), "refunded_in_total": major(so_far, shown.get("currency"))}
            yield _event(owner, "charge refunded", id, f"{it.kind}:{so_far}", it.at, _first(metadata))


def of_dispute(it: Told, record: RecordRef, charge: str) -> Iterator[TimelineEvent]:
    """`charge disputed` and `charge dispute closed`."""
    name = {"charge.dispute.created": "charge disputed", "charge.dispute.closed": "charge dispute closed"}.get(it.kind)
    id = id_of(it.object)
    if name is None or id is None:
        return
    opened = moment(it.object.get("created")) if it.kind.endswith("created") else None
    metadata = {
        "amount": major(it.object.get("amount"), it.object.get("currency")),
        "currency": text(it.object.get("currency")),
        "reason": text(it.object.get("reason")),
        "status": text(it.object.get("status")),
        "charge": charge,
    }
    yield _event(record, name, id, it.kind, opened or it.at, _first(metadata))


def _event(
    record: RecordRef, name: str, id: str, what: str, at: datetime | None, metadata: dict[str, Scalar]
) -> TimelineEvent:
    return TimelineEvent(record=record, name=name, id=f"{id}:{what}", at=at, metadata=metadata)


def _each_time(it: Told) -> str:
    """It may happen to one subscription again, at another time."""
    return f"{it.kind}:{int(it.at.timestamp()) if it.at else 0}"


def _plan(id: str, items: list[Item], kept: Mapping[str, Any]) -> dict[str, Scalar]:
    return _first(
        {
            "subscription": id,
            "status": kept[STATUS],
            "plan": kept[PLAN],
            "amount": kept[PRICE],
            "currency": kept[CURRENCY],
            "quantity": items[0].quantity if len(items) == 1 else None,
        }
    )


def _bill(invoice: Object, amount: int | None) -> dict[str, Scalar]:
    currency = text(invoice.get("currency"))
    return _first(
        {
            "amount": major(amount, currency),
            "currency": currency,
            "plan": next((name for line in rows(invoice, "lines") if (name := _line_plan(line))), None),
            "invoice": id_of(invoice),
            "number": text(invoice.get("number")),
            "subscription": invoice_subscription(invoice),
        }
    )


def _line_plan(line: Object) -> str | None:
    """What a line bills: the name of its price or plan; since basil the line knows only the price's id."""
    item = main_item(items_of(line))
    return item.name if item else id_of(inner(inner(line, "pricing"), "price_details").get("price"))


def _payment(charge: Object, amount: int | None) -> dict[str, Scalar]:
    currency = text(charge.get("currency"))
    return _first(
        {
            "amount": major(amount, currency),
            "currency": currency,
            "charge": id_of(charge),
            "invoice": id_of(charge.get("invoice")),
        }
    )


def _failure(charge: Object) -> str | None:
    """The bank's or Stripe's code for why; the message beside it is made for the payer and says no more."""
    return text(charge.get("failure_code")) or text(inner(charge, "outcome").get("reason"))


def _changes(it: Told, items: list[Item]) -> dict[str, Scalar] | None:
    """What of a subscription changed that a billing team cares about; None if nothing did.

    A renewal moves the period and names a new invoice; since basil the period stands on the items, which then
    come as changed too. So items are compared by price and quantity. A payload without `previous_attributes` only
    says that something changed, and is taken at its word.
    """
    before, now = it.before, it.object
    if before is None:
        return {}
    changes: dict[str, Scalar] = {}
    if "status" in before and before["status"] != now.get("status"):
        changes["previous_status"] = text(before["status"])
    changes |= _plan_changes(before, items, now)
    for name in ("cancel_at_period_end", "cancel_at", "trial_end"):
        if name in before and before[name] != now.get(name):
            value = now.get(name)
            changes[name] = value if isinstance(value, bool | int) else None
    if "pause_collection" in before and bool(before["pause_collection"]) is not bool(now.get("pause_collection")):
        changes["collection_paused"] = bool(now.get("pause_collection"))
    return changes or None


def _plan_changes(before: Object, items: list[Item], now: Object) -> dict[str, Scalar]:
    if rows(before, "items"):
        earlier = items_of({"items": before["items"]})
    elif before.keys() & {"plan", "quantity"}:
        # A nested object comes with its changed keys only: the rest is as it is now.
        plan = {**inner(now, "plan"), **inner(before, "plan")}
        earlier = items_of({"plan": plan, "quantity": before.get("quantity", now.get("quantity"))})
    else:
        return {}
    if sorted(map(_line, earlier)) == sorted(map(_line, items)):
        return {}
    was, is_now = main_item(earlier), main_item(items)
    changes: dict[str, Scalar] = {}
    if was and (is_now is None or was.id != is_now.id):
        changes["previous_plan"] = was.name
    if was and (is_now is None or was.quantity != is_now.quantity):
        changes["previous_quantity"] = was.quantity
    return changes or {"items": len(items)}


def _line(item: Item) -> tuple[str, int]:
    return item.id or "", 1 if item.quantity is None else item.quantity


def _first(metadata: dict[str, Any]) -> dict[str, Scalar]:
    """What is known of it, at most ten keys."""
    return dict([pair for pair in metadata.items() if pair[1] is not None][:MOST_KEYS])
