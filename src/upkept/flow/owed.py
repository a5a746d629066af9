"""What each destination is owed about a person: what `push` sends, and whether there is anything to send at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from sqlalchemy import Connection as OpenStore

from upkept.contract import Desired, RecordRef
from upkept.flow import tellings, view
from upkept.flow.hub import Hub
from upkept.people.consent import ConsentFact, record_subject
from upkept.people.derive import RecordView, deciding
from upkept.people.facts import decode
from upkept.people.head import EMPTY, Cell
from upkept.people.owed import NOTHING_TOLD, Act, Told, desired_consent, heard, owed_consent, owes_field
from upkept.people.together import Joints
from upkept.registry import Connection
from upkept.store import tellings as stored
from upkept.store import told
from upkept.store.people import PersonRow
from upkept.store.records import Record
from upkept.store.tellings import Place, Telling


@dataclass(frozen=True, slots=True)
class Owed:
    """One record to change, or (None) to make, and the cells whose values go out, by attribute; or an event of which to
    tell.

    `heard` is the time of the newest that the vendor says of the record's mail, in microseconds.
    """

    record: Record | None
    state: Desired
    cells: Mapping[str, Cell] = field(default_factory=dict)
    heard: int = 0
    event: Telling | None = None

    @property
    def lowers(self) -> bool:
        """Does it tell of an opt-out?"""
        return "opt_out" in self.state.consent.values()

    @property
    def binding(self) -> tuple[Place, str] | None:
        """The event and the record that it is to be bound to, if it is not."""
        if self.event is None or self.record is None or self.event.target == self.record.id:
            return None
        return self.event.place, self.record.id


@dataclass(frozen=True)
class Known:
    """A person with all that decides what is owed about it at this moment; `told` by record id."""

    hub: Hub
    row: PersonRow
    records: Sequence[Record]
    statements: Sequence[ConsentFact]
    told: Mapping[str, Told]
    untold: Sequence[Telling]
    now: int

    @cached_property
    def seen(self) -> tuple[list[RecordView], Joints]:
        """The records as `deciding` sees them, made once however many destinations ask."""
        held = sorted(self.records, key=lambda record: record.key)
        views = [view.view(self.hub, record) for record in held]
        return views, view.joints(self.hub, held, views)


def known(open_store: OpenStore, hub: Hub, people: Iterable[tuple[PersonRow, Sequence[Record], Sequence[ConsentFact]]],
          destinations: Iterable[Connection], *, now: int) -> list[Known]:  # fmt: skip
    """These people with what the destinations' records of them were told, and what happened that nobody was told."""
    found = list(people)
    asked = list(destinations)
    names = {destination.name for destination in asked}
    ids = {record.id for _, records, _ in found for record in records if record.key.connection in names}
    before = told.of(open_store, sorted(ids))
    of: dict[str, str] = {}
    if any(destination.tells for destination in asked):
        of = {record.id: row.id for row, records, _ in found for record in records}
    untold: dict[str, list[Telling]] = {}
    for one in stored.untold(open_store, of):
        untold.setdefault(of[one.whole], []).append(one)
    return [Known(hub, row, records, said, before, untold.get(row.id, ()), now) for row, records, said in found]


def owed(destination: Connection, person: Known) -> list[Owed]:
    """What the destination must be told about a person; empty if it says all of it already."""
    theirs = [r for r in person.records if r.key.connection == destination.name and not r.deleted]
    if not theirs:
        return _new(destination, person)
    desired = desired_consent(person.statements, connection=destination.name)
    wanted = _wanted(destination, person, {record.key.type for record in theirs})
    found = [_of_record(destination, person, record, wanted, desired) for record in theirs]
    events = tellings.due(destination, theirs, person.untold, now=person.now)
    return [one for one in found if one.state.fields or one.state.consent] + [_event(person, *one) for one in events]


def _of_record(
    destination: Connection, person: Known, record: Record, wanted: Mapping[str, Cell],
    desired: Mapping[str, Act],
) -> Owed:  # fmt: skip
    before = person.told.get(record.id, NOTHING_TOLD)
    held = (record.head or EMPTY).cells
    cells: dict[str, Cell] = {}
    fields = {}
    for rule in destination.fields.outgoing(record.key.type):
        cell = wanted.get(rule.attribute)
        if cell is not None and owes_field(cell, held.get(rule.holds), before.fields.get(rule.attribute)):
            cells[rule.attribute] = cell
            fields[rule.path] = destination.fields.written(rule, decode(cell.value))  # type: ignore[arg-type]
    subject = person.hub.subject("record", record_subject(record.key))
    said = heard((s for s in person.statements if s.subject == subject and s.connection == destination.name), held)
    consent = owed_consent(desired, said, before)
    state = _desired(person, RecordRef(*record.key[1:]), fields, consent)
    return Owed(record, state, cells, max((one.at for one in said), default=0))


def _event(person: Known, of: Telling, record: Record) -> Owed:
    state = _desired(person, RecordRef(*record.key[1:]), {}, {})
    return Owed(record, replace(state, event=tellings.event(of)), event=of)


def _new(destination: Connection, person: Known) -> list[Owed]:
    """A record to make, where the operator's rule asks for one and the vendor never had one."""
    creates = destination.connector.creates
    asked = destination.create and destination.create in person.row.segments and not person.row.archived
    if creates is None or not asked or any(r.key.connection == destination.name for r in person.records):
        return []
    wanted = _wanted(destination, person, {creates})
    rules = [rule for rule in destination.fields.outgoing(creates) if rule.attribute in wanted]
    cells = {rule.attribute: wanted[rule.attribute] for rule in rules}
    fields = {r.path: destination.fields.written(r, decode(wanted[r.attribute].value)) for r in rules}  # type: ignore[arg-type]
    consent = desired_consent(person.statements, connection=destination.name)
    return [Owed(None, _desired(person, None, fields, consent), cells)]


def _wanted(destination: Connection, person: Known, types: Iterable[str]) -> dict[str, Cell]:
    names = {rule.attribute for type_ in types for rule in destination.fields.outgoing(type_)}
    if not names:
        return {}
    views, joints = person.seen
    return deciding(views, names, person.hub.policies, joints=joints)


def _desired(
    person: Known, record: RecordRef | None, fields: Mapping[str, object], consent: Mapping[str, Act]
) -> Desired:
    row = person.row
    return Desired(
        person=row.id, record=record, email=row.email, user_id=row.external_id, fields=fields, consent=consent
    )
