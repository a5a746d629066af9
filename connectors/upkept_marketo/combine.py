"""Several leads of one person to one set of attributes. Pure, and blind to their order.

Two leads with one address are legal in Marketo, and frequent. **The main lead** is the oldest. What is not named below
is the main one's: a status beside the company of another lead would be nobody's.

- `marketo_unsubscribed` is true if any of them is: Marketo itself spreads it over an address, and where it forgot to,
  the careful answer is the right one.
- `marketo_lead_score` is the highest: scoring campaigns credit whichever lead was active.

An attribute that does not begin with `marketo_` (email, name, phone, what an operator mapped) is left to the rule that
all sources share.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from upkept.contract import WITHDRAWN, Summary, Whole
from upkept_marketo.fields import OWN

_LATEST: Final = datetime.max.replace(tzinfo=UTC)


def combine(records: Iterable[Whole], /) -> Mapping[str, Summary]:
    """What these leads say together."""
    leads = sorted(records, key=_age)
    names = sorted({name for one in leads for name in one.fields if name.startswith(OWN)})
    return {name: _said(name, leads) for name in names}


def _age(one: Whole) -> tuple[Any, ...]:
    created = one.fields.get("marketo_created_at")
    id = one.ref.id
    return created if isinstance(created, datetime) else _LATEST, len(id), id, one.ref.type


def _said(name: str, leads: Sequence[Whole]) -> Summary:
    stated = [one for one in leads if name in one.fields]
    if name == "marketo_unsubscribed":
        chosen = next((one for one in stated if one.fields[name] is True), None)
        if chosen is not None:
            return Summary(value=True, used=(chosen.ref, *(one.ref for one in stated if one is not chosen)))
    if name == "marketo_lead_score":
        scored = [(value, one) for one in stated if isinstance(value := one.fields[name], int | float)]
        if scored:
            best, chosen = max(scored, key=lambda pair: pair[0])
            return Summary(value=best, used=(chosen.ref, *(one.ref for _, one in scored if one is not chosen)))
    main = leads[0]
    return Summary(value=main.fields.get(name, WITHDRAWN), used=(main.ref,))
