"""Two customers of one person: which is shown, what is added up, what is the earliest and the latest."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from tests.connectors.stripe.shapes import (
    DAY,
    T0,
    charge,
    customer,
    fact,
    invoice,
    item,
    part,
    parts,
    price,
    read,
    subscription,
)

from upkept.contract import WITHDRAWN, RecordRef, Said, Whole
from upkept_stripe import connector
from upkept_stripe.combine import combine
from upkept_stripe.money import added
from upkept_stripe.summarize import summarize


def whole(id: str, *shown: dict[str, Any], created: int = T0, **more: Any) -> Whole:
    """A customer with these subscriptions, invoices and charges."""
    fields = fact(read(customer(id=id, created=created, **more))).fields
    summary = summarize(fields, parts(*shown))
    return Whole(
        ref=RecordRef("customer", id), fields=fields, summary={name: one.value for name, one in summary.items()}
    )


def together(*customers: Whole) -> dict[str, Said]:
    """What they say together, whatever their order; what they say nothing of left out."""
    wanted = combine(customers)
    assert all(combine(order) == wanted for order in permutations(customers))
    return {name: one.value for name, one in wanted.items() if one.value is not WITHDRAWN}


def plan(name: str, amount: int = 1000, currency: str = "usd", **more: Any) -> dict[str, Any]:
    sold = item(price=price(amount, nickname=name, currency=currency))
    return subscription(sold, id=f"sub_{name}", currency=currency, **more)


def test_an_active_subscription_is_shown_however_late_another_customers_was_canceled() -> None:
    pays = whole("cus_1", plan("Pro", created=T0), balance=-500, currency="usd")
    left = whole("cus_2", plan("Old", created=T0 + DAY, status="canceled"), created=T0 + DAY, balance=900)
    said = together(pays, left)
    assert said["stripe_subscription_status"] == "active"
    assert (said["stripe_id"], said["stripe_plan"], said["stripe_created_at"]) == ("cus_1", "Pro", T0)
    assert said["stripe_account_balance"] == -5.0
    assert [said[f"stripe_{name}subscriptions_count"] for name in ("", "active_")] == [2, 1]
    assert "email" not in said, "what Stripe shares with others goes by the rule of all"
    assert not [name for name in said if name.startswith("_")]


@pytest.mark.parametrize(
    ("main", "other"),
    [
        (plan("A", status="trialing", created=T0), plan("B", status="past_due", created=T0 + 1)),
        (plan("A", created=T0 + 1), plan("B", created=T0)),
        (plan("B", created=T0), plan("A", created=T0)),
    ],
)
def test_the_main_customer_is_that_of_the_best_then_the_newest_subscription(main: Any, other: Any) -> None:
    two = whole("cus_1", main, created=T0), whole("cus_2", other, created=T0 + DAY)
    assert together(*two)["stripe_id"] == "cus_1"


def test_without_a_subscription_it_is_the_newest_customer() -> None:
    old, new = whole("cus_5", charge(), created=T0), whole("cus_2", created=T0 + 1)
    assert together(old, new)["stripe_id"] == "cus_2"
    assert together(whole("cus_1"), whole("cus_2"))["stripe_id"] == "cus_2", "of one second the greater id"
    assert together(whole("cus_1", plan("A", status="incomplete_expired")), new)["stripe_id"] == "cus_1"


def test_money_is_added_up_in_the_currency_of_the_main_one_to_the_cent() -> None:
    customers = [
        whole("cus_1", plan("A", 1010, created=T0 + 2), charge("ch_1", 1010)),
        whole("cus_2", plan("B", 2020, created=T0 + 1), charge("ch_2", 2020)),
        whole("cus_3", plan("C", 9900, "eur"), charge("ch_3", 9900, currency="eur")),
    ]
    said, made = together(*customers), combine(customers)
    assert (said["stripe_currency"], said["stripe_mrr"], said["stripe_lifetime_value"]) == ("usd", 30.3, 30.3)
    assert said["stripe_subscriptions_count"] == 3
    assert [ref.id for ref in made["stripe_mrr"].used] == ["cus_1", "cus_2"]
    assert [ref.id for ref in made["stripe_plan"].used] == ["cus_1", "cus_2", "cus_3"], "the deciding one first"
    assert added([0.1] * 3, "usd") == 0.3
    assert added([500.0, 1.0, None], "jpy") == 501.0
    assert added([5.125, 0.001], "kwd") == 5.126


def test_without_a_currency_of_the_main_one_it_is_that_of_the_next() -> None:
    said = together(whole("cus_2", created=T0 + DAY), whole("cus_1", charge("ch_1", 700, currency="eur")))
    assert (said["stripe_id"], said["stripe_currency"], said["stripe_lifetime_value"]) == ("cus_2", "eur", 7.0)


def test_nothing_paid_in_that_currency_is_zero() -> None:
    paid = whole("cus_2", charge("ch_1", 700, currency="eur"))
    assert together(whole("cus_1", plan("A")), paid)["stripe_lifetime_value"] == 0.0


def test_the_next_invoice_is_the_earliest_and_so_is_past_due() -> None:
    late: dict[str, Any] = {"status": "past_due", "created": T0 - DAY}
    due = [invoice(f"in_{n}", 0, status="open", subscription=f"sub_{n}", due_date=T0 - n * DAY) for n in (3, 5)]
    customers = [
        whole("cus_1", plan("A", current_period_start=T0, current_period_end=T0 + 20 * DAY)),
        whole("cus_2", plan("3", current_period_start=T0, current_period_end=T0 + 9 * DAY, **late), due[0]),
        whole("cus_3", plan("5", current_period_start=T0, current_period_end=T0 + 30 * DAY, **late), due[1]),
    ]
    said = together(*customers)
    assert said["stripe_subscription_status"] == "active"
    assert said["stripe_next_invoice_at"] == T0 + 9 * DAY
    assert said["stripe_past_due_since"] == T0 - 5 * DAY
    assert together(*customers[:1], whole("cus_9"))["stripe_past_due_since"] is None


def test_the_last_charge_and_the_last_failure_are_the_latest_of_all() -> None:
    one = whole("cus_1", plan("A"), charge("ch_1", 1000, created=T0 + 5), charge("ch_2", status="failed", created=T0))
    two = whole("cus_2", charge("ch_3", 250, created=T0 + 9), charge("ch_4", status="failed", created=T0 - 1))
    said = together(one, two)
    assert (said["stripe_last_charge_amount"], said["stripe_last_charge_at"]) == (2.5, T0 + 9)
    assert said["stripe_last_charge_failed_at"] == T0


def test_the_person_is_delinquent_if_one_customer_is() -> None:
    one, other = whole("cus_1", plan("A"), delinquent=False), whole("cus_2", delinquent=True)
    assert together(one, other)["stripe_delinquent"] is True
    assert together(one, whole("cus_2", delinquent=False))["stripe_delinquent"] is False


def test_what_is_the_main_ones_is_unknown_where_it_is_unknown_there() -> None:
    card = {"brand": "visa", "exp_month": 8, "exp_year": 2030}
    paid = charge("ch_1", payment_method_details={"type": "card", "card": card})
    discount = {"object": "discount", "customer": "cus_2", "start": T0, "end": None, "coupon": {"id": "LOYAL"}}
    other = whole("cus_2", paid, discount=discount)
    assert (other.summary["stripe_card_brand"], other.fields["stripe_coupon"]) == ("visa", "LOYAL")
    assert not {"stripe_card_brand", "stripe_coupon"} & together(whole("cus_1", plan("A")), other).keys()


def test_what_an_operator_mapped_is_the_main_ones_if_it_is_of_a_part_and_renaming_changes_no_choice() -> None:
    mapped = connector.fields.overridden(
        {"subscription.status": "level", "subscription.metadata.team": "team"}, where="test"
    )

    def of(id: str, team: str, **more: Any) -> Whole:
        made = summarize({}, [part(read(plan(id, metadata={"team": team}, **more)), mapped)])
        return Whole(ref=RecordRef("customer", id), fields={}, summary={n: one.value for n, one in made.items()})

    said = together(of("cus_1", "blue"), of("cus_2", "red", status="canceled", created=T0 + DAY))
    assert (said["team"], said["level"]) == ("blue", "active")


def test_one_alone_says_what_it_says() -> None:
    alone = whole("cus_1", plan("A"), charge())
    own = {name: value for name, value in alone.fields.items() if name.startswith("stripe_")}
    shown = {name: value for name, value in alone.summary.items() if not name.startswith("_")}
    assert together(alone) == own | shown
