"""Erase a person for ever (SEMANTICS R12): what goes, what stays, what is told to the vendors.

Every record goes with its parts, facts, events, claims and links; tombstones of the record keys and of every
identifier they ever stated refuse them wherever they come from later; what the inbox still holds is blanked; each
vendor is asked to delete. Opt-outs stay, as keyed hashes. An identifier that somebody else holds, or that identifies
nobody, gets no tombstone: it would refuse that somebody. Who only once held it is spared by name instead.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from upkept.flow import alarm
from upkept.flow.bury import Doomed, bury, identifiers_of
from upkept.flow.component import Outgrown, holding
from upkept.flow.find import find
from upkept.flow.hub import Hub
from upkept.flow.settle import Effect, settle
from upkept.flow.traces import Wanted, search, search_rest
from upkept.people.erasure import Tombstone, spared, tombstones
from upkept.people.values import RecordKey
from upkept.settings import RESERVED
from upkept.store import audit, claims, erasure, records, traces
from upkept.store import tombstones as stored_tombstones
from upkept.store.claims import Identifier
from upkept.store.erasure import Tally
from upkept.store.records import Record


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure removes, or would. `left` are identifiers without a tombstone; `rows` bodies are blanked.

    `unread` are those deliveries among them that may hold an opt-out nobody could read: it goes with them.
    `vendors` are the connections that are asked to delete; of those in `unknown` nothing is configured here any more.
    """

    person: str
    records: tuple[RecordKey, ...]
    tally: Tally
    rows: int
    unread: tuple[int, ...]
    erased: tuple[Identifier, ...]
    left: tuple[Identifier, ...]
    vendors: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Scope:
    person: str
    whole: Mapping[str, Record]
    every: Mapping[str, Record]
    stated: frozenset[Identifier]
    left: frozenset[Identifier]
    spared: frozenset[tuple[RecordKey, Identifier]]

    @property
    def wanted(self) -> Wanted:
        """By what deliveries tell of them. One that names what another once held may be about that other."""
        also = {claim for _, claim in self.spared}
        return Wanted(frozenset(r.key for r in self.every.values()), self.stated - self.left - also)


def preview(hub: Hub, name: str) -> Erasure:
    """What erasing the person known as `name` would remove; nothing is changed. Raises what `find` raises."""
    with hub.store.read() as connection:
        scope = _scope(connection, hub, name)
        tally = erasure.tally(connection, scope.every)
    found, _ = search(hub, scope.wanted)
    return _report(hub, scope, tally, len(found.over) + len(found.waiting), found.unread)


def erase(hub: Hub, name: str, *, now: int, actor: str) -> Erasure:
    """Erase the person known as `name`. There is no way back. Raises what `find` raises."""
    erasure = holding(lambda also: _erase(hub, name, also, now, actor))
    if erasure.unread:
        alarm.settle_opt_outs(hub, hub.connections, now=now)
    return erasure


def lay(hub: Hub, log: Collection[Tombstone], *, now: int, actor: str) -> None:
    """Lay the tombstones of another copy of this store; a rebuild then removes what they cover."""
    with hub.store.write() as connection:
        stored_tombstones.alone(connection)
        stored_tombstones.lay(connection, list(log))
        audit.note(connection, "lay tombstones", [str(len(log))], actor=actor, now=now)


def remove(connection: Connection, hub: Hub, doomed: Doomed, *, now: int, also: Iterable[str] = ()) -> None:
    """Bury these records and settle those they leave behind, in the caller's transaction."""
    also = set(also)
    near = bury(connection, hub, doomed, now=now, beside=also)
    effect = Effect()
    effect.take(connection, {*near, *also})
    effect.leave(near)
    settle(connection, hub, effect, now=now)


def _erase(hub: Hub, name: str, also: frozenset[str], now: int, actor: str) -> Erasure:
    with hub.store.read() as connection:
        scope = _scope(connection, hub, name)
    found, last = search(hub, scope.wanted)
    with hub.store.write() as connection:
        stored_tombstones.alone(connection)
        # By the id, which resolves whatever happened to the name meanwhile.
        scope_now = _scope(connection, hub, scope.person)
        if not scope.wanted.covers(scope_now.wanted):
            raise Outgrown(frozenset(scope_now.every))
        search_rest(connection, hub, scope_now.wanted, found, after=last)
        tally = erasure.tally(connection, scope_now.every)
        blanked = traces.blank(connection, traces.over(connection, found.over))
        blanked += traces.give_up(connection, found.waiting)
        stones = tombstones(
            [r.key for r in scope_now.every.values()], scope_now.stated - scope_now.left, at=now, subject=hub.tombstone
        )
        stones += spared(scope_now.spared, at=now, subject=hub.tombstone)
        stored_tombstones.lay(connection, stones)
        remove(connection, hub, {id_: (r.key, r.part) for id_, r in scope_now.whole.items()}, now=now, also=also)
        audit.note(connection, "erase", [scope_now.person, *sorted(scope_now.whole)], actor=actor, now=now)
    return _report(hub, scope_now, tally, blanked, found.unread)


def _scope(connection: Connection, hub: Hub, name: str) -> _Scope:
    person = find(connection, hub, name).person
    whole = records.of_people(connection, [person])
    every = records.load(connection, sorted(erasure.with_parts(connection, whole)))
    stated = identifiers_of(connection, set(every))
    left = {one for one in stated if hub.blocked(*one)}
    past: set[tuple[str, Identifier]] = set()
    for one in stated - left:
        now, once = (held - every.keys() for held in claims.current_and_past(connection, *one))
        # Where identity is enforced, whoever merely asserts an address must not keep it from being erased.
        if now & (claims.holders(connection, [one], verified=True) if hub.settings.identity.enforce else now):
            left.add(one)
        else:
            past |= {(id_, one) for id_ in once}
    holders = records.load(connection, sorted({id_ for id_, _ in past}))
    kept = {(holders[id_].key, one) for id_, one in past if id_ in holders}
    return _Scope(person, whole, every, frozenset(stated), frozenset(left), frozenset(kept))


def _report(hub: Hub, scope: _Scope, tally: Tally, rows: int, unread: Iterable[int]) -> Erasure:
    vendors = {record.key.connection for record in scope.whole.values()} - set(RESERVED)
    return Erasure(
        person=scope.person,
        records=tuple(sorted(record.key for record in scope.whole.values())),
        tally=tally,
        rows=rows,
        unread=tuple(unread),
        erased=tuple(sorted(scope.stated - scope.left)),
        left=tuple(sorted(scope.left)),
        vendors=tuple(sorted(vendors & hub.connections.keys())),
        unknown=tuple(sorted(vendors - hub.connections.keys())),
    )
