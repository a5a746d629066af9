"""Minor units to major ones, and prices to months."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.connectors.stripe.shapes import item, parts, price, subscription

from upkept_stripe.discounts import net, terms
from upkept_stripe.money import THREE_DECIMAL, ZERO_DECIMAL, decimal_ratio, major
from upkept_stripe.parts import GROSS


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (1999, "usd", 19.99),
        (2000, "usd", 20.0),
        (-1250, "eur", -12.5),
        (500, "jpy", 500.0),
        (500, "JPY", 500.0),
        (1500, "mga", 1500.0),
        (5120, "kwd", 5.12),
        (5124, "bhd", 5.124),
        (500, "isk", 5.0),
        (500, "ugx", 5.0),
        (1045, "huf", 10.45),
        (80045, "twd", 800.45),
        (100, None, 1.0),
        (0, "usd", 0.0),
        (None, "usd", None),
        ("1999", "usd", None),
        (19.99, "usd", None),
        (True, "usd", None),
        (2**70, "usd", None),
    ],
)
def test_major_units(amount: Any, currency: Any, shown: Any) -> None:
    value = major(amount, currency)
    assert value == shown
    assert type(value) is type(shown)


def test_the_table_is_stripes() -> None:
    """https://docs.stripe.com/currencies, its special cases included."""
    listed = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF UGX VND VUV XAF XOF XPF"
    assert {*listed.lower().split()} - {"ugx"} == ZERO_DECIMAL
    assert {*["bhd", "jod", "kwd", "omr", "tnd"]} == THREE_DECIMAL


@given(st.integers(-(10**14), 10**14), st.sampled_from(["usd", "jpy", "kwd"]))
def test_major_units_are_the_nearest_float_to_the_exact_amount(amount: int, currency: str) -> None:
    places = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    assert major(amount, currency) == float(Decimal(amount).scaleb(-places))


@pytest.mark.parametrize(
    ("text", "ratio"),
    [("0.5", (1, 2)), ("12", (12, 1)), (33.3, (333, 10)), ("1E-999999", None), ("-1", None), ("NaN", None), ("", None)],
)
def test_decimals(text: Any, ratio: Any) -> None:
    assert decimal_ratio(text) == ratio


BARE = {"id": "sub_1", "object": "subscription", "customer": "cus_9"}
"""A subscription from before there were items."""


def coupon(**more: Any) -> dict[str, Any]:
    return {"object": "coupon", "duration": "forever", "percent_off": None, "amount_off": None, **more}


@pytest.mark.parametrize(
    ("made", "monthly"),
    [
        (subscription(item(price=price(1999))), 1999),
        (subscription(item(3, price=price(1999))), 5997),
        (subscription(item(price=price(12000, "year"))), 1000),
        (subscription(item(price=price(10000, "year"))), 833),
        (subscription(item(price=price(3000, "month", 3))), 1000),
        (subscription(item(price=price(300, "week"))), 1300),
        (subscription(item(price=price(1000, "week", 2))), 2167),
        (subscription(item(price=price(100, "day"))), 3042),
        (subscription(item(price=price(24000, "year", 2))), 1000),
        (subscription(item(1000, price=price(None, unit_amount_decimal="0.05"))), 50),
        (subscription(item(0)), 0),
        (subscription(item(price=price(1000)), item(price=price(10000, "year"))), 1833),
        # A year's 100.00 twice is 16.666…, rounded once, not 8.33 twice.
        (subscription(item(price=price(10000, "year")), item(price=price(10000, "year"))), 1667),
        (subscription(item(None, price=price(500, usage_type="metered"))), 0),
        (subscription(item(price=price(None, billing_scheme="tiered"))), None),
        (subscription(item(price=price(None, billing_scheme="tiered")), item(price=price(700))), 700),
        (subscription(item(7, price=price(100, transform_quantity={"divide_by": 5, "round": "up"}))), 200),
        (subscription(item(7, price=price(100, transform_quantity={"divide_by": 5, "round": "down"}))), 100),
        (subscription(item(), discount={"coupon": coupon(percent_off=25.0)}), 750),
        (subscription(item(), discount={"coupon": coupon(percent_off=33.3)}), 667),
        (subscription(item(), discounts=[{"source": {"coupon": coupon(amount_off=300)}}]), 700),
        (subscription(item(price=price(12000, "year")), discount={"coupon": coupon(amount_off=2400)}), 800),
        (subscription(item(), discounts=[{"coupon": coupon(amount_off=5000)}]), 0),
        (subscription(item(), discount={"coupon": coupon(percent_off=50, duration="once")}), 1000),
        (subscription(item(), discount={"coupon": coupon(percent_off=50, duration="repeating")}), 500),
        (subscription(item(), discounts=["di_1"], discount=None), 1000),
        (subscription(item(discounts=[{"coupon": coupon(percent_off=10)}]), item()), 1900),
        (subscription(item(discounts=[{"coupon": coupon(amount_off=5000)}]), item()), 1000),
        (subscription(item(price=price(1000, "fortnight"))), None),
        ({**BARE, "quantity": 2, "plan": {"id": "pro", "amount": 900, "interval": "month"}}, 1800),
    ],
)  # fmt: skip
def test_a_month_of_a_subscription(made: dict[str, Any], monthly: int | None) -> None:
    (part,) = parts(made)
    assert (None if part.fields[GROSS] is None else net(part.fields, {})) == monthly


