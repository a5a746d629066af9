"""Whom consent statements bind that are about to go: they stand on keyed hashes, which name nobody by themselves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from upkept.flow.hub import Hub
from upkept.people.consent import record_subject
from upkept.people.identifiers import EMAIL, PHONE
from upkept.people.values import RecordKey
from upkept.store import claims, records
from upkept.store.claims import Identifier

Subject = tuple[str, str]
"""(kind, keyed hash)."""


@dataclass(slots=True)
class Bound:
    """The records that the statements name, and the addresses, whose holders they bind."""

    records: set[str] = field(default_factory=set)
    identifiers: set[Identifier] = field(default_factory=set)


def behind(
    connection: Connection, hub: Hub, subjects: Iterable[Subject], *, near: Iterable[str], said: Iterable[Identifier]
) -> Bound:
    """Who is behind these subjects: looked for among the records `near`, what those ever held, and what was `said`.

    Whoever is not among them is looked for everywhere, which takes seconds where there are millions of records. A
    subject that nobody bears any more binds nobody.
    """
    wanted = set(subjects)
    bound = Bound()
    if not wanted:
        return bound
    stored = records.load(connection, sorted(near))
    left = _records(hub, wanted, ((id_, record.key) for id_, record in stored.items()), bound)
    left = _identifiers(hub, left, {*said, *claims.ever(connection, stored)}, bound)
    if any(kind == "record" for kind, _ in left):
        left = _records(hub, left, records.whole(connection), bound)
    if any(kind == "address" for kind, _ in left):
        _identifiers(hub, left, ((kind, value) for kind, value, _ in claims.open_contacts(connection)), bound)
    return bound


def _records(hub: Hub, wanted: set[Subject], known: Iterable[tuple[str, RecordKey]], bound: Bound) -> set[Subject]:
    """Note those of the records that are wanted; what is still wanted."""
    found: set[Subject] = set()
    for id_, key in known:
        subject = ("record", hub.subject("record", record_subject(key)))
        if subject in wanted:
            found.add(subject)
            bound.records.add(id_)
    return wanted - found


def _identifiers(hub: Hub, wanted: set[Subject], known: Iterable[Identifier], bound: Bound) -> set[Subject]:
    found: set[Subject] = set()
    for kind, value in known:
        subject = ("address", hub.subject("address", value))
        if kind in (EMAIL, PHONE) and subject in wanted:
            found.add(subject)
            bound.identifiers.add((kind, value))
    return wanted - found
