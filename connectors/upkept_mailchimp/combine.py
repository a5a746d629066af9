"""What members of several audiences say together of one person: the main member speaks for `mailchimp_…`.

The main member is the one that gets the most mail: subscribed before pending, transactional, unsubscribed, cleaned and
archived; among equals the one that opted in last. Interests and what is shared with other systems (`first_name`,
tags) go by the usual rule, the newest statement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from upkept.contract import Summary, Whole
from upkept_mailchimp.fields import FIELDS, OWN

ORDER: Final = ("subscribed", "pending", "transactional", "unsubscribed", "cleaned", "archived")

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_OF_THE_MAIN: Final = tuple(rule.attribute for rule in FIELDS.rules if rule.attribute.startswith(OWN))


def combine(records: Iterable[Whole], /) -> Mapping[str, Summary]:
    """Pure, and independent of the order of `records`."""
    members = sorted(records, key=lambda one: one.ref.id)
    if not members:
        return {}
    main = min(members, key=_rank)
    return {name: Summary(value=main.fields[name], used=(main.ref,)) for name in _OF_THE_MAIN if name in main.fields}


def _rank(member: Whole) -> tuple[int, float]:
    status = member.fields.get("mailchimp_status")
    opted_at = member.fields.get("mailchimp_opted_in_at")
    since = opted_at if isinstance(opted_at, datetime) else _LONG_AGO
    return ORDER.index(status) if status in ORDER else len(ORDER), -since.timestamp()
