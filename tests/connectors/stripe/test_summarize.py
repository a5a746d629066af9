"""The billing context of a customer, from its parts."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from tests.connectors.stripe.shapes import (
    DAY,
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

from upkept.contract import Fact, Part, RecordRef, Summary
from upkept_stripe import connector
from upkept_stripe.fields import FIELDS
from upkept_stripe.summarize import OF_MAIN_SUBSCRIPTION, summarize


def card(id: str = "pm_1", brand: str = "visa", year: int = 2030, **more: Any) -> dict[str, Any]:
    shown = {"brand": brand, "exp_month": 8, "exp_year": year}
    return {"id": id, "object": "payment_method", "customer": "cus_9", "card": shown, "created": T0, **more}


def attached(**more: Any) -> Part:
    return part(event("payment_method.attached", card(**more)))


def test_the_whole_context() -> None:
    shown = subscription(
        item(3, price=price(1999, nickname="Pro")),
        current_period_start=T0,
        current_period_end=T0 + 30 * DAY,
        default_payment_method="pm_1",
    )
    context = summary([*parts(shown, charge(amount=5997, created=T0 + 1), invoice(paid=5997)), attached()])
    assert context == {
        "stripe_subscription_status": "active",
        "stripe_plan": "Pro",
        "stripe_plan_price": 19.99,
        "stripe_plan_interval": "month",
        "stripe_plan_interval_count": 1,
        "stripe_subscription_period_start_at": T0,
        "stripe_subscription_period_end_at": T0 + 30 * DAY,
        "stripe_cancel_at_period_end": False,
        "stripe_cancel_at": None,
        "stripe_trial_end_at": None,
        "stripe_mrr": 59.97,
        "stripe_subscriptions_count": 1,
        "stripe_active_subscriptions_count": 1,
        "stripe_next_invoice_at": T0 + 30 * DAY,
        "stripe_past_due_since": None,
        "stripe_currency": "usd",
        "stripe_lifetime_value": 59.97,
        "stripe_last_charge_amount": 59.97,
        "stripe_last_charge_at": T0 + 1,
        "stripe_card_brand": "visa",
        "stripe_card_expires_at": 1_914_451_199,  # the last second of August 2030
    }


def test_the_unchanged_field_map_and_the_summary_agree() -> None:
    """What `summarize` makes of the main subscription is what the field map's table says."""
    shown = subscription(
        item(price=price(1999, nickname="Pro")), trial_end=T0, cancel_at=T0 + DAY, cancel_at_period_end=True
    )
    mapped = connector.fields.overridden({"subscription.metadata.x": "x"}, where="test")
    assert summary([part(read(shown))]) == summary([part(read(shown), mapped)])
    assert {rule.attribute for rule in FIELDS.for_type("subscription")} == {name for name, _ in OF_MAIN_SUBSCRIPTION}
    changed = connector.fields.overridden({"charge.metadata.x": "x"}, where="test")
    assert summary([part(read(charge()))]) == summary([part(read(charge()), changed)])


def test_nothing_known_says_nothing() -> None:
    assert summarize({}, []) == {}


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("active", "trialing"),
        ("trialing", "past_due"),
        ("past_due", "unpaid"),
        ("unpaid", "paused"),
        ("paused", "incomplete"),
        ("incomplete", "canceled"),
        ("canceled", "incomplete_expired"),
        ("incomplete_expired", "a status of next year"),
    ],
)
def test_the_best_status_is_shown_however_old(better: str, worse: str) -> None:
    one = subscription(id="sub_a", status=better, created=T0)
    other = subscription(id="sub_b", status=worse, created=T0 + DAY)
    assert summary(parts(one, other))["stripe_subscription_status"] == better


