"""Which of Salesforce's objects we read, what we call them, and which of their fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from upkept.contract import RecordRef
from upkept_salesforce.ids import full_id

LEAD: Final = "lead"
CONTACT: Final = "contact"
TASK: Final = "task"
EVENT: Final = "event"
CAMPAIGN_MEMBER: Final = "campaign_member"

PEOPLE: Final = frozenset({LEAD, CONTACT})
PARTS: Final = frozenset({TASK, EVENT, CAMPAIGN_MEMBER})

OPT_OUT: Final = "HasOptedOutOfEmail"
CHANGED: Final = "SystemModstamp"
"""When a row was last changed by anybody, the system included. To the second."""

_EVERY: Final = ("Id", "IsDeleted", "CreatedDate", CHANGED, "LastModifiedById")
_PERSON: Final = (
    *_EVERY, "MasterRecordId", "Email", "FirstName", "LastName", "Name", "Phone", "Title", "LeadSource", "OwnerId",
    "DoNotCall", OPT_OUT, "EmailBouncedDate",
)  # fmt: skip
_CONVERTED: Final = (
    "IsConverted",
    "ConvertedDate",
    "ConvertedAccountId",
    "ConvertedContactId",
    "ConvertedOpportunityId",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """One of Salesforce's objects: our type, its name, the key prefix of its ids, the fields that are read."""

    type: str
    name: str
    prefix: str
    fields: tuple[str, ...]


KINDS: Final = (
    Kind(LEAD, "Lead", "00Q", (*_PERSON, "Company", "Status", "Rating", *_CONVERTED)),
    Kind(CONTACT, "Contact", "003", (*_PERSON, "AccountId")),
    Kind(TASK, "Task", "00T", (*_EVERY, "WhoId", "Subject", "Status", "Priority", "ActivityDate", "IsClosed",
                               "CompletedDateTime")),
    Kind(EVENT, "Event", "00U", (*_EVERY, "WhoId", "Subject", "ActivityDate", "StartDateTime", "EndDateTime")),
    Kind(CAMPAIGN_MEMBER, "CampaignMember", "00v", (*_EVERY, "LeadId", "ContactId", "CampaignId", "Campaign.Name",
                                                    "Status", "HasResponded", "FirstRespondedDate")),
)  # fmt: skip

BY_TYPE: Final = {kind.type: kind for kind in KINDS}
BY_NAME: Final = {kind.name: kind for kind in KINDS}

_PERSON_BY_PREFIX: Final = {BY_TYPE[of].prefix: of for of in PEOPLE}


def person(id: Any) -> RecordRef | None:
    """The lead or contact that an id names; None for an account, an opportunity or nothing."""
    known = full_id(id)
    of = _PERSON_BY_PREFIX.get(known[:3]) if known else None
    return RecordRef(of, known) if of and known else None
