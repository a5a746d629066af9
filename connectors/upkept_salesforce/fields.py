"""Which attribute a Salesforce field feeds: the table an operator can override in `upkept.toml`.

Paths are the API names of Salesforce's fields, of `lead` and `contact`. What is summed up from tasks, events and
campaign members is in `summarize`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from upkept.contract import WITHDRAWN, FieldMap, Rule, Said, Scalar
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import CONTACT, LEAD
from upkept_salesforce.payload import Row, seconds


def reference(value: Any, _around: Row) -> Scalar:
    """The converter `id`: 18 characters, whatever was given."""
    return full_id(value)


def time(value: Any, _around: Row) -> Scalar:
    """The converter `time`: a date or time as unix seconds."""
    return seconds(value)


def iso(value: Scalar) -> Any:
    """Unix seconds (or a time) as Salesforce takes it; for its fields of the type Date/Time."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = datetime.fromtimestamp(value, UTC)
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value


_PERSON: Final = (
    ("Id", "salesforce_id", "id"),
    ("Email", "email", "text"),
    ("Name", "name", "text"),
    ("Phone", "phone", "text"),
    ("Title", "salesforce_title", "text"),
    ("LeadSource", "salesforce_lead_source", "text"),
    ("OwnerId", "salesforce_owner_id", "id"),
    ("DoNotCall", "salesforce_do_not_call", "boolean"),
    ("HasOptedOutOfEmail", "salesforce_email_opt_out", "boolean"),
    ("CreatedDate", "salesforce_created_at", "time"),
)
_NAMES: Final = {
    LEAD: (
        *_PERSON,
        ("Company", "salesforce_company", "text"),
        ("Status", "salesforce_lead_status", "text"),
        ("Rating", "salesforce_rating", "text"),
        ("IsConverted", "salesforce_converted", "boolean"),
        ("ConvertedDate", "salesforce_converted_at", "time"),
        ("ConvertedAccountId", "salesforce_account_id", "id"),
        ("ConvertedOpportunityId", "salesforce_opportunity_id", "id"),
    ),
    CONTACT: (*_PERSON, ("AccountId", "salesforce_account_id", "id")),
}

FIELDS: Final = FieldMap(
    rules=tuple(
        Rule(of=of, path=path, attribute=attribute, convert=convert)
        for of, rules in _NAMES.items()
        for path, attribute, convert in rules
    ),
    converters={"id": reference, "time": time},
    renderers={"time": iso},
)

OWN: Final = "salesforce_"


def mapped(fields: FieldMap, of: str, row: Row) -> dict[str, Said]:
    """What one row says through the field map.

    An empty field that feeds an attribute we share with others (`email`, `name`, a mapped `tier`) withdraws what
    Salesforce said; it does not say that the person has none: a lead without a phone must not wipe the one our app
    knows.
    """
    said: dict[str, Said] = dict(fields.apply(of, row))
    for name, value in said.items():
        if value is None and not name.startswith(OWN):
            said[name] = WITHDRAWN
    return said
