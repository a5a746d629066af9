"""What events say: the order of one second, who a customer is, what was withdrawn, and shapes of all ages."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.stripe.shapes import (
    DAY,
    OWNER,
    T0,
    charge,
    customer,
    event,
    fact,
    invoice,
    item,
    part,
    parts,
    price,
    read,
    said,
    subscription,
    summary,
)

from upkept.contract import WITHDRAWN, Config, Fact, FactKind, Permanent, RawEvent, RecordRef, Skipped
from upkept.people.facts import admit
from upkept.people.fold import fold
from upkept.testing.fixtures import load
from upkept_stripe import connector
from upkept_stripe.parts import PERIOD_END, PERIOD_START, STATUS

FIXTURES = load(Path(__file__).with_name("fixtures"))


def test_a_customer_is_a_record_that_makes_a_user() -> None:
    made = fact(
        event("customer.created", customer(metadata={"userId": " 42 "}, name="Ann", balance=-500, delinquent=True))
    )
    assert made.record == OWNER
    assert made.makes_user
    assert made.snapshot
    assert made.deleted is False
    assert made.observed_at == datetime.fromtimestamp(T0, UTC)
    assert made.claims == {"email": "ann@example.com", "user_id": "42"}
    assert made.fields == {
        "stripe_id": "cus_9",
        "stripe_deleted": False,
        "stripe_account_balance": -5.0,
        "stripe_delinquent": True,
        "email": "ann@example.com",
        "name": "Ann",
        "external_id": "42",
    }


@pytest.mark.parametrize(
    ("metadata", "user_id"),
    [
        ({"user_id": "1", "userId": "2"}, "1"),
        ({"uid": "3", "external_id": "4"}, "4"),
        ({"user_id": "", "uid": "5"}, "5"),
        ({"user_id": 6}, "6"),
        ({"user_id": True}, None),
        ({"USER_ID": "7"}, None),
        ({}, None),
    ],
)
def test_the_user_id_is_in_the_metadata(metadata: dict[str, Any], user_id: str | None) -> None:
    made = fact(event("customer.updated", customer(metadata=metadata)))
    assert made.claims["user_id"] == user_id
    assert made.fields["external_id"] == (user_id or WITHDRAWN)


def test_the_keys_of_the_user_id_are_the_connections() -> None:
    fields = replace(connector.fields, user_id_keys=("account_ref",))
    made = fact(event("customer.created", customer(metadata={"account_ref": "9", "user_id": "1"})), fields)
    assert made.claims["user_id"] == "9"


def test_what_stripe_does_not_know_is_withdrawn_and_does_not_wipe_what_others_know() -> None:
    made = fact(event("customer.updated", customer(email=None, name=None, phone="", metadata={})))
    assert made.claims == {"email": None, "user_id": None}
    assert {made.fields[name] for name in ("email", "name", "phone", "external_id")} == {WITHDRAWN}


def test_an_email_that_is_none_identifies_nobody() -> None:
    made = fact(event("customer.updated", customer(email="n/a")))
    assert made.claims == {"email": None}
    assert made.fields["email"] == "n/a"


def test_what_a_payload_leaves_out_is_not_spoken_of() -> None:
    made = fact(event("customer.updated", {"id": "cus_9", "object": "customer"}))
    assert made.claims == {}
    assert made.fields == {"stripe_id": "cus_9", "stripe_deleted": False}


def test_a_mapped_metadata_key_that_is_gone_is_withdrawn() -> None:
    fields = connector.fields.overridden({"customer.metadata.tier": "tier"}, where="test")
    assert fact(event("customer.created", customer(metadata={"tier": "gold"})), fields).fields["tier"] == "gold"
    assert fact(event("customer.updated", customer(metadata={})), fields).fields["tier"] is WITHDRAWN
    assert "tier" not in fact(event("customer.updated", customer()), fields).fields


def test_a_customer_deleted_at_stripe_keeps_only_that() -> None:
    made = fact(event("customer.deleted", customer(name="Ann")))
    assert (made.deleted, made.sequence, made.claims) == (True, 2, {})
    assert made.fields == {"stripe_id": "cus_9", "stripe_deleted": True}
    again = fact(read({"id": "cus_9", "object": "customer", "deleted": True}))
    assert (again.deleted, again.fields, again.kind) == (True, made.fields, FactKind.READ_BACK)


def test_created_then_updated_in_one_second_ends_in_the_update_in_any_order() -> None:
    first = fact(event("customer.created", customer(email="old@example.com")))
    then = fact(event("customer.updated", customer(email="new@example.com")))
    for order in ((first, then), (then, first), (then, first, then)):
        head = fold([admit("stripe", one, received_at=T0 * 1_000_000).fact for one in order])
        assert head.cells["email"].value == "new@example.com"


def test_an_invoice_is_ordered_by_how_far_it_has_come() -> None:
    stages = [("invoice.created", "draft"), ("invoice.finalized", "open"), ("invoice.paid", "paid")]
    made = [fact(event(kind, invoice(status=status))) for kind, status in stages]
    assert [one.sequence for one in made] == [0, 1, 3]
    assert fact(event("invoice.updated", invoice())) == fact(event("invoice.paid", invoice()))
    assert fact(event("invoice.deleted", invoice(status="draft"))).deleted is True


def test_a_subscription_that_ended_is_not_deleted() -> None:
    made = fact(event("customer.subscription.deleted", subscription(status="canceled")))
    assert (made.deleted, made.sequence, made.fields[STATUS]) == (False, 2, "canceled")
    late = fact(event("customer.subscription.updated", subscription(status="canceled")))
    assert late.sequence == 2


def test_a_read_stands_at_the_time_it_was_made_and_makes_no_timeline() -> None:
    found = said(read(customer(subscriptions={"data": [subscription()]}), at=T0 + 5))
    assert [one.record.type for one in found if isinstance(one, Fact)] == ["customer", "subscription"]
    assert len(found) == 2
    assert {(one.kind, one.observed_at) for one in found if isinstance(one, Fact)} == {
        (FactKind.READ_BACK, datetime.fromtimestamp(T0 + 5, UTC))
    }


def test_an_event_speaks_for_its_own_object_only() -> None:
    """A customer's event may carry its subscriptions; they have events of their own, with the right order."""
    found = said(event("customer.updated", customer(subscriptions={"data": [subscription()]})))
    assert [one.record.type for one in found if isinstance(one, Fact)] == ["customer"]


