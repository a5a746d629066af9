"""Settle and derive: from changed records to the people they are. Used by apply, merge, erase and rebuild alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from upkept.flow import component, meant, view
from upkept.flow.component import Outgrown
from upkept.flow.find import heirs
from upkept.flow.hub import Hub
from upkept.flow.owed import known, owed
from upkept.people.consent import ConsentFact, record_subject
from upkept.people.head import Head
from upkept.people.values import Interval, RecordKey
from upkept.store import claims, consent, erasure, outbox, people, records, tellings
from upkept.store.claims import Identifier, Oldest
from upkept.store.outbox import Lane, Wish
from upkept.store.people import PersonRow
from upkept.store.records import Record
from upkept.store.tellings import Place

Derived = tuple[PersonRow, list[Record], list[ConsentFact]]
"""A person, its records, and what binds them."""


@dataclass(slots=True)
class Effect:
    """The working copies of one transaction, and what it changed.

    `changed` records are written back; `unsettled` ones may belong to another person now; `dirty` ones make
    their person be derived again. `claimed` ones hold other identifiers than the claims table says, and `lost`
    ones no longer state one that they did; `touched` is what either hold or held. `emptied` ones lost what was said
    of them and may have no fact any more. `adopted` are the new owners of parts.
    `stated` is what each of the claimed records held before and holds now; `unnamed` are records of opt-outs that name
    no address. Only where it `narrows` are addresses let go that those do not mean any more.
    `news` are the inbox rows that said something new. `derived` is every person looked at, `people` those among them
    that changed. `wished` are the outbox rows it wrote.
    """

    records: dict[str, Record] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    unsettled: set[str] = field(default_factory=set)
    dirty: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    adopted: set[str] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)
    touched: set[Identifier] = field(default_factory=set)
    stated: dict[str, set[Identifier]] = field(default_factory=dict)
    unnamed: set[str] = field(default_factory=set)
    narrows: bool = False
    owners: set[str] = field(default_factory=set)
    wishes: dict[RecordKey, tuple[str, int]] = field(default_factory=dict)
    news: set[int] = field(default_factory=set)
    derived: list[PersonRow] = field(default_factory=list)
    people: list[PersonRow] = field(default_factory=list)
    wished: list[int] = field(default_factory=list)

    def take(self, connection: Connection, ids: Iterable[str]) -> None:
        """Lock records, then their people; then read the people's other records, which those locks protect."""
        self.records = records.lock(connection, ids)
        held = {r.person for r in self.records.values() if r.person is not None}
        self.hashes = people.lock(connection, held)
        others = records.ids_of_people(connection, sorted(held)) - self.records.keys()
        self.records |= records.load(connection, sorted(others))

    def begin(self, fresh: Iterable[Record]) -> None:
        """Take up parts that do not stand yet."""
        for record in fresh:
            self.records[record.id] = record
            self.changed.add(record.id)

    def fold(self, hub: Hub, record: Record, head: Head) -> None:
        """Take a new head, and note what it touches."""
        before, record.head = record.head, head
        record.known = head.newest is not None
        record.deleted = head.deleted
        if not record.known and before is not None:
            self.emptied.add(record.id)
        self.changed.add(record.id)
        if record.part:
            owner = hub.record_id(RecordKey(record.key.connection, *head.owner)) if head.owner is not None else None
            self.owners.update(id_ for id_ in (record.owner, owner) if id_ is not None)
            if owner is not None and owner != record.owner:
                self.adopted.add(owner)
            record.owner = owner
            return
        self.owners.add(record.id)
        self.dirty.add(record.id)
        self._claim(record, before.claims if before is not None else (), head.claims)
        if before is None or before.makes_user != head.makes_user or record.user_id != head.user_id:
            record.user_id = head.user_id
            self.unsettled.add(record.id)

    def _claim(self, record: Record, before: Sequence[Interval], after: Sequence[Interval]) -> None:
        if before == after:
            return
        self.claimed.add(record.id)
        either = {(i.kind, i.value) for i in (*before, *after)}
        self.touched |= either
        self.stated.setdefault(record.id, set()).update(either)
        self.unsettled.add(record.id)
        if {(i.kind, i.value) for i in before} - {(i.kind, i.value) for i in after}:
            self.lost.add(record.id)

    def leave(self, bereft: Iterable[str]) -> None:
        """Records that lost one near to them: their people and summaries are made anew."""
        for record in (self.records[id_] for id_ in bereft if id_ in self.records):
            if not record.part:
                self.unsettled.add(record.id)
                self.dirty.add(record.id)
                self.owners.add(record.id)

    def loses(self, ids: Iterable[str]) -> None:
        """Something that was said of these records is no longer; one of which nothing is known may go."""
        for record in (self.records[id_] for id_ in ids if id_ in self.records):
            if not record.known:
                self.emptied.add(record.id)
                if not record.part:
                    self.unsettled.add(record.id)

    def drop(self, ids: Iterable[str]) -> None:
        """These records are gone from the store."""
        for id_ in ids:
            self.records.pop(id_, None)
            for marked in (self.changed, self.unsettled, self.dirty, self.claimed, self.lost, self.owners):
                marked.discard(id_)


