"""Merge and unmerge: a teammate's word that two records are one person, or are not (R13 to R15).

Such a word is a link fact between the records that bore the ids, so a merge moves nothing and an unmerge gives each
side back what is its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from upkept.contract import UpkeptError
from upkept.flow.component import holding
from upkept.flow.find import find
from upkept.flow.hub import Hub
from upkept.flow.settle import Effect, settle
from upkept.people.consent import record_subject
from upkept.people.facts import admin_link
from upkept.people.values import LinkFact
from upkept.store import audit, claims, records, tombstones
from upkept.store.records import Record

__all__ = ["Linked", "Refused", "admin_link", "merge", "state", "unmerge"]


class Refused(UpkeptError):
    """The two cannot be merged or unmerged; the message says why."""


@dataclass(frozen=True, slots=True)
class Linked:
    """What came of it. `people` are the ids shown now: one after a merge, two after an unmerge.

    `apart` are other people who hold records of the two sides now, because of an earlier unmerge.
    """

    changed: bool
    people: tuple[str, ...]
    said: str
    apart: tuple[str, ...] = ()


def merge(hub: Hub, a: str, b: str, *, now: int, actor: str) -> Linked:
    """Make the people known as `a` and `b` one, who shows the id of `b`. Merging again changes nothing.

    Raises `Refused`, or what `find` raises.
    """
    return holding(lambda also: _merge(hub, a, b, also, now, actor))


def unmerge(hub: Hub, a: str, b: str, *, now: int, actor: str) -> Linked:
    """Part the records that bore the ids `a` and `b`; no address joins them again. Each side keeps its own.

    Raises `Refused`, or what `find` raises.
    """
    return holding(lambda also: _unmerge(hub, a, b, also, now, actor))


def state(hub: Hub, link: LinkFact, *, now: int) -> bool:
    """Take in an admin link between two records, which need not stand yet; True if it was news."""

    def once(also: frozenset[str]) -> bool:
        with hub.store.write() as connection:
            return _take_in(connection, hub, link, also, now)[1]

    return holding(once)


def _merge(hub: Hub, a: str, b: str, also: frozenset[str], now: int, actor: str) -> Linked:
    with hub.store.write() as connection:
        one, other = find(connection, hub, a), find(connection, hub, b)
        if one.record.id == other.record.id:
            raise Refused("both name the same record: there is nothing to merge")
        newest = _newest(connection, one.record, other.record)
        if newest is not None and not newest.cut and newest.a == one.record.key:
            return Linked(False, (other.person,), "they were merged before; nothing changed")
        link = admin_link(one.record.key, other.record.key, at=_after(newest, now), reason="merged by hand")
        members = records.of_people(connection, [one.person, other.person])
        effect, _ = _take_in(connection, hub, link, also, now)
        audit.note(connection, "merge", [one.record.id, other.record.id], actor=actor, now=now)
        person = effect.records[other.record.id].person or ""
        said = "they are one person now" if one.person != other.person else "they were one person, and stay so"
        return Linked(True, (person,), said, _apart(effect, members, (person,)))


def _unmerge(hub: Hub, a: str, b: str, also: frozenset[str], now: int, actor: str) -> Linked:
    with hub.store.write() as connection:
        one, other = find(connection, hub, a), find(connection, hub, b)
        if one.record.id == other.record.id:
            raise Refused("both name the same record: name one record of each side, by its id or connection:source id")
        newest = _newest(connection, one.record, other.record)
        if one.person != other.person:
            known = "they were unmerged before" if newest is not None and newest.cut else "they were never merged"
            return Linked(False, (one.person, other.person), f"they are two people already: {known}")
        link = admin_link(one.record.key, other.record.key, at=_after(newest, now), cut=True, reason="unmerged by hand")
        members = records.of_people(connection, [one.person])
        effect, _ = _take_in(connection, hub, link, also, now)
        audit.note(connection, "unmerge", [one.record.id, other.record.id], actor=actor, now=now)
        people = tuple(effect.records[found.record.id].person or "" for found in (one, other))
        return Linked(True, people, "they are two people now", _apart(effect, members, people))


def _take_in(connection: Connection, hub: Hub, link: LinkFact, also: frozenset[str], now: int) -> tuple[Effect, bool]:
    """Store the link, lock both neighbourhoods, settle them. An erased end stays away, and the link with it."""
    tombstones.beside_others(connection)
    ends = {hub.record_id(key): key for key in (link.a, link.b)}
    hashed = {hub.tombstone("record", record_subject(key)): id_ for id_, key in ends.items()}
    erased = {hashed[stone.subject] for stone in tombstones.about(connection, sorted(hashed))}
    here = {id_: key for id_, key in ends.items() if id_ not in erased}
    records.insert_missing(connection, [(id_, key, now) for id_, key in here.items()])
    effect = Effect()
    effect.take(connection, here.keys() | also)
    new = not erased and bool(
        claims.add_links(connection, [(hub.record_id(link.a), hub.record_id(link.b), link, None)])
    )
    if new:
        effect.unsettled |= here.keys()
    settle(connection, hub, effect, now=now)
    return effect, new


def _newest(connection: Connection, a: Record, b: Record) -> LinkFact | None:
    """The last word about just these two."""
    keys = {a.id: a.key, b.id: b.key}
    said = [
        LinkFact(id_, keys[x], keys[y], at, "admin", cut, reason)
        for id_, (x, y, at, strength, cut, reason) in claims.links_of(connection, [a.id, b.id]).items()
        if strength == "admin" and {x, y} == keys.keys()
    ]
    return max(said, key=lambda link: (link.at, link.cut, link.id), default=None)


def _after(newest: LinkFact | None, now: int) -> int:
    """A clock that was set back must not make the new word the older one."""
    return now if newest is None else max(now, newest.at + 1)


def _apart(effect: Effect, members: Iterable[str], shown: Iterable[str | None]) -> tuple[str, ...]:
    """Who else holds records of the two sides now."""
    held = {effect.records[id_].person for id_ in members if id_ in effect.records}
    return tuple(sorted(id_ for id_ in held - set(shown) if id_ is not None))
