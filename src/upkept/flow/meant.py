"""Whom opt-outs mean that name a record and no address: the addresses which that record holds (SEMANTICS R9).

A lead that was deleted at its vendor can be asked for its address no more; the opt-out that comes then binds the
address all the same. What such an opt-out is for an address is a statement of that address, as if it had been named:
every answer reads it, and it outlives the record. It is worked out whenever the opt-out comes or what the record holds
changes, under the locks of both, so it does not matter which came first. One that turns out to be of an address that
the record had let go before is taken back; after an erasure, a forgetting or an undo it never is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection

from upkept.flow.component import Outgrown
from upkept.flow.hub import Hub
from upkept.people.consent import ConsentFact, holder, implied, implied_id
from upkept.people.values import Interval, RecordKey
from upkept.store import claims, consent
from upkept.store.claims import Identifier
from upkept.store.records import Record


class Implied(NamedTuple):
    """What one opt-out of a record is for one address that the record holds; `key` is that of the inbox row."""

    record: RecordKey
    identifier: Identifier
    fact: ConsentFact
    key: str


def implied_of(connection: Connection, hub: Hub, held: Mapping[RecordKey, Collection[Interval]]) -> list[Implied]:
    """What the opt-outs without an address of these records are for what they hold or held."""
    return [
        Implied(record, identifier, fact, key)
        for record, one, key in _said(connection, hub, held)
        for identifier, fact in implied([one], held[record], hub.subject)
    ]


def insert(connection: Connection, found: Iterable[Implied], *, now: int) -> set[Identifier]:
    """Let them stand; the addresses of those that were news."""
    by_id = {one.fact.id: one for one in found}
    new = consent.insert(connection, [(one.fact, one.key) for one in by_id.values()], now=now)
    return {by_id[id_].identifier for id_ in new}


def let_go(
    connection: Connection, hub: Hub, stated: Mapping[RecordKey, Collection[Identifier]], found: Iterable[Implied]
) -> set[Identifier]:
    """Take back what is not among those `found`, of what these records held before or hold now; the addresses."""
    stand = {one.fact.id for one in found}
    candidates = {
        implied_id(one, hub.subject("address", value)): (kind, value)
        for record, one, _ in _said(connection, hub, {key: held for key, held in stated.items() if held})
        for kind, value in stated[record]
    }
    stale = consent.known(connection, sorted(candidates.keys() - stand))
    consent.remove(connection, stale)
    return {candidates[id_] for id_ in stale}


def keep(connection: Connection, hub: Hub, held: Mapping[RecordKey, Collection[Interval]], *, now: int) -> set[str]:
    """Before these records go: let their opt-outs stand for what they held; who else holds what is bound only now.

    No words of them are kept.
    """
    found = [one._replace(fact=replace(one.fact, evidence=""), key="") for one in implied_of(connection, hub, held)]
    return claims.holders(connection, sorted(insert(connection, found, now=now)))


def secured(records: Mapping[str, Record], unnamed: Iterable[str], locked: Collection[Identifier]) -> None:
    """Raise `Outgrown` unless all that these records hold is locked: it was looked at before they were."""
    taken = {id_: record.head.claims for id_ in unnamed if (record := records.get(id_)) is not None and record.head}
    if any((i.kind, i.value) not in locked for held in taken.values() for i in held):
        raise Outgrown(frozenset(taken))


def _said(connection: Connection, hub: Hub, records: Iterable[RecordKey]) -> list[tuple[RecordKey, ConsentFact, str]]:
    by_subject = {holder(key, hub.subject): key for key in records}
    if not by_subject:
        return []
    return [(by_subject[fact.subject], fact, key) for fact, key in consent.keyed(connection, sorted(by_subject))]
