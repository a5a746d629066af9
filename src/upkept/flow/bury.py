"""Bury records: what an erasure and every later refusal do to a record that must not stand (SEMANTICS R12)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from upkept.flow import component, meant
from upkept.flow.hub import Hub
from upkept.flow.settle import Effect
from upkept.people.consent import holder, record_subject
from upkept.people.erasure import FIRST_PARTY, Tombstone, asked, refused
from upkept.people.identifiers import EMAIL, PHONE
from upkept.people.values import RecordKey
from upkept.settings import RESERVED
from upkept.store import claims, consent, erasure, outbox, records, tombstones, traces
from upkept.store.claims import Identifier
from upkept.store.outbox import Wish
from upkept.store.records import Record

Doomed = Mapping[str, tuple[RecordKey, bool]]
"""Record id to its key, and whether it is a part. The record need not stand."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of a record when it is asked whether an erasure forbids it (`people.erasure.refused`).

    `created_at` is the time of its first fact, None if it has none.
    """

    key: RecordKey
    stated: set[Identifier]
    created_at: int | None


def bury(connection: Connection, hub: Hub, doomed: Doomed, *, now: int, beside: Iterable[str] = ()) -> set[str]:
    """Remove these records and their parts, for good: tombstones for their keys, deletes at their vendors.

    The bodies that brought them are blanked, and so is the evidence of consent; the statements themselves stand.
    Returns the records that were near them, whose people must be settled again. Records that the caller goes on to
    lock are given as `beside`, for all locks are taken here, in the order of the effect transaction.
    """
    _lock(connection, hub, doomed, set(beside))
    near = near_to(connection, hub, doomed)
    everything = erasure.with_parts(connection, doomed)
    stood = records.load(connection, sorted(everything))
    keys = {id_: key for id_, (key, _) in doomed.items()} | {id_: r.key for id_, r in stood.items()}
    parts = {id_ for id_, (_, part) in doomed.items() if part} | {id_ for id_, r in stood.items() if r.part}
    near |= meant.keep(connection, hub, {r.key: r.head.claims for r in stood.values() if r.head is not None}, now=now)
    held = identifiers_of(connection, everything)
    left = held_by_others(connection, held, everything)
    blank(connection, [*erasure.brought_by(connection, everything), *_hush(connection, hub, keys, held, left)])
    erasure.remove_records(connection, everything)
    claims.forget(connection, held - left)
    stones = [Tombstone("record", hub.tombstone("record", record_subject(key)), now) for key in keys.values()]
    tombstones.lay(connection, stones)
    deletes = [vendor_delete(key) for id_, key in keys.items() if id_ not in parts and key.connection not in RESERVED]
    outbox.write(connection, deletes, now=now)
    return near - everything


def _lock(connection: Connection, hub: Hub, doomed: Doomed, beside: set[str]) -> None:
    everything = erasure.with_parts(connection, doomed)
    claims.lock(connection, identifiers_of(connection, everything) | claims.ever(connection, beside))
    Effect().take(connection, near_to(connection, hub, doomed) | everything | beside)


def forbidden(connection: Connection, hub: Hub, held: Mapping[str, Held]) -> set[str]:
    """Those of the whole records that an erasure forbids."""
    subjects = {hashed for one in held.values() for hashed in asked(one.key, one.stated, subject=hub.tombstone)}
    standing = {(t.kind, t.subject): t.at for t in tombstones.about(connection, sorted(subjects))}
    if not standing:
        return set()
    return {
        id_
        for id_, one in held.items()
        if refused(
            one.key, one.stated, first_party=one.key.connection in FIRST_PARTY, created_at=one.created_at,
            lookup=lambda kind, subject: standing.get((kind, subject)), subject=hub.tombstone,
        )
    }  # fmt: skip


def buried(connection: Connection, hub: Hub, parts: Mapping[str, RecordKey]) -> set[str]:
    """Those of the parts that were erased by name: they go whoever owns them now, or where nobody does."""
    named = {hub.tombstone("record", record_subject(key)): id_ for id_, key in parts.items()}
    return {named[stone.subject] for stone in tombstones.about(connection, sorted(named))}


def held_by(connection: Connection, stored: Mapping[str, Record]) -> dict[str, Held]:
    """What stored records are judged by."""
    intervals = claims.of(connection, sorted(stored))
    return {
        id_: Held(
            record.key,
            {(i.kind, i.value) for i in intervals.get(id_, ())},
            None if record.head is None else record.head.first_at,
        )
        for id_, record in stored.items()
    }


def vendor_delete(key: RecordKey) -> Wish:
    """Ask the vendor to delete what was erased here."""
    return Wish(destination=key.connection, subject=key.id, type=key.type, action="delete")


def identifiers_of(connection: Connection, ids: set[str]) -> set[Identifier]:
    """Every identifier that these records and parts ever stated."""
    found = claims.ever(connection, ids)
    for record in records.load(connection, sorted(ids)).values():
        if record.head is not None:
            found |= {(i.kind, i.value) for i in record.head.claims}
    return found


def held_by_others(connection: Connection, wanted: Iterable[Identifier], ids: Collection[str]) -> set[Identifier]:
    """Those of the identifiers that records other than these hold or once held."""
    return {one for one in wanted if claims.holders(connection, [one]) - set(ids)}


def blank(connection: Connection, rows: list[int]) -> int:
    """Forget the bytes of those rows whose work is over; how many. What still waits is refused when its turn comes."""
    return traces.blank(connection, traces.over(connection, rows))


def near_to(connection: Connection, hub: Hub, ids: Iterable[str]) -> set[str]:
    """Every record whose person, summary or conflicts these records have a part in; they themselves too.

    Those too who link by a crowded address as soon as these records leave it.
    """
    stored = records.load(connection, sorted(ids))
    near = {r.owner for r in stored.values() if r.owner is not None}
    people_ = sorted({r.person for r in stored.values() if r.person is not None})
    near |= records.ids_of_people(connection, people_)
    near |= component.closure(connection, hub, stored.keys()).intervals.keys()
    held = [i for intervals in claims.of(connection, sorted(stored)).values() for i in intervals]
    stated = {(i.kind, i.value) for i in held}
    following = component.oldest(connection, hub, stated, further=len(held))
    return near | {id_ for one in following.values() for id_ in one.records}


def _hush(
    connection: Connection, hub: Hub, keys: Mapping[str, RecordKey], held: set[Identifier], left: set[Identifier]
) -> list[int]:
    """Blank the evidence about these records, and about addresses of theirs that nobody else holds."""
    theirs = [hub.subject("record", record_subject(key)) for key in keys.values()]
    theirs += [holder(key, hub.subject) for key in keys.values()]
    theirs += [hub.subject("address", value) for kind, value in held - left if kind in (EMAIL, PHONE)]
    shared = [hub.subject("address", value) for kind, value in left if kind in (EMAIL, PHONE)]
    return traces.named(connection, consent.hush(connection, theirs, shared))
