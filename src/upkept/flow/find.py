"""Find the person somebody means by an id, an email, a user id or `connection:source id` (DESIGN section 6)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from upkept.contract import UpkeptError
from upkept.flow.hub import Hub
from upkept.people.facts import clean
from upkept.people.identifiers import EMAIL, USER_ID, identifier_key
from upkept.people.values import RecordKey
from upkept.store import aliases, claims, records
from upkept.store.records import Record

PUBLIC_ID: Final = re.compile("[0-9a-f]{24}")


class Unknown(UpkeptError):
    """Nobody is meant."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of several people who could be meant, with the records that make them so."""

    id: str
    records: tuple[RecordKey, ...]


class Several(UpkeptError):
    """More than one person could be meant; name one of the `candidates` by id."""

    def __init__(self, candidates: tuple[Candidate, ...]) -> None:
        super().__init__(
            f"{len(candidates)} people could be meant; name one by id: {', '.join(c.id for c in candidates)}"
        )
        self.candidates = candidates


@dataclass(frozen=True, slots=True)
class Found:
    """A person by the id they show, and the record by which they were found."""

    person: str
    record: Record


def find(connection: Connection, hub: Hub, name: str) -> Found:
    """The person known as `name`: the current holder, else a past one. Old ids resolve for ever (R15).

    Raises `Unknown` or `Several`.
    """
    name = clean(name)
    for records_ in (_by_id(connection, name), _by_source(connection, hub, name)):
        if records_:
            return _one(records_)
    for kind in (EMAIL, USER_ID):
        for held in _by_identifier(connection, kind, name):
            if held:
                return _one(held)
    if PUBLIC_ID.fullmatch(name):
        raise Unknown(
            "nobody is known by that id, or nobody is left: all that was said of them was taken back or erased"
        )
    raise Unknown("nobody is known by that; PERSON is an id, an email, a user id or connection:source id")


def heirs(gone: Iterable[Record], left: Iterable[Record]) -> dict[str, str]:
    """To which records the ids of those that go lead from now on: of those left of the same person the one whose id is
    shown, else the first (R15)."""
    first: dict[str | None, Record] = {}
    for record in sorted(left, key=lambda one: (one.id != one.person, _first(one)), reverse=True):
        first[record.person] = record
    return {record.id: first[record.person].id for record in gone if record.person and record.person in first}


def _by_id(connection: Connection, name: str) -> list[Record]:
    if found := _whole(connection, records.load(connection, [name]).values()):
        return found
    led = aliases.leads_to(connection, name)
    return _whole(connection, records.load(connection, [led]).values()) if led is not None else []


def _by_source(connection: Connection, hub: Hub, name: str) -> list[Record]:
    source, colon, id_ = name.partition(":")
    if not colon:
        return []
    found = records.load(connection, records.named(connection, source, id_))
    known = hub.connections.get(source)
    if not found and known is not None:
        # Parts are rare guests here: their ids follow from their keys, so they need no index by source id.
        keys = [RecordKey(source, type_, id_) for type_ in sorted(known.connector.parts)]
        found = records.load(connection, [hub.record_id(key) for key in keys])
    return _whole(connection, found.values())


def _by_identifier(connection: Connection, kind: str, name: str) -> Iterable[list[Record]]:
    key = identifier_key(kind, name)
    holders = claims.current_and_past(connection, kind, key) if key is not None else ()
    for ids in holders:
        yield _whole(connection, records.load(connection, sorted(ids)).values())


def _whole(connection: Connection, found: Iterable[Record]) -> list[Record]:
    """Records that belong to a person; a part stands for its owner."""
    at_hand = list(found)
    owners = records.load(connection, sorted({r.owner for r in at_hand if r.owner is not None}))
    return [r for r in (*at_hand, *owners.values()) if r.person is not None]


def _one(found: list[Record]) -> Found:
    people: dict[str, list[Record]] = {}
    for record in found:
        people.setdefault(record.person or "", []).append(record)
    if len(people) > 1:
        raise Several(tuple(Candidate(id_, tuple(sorted(r.key for r in held))) for id_, held in sorted(people.items())))
    ((person, held),) = people.items()
    return Found(person, min(held, key=_first))


def _first(record: Record) -> tuple[bool, int, RecordKey]:
    """In the order by which people show an id (R15)."""
    return record.head is None or not record.head.makes_user, record.issued_at, record.key