def test_accounts_keep_their_customers_apart() -> None:
    made = fact(event("customer.subscription.created", subscription(), account="acct_1"))
    assert made.record == RecordRef("subscription", "acct_1/sub_1")
    assert made.owner == RecordRef("customer", "acct_1/cus_9")
    assert fact(read(customer(), account="acct_1")).record == RecordRef("customer", "acct_1/cus_9")


def test_references_may_be_expanded() -> None:
    shown = subscription(
        item(price={**price(), "product": {"id": "prod_1", "object": "product", "name": "Pro"}}),
        customer=customer(), latest_invoice=invoice(), default_payment_method={"id": "pm_1"},
    )  # fmt: skip
    assert fact(event("customer.subscription.created", shown)).owner == OWNER
    got = summary(parts(shown))
    assert got["stripe_plan"] == "Pro"
    assert fact(event("charge.succeeded", charge(customer=customer(), invoice=invoice()))).owner == OWNER


def dated(start: int, end: int) -> dict[str, Any]:
    return item(current_period_start=start, current_period_end=end)


@pytest.mark.parametrize(
    ("shown", "period"),
    [
        (subscription(dated(1, 9)), (1, 9)),
        (subscription(item(), current_period_start=2, current_period_end=8), (2, 8)),
        (subscription(dated(1, 9), dated(3, 5)), (3, 5)),
        ({"id": "sub_1", "customer": "cus_9", "current_period_start": 4, "current_period_end": 6}, (4, 6)),
        (subscription({"id": "si_1"}), (None, None)),
    ],
)  # fmt: skip
def test_the_period_wherever_it_stands(shown: dict[str, Any], period: tuple[int, int]) -> None:
    made = fact(event("customer.subscription.updated", shown))
    assert (made.fields[PERIOD_START], made.fields[PERIOD_END]) == period


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        ({"paid": True, "closed": True}, "paid"),
        ({"paid": False, "closed": True}, "void"),
        ({"paid": False, "forgiven": True}, "uncollectible"),
        ({"paid": False, "attempted": True}, "open"),
        ({"paid": False}, "draft"),
    ],
)
def test_invoices_before_2018_have_flags_for_a_status(flags: dict[str, bool], status: str) -> None:
    shown = {"id": "in_1", "object": "invoice", "customer": "cus_9", "amount_due": 700, "currency": "usd", **flags}
    made = fact(event("invoice.payment_succeeded", shown))
    assert made.fields[STATUS] == status


