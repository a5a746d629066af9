"""What happened, from what Mailchimp said. Pure: no clock, no network, no SDK.

A **member** of an audience is a record. Its facts come from reads alone, as a webhook is unsigned. A read is dated by
`last_changed`, Mailchimp's version, so an unchanged member is a known fact; what may change without that (tags) is a
fact of its own, dated by the read. A read made within seconds of the change may still be overtaken by another change
of that second, so it counts as an event, and a later read outranks it (R3).

**Consent.** Status *subscribed* is a list's word: an opt-in that is not qualified, unless the audience asks for a
confirmation and a webhook that tells of subscribers' own acts alone told of it. *Unsubscribed* is an opt-out,
*cleaned* a hard bounce. *Pending* and *transactional* are neither, and *archived* changes nothing: archiving is
tidying, no wish. The scope is the audience's topic.

**Webhooks** say an opt-out, a bounce or a complaint, and what goes on the timeline. Their `fired_at` bears no zone.
Mailchimp writes UTC as far as anybody knows, and gives up after 75 minutes: a time that is not of the last 90 is of
another zone or wrong, and then the arrival counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from upkept.contract import (
    Consent,
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
from upkept.contract.fields import iso_time
from upkept_mailchimp.config import ALL
from upkept_mailchimp.fields import mapped
from upkept_mailchimp.form import Unreadable, read_form
from upkept_mailchimp.member import hash_of, ref
from upkept_mailchimp.payload import MOVE, Read, opened, read
from upkept_mailchimp.webhook import OURS, READ, THIN

MOVED: Final = "upemail.confirmed"
"""What `fetch` makes of an `upemail` that Mailchimp confirms: the old address is gone, the new one is there."""

RETRIED: Final = timedelta(minutes=90)
AHEAD: Final = timedelta(minutes=5)
FRESH: Final = timedelta(seconds=2)
"""A read so soon after the change may show half a second's changes; Mailchimp's clock has a grain of one. What the hub
reads back because two readings of one second differ comes later than that (R7)."""

SHOWING: Final = frozenset({"subscribed", "unsubscribed"})
"""A member of another status gets no campaigns, and is told of an opt-out all the same: its status may change."""


def normalize(event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
    """Raises `Skipped` for what is of no member, `Permanent` for what cannot be read."""
    reader = _READERS.get(event.kind)
    if reader is None:
        raise Skipped(f"Mailchimp event {event.kind!r}: tells nothing about a member")
    return list(reader(event, fields))


def _read_of(event: RawEvent, fields: FieldMap) -> Iterator[Statement]:
    yield from _member(event, read(event, opened(event)), fields)


def _moved(event: RawEvent, fields: FieldMap) -> Iterator[Statement]:
    """A member took another address: a new record of the same person, and the end of the old one."""
    body = opened(event)
    now = read(event, body.get("new") or {}) if body.get("object") == MOVE else None
    if now is None or not isinstance(body.get("old"), str):
        raise Permanent(f"Mailchimp {event.kind} {event.id}: the body shows no move")
    old, new = ref(now.audience, body["old"]), ref(now.audience, now.hash)
    yield from _member(event, now, fields)
    yield Fact(record=old, claims={"email": None}, kind=FactKind.READ_BACK, deleted=True)
    yield Link(a=old, b=new, at=_changed_at(now.member), reason="changed its address at Mailchimp")
    yield TimelineEvent(record=new, name="email address changed", id=f"{old.id}>{now.hash}",
                        at=_changed_at(now.member), metadata={"audience": now.audience})  # fmt: skip


def _member(event: RawEvent, it: Read, fields: FieldMap) -> Iterator[Statement]:
    record = ref(it.audience, it.hash)
    if it.is_gone:
        yield Fact(record=record, kind=FactKind.READ_BACK, deleted=True)
        return
    at = _changed_at(it.member)
    address = _address(it.member)
    fresh = at is not None and event.received_at is not None and event.received_at < at + FRESH
    kind = FactKind.EVENT if fresh else FactKind.READ_BACK
    status = it.member.get("status")
    mails = {it.topic: status == "subscribed"} if status in SHOWING else {}
    yield Fact(record=record, fields=mapped(it, fields, versionless=False), claims={"email": address}, mails=mails,
               observed_at=at, kind=kind, snapshot=True, deleted=False)  # fmt: skip
    beside = mapped(it, fields, versionless=True)
    if beside:
        yield Fact(record=record, fields=beside, kind=FactKind.READ_BACK, snapshot=True)
    yield from _consent(it, record, address, at)


def _consent(it: Read, record: RecordRef, address: str | None, at: datetime | None) -> Iterator[Statement]:
    match it.member.get("status"):
        case "unsubscribed":
            yield Consent(act="opt_out", record=record, address=address, topic=it.topic, at=at,
                          reason="unsubscribed at Mailchimp")  # fmt: skip
        case "subscribed":
            opted_at = _time(it.member.get("timestamp_opt")) or _time(it.member.get("timestamp_signup")) or at
            own_at, evidence = _confirmed(it) or (opted_at, "")
            yield Consent(act="opt_in", record=record, address=address, topic=it.topic, at=own_at,
                          qualified=bool(evidence), evidence=evidence, reason="subscribed at Mailchimp")  # fmt: skip
            if evidence:  # it came by a link in a mail that arrived
                yield Consent(act="deliverable", record=record, address=address, at=own_at,
                              reason="confirmed by mail")  # fmt: skip
        case "cleaned":
            yield Consent(act="bounce_hard", record=record, address=address, at=at, reason="cleaned at Mailchimp")


def _confirmed(it: Read) -> tuple[datetime, str] | None:
    """When the person itself confirmed that it wants mail, and the evidence; None if there is none.

    What a member shows is none: `source` is how it first came, and an admin or a program that subscribes it again
    renews `timestamp_opt` and `ip_opt`, or writes them. Neither can cause a webhook of a subscriber's act. The person
    did it before that was fired, so what somebody else did to the member later does not date the opt-in.
    """
    told_at, opted_at = _utc(it.told_at), _time(it.member.get("timestamp_opt"))
    if not it.confirms or told_at is None or opted_at is None or not it.member.get("ip_opt"):
        return None
    return min(told_at, opted_at), (
        f"double opt-in of audience {it.audience}: confirmed at {it.member['timestamp_opt']}, "
        f"told at {it.told_at} by a webhook of subscribers' own acts"
    )


def _unsubscribed(event: RawEvent, _fields: FieldMap) -> Iterator[Statement]:
    form, data, record, address = _hook(event)
    at, topic = _fired_at(event, form), _topic(form)
    campaign = data.get("campaign_id") or None
    if data.get("reason") == "abuse":
        yield from _complained(form, event, record, address, at, campaign)
        return
    yield Consent(act="opt_out", record=record, address=address, topic=topic, at=at,
                  reason="unsubscribed at Mailchimp", evidence=_evidence(form, data))  # fmt: skip
    yield _happened(event, record, "email unsubscribed", at, {"campaign": campaign, "topic": topic})


def _cleaned(event: RawEvent, _fields: FieldMap) -> Iterator[Statement]:
    form, data, record, address = _hook(event)
    at = _fired_at(event, form)
    campaign = data.get("campaign_id") or None
    if data.get("reason") == "abuse":
        yield from _complained(form, event, record, address, at, campaign)
        return
    yield Consent(act="bounce_hard", record=record, address=address, at=at, reason="cleaned at Mailchimp",
                  evidence=_evidence(form, data))  # fmt: skip
    yield _happened(event, record, "email bounced", at, {"campaign": campaign})


def _complained(
    form: Mapping[str, Any], event: RawEvent, record: RecordRef, address: str, at: datetime | None, campaign: Scalar
) -> Iterator[Statement]:
    """Who reports mail as spam wants none of it, whatever the topic."""
    yield Consent(act="complaint", record=record, address=address, topic=ALL, at=at,
                  reason="reported as spam at Mailchimp", evidence=_evidence(form, form["data"]))  # fmt: skip
    yield _happened(event, record, "email reported as spam", at, {"campaign": campaign})


def _happened(
    event: RawEvent, record: RecordRef, name: str, at: datetime | None, metadata: Mapping[str, Scalar]
) -> TimelineEvent:
    return TimelineEvent(
        record=record, name=name, id=event.id, at=at, metadata={k: v for k, v in metadata.items() if v is not None}
    )


def _campaign(event: RawEvent, _fields: FieldMap) -> Iterator[Statement]:
    _form(event)
    raise Skipped("Mailchimp campaign: tells of a mailing, and of nobody in particular")


def _not_yet(event: RawEvent, _fields: FieldMap) -> Iterator[Statement]:
    raise Permanent(f"Mailchimp {event.kind}: is unsigned, and believed only when the member was read")


def _hook(event: RawEvent) -> tuple[dict[str, Any], dict[str, Any], RecordRef, str]:
    form = _form(event)
    data = form["data"]
    audience, address = data.get("list_id"), data.get("email")
    if not isinstance(audience, str) or not isinstance(address, str) or "@" not in address:
        raise Permanent(f"Mailchimp {event.kind} {event.id}: names no member of an audience")
    return form, data, ref(audience, hash_of(address)), address.strip()


def _form(event: RawEvent) -> dict[str, Any]:
    try:
        form = read_form(event.body)
    except Unreadable as error:
        raise Permanent(f"Mailchimp {event.kind} {event.id}: {error}") from None
    if not isinstance(form.get("data"), dict):
        raise Permanent(f"Mailchimp {event.kind} {event.id}: the form has no data")
    return form


def _topic(form: Mapping[str, Any]) -> str:
    ours = form.get(OURS)
    return str(ours.get("topic") or ALL) if isinstance(ours, dict) else ALL


def _evidence(form: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    """What the webhook said of how it came about; no address."""
    said = ("action", "reason", "campaign_id", "list_id")
    found = [f"{name} {data[name]}" for name in said if isinstance(data.get(name), str) and data[name]]
    return ", ".join([f"webhook {form.get('type')} of {form.get('fired_at')}", *found])


def _fired_at(event: RawEvent, form: Mapping[str, Any]) -> datetime | None:
    fired, arrived = _utc(form.get("fired_at")), event.received_at
    if fired is None or arrived is None:
        return fired
    return fired if arrived - RETRIED <= fired <= arrived + AHEAD else None


def _utc(fired_at: object) -> datetime | None:
    try:
        return datetime.strptime(str(fired_at), "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _changed_at(member: Mapping[str, Any]) -> datetime | None:
    return _time(member.get("last_changed"))


def _time(value: Any) -> datetime | None:
    found = iso_time(value, {}) if value else None
    return found if isinstance(found, datetime) else None


def _address(member: Mapping[str, Any]) -> str | None:
    address = member.get("email_address")
    return address.strip() if isinstance(address, str) and "@" in address else None


_Reader = Callable[[RawEvent, FieldMap], Iterator[Statement]]

_READERS: Final[Mapping[str, _Reader]] = {
    "unsubscribe": _unsubscribed,
    "cleaned": _cleaned,
    "campaign": _campaign,
    READ: _read_of,
    MOVED: _moved,
    **dict.fromkeys(THIN, _not_yet),
}

KINDS: Final = frozenset(_READERS)
"""The webhooks and reads that we understand; all others are skipped."""

LOWERING: Final = frozenset({"unsubscribe", "cleaned", READ, MOVED})
"""What can take consent away."""
