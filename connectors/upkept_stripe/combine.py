"""Several customers of one person to the one billing context on the person. Pure, and blind to their order.

**The main customer** is the one with the best main subscription (see `summarize`), among equals the one whose
subscription is newest; where none has a subscription, the customer that was created last. What is not named below is
the main one's, unknown if it is unknown there: a plan beside the card of another customer would be nobody's.

**Money** is added up over the customers of one currency, that of the main one; subscriptions are counted over all.

**Times** are the earliest of the next invoice and of being past due, the latest of the last charge and the last
failure; the amount of the last charge is that charge's.

**Delinquent** is the person if one of the customers is.

An attribute that does not begin with `stripe_` and is not summed up (email, name, phone, what an operator mapped from
the customer) is left to the rule that all sources share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from upkept.contract import WITHDRAWN, RecordRef, Said, Summary, Whole
from upkept_stripe.fields import OWN
from upkept_stripe.money import added
from upkept_stripe.summarize import BEST


class Customer(NamedTuple):
    """A customer of the person, its place among them, and what it says that is for us to decide."""

    rank: tuple[tuple[int, int, str], int, RecordRef]
    ref: RecordRef
    says: Mapping[str, Said]

    def number(self, name: str) -> int:
        """0 if it says none."""
        return _number(self.says.get(name))


Customers = Sequence[Customer]
"""The main one first."""

NO_SUBSCRIPTION: Final = (-99, 0, "")
"""Ranks below a subscription of any status."""


def combine(records: Iterable[Whole], /) -> Mapping[str, Summary]:
    """What these customers say together."""
    customers = sorted(map(_customer, records), key=lambda one: one.rank, reverse=True)
    names = {name for one in customers for name in one.says}
    return {name: _RULES.get(name, _of_main)(name, customers) for name in sorted(names)}


def _customer(one: Whole) -> Customer:
    says = {name: value for name, value in one.fields.items() if name.startswith(OWN)}
    says |= {name: value for name, value in one.summary.items() if name != BEST}
    return Customer((_best(one.summary.get(BEST)), _number(says.get("stripe_created_at")), one.ref), one.ref, says)


def _best(note: Said) -> tuple[int, int, str]:
    if not isinstance(note, str):
        return NO_SUBSCRIPTION
    status, created, id = note.split(" ", 2)
    return int(status), int(created), id


def _number(value: Said) -> int:
    return value if type(value) is int else 0


def _of(chosen: Customer, name: str, customers: Customers) -> Summary:
    """What one of them says. The others had a say in the choice, so they are among those it used."""
    others = [one for one in customers if one is not chosen]
    return Summary(value=chosen.says.get(name, WITHDRAWN), used=_refs([chosen, *others]))


def _of_main(name: str, customers: Customers) -> Summary:
    return _of(customers[0], name, customers)


def _of_first(name: str, customers: Customers) -> Summary:
    return _of(next((one for one in customers if name in one.says), customers[0]), name, customers)


def _money(name: str, customers: Customers) -> Summary:
    currency = _of_first("stripe_currency", customers).value
    known = [one for one in customers if name in one.says and one.says.get("stripe_currency", WITHDRAWN) == currency]
    return Summary(value=added((one.says[name] for one in known), currency), used=_refs(known or customers))


def _count(name: str, customers: Customers) -> Summary:
    known = [one for one in customers if name in one.says]
    return Summary(value=sum(one.number(name) for one in known), used=_refs(known))


def _earliest(name: str, customers: Customers) -> Summary:
    return _of(min(_dated(name, customers), key=lambda one: one.number(name)), name, customers)


def _latest(name: str, customers: Customers) -> Summary:
    return _of(max(_dated(name, customers), key=lambda one: one.number(name)), name, customers)


def _of_last_charge(name: str, customers: Customers) -> Summary:
    charged = _dated("stripe_last_charge_at", customers)
    return _of(max(charged, key=lambda one: one.number("stripe_last_charge_at")), name, customers)


def _dated(name: str, customers: Customers) -> Customers:
    """Those that give this time; if none does, the main one, which knows none either."""
    return [one for one in customers if one.number(name)] or customers[:1]


def _any(name: str, customers: Customers) -> Summary:
    return _of(next((one for one in customers if one.says.get(name) is True), customers[0]), name, customers)


def _refs(customers: Iterable[Customer]) -> tuple[RecordRef, ...]:
    return tuple(one.ref for one in customers)


_RULES: Final[Mapping[str, Callable[[str, Customers], Summary]]] = {
    "stripe_delinquent": _any,
    "stripe_currency": _of_first,
    "stripe_mrr": _money,
    "stripe_lifetime_value": _money,
    "stripe_subscriptions_count": _count,
    "stripe_active_subscriptions_count": _count,
    "stripe_next_invoice_at": _earliest,
    "stripe_past_due_since": _earliest,
    "stripe_last_charge_amount": _of_last_charge,
    "stripe_last_charge_at": _latest,
    "stripe_last_charge_failed_at": _latest,
}
