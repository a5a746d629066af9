"""Objects, fields and ids of the Salesforce stand-in, and its errors."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

Row = dict[str, Any]

CUSTOM: Final = {"User_Id__c": "string", "Tier__c": "string", "Score__c": "double"}
_EVERY: Final = {
    "Id": "id",
    "IsDeleted": "boolean",
    "CreatedDate": "datetime",
    "SystemModstamp": "datetime",
    "LastModifiedDate": "datetime",
    "LastModifiedById": "reference",
    "OwnerId": "reference",
}
_PERSON: Final = {
    **_EVERY, "MasterRecordId": "reference", "FirstName": "string", "LastName": "string", "Name": "string",
    "Email": "email", "Phone": "phone", "Title": "string", "LeadSource": "picklist", "DoNotCall": "boolean",
    "HasOptedOutOfEmail": "boolean", "EmailBouncedDate": "datetime", "EmailBouncedReason": "string",
}  # fmt: skip

SCHEMAS: Final[dict[str, dict[str, str]]] = {
    "Lead": {
        **_PERSON, "Company": "string", "Status": "picklist", "Rating": "picklist", "IsConverted": "boolean",
        "ConvertedDate": "date", "ConvertedAccountId": "reference", "ConvertedContactId": "reference",
        "ConvertedOpportunityId": "reference", **CUSTOM,
    },
    "Contact": {**_PERSON, "AccountId": "reference", **CUSTOM},
    "Account": {**_EVERY, "Name": "string"},
    "Campaign": {**_EVERY, "Name": "string"},
    "Task": {
        **_EVERY, "WhoId": "reference", "Subject": "combobox", "Status": "picklist", "Priority": "picklist",
        "ActivityDate": "date", "IsClosed": "boolean", "CompletedDateTime": "datetime", "Description": "textarea",
    },
    "Event": {
        **_EVERY, "WhoId": "reference", "Subject": "combobox", "ActivityDate": "date", "StartDateTime": "datetime",
        "EndDateTime": "datetime",
    },
    "CampaignMember": {
        **_EVERY, "LeadId": "reference", "ContactId": "reference", "CampaignId": "reference", "Status": "picklist",
        "HasResponded": "boolean", "FirstRespondedDate": "date",
    },
    "Organization": {"Id": "id", "Name": "string"},
}  # fmt: skip

PREFIXES: Final = {"Lead": "00Q", "Contact": "003", "Account": "001", "Campaign": "701", "Task": "00T", "Event": "00U",
                   "CampaignMember": "00v"}  # fmt: skip
REQUIRED: Final = {"Lead": ("LastName", "Company"), "Contact": ("LastName",), "Account": ("Name",)}
DEFAULTS: Final[dict[str, Row]] = {
    "Lead": {"Status": "Open - Not Contacted", "IsConverted": False, "HasOptedOutOfEmail": False, "DoNotCall": False},
    "Contact": {"HasOptedOutOfEmail": False, "DoNotCall": False},
    "Task": {"Status": "Not Started", "Priority": "Normal", "IsClosed": False},
    "CampaignMember": {"Status": "Sent", "HasResponded": False},
}
READ_ONLY: Final = frozenset(
    {"Id", "IsDeleted", "CreatedDate", "SystemModstamp", "LastModifiedDate", "LastModifiedById", "Name", "IsConverted",
     "MasterRecordId", "IsClosed", "CompletedDateTime"}
)  # fmt: skip
LONGEST: Final = {"combobox": 255, "textarea": 32_000}
RELATIONS: Final = {"Campaign": ("CampaignId", "Campaign")}

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_CASE: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


class ApiError(Exception):
    """An answer of the REST API that is an error: a JSON array of one."""

    def __init__(self, status: int, code: str, message: str, *, fields: tuple[str, ...] = (), more: Any = None) -> None:
        super().__init__(message)
        self.status, self.code, self.fields, self.more = status, code, fields, more or {}

    def shown(self, *, name: str = "errorCode") -> Row:
        return {"message": str(self), name: self.code, "fields": list(self.fields), **self.more}


def made_id(prefix: str, number: int) -> str:
    """An id of 18 characters, in the order of its number."""
    digits = ""
    for _ in range(9):
        number, digit = divmod(number, 62)
        digits = _DIGITS[digit] + digits
    return whole_id(f"{prefix}5fX{digits}")


def whole_id(id: str) -> str:
    """18 characters of 15, whichever are given."""
    head = id[:15]
    marks = (sum(1 << n for n, letter in enumerate(head[at : at + 5]) if letter.isupper()) for at in (0, 5, 10))
    return head + "".join(_CASE[mark] for mark in marks)


def shown_time(second: float) -> str:
    """As REST writes a time."""
    return datetime.fromtimestamp(int(second), UTC).strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def second_of(text: str) -> int:
    return int(datetime.fromisoformat(text.replace(" ", "+")).timestamp())