def test_of_equals_the_newest_is_shown_then_the_greater_id() -> None:
    def shown(id: str, created: int) -> dict[str, Any]:
        return subscription(item(price=price(nickname=id)), id=id, created=created)

    three = parts(shown("sub_a", T0), shown("sub_c", T0 + 1), shown("sub_b", T0 + 1))
    assert {summary(order)["stripe_plan"] for order in permutations(three)} == {"sub_c"}


def test_several_subscriptions_add_up() -> None:
    context = summary(
        parts(
            subscription(item(price=price(1000)), id="sub_a"),
            subscription(item(price=price(500)), id="sub_b", status="past_due"),
            subscription(item(price=price(7000)), id="sub_c", status="trialing"),
            subscription(item(price=price(9000)), id="sub_d", status="unpaid"),
            subscription(item(price=price(9000)), id="sub_e", status="canceled"),
            subscription(item(price=price(300, currency="eur")), id="sub_f", currency="eur", created=T0 - DAY),
        )
    )
    assert context["stripe_mrr"] == 15.0
    assert context["stripe_currency"] == "usd"
    assert context["stripe_subscriptions_count"] == 6
    assert context["stripe_active_subscriptions_count"] == 4


LOYAL = {"id": "LOYAL", "object": "coupon", "duration": "forever", "percent_off": 10.0}


def coupon_told(coupon: Any, kind: str = "created") -> list[Any]:
    shown = {"id": "di_1", "object": "discount", "customer": "cus_9", "subscription": None}
    return said(event(f"customer.discount.{kind}", {**shown, "source": {"type": "coupon", "coupon": coupon}}))


def test_the_customers_coupon_comes_off_every_subscription_without_a_discount() -> None:
    own = {"id": "di_9", "coupon": {**LOYAL, "id": "HALF", "percent_off": 50}}
    bought = parts(subscription(id="sub_a"), subscription(id="sub_b"), subscription(id="sub_c", discounts=[own]))
    on_customer, of_coupon = coupon_told(LOYAL)
    held = [*bought, Part(ref=of_coupon.record, fields=of_coupon.fields, deleted=False)]
    assert summary(held, on_customer.fields)["stripe_mrr"] == 23.0
    assert of_coupon.record in summarize(on_customer.fields, held)["stripe_mrr"].used
    (other,) = coupon_told("WINTER", "updated")
    assert other.fields["stripe_coupon"] == "WINTER"
    assert summary(held, other.fields)["stripe_mrr"] == 25.0, "what WINTER takes off nobody said"
    (ended,) = coupon_told("LOYAL", "deleted")
    assert (ended.fields["stripe_coupon"], ended.sequence < on_customer.sequence) == (None, True)
    assert summary(held, ended.fields)["stripe_mrr"] == 25.0


def test_a_coupon_reads_the_same_in_every_shape_of_the_customer() -> None:
    inline = {"object": "discount", "customer": "cus_9", "start": T0, "end": None}
    for shown in ({"coupon": LOYAL}, {"id": "di_1", "source": {"coupon": LOYAL, "type": "coupon"}}):
        made: list[Any] = said(event("customer.updated", customer(discount={**inline, **shown})))
        assert [one.fields.get("stripe_coupon", one.fields.get("_co")) for one in made] == ["LOYAL", "LOYAL"]
    (named,) = said(event("customer.updated", customer(discount={**inline, "source": {"coupon": "LOYAL"}})))
    assert isinstance(named, Fact)
    assert named.fields["stripe_coupon"] == "LOYAL"
    assert fact(event("customer.updated", customer(discount=None))).fields["stripe_coupon"] is None
    assert "stripe_coupon" not in fact(event("customer.updated", customer())).fields


def test_revenue_of_one_that_is_over_is_zero_and_not_unknown() -> None:
    context = summary(parts(subscription(status="canceled")))
    assert context["stripe_mrr"] == 0.0
    assert context["stripe_next_invoice_at"] is None


