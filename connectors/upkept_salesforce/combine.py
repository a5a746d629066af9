"""Several leads and contacts of one person to what the person shows. Pure, and blind to their order.

**The main record** is a contact before a lead, an open lead before a converted one, among equals the newest. What it
leaves empty the next one fills: the contact of a converted lead shows the lead's source and score.

**Counts** are added up, **times** are the latest. An attribute that does not begin with `salesforce_` is left to the
rule that all sources share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from upkept.contract import WITHDRAWN, RecordRef, Said, Summary, Whole
from upkept_salesforce.fields import OWN
from upkept_salesforce.objects import CONTACT
from upkept_salesforce.summarize import (
    ADDED,
    CAMPAIGNS,
    LAST_ACTIVITY,
    LAST_CAMPAIGN,
    LAST_CAMPAIGN_STATUS,
    OPEN_TASKS,
    RESPONSES,
)


class Known(NamedTuple):
    """A record of the person, its place among them, and what it says that is for us to decide."""

    rank: tuple[bool, bool, int, RecordRef]
    ref: RecordRef
    says: Mapping[str, Said]
    added: int


Records = Sequence[Known]
"""The main one first."""


def combine(records: Iterable[Whole], /) -> Mapping[str, Summary]:
    """What these records say together."""
    known = sorted(map(_known, records), key=lambda one: one.rank, reverse=True)
    names = {name for one in known for name in one.says}
    return {name: _RULES.get(name, _of_first)(name, known) for name in sorted(names)}


def _known(one: Whole) -> Known:
    says = {name: value for name, value in (*one.fields.items(), *one.summary.items()) if name.startswith(OWN)}
    rank = (
        one.ref.type == CONTACT,
        says.get("salesforce_converted") is not True,
        _number(says.get("salesforce_created_at")),
        one.ref,
    )
    return Known(rank, one.ref, says, _number(one.summary.get(ADDED)))


def _of_first(name: str, records: Records) -> Summary:
    """Of the first that knows something, else of the first that says it is empty."""
    stating = [one for one in records if one.says.get(name, WITHDRAWN) is not WITHDRAWN]
    chosen = next((one for one in stating if one.says[name] is not None), stating[0] if stating else None)
    if chosen is None:
        return Summary(WITHDRAWN, _refs(records))
    return _of(chosen, name, records)


def _of(chosen: Known, name: str, records: Records) -> Summary:
    others = [one for one in records if one is not chosen]
    return Summary(chosen.says.get(name, WITHDRAWN), _refs([chosen, *others]))


def _sum(name: str, records: Records) -> Summary:
    counting = [one for one in records if name in one.says]
    return Summary(sum(_number(one.says[name]) for one in counting), _refs(counting))


def _latest(name: str, records: Records) -> Summary:
    return _of(max(records, key=lambda one: _number(one.says.get(name))), name, records)


def _of_last_campaign(name: str, records: Records) -> Summary:
    return _of(max(records, key=lambda one: one.added), name, records)


def _number(value: Said) -> int:
    return value if type(value) is int else 0


def _refs(records: Iterable[Known]) -> tuple[RecordRef, ...]:
    return tuple(one.ref for one in records)


_RULES: Final[Mapping[str, Callable[[str, Records], Summary]]] = {
    OPEN_TASKS: _sum,
    CAMPAIGNS: _sum,
    RESPONSES: _sum,
    LAST_ACTIVITY: _latest,
    LAST_CAMPAIGN: _of_last_campaign,
    LAST_CAMPAIGN_STATUS: _of_last_campaign,
}