def settle(connection: Connection, hub: Hub, effect: Effect, *, now: int) -> None:
    """Summarize, decide components, derive people, write all of it. Raises `Outgrown` for a larger lock set."""
    _imply(connection, hub, effect, now)
    _summarize(connection, hub, effect)
    if any(destination.tells for destination in hub.destinations):
        effect.dirty |= effect.adopted & effect.records.keys()  # what happened to the part may be owed now
    effect.unsettled |= {id_ for id_, r in effect.records.items() if r.person is None and not r.part}
    effect.unsettled |= _of_several_user_ids(effect)
    effect.unsettled |= _companions(effect)
    linking = component.oldest(connection, hub, effect.touched)
    gone = _drop_bare(connection, hub, effect)
    groups, targets = _components(connection, hub, effect, linking, gone)
    derived = _derive(connection, hub, effect, groups, targets, now)
    records.save(connection, [effect.records[id_] for id_ in effect.changed])
    effect.wished += _tell(connection, hub, derived, now)


def _imply(connection: Connection, hub: Hub, effect: Effect, now: int) -> None:
    """Opt-outs that name no address bind those that their records hold; whoever holds one of them is derived again."""
    asked = {id_: effect.stated.get(id_, set()) for id_ in effect.stated.keys() | effect.unnamed}
    records_ = {id_: record for id_ in asked if (record := effect.records.get(id_)) is not None and not record.part}
    found = meant.implied_of(connection, hub, {r.key: _held(r) for r in records_.values()})
    moved = meant.insert(connection, found, now=now)
    if effect.narrows:
        stated = {record.key: asked[id_] for id_, record in records_.items()}
        moved |= meant.let_go(connection, hub, stated, found)
    moved |= {one.identifier for one in found if hub.record_id(one.record) in effect.unnamed}
    holders = claims.holders(connection, sorted(moved))
    if not holders <= effect.records.keys():
        raise Outgrown(frozenset(holders | effect.records.keys()))
    effect.dirty |= holders


def _held(record: Record) -> Sequence[Interval]:
    return record.head.claims if record.head is not None else ()


def _of_several_user_ids(effect: Effect) -> set[str]:
    """Dirty records of people whom a teammate made of several app users: only their merges tell which id they show."""
    persons = {id_: person for id_ in effect.dirty if (person := effect.records[id_].person) is not None}
    held: dict[str, set[str]] = {person: set() for person in persons.values()}
    for record in effect.records.values():
        if record.user_id is not None and record.person is not None and record.person in held:
            held[record.person].add(record.user_id)
    return {id_ for id_, person in persons.items() if len(held[person]) > 1}


def _companions(effect: Effect) -> set[str]:
    """Who is one person with an unsettled record, and may be left behind by it."""
    people_ = {effect.records[id_].person for id_ in effect.unsettled} - {None}
    return {id_ for id_, r in effect.records.items() if r.person in people_}


def _drop_bare(connection: Connection, hub: Hub, effect: Effect) -> set[str]:
    """A record of which a replay or an undo left no fact goes, unless something else was said about it; who went."""
    bare = {id_ for id_ in effect.emptied if not (r := effect.records[id_]).known and r.floor is None}
    if not bare:
        return bare
    bare -= erasure.mentioned(connection, sorted(bare))
    about = {hub.subject("record", record_subject(effect.records[id_].key)): id_ for id_ in bare}
    bare -= {about[subject] for subject in consent.about(connection, sorted(about))}
    left = [record for id_, record in effect.records.items() if id_ not in bare and not record.part]
    erasure.remove_records(connection, bare, heirs=heirs([effect.records[id_] for id_ in bare], left))
    effect.drop(bare)
    return bare