def folded(*told: dict[str, Any]) -> dict[str, Any]:
    """The fields of one subscription after these payloads, each newer than the one before."""
    fields: dict[str, Any] = {}
    for made in told:
        (part,) = parts(made)
        fields |= part.fields
    return fields


SHOWN = subscription(item(), discounts=[{"id": "di_1", "coupon": coupon(percent_off=25.0)}])
NAMED = subscription(item(), discounts=["di_1"])


def test_an_event_that_names_discounts_by_id_alone_undoes_none() -> None:
    assert net(folded(SHOWN, NAMED), {}) == net(folded(NAMED, SHOWN), {}) == 750
    dearer = subscription(item(price=price(2000)), discounts=["di_1"])
    assert net(folded(SHOWN, dearer), {}) == 1500


@pytest.mark.parametrize("after", [[], ["di_2"], None])
def test_a_discount_that_is_over_takes_nothing_off(after: list[str] | None) -> None:
    assert net(folded(SHOWN, subscription(item(), discounts=after)), {}) == 1000


def test_several_discounts_count_together_whether_named_or_shown() -> None:
    both = [{"id": "di_1", "coupon": coupon(percent_off=50)}, {"id": "di_2", "coupon": coupon(amount_off=100)}]
    assert net(folded(subscription(item(), discounts=both)), {}) == 400
    assert (
        net(folded(subscription(item(), discounts=both), subscription(item(), discounts=["di_2", "di_1"])), {}) == 400
    )


def test_a_discount_in_both_of_its_old_places_is_one() -> None:
    inline = {"id": "di_1", "coupon": coupon(percent_off=25.0)}
    assert net(folded(subscription(item(), discount=inline, discounts=["di_1"])), {}) == 750


@pytest.mark.parametrize(
    ("of_customer", "made", "monthly"),
    [
        ({"_po": 25.0}, subscription(item()), 750),
        ({"_po": 33.3}, subscription(item(price=price(12000, "year"))), 667),
        ({"_ao": 300, "_c": "usd"}, subscription(item()), 700),
        ({"_ao": 300, "_c": "eur"}, subscription(item()), 1000),
        ({"_ao": 2400, "_c": "usd"}, subscription(item(price=price(12000, "year"))), 800),
        ({"_ao": 5000, "_c": "usd"}, subscription(item()), 0),
        ({"_po": None, "_ao": None}, subscription(item()), 1000),
        ({"_po": 50}, subscription(item(), discounts=["di_1"]), 1000),
        ({"_po": 50}, subscription(item(), discounts=[{"id": "di_1", "coupon": coupon(percent_off=25.0)}]), 750),
    ],
)
def test_the_customers_coupon_comes_off_what_has_no_discount_of_its_own(
    of_customer: dict[str, Any], made: dict[str, Any], monthly: int
) -> None:
    (part,) = parts(made)
    assert net(part.fields, of_customer) == monthly


def test_of_a_coupon_that_does_not_recur_nothing_is_kept_but_its_name() -> None:
    kept = terms(coupon(id="ONCE", percent_off=50, amount_off=None, currency="usd", duration="once"))
    assert kept == {"_co": "ONCE", "_po": None, "_ao": None, "_c": "usd"}
    assert terms(coupon(id="A", amount_off=500, currency="usd", duration="repeating"))["_ao"] == 500
