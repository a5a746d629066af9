"""What happened, from what Stripe said. Pure: no clock, no network, no SDK.

A customer is a record; subscriptions, invoices, charges and payment methods are parts of it. Each event shows its whole
object, so it makes one snapshot fact about that object, and what a person would call an event goes on the timeline.

**Order.** `created` has a grain of one second, and Stripe makes several events in one. Facts of one second are
ordered by `sequence`: for customers, subscriptions and cards created 0, changed 1, ended 2; for invoices and
charges by how far the object has come. Two that are still equal are a tie, which the hub settles by a read-back (R7).

**Ended is not deleted.** `customer.subscription.deleted` says that a subscription has ended: it stays, as a canceled
one, and so does all that was paid for it.

**Reads** (`read.<type>`) come in an envelope with the time they were made and outrank events of that second. They make
no timeline: what happened is told by events alone, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from upkept.contract import WITHDRAWN, Fact, FieldMap, Permanent, RawEvent, RecordRef, Said, Skipped, Statement
from upkept_stripe import discounts, timeline
from upkept_stripe.fields import is_changed, mapped
from upkept_stripe.money import whole
from upkept_stripe.parts import (
    CARD,
    CHARGE,
    DISCOUNT,
    DISPUTE,
    DISPUTED,
    INVOICE,
    MAPPED,
    PAID,
    PAST_DUE,
    STATUS,
    SUBSCRIPTION,
)
from upkept_stripe.payments import (
    INVOICE_DELETED,
    INVOICE_ORDER,
    card_kept,
    cards_shown,
    charge_kept,
    charge_order,
    invoice_kept,
    invoice_status,
)
from upkept_stripe.shapes import Object, id_of, inner, rows, text
from upkept_stripe.subscription import DUNNING, Item, items_of, kept, view
from upkept_stripe.told import Told, told

CREATED, CHANGED, GONE = 0, 1, 2

ENDED: Final = frozenset({"canceled", "incomplete_expired"})
"""Statuses that a subscription never leaves."""

CUSTOMER: Final = "customer"

Reader = Callable[[Told, FieldMap], Iterator[Statement]]


def normalize(event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
    """The facts and timeline events of one event or read.

    Raises `Skipped` for kinds and objects that tell nothing about a customer, `Permanent` for what no version of
    Stripe's API sends.
    """
    reader = _READERS.get(event.kind)
    if reader is None:
        raise Skipped(f"Stripe event {event.kind}: tells nothing about a customer's billing")
    return list(reader(told(event), fields))


def _customer(it: Told, fields: FieldMap, *, sequence: int) -> Iterator[Statement]:
    id = _id(it)
    record = it.ref(CUSTOMER, id)
    if sequence == GONE or it.object.get("deleted") is True:
        survivors = {**mapped(fields, CUSTOMER, {"id": id}), "stripe_deleted": True}
        yield Fact(record=record, fields=survivors, observed_at=it.at, sequence=GONE, kind=it.how, deleted=True,
                   makes_user=True)  # fmt: skip
        return
    said = mapped(fields, CUSTOMER, _customer_view(it.object))
    said["stripe_deleted"] = False
    claims = _claims(it.object, fields)
    if "user_id" in claims:
        said["external_id"] = claims["user_id"] or WITHDRAWN
    yield Fact(record=record, fields=said, claims=claims, observed_at=it.at, sequence=sequence, kind=it.how,
               snapshot=True, deleted=False, makes_user=True)  # fmt: skip
    yield from _coupon_shown(it, inner(it.object, "discount"), record)
    for card in cards_shown(it.object):
        yield _part(it, CARD, str(card["id"]), record, card_kept(card), sequence=CHANGED)
    if it.is_read:
        for shown in rows(it.object, "subscriptions"):
            if id_of(shown):
                yield _subscription_fact(it, shown, items_of(shown), fields, owner=record, sequence=CHANGED)


def _customer_view(customer: Object) -> dict[str, Any]:
    """The object with the field map's paths in one place: `balance` was `account_balance` before 2019-10-17."""
    seen = dict(customer)
    if "balance" not in seen and "account_balance" in seen:
        seen["balance"] = seen["account_balance"]
    if "invoice_settings" in seen or "default_source" in seen:
        on_invoices = inner(customer, "invoice_settings").get("default_payment_method")
        seen["default_payment_method"] = id_of(on_invoices) or id_of(customer.get("default_source"))
    if "discount" in seen:
        seen["discount"] = _discount_view(inner(customer, "discount"))
    return seen


def _discount_view(discount: Object) -> dict[str, Any]:
    """The object with its coupon in one place: it was moved under `source` in clover (2025-09-30)."""
    return {**discount, "coupon": discounts.coupon_of(discount)}


