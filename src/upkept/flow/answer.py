"""What a vendor answers to a push: what it was told, what it holds now, and the record that it made (R6, R11)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection as OpenStore

from upkept.contract import WITHDRAWN, Consent, Fact, FactKind, Pushed, RecordRef, Said
from upkept.flow import link, told
from upkept.flow.hub import Hub
from upkept.flow.owed import Owed
from upkept.people.consent import admit_consent
from upkept.people.facts import decode, digest, from_us, record_key, to_us
from upkept.people.owed import UNSURE
from upkept.people.values import LinkFact
from upkept.registry import Connection
from upkept.sources import ANSWERED, envelope
from upkept.store import consent, inbox, records, tellings
from upkept.store.inbox import Arrival
from upkept.store.outbox import Due


@dataclass(frozen=True, slots=True)
class Letter:
    """One desired state on its way; `key` is the same for every try of it, that of an event for ever."""

    due: Due
    key: str
    owed: Owed


def acknowledge(
    hub: Hub, destination: Connection, letter: Letter, answer: Pushed, *, asked: int, now: int
) -> list[int]:
    """The vendor took it, no sooner than it was asked: remember that, take in what it holds now, and link a record
    that it made.

    The ids of new rows of the inbox. What it holds is a fact of its record from this moment on: if somebody sets that
    back before it is read again, the reading is news, and the vendor is told again.
    """
    if letter.due.action == "delete":
        return []
    if letter.owed.event is not None:
        _noted(hub, letter.owed, now)
        return []
    ref = answer.record if letter.owed.record is None else RecordRef(*letter.owed.record.key[1:])
    if ref is None:
        return []
    if letter.owed.record is None:
        _link(hub, destination, letter, ref, now)
    id_ = hub.record_id(record_key(destination.name, ref))
    # Not the time of the answer: what somebody there did between the two would look older than what we sent.
    at = asked if answer.at is None else min(to_us(answer.at), now)
    holds = _holds(destination, letter, ref, answer, at)
    new: dict[tuple[str, str], int] = {}
    with hub.store.write() as open_store:
        stands = told.taken(open_store, destination, id_, letter.owed, answer, at=at)
        if stands and (holds.mails or holds.fields):
            new = inbox.store(open_store, [_arrival(destination, letter, holds, now)])
        if answer.locked:
            _lock(open_store, hub, destination, letter, answer, now)
    return sorted(new.values())


def needs_none(hub: Hub, destination: Connection, letter: Letter, *, now: int) -> None:
    """The vendor can make nothing of it, so the record is not owed it again; what it holds nobody said."""
    record = letter.owed.record
    if letter.owed.event is not None:
        _noted(hub, letter.owed, now)
    elif record is not None:
        with hub.store.write() as open_store:
            told.taken(open_store, destination, record.id, letter.owed, Pushed(record=None), at=now)


def _noted(hub: Hub, one: Owed, now: int) -> None:
    if one.event is not None and one.record is not None:
        with hub.store.write() as open_store:
            tellings.keep(open_store, one.event.place, target=one.record.id, now=now)


def _holds(destination: Connection, letter: Letter, ref: RecordRef, answer: Pushed, at: int) -> Fact:
    """What the vendor holds now, of what is its alone: whom it mails, and fields that only go out.

    It counts more than all that was known of the record when it was written, and less than what comes to be known of
    the seconds around it.
    """
    one = letter.owed
    newest = one.record.head.newest if one.record is not None and one.record.head is not None else None
    since = max(at - UNSURE, 0 if newest is None else newest.at + 1)
    notes: dict[str, Said] = {}
    for rule in destination.fields.outgoing(ref.type):
        if rule.direction == "out" and (cell := one.cells.get(rule.attribute)) is not None:
            if rule.path in answer.fields:
                notes[rule.holds] = destination.fields.read(rule, answer.fields[rule.path])
            else:
                said = decode(cell.value)
                notes[rule.holds] = None if said is WITHDRAWN else said
    mails = {topic: act == "opt_in" for topic, act in one.state.consent.items() if topic not in answer.locked}
    return Fact(record=ref, fields=notes, mails=mails, observed_at=from_us(since), kind=FactKind.ANSWER)


def _arrival(destination: Connection, letter: Letter, holds: Fact, now: int) -> Arrival:
    return Arrival(
        connection=destination.name, dedup_key=f"push {letter.key}", kind=ANSWERED, body=envelope.encode([holds]),
        received_at=now,
    )  # fmt: skip


def _lock(open_store: OpenStore, hub: Hub, destination: Connection, letter: Letter, answer: Pushed, now: int) -> None:
    """The vendor will not have this address back: a fact, shown, and not tried again (R11)."""
    said = [
        Consent(act="lock", record=answer.record, address=letter.owed.state.email, topic=topic, reason="refused a push")
        for topic in sorted(answer.locked)
    ]
    facts = [
        fact for one in said for fact in admit_consent(destination.name, one, received_at=now, subject=hub.subject)
    ]
    consent.insert(open_store, [(fact, f"push {letter.key}") for fact in facts], now=now)


def _link(hub: Hub, destination: Connection, letter: Letter, made: RecordRef, now: int) -> None:
    """The record that the vendor made is this person's, whatever it says of itself."""
    with hub.store.read() as open_store:
        shown = records.load(open_store, [letter.due.subject]).get(letter.due.subject)
    if shown is not None:
        key = record_key(destination.name, made)
        link_id = digest("pushed", list(shown.key), list(key))
        link.state(hub, LinkFact(link_id, key, shown.key, now, "strong", reason="made by a push"), now=now)
