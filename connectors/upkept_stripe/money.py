"""Money: from Stripe's minor units to the major units people read, and to a month.

Stripe's amounts are integers of the currency's minor unit (https://docs.stripe.com/currencies). Its table departs
from ISO 4217 in places, and it is Stripe's that counts here:

- the sixteen *zero-decimal* currencies, less UGX: 500 JPY is 500;
- ISK and UGX have no decimals any more, but Stripe still sends them with two: 5 ISK is 500;
- HUF and TWD are whole only in payouts, which we never see: charges have two decimals;
- MGA is zero-decimal at Stripe, whatever ISO says;
- the *three-decimal* currencies: 5.120 KWD is 5120.

A figure is always a `float`, the one nearest to the exact decimal, of a currency without decimals too (500 JPY is
`500.0`): an attribute has one type, whoever filters or exports it. Nothing is added up in floats: sums are of integers,
and a division is exact until it is rounded once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from upkept.contract import Scalar

ZERO_DECIMAL: Final = frozenset(
    ("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "vnd", "vuv", "xaf", "xof", "xpf")
)
THREE_DECIMAL: Final = frozenset(("bhd", "jod", "kwd", "omr", "tnd"))

LARGEST: Final = 2**63 - 1
"""What a field of a fact can hold; no amount of money comes near."""

PLACES: Final = 24
"""Stripe's decimals have up to 12; `1E-999999` would make an integer of a million digits."""

_MONTHS: Final[Mapping[str, tuple[int, int]]] = {"month": (1, 1), "year": (1, 12), "week": (52, 12), "day": (365, 12)}
"""How often an interval fits into a month, as a fraction: a year has 12 months, 52 weeks, 365 days."""


def whole(value: Any) -> int | None:
    """An integer that a field can hold; None for anything else, booleans included."""
    return value if type(value) is int and -LARGEST <= value <= LARGEST else None


def major(amount: Any, currency: Any, *, under: int = 1) -> float | None:
    """Minor to major units; `under` divides the amount where it is a fraction.

    A missing currency counts as one with two decimals, as most have.
    """
    minor = whole(amount)
    if minor is None:
        return None
    # The quotient of two integers is the float nearest to the exact value, the same as by way of Decimal.
    return minor / (under * _minor_units(currency))


def added(figures: Iterable[Any], currency: Any) -> float | None:
    """Major units of one currency, added up exactly: each is the float nearest to so many minor units."""
    units = _minor_units(currency)
    return major(sum(round(one * units) for one in figures if type(one) in (int, float)), currency)


def _minor_units(currency: Any) -> int:
    """How many of them make one major unit."""
    code = currency.lower() if isinstance(currency, str) else ""
    return 1 if code in ZERO_DECIMAL else 1000 if code in THREE_DECIMAL else 100


def money(value: Any, around: Mapping[str, Any]) -> Scalar:
    """The converter `money`: minor units of the object's own `currency`."""
    return major(value, around.get("currency"))


class Ratio:
    """An exact non-negative sum of fractions; `fractions.Fraction` reduces at each step and is ten times slower."""

    __slots__ = ("over", "under")

    def __init__(self, over: int = 0, under: int = 1) -> None:
        self.over, self.under = over, under

    def plus(self, over: int, under: int) -> None:
        if under == self.under:
            self.over += over
        else:
            self.over, self.under = self.over * under + over * self.under, self.under * under

    def times(self, over: int, under: int) -> None:
        self.over, self.under = self.over * over, self.under * under

    def rounded(self) -> int | None:
        """Half up, to a whole minor unit; never below zero."""
        nearest = (2 * self.over + self.under) // (2 * self.under)
        return whole(max(nearest, 0))


def unit_price(price: Mapping[str, Any]) -> tuple[int, int] | None:
    """Minor units of one unit as a fraction: `unit_amount` of a price, `amount` of a plan, or their finer twins.

    None where the price has no single unit amount (tiers), or it is unreadable.
    """
    for plain, fine in (("unit_amount", "unit_amount_decimal"), ("amount", "amount_decimal")):
        amount = whole(price.get(plain))
        if amount is not None:
            return (amount, 1) if amount >= 0 else None
        exact = decimal_ratio(price.get(fine))
        if exact is not None:
            return exact
    return None


def per_month(interval: Any, count: Any) -> tuple[int, int] | None:
    """How many such billing periods a month has, as a fraction; None for an unknown interval."""
    periods = _MONTHS.get(interval) if isinstance(interval, str) else None
    every = 1 if count is None else whole(count)
    if periods is None or every is None or every < 1:
        return None
    return periods[0], periods[1] * every


def decimal_ratio(value: Any) -> tuple[int, int] | None:
    """A non-negative number written as Stripe writes decimals (`"12.5"`, 33.3), as an exact fraction."""
    if value is None or isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value))
        return number.as_integer_ratio() if 0 <= number <= LARGEST and -number.adjusted() <= PLACES else None
    except (InvalidOperation, ValueError, OverflowError):
        return None
