"""One event or read, opened: what `normalize` and `timeline` look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from upkept.contract import FactKind, Permanent, RawEvent, RecordRef
from upkept_stripe.money import whole
from upkept_stripe.payload import Unreadable, read_object
from upkept_stripe.shapes import Object, text

_LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999, where `datetime` ends."""


@dataclass(frozen=True, slots=True)
class Told:
    """`before` has the values before the event of what it changed; None if the payload does not tell.

    `prefix` is `acct_…/` for a connected account, whose ids say nothing outside it.
    """

    kind: str
    object: Object
    before: Object | None
    at: datetime | None
    how: FactKind
    prefix: str

    def ref(self, of: str, id: str) -> RecordRef:
        """The record or part that this account calls `id`."""
        return RecordRef(of, self.prefix + id)

    @property
    def is_read(self) -> bool:
        return self.how is FactKind.READ_BACK


def told(event: RawEvent) -> Told:
    """Open an event; raises `Permanent` for one that cannot be one of Stripe's."""
    try:
        body = read_object(event.body)
    except Unreadable as error:
        raise Permanent(f"Stripe event {event.id}: {error}") from None
    data = body.get("data")
    shown = data.get("object") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(shown, dict):
        raise Permanent(f"Stripe event {event.id} ({event.kind}) shows no object")
    before = data.get("previous_attributes")
    account = text(body.get("account"))
    read = event.kind.startswith("read.")
    return Told(
        kind=event.kind,
        object=shown,
        before=before if isinstance(before, dict) else None,
        at=moment(body.get("read_at" if read else "created")),
        how=FactKind.READ_BACK if read else FactKind.EVENT,
        prefix=f"{account}/" if account else "",
    )


def moment(second: Any) -> datetime | None:
    """Unix seconds as a time; None for anything else."""
    known = whole(second)
    return datetime.fromtimestamp(known, UTC) if known is not None and 0 <= known <= _LAST_SECOND else None