@pytest.mark.parametrize(
    "found",
    [
        event("charge.succeeded", charge(customer=None)),
        event("invoice.created", {"id": "in_1", "object": "invoice"}),
        event("payment_method.detached", {"id": "pm_1", "customer": None}),
        event("charge.dispute.created", {"id": "dp_1"}),
        event("v1.product.updated", {"id": "prod_1"}),
    ],
)
def test_what_belongs_to_nobody_is_skipped(found: RawEvent) -> None:
    with pytest.raises(Skipped):
        said(found)


@pytest.mark.parametrize(
    "body", [b"{}", b'{"data": {}}', b'{"data": {"object": []}}', b'{"data": {"object": {"id": 7}}}']
)
def test_what_no_version_of_stripe_sends_is_permanent(body: bytes) -> None:
    with pytest.raises(Permanent):
        said(RawEvent(id="evt_1", kind="customer.updated", body=body))


ODD: tuple[Any, ...] = (
    None, "", 0, -1, 1.5, True, [], {}, "x", 10**30, -(10**30), [None], [[]], {"id": None}, {"data": [None, 1]},
    {"data": {}}, "1E-999999", "NaN", "\ud800\x00", 1e308, [{"id": 3}], 253402300800, {"object": {"id": "a"}},
)  # fmt: skip


def test_fixtures_with_anything_anywhere_never_crash() -> None:
    """Payloads with one to four nodes exchanged or missing make a fact, a skip or a dead letter, never a bug."""
    dice = random.Random(17)
    documents = [(one.kind, json.loads(one.body)) for one in FIXTURES]
    facts = 0
    for _ in range(3_000):
        kind, document = dice.choice(documents)
        body = json.dumps(damaged(document, dice)).encode()
        try:
            found = said(RawEvent(id="evt_1", kind=kind, body=body))
        except (Skipped, Permanent):
            continue
        made = [one for one in found if isinstance(one, Fact)]
        for one in made:
            admit("stripe", one, received_at=T0 * 1_000_000)
        facts += len(made)
    assert facts > 1_500


def damaged(document: Any, dice: random.Random) -> Any:
    made = json.loads(json.dumps(document))
    for _ in range(dice.randint(1, 4)):
        *path, last = dice.choice(list(places(made)))
        around = made
        for step in path:
            around = around[step]
        if isinstance(around, dict) and dice.random() < 0.25:
            del around[last]
        else:
            around[last] = dice.choice(ODD)
        made = json.loads(json.dumps(made))
        if not made:
            break
    return made


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in inside:
        yield (*path, step)
        yield from places(child, (*path, step))


def test_a_wrong_override_is_named_with_its_place() -> None:
    rule = {"customer.balance": {"attribute": "credit", "convert": "coins"}}
    with pytest.raises(Config, match=r"^shop\.toml: unknown converter 'coins' for customer\.balance"):
        connector.fields.overridden(rule, where="shop.toml")


def test_every_operators_override_reaches_the_person() -> None:
    overrides = {
        "subscription.status": "billing_status",
        "subscription.metadata.seats": "seats",
        "subscription.plan.product": "product",
        "subscription.trial_end": False,
        "charge.description": "last_charge_text",
        "invoice.hosted_invoice_url": "invoice_url",
        "customer.balance": {"attribute": "credit", "convert": "money"},
        "customer.phone": False,
    }
    fields = connector.fields.overridden(overrides, where="test")
    owner = fact(event("customer.updated", customer(balance=250, phone="1")), fields).fields
    assert owner["credit"] == 2.5
    assert {"phone", "stripe_account_balance"}.isdisjoint(owner)
    shown = (
        subscription(item(price=price(product="prod_7")), metadata={"seats": "12"}, trial_end=T0 + DAY),
        charge(description="Pro, September"),
        invoice(hosted_invoice_url="https://pay.example.com/1"),
    )
    got = summary([part(read(one), fields) for one in shown])
    assert (got["billing_status"], got["seats"], got["product"]) == ("active", "12", "prod_7")
    assert (got["last_charge_text"], got["invoice_url"]) == ("Pro, September", "https://pay.example.com/1")
    assert {"stripe_subscription_status", "stripe_trial_end_at"}.isdisjoint(got)
    assert (got["stripe_plan_price"], got["stripe_last_charge_amount"], got["stripe_mrr"]) == (10.0, 10.0, 10.0)
