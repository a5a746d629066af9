"""What happened, from what Salesforce said. Pure: no clock, no network, no SDK.

A lead and a contact are records; tasks, events and campaign members are parts of the one they are about.

**Reads** (`read.<type>`) show a whole row, as of its `SystemModstamp`: the same row read twice is one fact. Its
grain is a second, so a row read within the second of its change may be changed again at the same stamp: such a read
is *not settled*, and a settled one outranks it by `sequence`. A delete outranks both.

**Changes** (`change.<type>`, Change Data Capture) show what one transaction changed, see `change`.

**Outbound messages** say only who opted out; everything else in them is read back.

**Consent.** The checkbox *Email Opt Out* that is set is an opt-out, whoever set it. One that is not set says
nothing: it is the default of every lead that was ever typed in. A bounce is about the address.

**Links.** A converted lead is its contact; the loser of a merge is its winner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from upkept.contract import (
    WITHDRAWN,
    Consent,
    Fact,
    FactKind,
    FieldMap,
    Link,
    Permanent,
    RawEvent,
    RecordRef,
    Said,
    Skipped,
    Statement,
)
from upkept_salesforce import activity, change
from upkept_salesforce.fields import mapped
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import (
    CAMPAIGN_MEMBER,
    CHANGED,
    CONTACT,
    EVENT,
    LEAD,
    OPT_OUT,
    TASK,
    person,
)
from upkept_salesforce.payload import Row, Unreadable, moment, read_object, text
from upkept_salesforce.told import Told
from upkept_salesforce.webhook import OPTED_OUT

Reader = Callable[[Told, FieldMap], Iterator[Statement]]


def normalize(event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
    """The statements of one event or read.

    Raises `Skipped` for kinds and rows that tell nothing about a lead or contact, `Permanent` for what Salesforce never
    sends.
    """
    reader = _READERS.get(event.kind)
    if reader is None:
        raise Skipped(f"Salesforce event {event.kind}: tells nothing about a lead or contact")
    return list(reader(_told(event), fields))


def _told(event: RawEvent) -> Told:
    try:
        body = read_object(event.body)
    except Unreadable as error:
        raise Permanent(f"Salesforce event {event.id}: {error}") from None
    row, header = body.get("row"), body.get("header")
    id = full_id(row.get("Id")) if isinstance(row, dict) else None
    if not isinstance(row, dict) or id is None:
        raise Permanent(f"Salesforce event {event.id} ({event.kind}) shows no row with an id")
    return Told(
        type=event.kind.rpartition(".")[2] if event.kind != OPTED_OUT else str(body.get("type")),
        id=id,
        row=row,
        at=moment(row.get(CHANGED)) or moment(body.get("read_at")),
        settled=body.get("settled") is True,
        ours=body.get("ours") is True,
        user_id_field=text(body.get("user_id_field")),
        header=header if isinstance(header, dict) else {},
    )


def _person(it: Told, fields: FieldMap) -> Iterator[Statement]:
    row, record = it.row, RecordRef(it.type, it.id)
    if row.get("IsDeleted") is True:
        survivors = {**mapped(fields, it.type, {"Id": it.id}), "salesforce_deleted": True}
        yield Fact(record=record, fields=survivors, observed_at=it.at, sequence=activity.GONE,
                   kind=FactKind.READ_BACK, deleted=True)  # fmt: skip
        yield from _consent(row, record, it.at)
        yield from _merged(it, record)
        return
    said = mapped(fields, it.type, row)
    said["salesforce_deleted"] = False
    claims = _claims(it, fields, said)
    yield Fact(record=record, fields=said, claims=claims, mails=_mails(row), observed_at=it.at, sequence=it.sequence,
               kind=FactKind.READ_BACK, snapshot=True, deleted=False, ours=it.ours)  # fmt: skip
    yield from _consent(it.row, record, it.at)
    yield from _converted(it.row, record, it.at)


def _changed(it: Told, fields: FieldMap) -> Iterator[Statement]:
    record, at = RecordRef(it.type, it.id), moment(it.header.get("commitTimestamp"))
    said, ours = mapped(fields, it.type, it.row), change.is_ours(it.header)
    if it.header.get("changeType") == "CREATE":
        said["salesforce_deleted"] = False
    yield Fact(record=record, fields=said, claims=_claims(it, fields, said), mails=_mails(it.row),
               observed_at=at and change.second(at), sequence=change.sequence(it.header), snapshot=ours,
               deleted=False, ours=ours)  # fmt: skip
    yield from _consent(it.row, record, at)
    yield from _converted(it.row, record, at)


def _opted_out(it: Told, _fields: FieldMap) -> Iterator[Statement]:
    at = it.at or moment(it.row.get("LastModifiedDate"))
    yield from _consent({**it.row, OPT_OUT: True}, RecordRef(it.type, it.id), at)


def _claims(it: Told, fields: FieldMap, said: dict[str, Said]) -> dict[str, str | None]:
    """The address and the user id, as far as the row shows them. The user id is an attribute of the person as well."""
    claims: dict[str, str | None] = {}
    if "Email" in it.row:
        claims["email"] = text(it.row["Email"])
    own = [name for key in fields.user_id_keys for name in (key, f"{key}__c")]
    for name in (it.user_id_field,) if it.user_id_field else own:
        if name in it.row:
            claims["user_id"] = _user_id(it.row[name])
            said["external_id"] = claims["user_id"] or WITHDRAWN
            break
    return claims


def _mails(row: Row) -> dict[str, bool]:
    """Whether Salesforce would mail the record, where the row shows that."""
    opted_out = row.get(OPT_OUT)
    return {"*": not opted_out} if isinstance(opted_out, bool) else {}


def _user_id(value: Any) -> str | None:
    """As text; a number field of Salesforce's gives 42 as 42.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return text(value) if not isinstance(value, int) or isinstance(value, bool) else str(value)


def _consent(row: Row, record: RecordRef, at: datetime | None) -> Iterator[Consent]:
    address = text(row.get("Email"))
    if row.get(OPT_OUT) is True:
        yield Consent(act="opt_out", record=record, address=address, at=at, reason="Email Opt Out in Salesforce")
    bounced = moment(row.get("EmailBouncedDate"))
    if bounced and address:
        yield Consent(act="bounce_hard", record=record, address=address, at=bounced, reason="bounced in Salesforce")


def _converted(row: Row, record: RecordRef, at: datetime | None) -> Iterator[Link]:
    contact = full_id(row.get("ConvertedContactId"))
    if record.type == LEAD and contact is not None:
        day = moment(row.get("ConvertedDate"))  # the row may change later, when it was converted does not
        yield Link(a=record, b=RecordRef(CONTACT, contact), at=day or at, reason="converted in Salesforce")


def _merged(it: Told, record: RecordRef) -> Iterator[Link]:
    winner = person(it.row.get("MasterRecordId"))
    if winner is not None and winner != record:
        yield Link(a=record, b=winner, at=it.at, reason="merged in Salesforce")


_READERS: Final[dict[str, Reader]] = {
    "read.lead": _person,
    "read.contact": _person,
    f"read.{TASK}": lambda it, _: activity.of_task(it),
    f"read.{EVENT}": lambda it, _: activity.of_event(it),
    f"read.{CAMPAIGN_MEMBER}": lambda it, _: activity.of_campaign_member(it),
    "change.lead": _changed,
    "change.contact": _changed,
    OPTED_OUT: _opted_out,
}

KINDS: Final = frozenset(_READERS)
LOWERING: Final = frozenset({"read.lead", "read.contact", "change.lead", "change.contact", OPTED_OUT})