@pytest.mark.parametrize(
    ("more", "next_at"),
    [
        ({}, T0 + 30 * DAY),
        ({"cancel_at_period_end": True}, None),
        ({"cancel_at": T0 + 30 * DAY}, None),
        ({"cancel_at": T0 + 10 * DAY}, None),
        ({"cancel_at": T0 + 60 * DAY}, T0 + 30 * DAY),
        ({"status": "trialing"}, T0 + 30 * DAY),
        ({"status": "past_due"}, T0 + 30 * DAY),
        ({"status": "paused"}, None),
        ({"status": "canceled"}, None),
    ],
)
def test_the_next_invoice(more: dict[str, Any], next_at: int | None) -> None:
    assert summary(parts(subscription(**more)))["stripe_next_invoice_at"] == next_at


def test_past_due_since_is_when_it_was_said_to_be() -> None:
    told = event(
        "customer.subscription.updated", subscription(status="past_due"), created=T0 + 5, before={"status": "active"}
    )
    assert summary([part(told)])["stripe_past_due_since"] == T0 + 5
    worse = event(
        "customer.subscription.updated", subscription(status="unpaid"), created=T0 + 9, before={"status": "past_due"}
    )
    assert "_pd" not in fact(worse).fields
    good = event("customer.subscription.updated", subscription(), created=T0 + 12, before={"status": "past_due"})
    assert fact(good).fields["_pd"] is None


def test_past_due_since_is_else_when_the_oldest_open_invoice_fell_due() -> None:
    due = subscription(status="past_due", current_period_start=T0 - DAY, current_period_end=T0 + DAY)
    bills = (
        invoice("in_1", 0, status="open", subscription="sub_1", status_transitions={"finalized_at": T0 + 70}),
        invoice("in_2", 0, status="open", parent={"subscription_details": {"subscription": "sub_1"}}, due_date=T0 + 60),
        invoice("in_3", 0, status="paid", subscription="sub_1", created=T0 - 9 * DAY),
        invoice("in_4", 0, status="open", subscription="sub_2", created=T0 - 9 * DAY),
    )
    assert summary(parts(due, *bills))["stripe_past_due_since"] == T0 + 60
    assert summary(parts(due))["stripe_past_due_since"] == T0 - DAY


def paid_in_all(*shown: dict[str, Any]) -> Any:
    return summary(parts(*shown))["stripe_lifetime_value"]


def test_an_invoice_and_its_charge_are_one_payment() -> None:
    assert paid_in_all(invoice(), charge(invoice="in_1")) == 10.0
    assert paid_in_all(invoice(charge="ch_1"), charge()) == 10.0
    assert paid_in_all(invoice(charge={"id": "ch_1"}), charge()) == 10.0
    assert paid_in_all(invoice(payment_intent="pi_1"), charge(payment_intent="pi_1")) == 10.0
    payments = {"data": [{"payment": {"type": "payment_intent", "payment_intent": {"id": "pi_1"}}}]}
    assert paid_in_all(invoice(payments=payments), charge(payment_intent="pi_1", amount=1000)) == 10.0
    # Since basil neither names the other.
    assert paid_in_all(invoice(), charge(payment_intent="pi_1")) == 10.0
    assert paid_in_all(invoice("in_1"), invoice("in_2"), charge("ch_1"), charge("ch_2")) == 20.0


def test_what_no_charge_explains_counts_too() -> None:
    assert paid_in_all(invoice(paid_out_of_band=True)) == 10.0
    assert paid_in_all(invoice(paid_out_of_band=True), charge()) == 20.0
    assert paid_in_all(invoice(amount_paid_off_stripe=400, paid=1000), charge(amount=600)) == 10.0
    assert paid_in_all(invoice("in_1"), invoice("in_2", 700), charge("ch_1")) == 17.0
    assert paid_in_all(invoice("in_1"), invoice("in_2"), charge("ch_1")) == 20.0
    assert paid_in_all(invoice("in_1", charge="ch_1"), charge("ch_1"), invoice("in_2")) == 20.0
    assert paid_in_all(invoice(paid=1000, charge="ch_1"), charge(amount=600)) == 10.0
    assert paid_in_all(invoice(paid=1000, status="open"), charge("ch_9", 250)) == 12.5


