"""What the reader of the demo sees."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

Person = Mapping[str, Any]
"""What `upkept explain --json` says of somebody."""

NARROW: Final = 80
"""Columns that every table fits into; where nobody looks it is as wide."""


def table(people: Sequence[Person], *columns: str) -> Table:
    """A row for each person."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for column in columns:
        right = CELLS[column] in (_revenue, _paid)
        shown.add_column(column, justify="right" if right else "left", no_wrap=True)
    for person in people:
        shown.add_row(*(CELLS[column](person) for column in columns))
    return shown


def value(person: Person, attribute: str) -> Any:
    """What an attribute of a person is; None if nobody said."""
    return person["attributes"].get(attribute, {}).get("value")


def console() -> Console:
    """Standard output, in colours where somebody looks."""
    return Console(width=None if sys.stdout.isatty() else NARROW, highlight=False, soft_wrap=True)


def _revenue(person: Person) -> str:
    return _money(person, "stripe_mrr")


def _paid(person: Person) -> str:
    return _money(person, "stripe_lifetime_value")


def _money(person: Person, attribute: str) -> str:
    amount = value(person, attribute)
    currency = str(value(person, "stripe_currency") or "").upper()
    return "-" if amount is None else f"{amount:,.{0 if isinstance(amount, int) else 2}f} {currency}"


def _renewal(person: Person) -> str:
    at = value(person, "stripe_next_invoice_at")
    return datetime.fromtimestamp(at, UTC).date().isoformat() if at else "none"


CELLS: Final[Mapping[str, Callable[[Person], str]]] = {
    "user": lambda person: str(person["external_id"] or "-"),
    "email": lambda person: str(person["email"]),
    "plan": lambda person: str(value(person, "stripe_plan") or "-"),
    "status": lambda person: str(value(person, "stripe_subscription_status") or "-"),
    "MRR": _revenue,
    "paid": _paid,
    "next invoice": _renewal,
}
