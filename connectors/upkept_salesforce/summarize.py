"""A lead's or contact's activity, summed up. Pure, and blind to the order of the parts.

**The last activity** is the latest closed task or event, planned events included: what Salesforce's own field of that
name counts. **The last campaign** is the one it was added to last; a note to `combine` says when that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from upkept.contract import Part, RecordRef, Said, Summary
from upkept_salesforce.objects import CAMPAIGN_MEMBER, EVENT, TASK
from upkept_salesforce.parts import AT, CAMPAIGN, CLOSED, CREATED, RESPONDED, STATUS

ADDED: Final = "_campaign_at"
"""The note of when it was added to the last campaign, unix seconds."""

LAST_ACTIVITY: Final = "salesforce_last_activity_at"
OPEN_TASKS: Final = "salesforce_open_tasks_count"
CAMPAIGNS: Final = "salesforce_campaigns_count"
RESPONSES: Final = "salesforce_campaign_responses_count"
LAST_CAMPAIGN: Final = "salesforce_last_campaign"
LAST_CAMPAIGN_STATUS: Final = "salesforce_last_campaign_status"

Values = Iterator[tuple[str, Said, tuple[RecordRef, ...]]]


def summarize(_fields: Mapping[str, Said], parts: Iterable[Part], /) -> Mapping[str, Summary]:
    """The summarized attributes of one lead or contact."""
    of: dict[str, list[Part]] = {TASK: [], EVENT: [], CAMPAIGN_MEMBER: []}
    for part in parts:
        if part.ref.type in of:
            of[part.ref.type].append(part)
    values = [*_activity(of[TASK], of[EVENT]), *_campaigns(of[CAMPAIGN_MEMBER])]
    return {name: Summary(value, used) for name, value, used in values}


def _activity(tasks: list[Part], events: list[Part]) -> Values:
    standing = [task for task in tasks if not task.deleted]
    done = [task for task in standing if task.fields.get(CLOSED) is True]
    if tasks:
        yield OPEN_TASKS, len(standing) - len(done), _refs(tasks)
    if tasks or events:
        times = [_number(one, AT) for one in (*done, *(event for event in events if not event.deleted))]
        yield LAST_ACTIVITY, max(times, default=0) or None, _refs([*tasks, *events])


def _campaigns(members: list[Part]) -> Values:
    if not members:
        return
    used, standing = _refs(members), [one for one in members if not one.deleted]
    yield CAMPAIGNS, len(standing), used
    yield RESPONSES, sum(one.fields.get(RESPONDED) is True for one in standing), used
    last = max(standing, key=lambda one: (_number(one, CREATED), one.ref), default=None)
    yield LAST_CAMPAIGN, _shown(last, CAMPAIGN), used
    yield LAST_CAMPAIGN_STATUS, _shown(last, STATUS), used
    yield ADDED, _number(last, CREATED) if last is not None else 0, used


def _shown(part: Part | None, name: str) -> Said:
    return part.fields.get(name) if part is not None else None


def _number(part: Part, name: str) -> int:
    value = part.fields.get(name)
    return value if type(value) is int else 0


def _refs(parts: Iterable[Part]) -> tuple[RecordRef, ...]:
    return tuple(sorted(part.ref for part in parts))