def _discount(it: Told, fields: FieldMap, *, gone: bool = False) -> Iterator[Statement]:
    """A customer has one coupon at a time. One that is exchanged may end in the second in which the next begins, so the
    end is the older of the two."""
    customer = id_of(it.object.get("customer"))
    if customer is None or it.object.get("subscription"):
        raise Skipped(f"Stripe event {it.kind}: not of a customer; what it is of has events of its own")
    record = it.ref(CUSTOMER, customer)
    ends: Object = {"coupon": None}
    said = mapped(fields, CUSTOMER, {"id": customer, "discount": ends if gone else _discount_view(it.object)})
    yield Fact(record=record, fields=said, observed_at=it.at, sequence=CREATED if gone else CHANGED, kind=it.how,
               makes_user=True)  # fmt: skip
    if not gone:
        yield from _coupon_shown(it, it.object, record)


def _coupon_shown(it: Told, discount: Object, owner: RecordRef) -> Iterator[Statement]:
    """What the coupon takes off, where the payload shows it and not just its id."""
    coupon = discounts.coupon_of(discount)
    if isinstance(coupon, dict) and id_of(coupon):
        yield Fact(record=RecordRef(DISCOUNT, owner.id), owner=owner, fields=discounts.terms(coupon),
                   observed_at=it.at, sequence=CHANGED, kind=it.how, snapshot=True, deleted=False)  # fmt: skip


def _claims(customer: Object, fields: FieldMap) -> dict[str, str | None]:
    """The identifiers a customer holds; one that the payload leaves out is not spoken of."""
    claims: dict[str, str | None] = {}
    if "email" in customer:
        email = text(customer["email"])
        claims["email"] = email.strip() if email and "@" in email else None
    metadata = customer.get("metadata")
    if isinstance(metadata, dict):
        known = (_user_id(metadata.get(key)) for key in fields.user_id_keys)
        claims["user_id"] = next(filter(None, known), None)
    return claims


def _user_id(value: Any) -> str | None:
    return (str(value) if whole(value) is not None else value.strip() if isinstance(value, str) else "") or None


def _subscription(it: Told, fields: FieldMap, *, sequence: int) -> Iterator[Statement]:
    id = _id(it)
    owner = _owner(it, it.object)
    if it.object.get("deleted") is True:
        yield _gone(it, SUBSCRIPTION, id, owner)
        return
    items = items_of(it.object)
    fact = _subscription_fact(it, it.object, items, fields, owner=owner, sequence=sequence)
    yield fact
    if owner is not None and not it.is_read:
        yield from timeline.of_subscription(it, owner, items, fact.fields)


def _subscription_fact(
    it: Told, shown: Object, items: list[Item], fields: FieldMap, *, owner: RecordRef | None, sequence: int
) -> Fact:
    said = kept(shown, items)
    if is_changed(fields, SUBSCRIPTION):
        said |= {**mapped(fields, SUBSCRIPTION, view(shown, items, said)), MAPPED: True}
    if it.at is not None and said[STATUS] in DUNNING and _was_paid_up(it):
        said[PAST_DUE] = int(it.at.timestamp())
    if said[STATUS] in ENDED:
        sequence = GONE
    return _part(it, SUBSCRIPTION, str(shown["id"]), owner, said, sequence=sequence)


def _was_paid_up(it: Told) -> bool:
    """Whether the event shows that the subscription had a better status before."""
    before = it.before or {}
    return "status" in before and text(before["status"]) not in DUNNING


def _invoice(it: Told, fields: FieldMap, *, deleted: bool = False) -> Iterator[Statement]:
    id = _id(it)
    owner = _owner(it, it.object)
    if deleted or it.object.get("deleted") is True:
        yield _gone(it, INVOICE, id, owner, sequence=INVOICE_DELETED)
        return
    said = invoice_kept(it.object)
    if is_changed(fields, INVOICE):
        said |= {**mapped(fields, INVOICE, it.object), MAPPED: True}
    order = INVOICE_ORDER.get(invoice_status(it.object), CHANGED)
    yield _part(it, INVOICE, id, owner, said, sequence=order)
    if owner is not None and not it.is_read:
        yield from timeline.of_invoice(it, owner)


def _charge(it: Told, fields: FieldMap) -> Iterator[Statement]:
    id = _id(it)
    owner = _owner(it, it.object)
    if it.object.get("deleted") is True:
        yield _gone(it, CHARGE, id, owner)
        return
    said = charge_kept(it.object)
    if is_changed(fields, CHARGE):
        said |= {**mapped(fields, CHARGE, {**it.object, "amount_captured": said[PAID]}), MAPPED: True}
    yield _part(it, CHARGE, id, owner, said, sequence=charge_order(it.object))
    if owner is not None and not it.is_read:
        yield from timeline.of_charge(it, owner)


