"""Reading Stripe's objects in whatever shape they come.

A payload is written in the API version of its endpoint or account, frozen when the event was made, so all versions from
2017 on arrive at one hub side by side; any reference may be an id or the expanded object; anything may be absent. These
functions answer one question each and never raise: a value of the wrong type counts as absent.
"""

from __future__ import annotations

from calendar import timegm
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from upkept_stripe.money import whole

Object = Mapping[str, Any]

NOTHING: Final[Object] = {}
BRANDS: Final = {"American Express": "amex", "Diners Club": "diners"}


def text(value: Any) -> str | None:
    """A non-empty string."""
    return value if isinstance(value, str) and value else None


def id_of(reference: Any) -> str | None:
    """The id of a reference, expanded or not."""
    return text(reference.get("id") if isinstance(reference, dict) else reference)


def inner(of: Object, name: str) -> Object:
    """An object inside an object; an empty one if it is an id, null or absent."""
    value = of.get(name)
    return value if isinstance(value, dict) else NOTHING


def rows(of: Object, name: str) -> list[Object]:
    """The objects of a list, whether it comes as a Stripe list (`{"data": […]}`) or as a plain array."""
    value = of.get(name)
    data = value.get("data") if isinstance(value, dict) else value
    return [row for row in data if isinstance(row, dict)] if isinstance(data, list) else []


def first_whole(*values: Any) -> int | None:
    """The first that is an integer."""
    return next((value for value in values if whole(value) is not None), None)


@lru_cache(maxsize=1024)
def end_of_month(year: int, month: int) -> int:
    """Unix seconds of a month's last second, UTC: a card is good until the end of the month printed on it."""
    return timegm((year + month // 12, month % 12 + 1, 1, 0, 0, 0)) - 1


def card_details(card: Object) -> tuple[str | None, int | None]:
    """Brand and expiry (unix seconds) of a card-like object."""
    year, month = whole(card.get("exp_year")) or 0, whole(card.get("exp_month")) or 0
    known = 1970 <= year <= 9998 and 1 <= month <= 12
    return _brand(text(card.get("brand"))), end_of_month(year, month) if known else None


def _brand(shown: str | None) -> str | None:
    """As payment methods spell it (`amex`); cards and sources of the older kind still say `American Express`."""
    return None if shown is None else BRANDS.get(shown, shown.lower())
