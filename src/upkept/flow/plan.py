"""What a batch is about to change, worked out before any transaction: ids, admitted facts, statements."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from upkept.contract import Consent, Fact, FactKind, Link, Permanent, TimelineEvent
from upkept.flow.hub import Hub
from upkept.flow.normalize import Work
from upkept.people.consent import ConsentFact, admit_consent
from upkept.people.facts import admit, admit_link, canonical, clean, encode, record_key, to_us
from upkept.people.identifiers import email_key
from upkept.people.values import AdmittedFact, RecordKey
from upkept.store.claims import Identifier, StoredLink
from upkept.store.inbox import Claimed
from upkept.store.row_key import row_key
from upkept.store.timeline import NewEvent

log = structlog.get_logger(__name__)

METADATA = 10
"""Keys of a timeline event's metadata that are kept, as our users know it from Intercom."""


@dataclass(frozen=True, slots=True)
class Stated:
    """One admitted fact on its way into a record."""

    record: str
    fact: AdmittedFact
    row: Claimed
    ours: bool = False


@dataclass(slots=True)
class Plan:
    """A batch as the effect transaction needs it. Record ids are known before a row stands.

    `unnamed` are the records of opt-outs that name no address. `past` events are from before the `horizon` and are not
    taken; `aside` are the records that only they name.
    """

    rows: list[Claimed] = field(default_factory=list)
    facts: list[Stated] = field(default_factory=list)
    records: dict[str, tuple[RecordKey, bool, int]] = field(default_factory=dict)
    owners: dict[str, set[str]] = field(default_factory=dict)
    claimed: dict[str, set[Identifier]] = field(default_factory=dict)
    consents: list[tuple[ConsentFact, str, int]] = field(default_factory=list)
    consent_records: set[str] = field(default_factory=set)
    consent_addresses: set[str] = field(default_factory=set)
    unnamed: set[str] = field(default_factory=set)
    links: list[StoredLink] = field(default_factory=list)
    events: list[tuple[NewEvent, int]] = field(default_factory=list)
    horizon: int | None = None
    past: list[tuple[NewEvent, int]] = field(default_factory=list)
    aside: dict[str, tuple[RecordKey, bool, int]] = field(default_factory=dict)
    bereft: set[str] = field(default_factory=set)
    clamped: int = 0

    @property
    def replayed(self) -> list[int]:
        """Rows that may have been applied before."""
        return [row.id for row in self.rows if row.epoch > 1]

    @property
    def linked(self) -> set[str]:
        """Records at the ends of explicit links."""
        return {end for a, b, *_ in self.links for end in (a, b)}

    @property
    def whole(self) -> list[tuple[str, RecordKey, int]]:
        """(id, key, time) of the records that are no parts: their rows stand before anything is locked."""
        return [(id_, key, at) for id_, (key, part, at) in self.records.items() if not part]

    def touch(self, hub: Hub, key: RecordKey, *, at: int) -> str:
        """The id of a record this batch needs to stand."""
        id_ = hub.record_id(key)
        known = self.records.get(id_)
        if known is None or at < known[2]:
            self.records[id_] = (key, hub.is_part(key), at)
        return id_

    def leave_out(self, horizon: int) -> None:
        """Take no event from before this moment, and let no record stand because of one."""
        self.horizon = horizon
        self.past = [(event, row) for event, row in self.events if event[3] < horizon]
        self.events = [(event, row) for event, row in self.events if event[3] >= horizon]
        named = {stated.record for stated in self.facts} | self.consent_records | self.linked
        named |= {event[0] for event, _ in self.events}.union(*self.owners.values())
        self.aside = {id_: self.records.pop(id_) for id_ in {event[0] for event, _ in self.past} - named}


def plan(hub: Hub, works: Iterable[Work]) -> Plan:
    """Admit every statement of a batch."""
    made = Plan()
    for work in works:
        row = work.row
        made.rows.append(row)
        for fact in work.facts:
            _fact(hub, made, row, fact)
        for consent in work.consents:
            _consent(hub, made, row, consent)
        for link in work.links:
            _link(hub, made, row, link)
        for event in work.events:
            _event(hub, made, row, event)
    return made


def _fact(hub: Hub, made: Plan, row: Claimed, fact: Fact) -> None:
    run = row.run if fact.kind == FactKind.IMPORT else None  # only an import's facts are its own (R1)
    admitted = admit(row.connection, fact, received_at=row.received_at, run=run)
    if admitted.clamped:
        made.clamped += 1
        log.warning("clock_ahead", connection=row.connection, inbox_id=row.id,
                    cure="the vendor's clock is more than 5 minutes ahead; the time of arrival was taken")  # fmt: skip
    id_ = made.touch(hub, admitted.key, at=row.received_at)
    if admitted.owner is not None:
        if not hub.is_part(admitted.key):
            raise Permanent(f"{row.connection}: {admitted.key.type!r} has an owner but is not among Connector.parts")
        made.owners.setdefault(id_, set()).add(made.touch(hub, admitted.owner, at=row.received_at))
    held = {(kind, value) for kind, value in admitted.fact.doc.get("c", {}).items() if value is not None}
    if held:
        made.claimed.setdefault(id_, set()).update(held)
    made.facts.append(Stated(id_, admitted.fact, row, fact.ours))


def _consent(hub: Hub, made: Plan, row: Claimed, consent: Consent) -> None:
    key = row_key(row.connection, row.dedup_key)
    facts = admit_consent(row.connection, consent, received_at=row.received_at, subject=hub.subject)
    made.consents += [(fact, key, row.id) for fact in facts]
    if consent.record is not None:
        id_ = made.touch(hub, record_key(row.connection, consent.record), at=row.received_at)
        made.consent_records.add(id_)
        if any(fact.subject_kind == "holder" for fact in facts):
            made.unnamed.add(id_)
    address = email_key(consent.address) if consent.address else None
    if address is not None:
        made.consent_addresses.add(address)


def _link(hub: Hub, made: Plan, row: Claimed, link: Link) -> None:
    admitted = admit_link(row.connection, link, received_at=row.received_at)
    a, b = (made.touch(hub, key, at=row.received_at) for key in (admitted.a, admitted.b))
    made.links.append((a, b, admitted, row.id))


def _event(hub: Hub, made: Plan, row: Claimed, event: TimelineEvent) -> None:
    record = made.touch(hub, record_key(row.connection, event.record), at=row.received_at)
    at = min(to_us(event.at), row.received_at) if event.at is not None else row.received_at
    metadata = canonical({clean(name): encode(value) for name, value in sorted(event.metadata.items())[:METADATA]})
    made.events.append(((record, clean(event.id), clean(event.name), at, metadata.decode(), row.id), row.id))