def _dispute(it: Told, _fields: FieldMap, *, sequence: int) -> Iterator[Statement]:
    """A dispute names its charge, not its customer; the charge's own events tell whose it is."""
    charge = id_of(it.object.get("charge"))
    if charge is None:
        raise Skipped(f"Stripe event {it.kind}: a dispute without a charge")
    customer = id_of(inner(it.object, "charge").get("customer"))
    owner = it.ref(CUSTOMER, customer) if customer else None
    said: dict[str, Said] = {DISPUTE: text(it.object.get("status")), DISPUTED: whole(it.object.get("amount"))}
    record = it.ref(CHARGE, charge)
    yield Fact(record=record, owner=owner, fields=said, observed_at=it.at, sequence=sequence, kind=it.how)
    yield from timeline.of_dispute(it, owner or record, charge)


def _card(it: Told, _fields: FieldMap, *, gone: bool = False) -> Iterator[Statement]:
    id = _id(it)
    holder = id_of(it.object.get("customer")) or id_of((it.before or {}).get("customer"))
    if holder is None:
        raise Skipped(f"Stripe event {it.kind}: it belongs to no customer")
    owner = it.ref(CUSTOMER, holder)
    if gone:
        yield _gone(it, CARD, id, owner)
    else:
        yield _part(it, CARD, id, owner, card_kept(it.object), sequence=CHANGED)


def _part(it: Told, of: str, id: str, owner: RecordRef | None, said: Mapping[str, Said], *, sequence: int) -> Fact:
    return Fact(record=it.ref(of, id), owner=owner, fields=said, observed_at=it.at, sequence=sequence, kind=it.how,
                snapshot=True, deleted=False)  # fmt: skip


def _gone(it: Told, of: str, id: str, owner: RecordRef | None, *, sequence: int = GONE) -> Fact:
    return Fact(record=it.ref(of, id), owner=owner, observed_at=it.at, sequence=sequence, kind=it.how, deleted=True)


def _id(it: Told) -> str:
    id = id_of(it.object)
    if id is None:
        raise Permanent(f"Stripe event {it.kind}: its object has no id")
    return id


def _owner(it: Told, shown: Object) -> RecordRef | None:
    """Whose it is. Only a read of something that is gone may leave it open."""
    customer = id_of(shown.get("customer"))
    if customer is not None:
        return it.ref(CUSTOMER, customer)
    if shown.get("deleted") is True:
        return None
    raise Skipped(f"Stripe event {it.kind}: it belongs to no customer")


_READERS: Final[Mapping[str, Reader]] = {
    "customer.created": partial(_customer, sequence=CREATED),
    "customer.updated": partial(_customer, sequence=CHANGED),
    "customer.deleted": partial(_customer, sequence=GONE),
    "customer.discount.created": _discount,
    "customer.discount.updated": _discount,
    "customer.discount.deleted": partial(_discount, gone=True),
    "read.customer": partial(_customer, sequence=CHANGED),
    "customer.subscription.created": partial(_subscription, sequence=CREATED),
    "customer.subscription.updated": partial(_subscription, sequence=CHANGED),
    "customer.subscription.paused": partial(_subscription, sequence=CHANGED),
    "customer.subscription.resumed": partial(_subscription, sequence=CHANGED),
    "customer.subscription.trial_will_end": partial(_subscription, sequence=CHANGED),
    "customer.subscription.pending_update_applied": partial(_subscription, sequence=CHANGED),
    "customer.subscription.pending_update_expired": partial(_subscription, sequence=CHANGED),
    "customer.subscription.deleted": partial(_subscription, sequence=GONE),
    "read.subscription": partial(_subscription, sequence=CHANGED),
    "invoice.created": _invoice,
    "invoice.updated": _invoice,
    "invoice.finalized": _invoice,
    "invoice.paid": _invoice,
    "invoice.payment_succeeded": _invoice,
    "invoice.payment_failed": _invoice,
    "invoice.voided": _invoice,
    "invoice.marked_uncollectible": _invoice,
    "invoice.deleted": partial(_invoice, deleted=True),
    "read.invoice": _invoice,
    "charge.pending": _charge,
    "charge.succeeded": _charge,
    "charge.captured": _charge,
    "charge.updated": _charge,
    "charge.refunded": _charge,
    "charge.failed": _charge,
    "charge.expired": _charge,
    "read.charge": _charge,
    "charge.dispute.created": partial(_dispute, sequence=CREATED),
    "charge.dispute.updated": partial(_dispute, sequence=CHANGED),
    "charge.dispute.closed": partial(_dispute, sequence=GONE),
    "payment_method.attached": _card,
    "payment_method.updated": _card,
    "payment_method.automatically_updated": _card,
    "payment_method.detached": partial(_card, gone=True),
    "customer.source.created": _card,
    "customer.source.updated": _card,
    "customer.source.deleted": partial(_card, gone=True),
}

KINDS: Final = frozenset(_READERS)
"""The events and reads that we understand; all others are skipped."""