def _summarize(connection: Connection, hub: Hub, effect: Effect) -> None:
    missing = records.load(connection, sorted(effect.owners - effect.records.keys()))
    if missing:
        raise Outgrown(frozenset(missing.keys() | effect.records.keys()))
    owners = {id_ for id_ in effect.owners if _summarizes(hub, effect.records.get(id_))}
    if not owners:
        return
    parts: dict[str, dict[str, Record]] = {}
    stored = records.parts_of(connection, sorted(owners))
    for id_, part in {**stored, **{i: r for i, r in effect.records.items() if r.part}}.items():
        if part.owner in owners:
            parts.setdefault(part.owner, {})[id_] = part
    for id_ in owners:
        owner = effect.records[id_]
        if id_ not in parts and not owner.summary and owner.head is None:
            continue
        if owner.summarize(view.summarize(hub, owner, parts.get(id_, {}).values())):
            effect.changed.add(id_)
            effect.dirty.add(id_)


def _summarizes(hub: Hub, record: Record | None) -> bool:
    known = hub.connections.get(record.key.connection) if record is not None else None
    return known is not None and known.connector.summarize is not None


def _components(
    connection: Connection, hub: Hub, effect: Effect, linking: Mapping[str, Oldest], gone: set[str]
) -> tuple[dict[str, list[Record]], dict[str, Sequence[RecordKey]]]:
    """Every person to derive: its records by a provisional name, and the merge targets that name it.

    `linking` is who linked by the touched addresses before; those `gone` left the store since.
    """
    groups: dict[str, list[Record]] = {}
    targets: dict[str, Sequence[RecordKey]] = {}
    settled: set[str] = set()
    heads = {id_: effect.records[id_].head for id_ in effect.claimed}
    fresh = {id_: list(head.claims) if head is not None else [] for id_, head in heads.items()}
    claims.replace(connection, fresh)
    moved = component.moved(connection, hub, linking, further=sum(map(len, fresh.values())))
    if seeds := effect.unsettled | moved - gone:
        found = component.closure(connection, hub, seeds)
        resolution = component.settle(hub, found, effect.records)
        by_key = {record.key: record for record in effect.records.values()}
        for members, merges in zip(resolution.components, resolution.targets, strict=True):
            group = [by_key[key] for key in sorted(members)]
            groups[group[0].id] = group
            targets[group[0].id] = merges
            settled.update(record.id for record in group)
        refused = [(by_key[c.a].id, by_key[c.b].id, c.reason) for c in resolution.conflicts]
        claims.replace_conflicts(connection, found.intervals, refused)
    dirty_people = {effect.records[id_].person for id_ in effect.dirty - settled} - {None}
    for record in effect.records.values():
        if record.person in dirty_people and record.id not in settled:
            name = f"person {record.person}"
            groups.setdefault(name, []).append(record)
            if record.id == record.person:  # whose id is shown was decided when the component was
                targets[name] = [record.key]
    return groups, targets


def _derive(
    connection: Connection,
    hub: Hub,
    effect: Effect,
    groups: Mapping[str, list[Record]],
    targets: Mapping[str, Sequence[RecordKey]],
    now: int,
) -> list[Derived]:
    said = view.statements(connection, hub, list(groups.values()))
    left: set[str] = set()
    found: list[Derived] = []
    for (name, group), statements in zip(groups.items(), said, strict=True):
        row = view.person_row(hub, group, statements, targets.get(name, ()), now=now)
        for record in group:
            if record.person != row.id:
                left.update({record.person} - {None})  # type: ignore[arg-type]
                record.person = row.id
                effect.changed.add(record.id)
        effect.derived.append(row)
        found.append((row, group, statements))
        if effect.hashes.get(row.id) != row.hash:
            effect.people.append(row)
    gone = left - {row.id for row in effect.people} - {r.person for r in effect.records.values()}
    people.remove(connection, gone)
    outbox.remove(connection, gone)
    people.save(connection, effect.people, now=now)
    return found


def _tell(connection: Connection, hub: Hub, derived: Sequence[Derived], now: int) -> list[int]:
    """Note, in the same transaction, which other systems must know; the outbox rows."""
    destinations = hub.destinations
    if not destinations or not derived:
        return []
    wishes: list[Wish] = []
    bound: list[tuple[Place, str]] = []
    people_ = known(connection, hub, derived, destinations, now=now)
    for destination in destinations:
        moot: list[str] = []
        for person in people_:
            if of_it := owed(destination, person):
                lane: Lane = "consent" if any(one.lowers for one in of_it) else "outbound"
                wishes.append(Wish(destination=destination.name, subject=person.row.id, lane=lane))
                bound += [one.binding for one in of_it if one.binding is not None]
            else:
                moot.append(person.row.id)
        outbox.settled(connection, destination.name, moot)
    tellings.bind(connection, bound)
    return outbox.write(connection, wishes, now=now)
