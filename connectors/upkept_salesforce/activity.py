"""Tasks, events and campaign members: parts of a lead or contact, and events on its timeline.

`WhoId` says whom a task or event is about; when a lead is converted Salesforce points it at the contact, which is one
more fact about the part. A task that is about nobody (an account's, an opportunity's) is not ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from upkept.contract import Fact, FactKind, RecordRef, Said, Scalar, Skipped, Statement, TimelineEvent
from upkept_salesforce.objects import CAMPAIGN_MEMBER, EVENT, TASK, person
from upkept_salesforce.parts import AT, CAMPAIGN, CLOSED, CREATED, RESPONDED, STATUS
from upkept_salesforce.payload import Row, moment, seconds, text
from upkept_salesforce.telling import is_told
from upkept_salesforce.told import Told

GONE: Final = 2
"""The sequence of a delete: after any change of its second."""


def of_task(it: Told) -> Iterator[Statement]:
    """A task, `task created` and, once it is closed, `task completed`.

    One of ours is a task and no event: what it tells of is on the timeline already.
    """
    row = it.row
    if row.get("IsDeleted") is True:
        yield _gone(it)
        return
    owner = _about(it, "WhoId")
    closed = row.get("IsClosed") is True
    ended = row.get("CompletedDateTime") or row.get("ActivityDate")
    kept: dict[str, Said] = {
        STATUS: text(row.get("Status")),
        CLOSED: closed,
        AT: seconds(ended if closed else row.get("ActivityDate")),
        CREATED: seconds(row.get("CreatedDate")),
    }
    yield _part(it, TASK, owner, kept)
    if is_told(row):
        return
    metadata = {
        "task": it.id,
        "subject": text(row.get("Subject")),
        "status": text(row.get("Status")),
        "priority": text(row.get("Priority")),
        "due": text(row.get("ActivityDate")),
    }
    yield _event(owner, "task created", f"{it.id}:created", moment(row.get("CreatedDate")), _first(metadata, "status"))
    if closed:
        at = moment(row.get("CompletedDateTime")) or it.at
        yield _event(owner, "task completed", f"{it.id}:completed", at, _first(metadata))


def of_event(it: Told) -> Iterator[Statement]:
    """An event of the calendar, and `meeting scheduled` when it was made."""
    row = it.row
    if row.get("IsDeleted") is True:
        yield _gone(it)
        return
    owner = _about(it, "WhoId")
    starts = row.get("StartDateTime") or row.get("ActivityDate")
    yield _part(it, EVENT, owner, {AT: seconds(starts), CREATED: seconds(row.get("CreatedDate"))})
    metadata = {"event": it.id, "subject": text(row.get("Subject"))}
    yield _event(owner, "meeting scheduled", f"{it.id}:created", moment(row.get("CreatedDate")), _first(metadata))


def of_campaign_member(it: Told) -> Iterator[Statement]:
    """A membership, `added to campaign` and, once it was answered, `campaign responded`."""
    row = it.row
    if row.get("IsDeleted") is True:
        yield _gone(it)
        return
    owner = _about(it, "ContactId", "LeadId")
    campaign = _campaign(row)
    responded = row.get("HasResponded") is True
    kept: dict[str, Said] = {
        STATUS: text(row.get("Status")),
        CAMPAIGN: campaign,
        RESPONDED: responded,
        CREATED: seconds(row.get("CreatedDate")),
    }
    yield _part(it, CAMPAIGN_MEMBER, owner, kept)
    metadata = {"campaign": campaign, "campaign_id": text(row.get("CampaignId")), "status": text(row.get("Status"))}
    made = moment(row.get("CreatedDate"))
    yield _event(owner, "added to campaign", f"{it.id}:created", made, _first(metadata, "status"))
    if responded:
        at = moment(row.get("FirstRespondedDate")) or it.at
        yield _event(owner, "campaign responded", f"{it.id}:responded", at, _first(metadata))


def _about(it: Told, *names: str) -> RecordRef:
    """Whom it is about: of a converted lead's membership both are named, and the contact goes on."""
    for name in names:
        who = person(it.row.get(name))
        if who is not None:
            return who
    raise Skipped(f"a {it.type.replace('_', ' ')} that is about no lead or contact")


def _part(it: Told, of: str, owner: RecordRef, kept: Mapping[str, Said]) -> Fact:
    return Fact(record=RecordRef(of, it.id), fields=kept, observed_at=it.at, sequence=it.sequence,
                kind=FactKind.READ_BACK, owner=owner, snapshot=True, deleted=False)  # fmt: skip


def _gone(it: Told) -> Fact:
    """A delete names no owner: the part has one from when it stood, or is nobody's."""
    return Fact(record=RecordRef(it.type, it.id), observed_at=it.at, sequence=GONE, kind=FactKind.READ_BACK,
                deleted=True)  # fmt: skip


def _event(record: RecordRef, name: str, id: str, at: datetime | None, said: dict[str, Scalar]) -> TimelineEvent:
    return TimelineEvent(record=record, name=name, id=id, at=at, metadata=said)


def _campaign(row: Row) -> str | None:
    """The campaign's name; its id for who may not read campaigns."""
    shown: Any = row.get("Campaign")
    return (text(shown.get("Name")) if isinstance(shown, dict) else None) or text(row.get("CampaignId"))


def _first(metadata: Mapping[str, Scalar], *less: str) -> dict[str, Scalar]:
    """What is known of it, less what was not yet so when it happened."""
    return {name: value for name, value in metadata.items() if value is not None and name not in less}
