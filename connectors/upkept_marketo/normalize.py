"""What Marketo's activities, reads and hints say. Pure.

Bodies are ours, made where Marketo is asked (`client`), around what Marketo said to the letter:

    read.lead          {"read_at": seconds, "leads": [lead…], "gone": [id…]}
    hint.unsubscribed  {"lead_id"?, "email"?, "at"?, "reason"?}
    everything else    {"type": its name at Marketo, "activity": activity,
                        "email"?: the lead's address at that time, "lead"?: its names}

**Consent.** Whoever sets `unsubscribed` (the link in a mail, a form, a CRM, an API) opts the person out, on the lead
and on its address: Marketo's own durable unsubscribe forgets a person who moves to a clean address, ours does not (R9).
`unsubscribed` set to false is a word without evidence: it never lifts an opt-out (R8). It says what Marketo holds of
the lead alone, as a move to a clean address sets it too: so the hub knows that it owes Marketo the opt-out again.
`emailSuspended` is no opt-out, as it ends by itself after a day and its flag stays. `emailInvalid` is a hard bounce,
`blackListed` a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from upkept.contract import (
    Consent,
    ConsentAct,
    Fact,
    FactKind,
    FieldMap,
    Link,
    Permanent,
    RawEvent,
    RecordRef,
    Scalar,
    Skipped,
    Statement,
    TimelineEvent,
)
from upkept_marketo.fields import FULL_NAME, LEAD, NAMES
from upkept_marketo.payload import Object, Unreadable, attributes, flag, lead_id, moment, read_object, text
from upkept_marketo.webhook import HINT, OPT_OUT

READ: Final = "read.lead"
CHANGED: Final = "change_data_value"
CREATED: Final = "new_lead"
UNSUBSCRIBED: Final = "unsubscribe_email"
BOUNCED: Final = "email_bounced"
BOUNCED_SOFT: Final = "email_bounced_soft"
MERGED: Final = "merge_leads"
DELETED: Final = "delete_lead"
HAPPENED: Final = "activity"

TYPES: Final[Mapping[str, str]] = {
    "Change Data Value": CHANGED,
    "New Lead": CREATED,
    "Unsubscribe Email": UNSUBSCRIBED,
    "Email Bounced": BOUNCED,
    "Email Bounced Soft": BOUNCED_SOFT,
    "Merge Leads": MERGED,
    "Delete Lead": DELETED,
}
"""Marketo's names of the activity types we understand; their numbers differ between subscriptions. Others that an
operator asks for are of the kind `activity`."""

KINDS: Final = frozenset({HINT, OPT_OUT, READ, HAPPENED, *TYPES.values()})
LOWERING: Final = frozenset({OPT_OUT, READ, CHANGED, UNSUBSCRIBED})

OURS: Final = "Web service API"
"""Who changed a field, for every client of the API, us included (R6)."""

INVALID: Final = "2"
"""The category of a bounce whose address does not exist; category 1 is a refusal that may pass."""

MOST_KEPT: Final = 8
LONGEST: Final = 255
PRIVATE: Final = frozenset({"Client IP Address", "User Agent", "Form Fields", "Query Parameters", "Lead ID"})
"""Attributes that have no place on a timeline."""


@dataclass(frozen=True)
class Told:
    """An activity, taken apart."""

    body: Object
    fields: FieldMap

    @cached_property
    def activity(self) -> Object:
        found = self.body.get("activity")
        if not isinstance(found, Mapping):
            raise Permanent("a Marketo event without an activity: nothing can be made of it")
        return found

    @cached_property
    def record(self) -> RecordRef:
        id = lead_id(self.activity.get("leadId"))
        if id is None:
            raise Permanent("a Marketo activity that names no lead")
        return RecordRef(LEAD, id)

    @cached_property
    def at(self) -> datetime | None:
        return moment(self.activity.get("activityDate"))

    @cached_property
    def guid(self) -> str:
        guid = self.activity.get("marketoGUID") or self.activity.get("id")
        if guid is None or isinstance(guid, bool | Mapping | list):
            raise Permanent("a Marketo activity without an id")
        return str(guid)

    @property
    def sequence(self) -> int:
        """Activities of one second in the order they were logged, where their ids are numbers."""
        return int(self.guid) if self.guid.isascii() and self.guid.isdigit() and len(self.guid) < 19 else 0

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        return attributes(self.activity)

    @property
    def email(self) -> str | None:
        return text(self.body.get("email"))

    def consent(self, act: ConsentAct, reason: str, *, address: str | None = None) -> Consent:
        return Consent(act=act, record=self.record, address=address or self.email, at=self.at, reason=reason)

    def event(self, name: str, metadata: Mapping[str, Scalar] | None = None) -> TimelineEvent:
        return TimelineEvent(record=self.record, name=name, id=self.guid, at=self.at, metadata=metadata or {})


def normalize(event: RawEvent, fields: FieldMap, /) -> tuple[Statement, ...]:
    """See `upkept.contract.Normalize`."""
    if event.kind not in KINDS:
        raise Skipped(f"{event.kind} says nothing about a person")
    if event.kind == HINT:
        raise Skipped("a hint says nothing itself; the lead is read instead")
    try:
        body = read_object(event.body)
    except Unreadable as error:
        raise Permanent(f"{event.kind}: {error}") from None
    if event.kind == READ:
        return tuple(_read(body, fields))
    if event.kind == OPT_OUT:
        return (_hinted(body),)
    return tuple(_READERS[event.kind](Told(body, fields)))


def _hinted(body: Object) -> Consent:
    id, email = lead_id(body.get("lead_id")), text(body.get("email"))
    if id is None and email is None:
        raise Permanent("an unsubscribe that names nobody")
    return Consent(
        act="opt_out",
        record=None if id is None else RecordRef(LEAD, id),
        address=email,
        at=moment(body.get("at")),
        reason=text(body.get("reason")) or "unsubscribed at Marketo (webhook)",
    )


def _read(body: Object, fields: FieldMap) -> Iterator[Statement]:
    leads, gone, read_at = body.get("leads"), body.get("gone", []), body.get("read_at")
    if not isinstance(leads, list) or not isinstance(gone, list) or not isinstance(read_at, int):
        raise Permanent("a read of leads without leads or without its time")
    try:
        at = datetime.fromtimestamp(read_at, UTC)
    except (ValueError, OverflowError, OSError):
        raise Permanent("a read of leads at a time that no calendar knows") from None
    for lead in leads:
        yield from _lead(lead, at, fields)
    for id in gone:
        if lead_id(id) is None:
            raise Permanent("a lead that is gone without an id")
        yield Fact(record=RecordRef(LEAD, str(id)), observed_at=at, kind=FactKind.READ_BACK, deleted=True)


def _lead(lead: Any, read_at: datetime, fields: FieldMap) -> Iterator[Statement]:
    id = lead_id(lead.get("id")) if isinstance(lead, Mapping) else None
    if id is None:
        raise Permanent("a lead without an id")
    record, email = RecordRef(LEAD, id), text(lead.get("email"))
    yield Fact(
        record=record,
        fields=fields.apply(LEAD, _shaped(lead, lead)),
        claims=_claims(lead, fields),
        mails=_mails(lead),
        observed_at=read_at,
        kind=FactKind.READ_BACK,
        snapshot=True,
        deleted=False,
    )
    # The version's time, so that an opt-out read again is the same statement, and no younger than it may be.
    at = min(moment(lead.get("updatedAt")) or read_at, read_at)
    for act, name, why, default in _FLAGS:
        if flag(lead.get(name)):
            yield Consent(act=act, record=record, address=email, at=at, reason=text(lead.get(why)) or default)


_FLAGS: Final[tuple[tuple[ConsentAct, str, str, str], ...]] = (
    ("opt_out", "unsubscribed", "unsubscribedReason", "unsubscribed at Marketo"),
    ("block", "blackListed", "blackListedCause", "on Marketo's blocklist"),
    ("bounce_hard", "emailInvalid", "emailInvalidCause", "Marketo knows the address as invalid"),
)
"""What a flag that is set means; the field with the reason, and the words where it is empty."""


def _shaped(said: Object, around: Object) -> dict[str, Any]:
    """The fields said, with the full name where a part of it is said and the other is known."""
    shaped = dict(said)
    both = {**around, **said}
    if any(name in said for name in NAMES) and all(name in both for name in NAMES):
        shaped[FULL_NAME] = " ".join(part for name in NAMES if (part := text(both[name]))) or None
    return shaped


def _mails(said: Object) -> dict[str, bool]:
    """Whether Marketo would mail the lead, where that is shown."""
    unsubscribed = flag(said.get("unsubscribed"))
    return {} if unsubscribed is None else {"*": not unsubscribed}


def _claims(said: Object, fields: FieldMap) -> dict[str, str | None]:
    claims: dict[str, str | None] = {"email": text(said["email"])} if "email" in said else {}
    for key in fields.user_id_keys:
        value = said.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if text(value):
            return {**claims, "user_id": text(value)}
    if any(key in said for key in fields.user_id_keys):
        claims["user_id"] = None
    return claims


def _changed(told: Told) -> Iterator[Statement]:
    listed = told.activity.get("fields")
    if not isinstance(listed, list):
        raise Permanent("a change of a lead that names no fields")
    said = {
        one["name"]: one.get("newValue")
        for one in listed
        if isinstance(one, Mapping) and isinstance(one.get("name"), str)
    }
    around = told.body.get("lead")
    fields = told.fields.apply(LEAD, _shaped(said, around if isinstance(around, Mapping) else {}))
    claims = _claims(said, told.fields)
    mails = _mails(said)
    if fields or claims or mails:
        # A change over the API may be our own push coming back: an unchanged value is then no news (R6).
        yield Fact(
            record=told.record,
            fields=fields,
            claims=claims,
            mails=mails,
            observed_at=told.at,
            sequence=told.sequence,
            snapshot=told.attributes.get("Source") == OURS,
        )
    reason = text(told.attributes.get("Reason")) or text(told.attributes.get("Source")) or "changed at Marketo"
    for name, value in said.items():
        act = _ACTS.get((name, flag(value)))
        if act is not None:
            yield told.consent(act, reason)
    if flag(said.get("unsubscribed")) is False:
        yield Consent(act="opt_in", record=told.record, at=told.at, reason=reason)


_ACTS: Final[Mapping[tuple[str, bool | None], ConsentAct]] = {
    ("unsubscribed", True): "opt_out",
    ("blackListed", True): "block",
    ("emailInvalid", True): "bounce_hard",
    ("emailInvalid", False): "deliverable",
}


def _created(told: Told) -> Iterator[Statement]:
    yield Fact(record=told.record, observed_at=told.at, sequence=told.sequence, deleted=False)
    yield told.event("lead created", _metadata(told))


def _unsubscribed(told: Told) -> Iterator[Statement]:
    mail = text(told.activity.get("primaryAttributeValue"))
    yield told.consent("opt_out", f"unsubscribed from {mail}" if mail else "unsubscribed by link")
    yield told.event("email unsubscribed", {"about": mail} if mail else {})


def _bounced(told: Told) -> Iterator[Statement]:
    hard = str(told.attributes.get("Category")) == INVALID
    yield from _bounce(told, "bounce_hard" if hard else "bounce_soft")


def _bounced_soft(told: Told) -> Iterator[Statement]:
    yield from _bounce(told, "bounce_soft")


def _bounce(told: Told, act: ConsentAct) -> Iterator[Statement]:
    reason = text(told.attributes.get("Details")) or "bounced at Marketo"
    yield told.consent(act, reason[:LONGEST], address=text(told.attributes.get("Email")))


def _merged(told: Told) -> Iterator[Statement]:
    said = told.attributes.get("Merge IDs")
    words = said if isinstance(said, list) else str("" if said is None else said).strip("[] ").split(",")
    ids = {id for word in words if (id := lead_id(word.strip() if isinstance(word, str) else word))}
    losers = sorted(ids - {told.record.id}, key=lambda id: (len(id), id))
    if not losers:
        raise Permanent("a merge of leads that names no lead but the one that stays")
    for loser in (RecordRef(LEAD, id) for id in losers):
        yield Link(a=loser, b=told.record, at=told.at, reason="merged at Marketo")
        yield Fact(record=loser, observed_at=told.at, sequence=told.sequence, deleted=True)


def _deleted(told: Told) -> Iterator[Statement]:
    yield Fact(record=told.record, observed_at=told.at, sequence=told.sequence, deleted=True)


def _happened(told: Told) -> Iterator[Statement]:
    name = text(told.body.get("type"))
    if name is None:
        raise Permanent("an activity whose type has no name")
    yield told.event(name.lower(), _metadata(told))


def _metadata(told: Told) -> dict[str, Scalar]:
    """What it was about and up to `MOST_KEPT` of its attributes, the same ones every time."""
    about = text(told.activity.get("primaryAttributeValue"))
    found: dict[str, Scalar] = {} if about is None else {"about": about[:LONGEST]}
    kept = sorted((name, value) for name, value in told.attributes.items() if name not in PRIVATE and _plain(value))
    for name, value in kept[:MOST_KEPT]:
        found[name.lower().replace(" ", "_")] = value[:LONGEST] if isinstance(value, str) else value
    return found


def _plain(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and bool(value))


_READERS: Final[Mapping[str, Callable[[Told], Iterator[Statement]]]] = {
    CHANGED: _changed,
    CREATED: _created,
    UNSUBSCRIBED: _unsubscribed,
    BOUNCED: _bounced,
    BOUNCED_SOFT: _bounced_soft,
    MERGED: _merged,
    DELETED: _deleted,
    HAPPENED: _happened,
}
