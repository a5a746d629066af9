"""What the reader of the demo sees."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

COLUMNS: Final = ("found by", "email", "plan", "status", "MRR", "paid in all", "next invoice", "customers")


def table(people: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each person, from what `upkept explain --json` says of them."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in COLUMNS:
        shown.add_column(column, justify="right" if column in ("MRR", "paid in all", "customers") else "left")
    for handle, person in people.items():
        shown.add_row(handle, *_cells(person))
    return shown


def value(person: Mapping[str, Any], attribute: str) -> Any:
    """What an attribute of a person is; None if nobody said."""
    return person["attributes"].get(attribute, {}).get("value")


def wide(console: Console) -> Console:
    """A console that cuts no table short where nobody looks."""
    return console if console.is_terminal else Console(width=120, highlight=False)


def _cells(person: Mapping[str, Any]) -> Iterable[str]:
    currency = str(value(person, "stripe_currency") or "").upper()
    renews = value(person, "stripe_next_invoice_at")
    yield str(person["email"])
    yield str(value(person, "stripe_plan") or "-")
    yield str(value(person, "stripe_subscription_status") or "-")
    yield _money(value(person, "stripe_mrr"), currency)
    yield _money(value(person, "stripe_lifetime_value"), currency)
    yield datetime.fromtimestamp(renews, UTC).date().isoformat() if renews else "-"
    yield str(sum(record["connection"] == "stripe" for record in person["records"]))


def _money(amount: float | int | None, currency: str) -> str:
    return "-" if amount is None else f"{amount:,.{0 if isinstance(amount, int) else 2}f} {currency}"