def test_money_that_went_back_does_not_count() -> None:
    assert paid_in_all(charge(amount_refunded=300)) == 7.0
    assert paid_in_all(charge(amount_refunded=1000), invoice(charge="ch_1")) == 0.0
    lost = replace_fields(part(read(charge())), _d="lost", _da=1000)
    assert summary([lost])["stripe_lifetime_value"] == 0.0
    assert summary([replace_fields(lost, _d="won")])["stripe_lifetime_value"] == 10.0
    assert summary([replace_fields(lost, _r=300)])["stripe_lifetime_value"] == 0.0


def replace_fields(one: Part, **more: Any) -> Part:
    return one._replace(fields={**one.fields, **more})


def test_what_was_never_taken_does_not_count() -> None:
    assert paid_in_all(charge(status="failed", amount_captured=0)) == 0.0
    assert paid_in_all(charge(status="pending")) == 0.0
    assert paid_in_all(charge(amount_captured=0, captured=False)) == 0.0
    assert paid_in_all(charge(amount_captured=250)) == 2.5
    old = {name: value for name, value in charge().items() if name != "amount_captured"}
    assert paid_in_all({**old, "captured": False}) == 0.0
    assert paid_in_all({**old, "captured": True}) == 10.0
    assert paid_in_all(invoice(paid=0, status="open")) == 0.0
    assert paid_in_all(invoice(status="void")) == 0.0


def test_currencies_are_not_added_up() -> None:
    yen = charge("ch_2", 500, currency="jpy", created=T0 + 1)
    assert summary(parts(charge(), yen))["stripe_lifetime_value"] == 500
    assert summary(parts(charge(), yen, subscription()))["stripe_lifetime_value"] == 10.0


@pytest.mark.parametrize(
    ("currency", "amounts"), [("jpy", (1000.0, 3000.0)), ("usd", (10.0, 30.0)), ("kwd", (1.0, 3.0))]
)
def test_an_amount_has_one_type_in_every_currency(currency: str, amounts: tuple[float, float]) -> None:
    """Whoever filters by an amount, or exports it, must not meet integers of yen among decimals."""
    of: dict[str, Any] = {"currency": currency}
    billed = subscription(item(price=price(1000, **of)), **of)
    owed = fact(event("customer.updated", customer(balance=3000, **of))).fields
    context = summary(parts(billed, charge(amount=3000, **of)), owed)
    names = ("stripe_plan_price", "stripe_mrr", "stripe_lifetime_value", "stripe_last_charge_amount")
    shown = [*(context[name] for name in names), owed["stripe_account_balance"]]
    assert shown == [amounts[0], amounts[0], *[amounts[1]] * 3]
    assert {type(one) for one in shown} == {float}
    invoiced = summary(parts(invoice(paid=3000, **of)))
    assert type(invoiced["stripe_lifetime_value"]) is type(invoiced["stripe_last_charge_amount"]) is float


def test_the_last_charge_is_the_newest_that_took_money() -> None:
    context = summary(
        parts(
            charge("ch_1", 100, created=T0),
            charge("ch_2", 200, created=T0 + 5, amount_captured=150),
            charge("ch_3", 300, created=T0 + 9, status="failed", amount_captured=0),
        )
    )
    assert (context["stripe_last_charge_amount"], context["stripe_last_charge_at"]) == (1.5, T0 + 5)
    assert context["stripe_last_charge_failed_at"] == T0 + 9


def test_of_two_charges_in_one_second_the_greater_id_is_last() -> None:
    two = parts(charge("ch_1", 100), charge("ch_2", 200))
    assert {summary(order)["stripe_last_charge_amount"] for order in permutations(two)} == {2.0}


