"""From stored records to what the pure core derives a person from, and back to a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from upkept.contract import Part, RecordRef, Said, Whole
from upkept.contract.fields import NOTE
from upkept.flow.hub import Hub
from upkept.people.consent import ConsentFact, ConsentState, decide
from upkept.people.consent import subjects as consent_subjects
from upkept.people.derive import Person, RecordView, derive
from upkept.people.facts import decode, digest, encode
from upkept.people.fold import Cell, live
from upkept.people.head import EMPTY, Glance, new_cell
from upkept.people.predicate import segments_of
from upkept.people.together import NO_JOINTS, Joints, joined, newest_of
from upkept.people.values import RecordKey, Stamp
from upkept.store import consent
from upkept.store.people import PersonRow
from upkept.store.records import Record


def cells(hub: Hub, record: Record) -> Mapping[str, Cell]:
    """A record's fields as they count now: its own, and those summarized from its parts (R2, R12)."""
    alive = live(record.head or EMPTY, survives=hub.survives(record.key.connection), summary=record.summary)
    return {name: cell for name, cell in alive.items() if not name.startswith(NOTE)}


def view(hub: Hub, record: Record) -> RecordView:
    """One record as `derive` and `explain` see it."""
    head = record.head
    return RecordView(
        key=record.key,
        public_id=record.id,
        issued_at=record.issued_at,
        cells=cells(hub, record),
        deleted=record.deleted,
        makes_user=head is not None and head.makes_user,
        user_id=record.user_id,
        intervals=head.claims if head is not None else (),
    )


def summarize(hub: Hub, owner: Record, parts: Iterable[Record]) -> dict[str, Cell]:
    """The owner's summarized fields; each takes the newest stamp among the parts it used (R2)."""
    connector = hub.connections[owner.key.connection].connector if owner.key.connection in hub.connections else None
    if connector is None or connector.summarize is None:
        return {}
    newest: dict[RecordRef, Stamp | None] = {}
    seen: list[Part] = []
    for part in parts:
        glance = part.glance()
        if glance is not None:
            ref = RecordRef(part.key.type, part.key.id)
            newest[ref] = glance.newest
            seen.append(Part(ref, _decoded(glance), part.deleted))
    seen.sort(key=_by_ref)
    own = owner.head.glance() if owner.head is not None else Glance({}, None)
    used, stamp = None, None
    summary: dict[str, Cell] = {}
    for name, said in connector.summarize(_decoded(own), seen).items():
        if said.used is not used:  # neighbours often used the very same parts
            used, stamp = said.used, newest_of(said.used, newest, own.newest)
        if stamp is not None:
            summary[name] = new_cell((encode(said.value), stamp, stamp))
    return summary


def joints(hub: Hub, records: Sequence[Record], views: Sequence[RecordView]) -> Joints:
    """What records of one connection say together; each record of a person with its view, in one order."""
    if len(records) == 1:
        return NO_JOINTS
    found = {}
    for name, count in Counter(record.key.connection for record in records).items():
        combine = hub.connections[name].connector.combine if count > 1 and name in hub.connections else None
        if combine is None:
            continue
        cells: dict[RecordRef, Mapping[str, Cell]] = {}
        living: list[Whole] = []
        for record, seen in zip(records, views, strict=True):
            if record.key.connection == name and not record.deleted:
                living.append(_whole(record))
                cells[living[-1].ref] = seen.cells
        if living:
            found[name] = joined(combine(living), cells)
    return found


def _whole(record: Record) -> Whole:
    own = record.glance() or Glance({}, None)
    summary = {name: decode(value) for name, (value, *_) in record.summary.items()}
    return Whole(ref=RecordRef(record.key.type, record.key.id), fields=_decoded(own), summary=summary)


def _decoded(glance: Glance) -> dict[str, Said]:
    values = glance.values
    if dict not in map(type, values.values()):
        return values
    return {name: decode(value) for name, value in values.items()}


def _by_ref(part: Part) -> RecordRef:
    return part.ref


def subjects(hub: Hub, records: Iterable[Record]) -> set[str]:
    """The keyed hashes under which consent about these records and their present addresses stands (R9)."""
    found: set[str] = set()
    for record in records:
        held = record.head.claims if record.head is not None else ()
        found.update(hashed for _, hashed in consent_subjects([record.key], held, hub.subject))
    return found


def statements(connection: Connection, hub: Hub, groups: Sequence[Sequence[Record]]) -> list[list[ConsentFact]]:
    """For each person's records, every consent statement that binds them."""
    wanted = [subjects(hub, group) for group in groups]
    about = consent.about(connection, sorted(set().union(*wanted))) if wanted else {}
    return [[fact for subject in sorted(of) for fact in about.get(subject, ())] for of in wanted]


def person_row(
    hub: Hub, records: Sequence[Record], said: Sequence[ConsentFact], targets: Sequence[RecordKey], *, now: int
) -> PersonRow:
    """A person derived from its records, as stored."""
    held = sorted(records, key=lambda record: record.key)
    views = [view(hub, record) for record in held]
    person = derive(views, targets=targets, policies=hub.policies, joints=joints(hub, held, views))
    state = decide(said)
    row = _row(person, state, digest(person.doc(), state.state, state.since))
    return replace(row, segments=segments(hub, row, now)) if hub.settings.segments else row


def segments(hub: Hub, row: PersonRow, now: int) -> list[str]:
    """The segments that a person is in at this moment (R17)."""
    asked = ("id", "role", "external_id", "email", "name", "attributes", "tags", "companies", "archived", "consent")
    document = {name: getattr(row, name) for name in asked}
    return segments_of(document, hub.settings.segments, now, zone=ZoneInfo(hub.settings.workspace.timezone))


def _row(person: Person, state: ConsentState, hash_: str) -> PersonRow:
    return PersonRow(
        id=person.id,
        role=person.role,
        external_id=person.external_id,
        email=person.email,
        name=person.name,
        attributes=dict(person.attributes),
        tags=list(person.tags),
        segments=[],
        companies=list(person.companies),
        consent=state.state,
        archived=person.archived,
        hash=hash_,
    )
