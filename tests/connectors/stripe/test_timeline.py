"""Billing events on the timeline: named once for what happened, however often it is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.connectors.stripe.shapes import (
    DAY,
    OWNER,
    T0,
    charge,
    event,
    invoice,
    item,
    price,
    read,
    said,
    subscription,
    told,
)

from upkept.contract import Fact, RecordRef, TimelineEvent


def happened(kind: str, shown: dict[str, Any], **more: Any) -> TimelineEvent:
    found = told(event(kind, shown, **more))
    assert found is not None
    return found


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def test_subscription_created_and_cancelled() -> None:
    pro = subscription(item(3, price=price(1999, nickname="Pro")))
    made = happened("customer.subscription.created", pro, created=T0 + 2)
    assert made == TimelineEvent(
        record=OWNER, name="subscription created", id="sub_1:customer.subscription.created", at=at(T0),
        metadata={
            "subscription": "sub_1", "status": "active", "plan": "Pro",
            "amount": 19.99, "currency": "usd", "quantity": 3,
        },
    )  # fmt: skip
    ended = happened("customer.subscription.deleted", {**pro, "status": "canceled", "ended_at": T0 + DAY})
    assert (ended.name, ended.at) == ("subscription cancelled", at(T0 + DAY))


def test_subscription_paused_and_resumed_each_time() -> None:
    pro = subscription(item(3, price=price(1999, nickname="Pro")), status="paused")
    first, again = (happened("customer.subscription.paused", pro, created=T0 + second) for second in (1, 9))
    assert (first.name, first.at, first.metadata["status"]) == ("subscription paused", at(T0 + 1), "paused")
    assert first.id != again.id
    resumed = happened("customer.subscription.resumed", {**pro, "status": "active"}, created=T0 + 5)
    assert (resumed.name, resumed.metadata["status"]) == ("subscription resumed", "active")


def change(before: dict[str, Any] | None, **more: Any) -> TimelineEvent | None:
    shown = subscription(item(2, price=price(4900, id="price_team", nickname="Team")), **more)
    return told(event("customer.subscription.updated", shown, before=before))


def items(*found: dict[str, Any]) -> dict[str, Any]:
    return {"items": {"object": "list", "data": list(found)}}


TEAM = price(4900, id="price_team", nickname="Team")


@pytest.mark.parametrize(
    ("before", "now", "metadata"),
    [
        ({"status": "trialing"}, {}, {"previous_status": "trialing"}),
        (items(item(2, price=price(nickname="Pro"))), {}, {"previous_plan": "Pro"}),
        (items(item(1, price=TEAM)), {}, {"previous_quantity": 1}),
        (items(item(1, price=price(nickname="Pro"))), {}, {"previous_plan": "Pro", "previous_quantity": 1}),
        (items(item(2, price=TEAM), item(1, price=price(1, id="price_x"))), {}, {"items": 1}),
        ({"cancel_at_period_end": False, "cancel_at": None}, {"cancel_at_period_end": True, "cancel_at": T0 + DAY},
         {"cancel_at_period_end": True, "cancel_at": T0 + DAY}),
        ({"cancel_at": T0}, {"cancel_at": None}, {}),
        ({"pause_collection": None}, {"pause_collection": {"behavior": "void"}}, {"collection_paused": True}),
        (None, {}, {}),
    ],
)  # fmt: skip
def test_a_change_that_matters(before: Any, now: dict[str, Any], metadata: dict[str, Any]) -> None:
    found = change(before, **now)
    assert found is not None
    assert found.name == "subscription changed"
    assert dict(found.metadata) == {
        "subscription": "sub_1", "status": "active", "plan": "Team", "amount": 49.0, "currency": "usd", "quantity": 2,
        **metadata,
    }  # fmt: skip


@pytest.mark.parametrize(
    "before",
    [
        {"latest_invoice": "in_1", "current_period_end": T0, "current_period_start": T0 - DAY},
        {**items(item(2, price=TEAM, current_period_end=T0)), "latest_invoice": "in_1"},
        {"default_payment_method": "pm_1"},
        {"metadata": {}},
        {"status": "active"},
        {},
    ],
)
def test_a_renewal_or_a_trifle_is_no_change(before: dict[str, Any]) -> None:
    assert change(before) is None


def test_a_plan_changed_before_there_were_items() -> None:
    basic = {"id": "basic", "name": "Basic", "amount": 900, "interval": "month", "currency": "usd"}
    shown = {
        "id": "sub_1",
        "customer": "cus_9",
        "status": "active",
        "plan": {**basic, "id": "pro", "name": "Pro"},
        "quantity": 1,
    }
    found = told(event("customer.subscription.updated", shown, before={"plan": basic}))
    assert found is not None
    assert (found.metadata["plan"], found.metadata["previous_plan"]) == ("Pro", "Basic")
    renamed = told(event("customer.subscription.updated", shown, before={"plan": {"name": "Professional"}}))
    assert renamed is None


def test_two_changes_in_one_second_are_two_and_one_told_twice_is_one() -> None:
    first, second = change({"status": "trialing"}), change({"status": "past_due"})
    assert first is not None
    assert second is not None
    assert first.id != second.id
    assert first == change({"status": "trialing"})


def test_a_trial_will_end_once_for_each_end() -> None:
    ends = [happened("customer.subscription.trial_will_end", subscription(trial_end=T0 + n)) for n in (1, 1, 2)]
    assert [one.name for one in ends] == ["trial will end"] * 3
    assert len({one.id for one in ends}) == 2
    assert ends[0].metadata["trial_end"] == T0 + 1


def test_an_invoice_is_paid_once_whoever_says_so() -> None:
    shown = invoice(status_transitions={"paid_at": T0 + 4}, number="A-1", subscription="sub_1")
    paid = happened("invoice.paid", shown, created=T0 + 5)
    assert paid == happened("invoice.payment_succeeded", shown, created=T0 + 6)
    assert (paid.name, paid.id, paid.at) == ("invoice paid", "in_1:invoice.paid", at(T0 + 4))
    assert paid.metadata == {
        "amount": 10.0,
        "currency": "usd",
        "invoice": "in_1",
        "number": "A-1",
        "subscription": "sub_1",
    }


@pytest.mark.parametrize(
    ("line", "plan"),
    [
        ({"price": price(nickname="Pro")}, "Pro"),
        ({"plan": {"id": "pro", "name": "Pro"}, "price": None}, "Pro"),
        ({"pricing": {"price_details": {"price": "price_pro"}}}, "price_pro"),
        ({"amount": 5}, None),
    ],
)
def test_the_plan_an_invoice_bills(line: dict[str, Any], plan: str | None) -> None:
    assert happened("invoice.paid", invoice(lines={"data": [{"id": "il_1"}, line]})).metadata.get("plan") == plan


def test_each_failed_attempt_counts() -> None:
    shown = invoice(paid=0, status="open", amount_due=1999)
    ids = {happened("invoice.payment_failed", {**shown, "attempt_count": n}).id for n in (1, 2, 2)}
    assert ids == {"in_1:invoice.payment_failed:1", "in_1:invoice.payment_failed:2"}
    assert happened("invoice.payment_failed", shown).metadata["amount"] == 19.99


def test_a_charge_succeeds_when_money_is_taken() -> None:
    made = happened("charge.succeeded", charge(amount=500, currency="jpy", invoice="in_1"), created=T0 + 9)
    assert made == TimelineEvent(
        record=OWNER, name="charge succeeded", id="ch_1:charge.succeeded", at=at(T0),
        metadata={"amount": 500, "currency": "jpy", "charge": "ch_1", "invoice": "in_1"},
    )  # fmt: skip
    assert told(event("charge.succeeded", charge(amount_captured=0, captured=False))) is None
    captured = happened("charge.captured", charge(amount_captured=600))
    assert (captured.id, captured.metadata["amount"]) == ("ch_1:charge.succeeded", 6.0)


def test_a_charge_fails_with_its_reason() -> None:
    shown = charge(
        status="failed", amount_captured=0, failure_code="card_declined", failure_message="Call 555-0100, Ann"
    )
    failed = happened("charge.failed", shown)
    assert failed.name == "charge failed"
    assert failed.metadata == {"amount": 10.0, "currency": "usd", "charge": "ch_1", "reason": "card_declined"}


def test_two_refunds_of_one_charge_are_two_events() -> None:
    first = happened("charge.refunded", charge(amount_refunded=300), before={"amount_refunded": 0})
    second = happened("charge.refunded", charge(amount_refunded=500), before={"amount_refunded": 300})
    assert (first.id, second.id) == ("ch_1:charge.refunded:300", "ch_1:charge.refunded:500")
    assert (second.metadata["amount"], second.metadata["refunded_in_total"]) == (2.0, 5.0)
    assert first == happened("charge.refunded", charge(amount_refunded=300), before={"amount_refunded": 0})


def test_a_dispute_stands_with_its_charge_until_the_customer_is_known() -> None:
    shown = {"id": "dp_1", "object": "dispute", "charge": "ch_1", "amount": 1000, "currency": "usd", "created": T0,
             "reason": "fraudulent", "status": "needs_response"}  # fmt: skip
    made = happened("charge.dispute.created", shown, created=T0 + 3)
    assert (made.record, made.name, made.at) == (RecordRef("charge", "ch_1"), "charge disputed", at(T0))
    (stated,) = [one for one in said(event("charge.dispute.created", shown)) if isinstance(one, Fact)]
    assert (stated.record, stated.owner, stated.snapshot) == (RecordRef("charge", "ch_1"), None, False)
    closed = happened("charge.dispute.closed", {**shown, "charge": charge(), "status": "lost"})
    assert (closed.record, closed.name, closed.metadata["status"]) == (OWNER, "charge dispute closed", "lost")
    assert told(event("charge.dispute.updated", shown)) is None


def test_reads_make_no_timeline() -> None:
    for shown in (subscription(status="canceled"), charge(), invoice()):
        assert all(isinstance(one, Fact) for one in said(read(shown)))
