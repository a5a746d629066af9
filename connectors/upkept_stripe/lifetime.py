"""What a customer has paid in all: money that came in, less what went back. Each payment counts once.

A paid invoice and its charge are one payment told twice. They are matched, in this order:

1. by a link, wherever one is shown: the charge's invoice, the invoice's charge, or a payment intent both name;
2. since basil (2025-03-31) neither names the other: by equal amount and currency, one for one.

Charges count what was captured, less refunds, less a dispute that was lost. Of an invoice only what no charge explains
counts: one paid out of band has none, nor has one whose charge we were never told of.

What this leaves open: an invoice since basil that was paid in several charges at once, with no link shown,
counts beside them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from upkept.contract import Part
from upkept_stripe.parts import (
    BY_CHARGE,
    CURRENCY,
    DISPUTE,
    DISPUTED,
    INTENT,
    OF_INVOICE,
    OFF_STRIPE,
    PAID,
    REFUNDED,
    STATUS,
)

LOST: Final = "lost"

Paid = tuple[int, Part]
"""Minor units that were paid, and the charge or invoice that says so."""


def paid_in_all(charges: Sequence[Part], invoices: Sequence[Part], currency: str | None) -> int:
    """Minor units of `currency`; payments in another currency are left out, as there is no rate to add them at."""
    taken = _paid(charge for charge in charges if charge.fields.get(CURRENCY) == currency)
    billed = _paid(
        invoice
        for invoice in invoices
        if invoice.fields.get(CURRENCY) == currency and invoice.fields.get(STATUS) != "void"
    )
    kept = sum(amount - min(_given_back(charge), amount) for amount, charge in taken)
    return kept + sum(_unexplained(taken, billed))


def _paid(parts: Iterable[Part]) -> list[Paid]:
    return [(amount, part) for part in parts if (amount := number(part, PAID))]


def number(part: Part, name: str) -> int:
    """An integer the part keeps under `name`; 0 if it keeps none."""
    value = part.fields.get(name)
    return value if type(value) is int else 0


def bare_id(part: Part) -> str:
    """Stripe's own id of a part, without the connected account's."""
    return part.ref.id.rpartition("/")[2]


def _given_back(charge: Part) -> int:
    return number(charge, REFUNDED) + (number(charge, DISPUTED) if charge.fields.get(DISPUTE) == LOST else 0)


def _unexplained(taken: Iterable[Paid], billed: Iterable[Paid]) -> Iterable[int]:
    """For each invoice, what of its payment no charge accounts for."""
    by_name: dict[object, list[Paid]] = defaultdict(list)
    for one in taken:
        charge = one[1]
        for name in (bare_id(charge), charge.fields.get(OF_INVOICE), charge.fields.get(INTENT)):
            if name is not None:
                by_name[name].append(one)
    linked: set[str] = set()
    alone: list[Paid] = []
    for one in billed:
        amount, invoice = one
        names = (bare_id(invoice), invoice.fields.get(BY_CHARGE), invoice.fields.get(INTENT))
        found = {charge.ref.id: paid for name in names if name is not None for paid, charge in by_name.get(name, ())}
        if found:
            linked.update(found)
            yield max(amount - sum(found.values()), 0)
        else:
            alone.append(one)
    free = Counter(paid for paid, charge in taken if charge.ref.id not in linked)
    for amount, invoice in alone:
        off_stripe = min(number(invoice, OFF_STRIPE), amount)
        by_charge = amount - off_stripe
        yield off_stripe
        if by_charge and free[by_charge]:
            free[by_charge] -= 1
        else:
            yield by_charge