def test_where_no_charge_was_told_of_the_paid_invoice_is_one() -> None:
    context = summary(parts(invoice(status_transitions={"paid_at": T0 + 3}), invoice("in_2", paid_out_of_band=True)))
    assert (context["stripe_last_charge_amount"], context["stripe_last_charge_at"]) == (10.0, T0 + 3)


def test_which_card() -> None:
    on_file = [attached(id="pm_1"), attached(id="pm_2", brand="amex", created=T0 + 5), attached(id="pm_3", brand="jcb")]
    named = part(read(subscription(default_payment_method="pm_3")))
    default = fact(event("customer.updated", customer(invoice_settings={"default_payment_method": "pm_1"}))).fields
    assert summary([*on_file, named], default)["stripe_card_brand"] == "jcb"
    assert summary(on_file, default)["stripe_card_brand"] == "visa"
    assert summary(on_file)["stripe_card_brand"] == "amex"
    gone = part(event("payment_method.detached", card("pm_2", customer=None), before={"customer": "cus_9"}))
    assert summary([on_file[0], gone])["stripe_card_brand"] == "visa"
    assert "stripe_card_brand" not in summary([gone])


def test_the_card_that_was_charged_will_do() -> None:
    details = {"type": "card", "card": {"brand": "visa", "exp_month": 12, "exp_year": 2027}}
    context = summary(parts(charge(payment_method="pm_9", payment_method_details=details)))
    assert (context["stripe_card_brand"], context["stripe_card_expires_at"]) == ("visa", 1_830_297_599)
    old = charge(source={"id": "card_1", "object": "card", "brand": "Visa", "exp_month": 1, "exp_year": 2020})
    assert summary(parts(old))["stripe_card_brand"] == "visa"
    older = charge(source={"id": "card_2", "object": "card", "brand": "American Express"})
    assert summary(parts(older))["stripe_card_brand"] == "amex"
    default = {"stripe_default_payment_method": "pm_9"}
    both = [*parts(charge(payment_method="pm_9", payment_method_details=details)), attached(brand="amex")]
    assert summary(both, default)["stripe_card_brand"] == "visa"


def test_a_default_that_is_no_card_has_no_brand() -> None:
    sepa = attached(id="pm_2", card=None, sepa_debit={"last4": "3000"})
    default = {"stripe_default_payment_method": "pm_2"}
    assert summary([attached(), sepa], default)["stripe_card_brand"] is None


def test_every_part_that_could_change_a_value_is_used() -> None:
    """A value never comes from a part that is not among those it `used`: leave one out and see."""
    shown = [
        *parts(
            subscription(default_payment_method="pm_1"),
            subscription(id="sub_2", status="past_due"),
            charge(),
            charge("ch_2", 300, created=T0 + 4),
            invoice(paid_out_of_band=True),
            invoice("in_2", 0, status="open", subscription="sub_2", due_date=T0 + 8),
        ),
        attached(),
        attached(id="pm_2", created=T0 + 1),
    ]
    whole = summarize({}, shown)
    for left_out in shown:
        rest = summarize({}, [one for one in shown if one is not left_out])
        for name, one in whole.items():
            if rest.get(name, Summary(value="gone", used=())).value != one.value:
                assert left_out.ref in one.used, (name, left_out.ref)


def test_stripes_own_ids_match_inside_a_connected_account() -> None:
    def there(shown: dict[str, Any]) -> Part:
        return part(read(shown, account="acct_1"))

    shown = [there(invoice(charge="ch_1")), there(charge()), there(subscription(default_payment_method="pm_1"))]
    held = attached()._replace(ref=RecordRef("payment_method", "acct_1/pm_1"))
    context = summary([*shown, held])
    assert context["stripe_lifetime_value"] == 10.0
    assert context["stripe_card_brand"] == "visa"
