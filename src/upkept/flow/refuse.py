"""Refuse what was erased, by whatever path it comes back (SEMANTICS D).

A record key's tombstone is permanent. A record that states an erased address is covered as a whole, unless it is
first-party and was created after the erasure. Every refusal blanks the row that brought it and queues a delete at
the vendor. Consent statements pass: they stand on keyed hashes, and an opt-out outlives an erasure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection

from upkept.flow import meant
from upkept.flow.bury import Held, buried, bury, forbidden, held_by, identifiers_of
from upkept.flow.hub import Hub
from upkept.flow.plan import Plan
from upkept.flow.replay import before
from upkept.people.consent import holder, record_subject
from upkept.people.identifiers import EMAIL
from upkept.people.values import Interval, RecordKey
from upkept.store import claims, consent, erasure, records, tombstones, traces
from upkept.store.inbox import Outcome

ERASED = "erased: this person was erased, and stays so"


def refuse(connection: Connection, hub: Hub, plan: Plan, *, now: int) -> dict[int, Outcome]:
    """Take what is covered out of the plan; how the rows that brought nothing else end, by inbox id.

    What stood near a record that is covered only now is left in `plan.bereft`, to be settled again.
    """
    tombstones.beside_others(connection)
    if not tombstones.standing(connection):
        return {}
    covered = _covered(connection, hub, plan)
    rows = {s.row.id for s in plan.facts if s.record in covered}
    rows |= {row for event, row in (*plan.events, *plan.past) if event[0] in covered}
    rows |= _hush(connection, hub, plan, covered)
    if not rows and not covered:
        return {}
    named = plan.records | plan.aside
    doomed = {id_: named[id_][:2] for id_ in covered}
    beside = _lock(connection, hub, plan, covered)
    plan.bereft |= meant.keep(connection, hub, _stated(plan, doomed.values()), now=now)
    _drop(plan, covered)
    plan.bereft |= bury(connection, hub, doomed, now=now, beside=beside)
    traces.blank(connection, sorted(rows))
    kept = {s.row.id for s in plan.facts} | {row for _, row in plan.events} | {row for *_, row in plan.consents}
    return {row.id: Outcome(row, "skipped", ERASED) for row in plan.rows if row.id in rows - kept}


def _lock(connection: Connection, hub: Hub, plan: Plan, covered: set[str]) -> set[str]:
    """Lock the identifiers of burying and of the batch itself; the records to be locked beside those that go.

    What only covered records state is left out: a lock is a row that names it.
    """
    was = before(connection, hub, plan)
    stated = {one for id_, wanted in plan.claimed.items() if id_ not in covered for one in wanted}
    stated |= {(EMAIL, address) for address in plan.consent_addresses}
    stated |= was.identifiers(connection) | identifiers_of(connection, erasure.with_parts(connection, covered))
    claims.lock(connection, stated)
    records.insert_missing(connection, [row for row in plan.whole if row[0] not in covered])
    return (plan.records.keys() - covered) | was.records | claims.holders(connection, sorted(stated))


def _hush(connection: Connection, hub: Hub, plan: Plan, covered: set[str]) -> set[int]:
    """Keep no words of consent about what is covered, nor an erased address in the clear; the rows concerned."""
    erased = _erased_addresses(connection, hub, plan, covered)
    named = plan.records | plan.aside
    gone = {hub.subject("record", record_subject(named[id_][0])) for id_ in covered}
    gone |= {holder(named[id_][0], hub.subject) for id_ in covered}
    gone |= {hub.subject("address", address) for address in erased}
    plan.consent_addresses -= erased
    rows = {row for fact, _, row in plan.consents if fact.subject in gone}
    if rows:
        consent.hush(connection, gone, ())  # what the door put in force before anybody looked
    plan.consents = [
        (replace(fact, evidence=""), "", row) if row in rows else (fact, key, row) for fact, key, row in plan.consents
    ]
    return rows


def _erased_addresses(connection: Connection, hub: Hub, plan: Plan, covered: set[str]) -> set[str]:
    """The addresses that are erased, or that only covered records state: nobody is left whom they name."""
    hashed = {hub.tombstone(EMAIL, address): address for address in plan.consent_addresses}
    buried = {hashed[t.subject] for t in tombstones.about(connection, sorted(hashed)) if t.kind == EMAIL}
    stated: dict[bool, set[str]] = {True: set(), False: set()}
    for id_, held in plan.claimed.items():
        stated[id_ in covered].update(value for kind, value in held if kind == EMAIL)
    return {
        address
        for address in (buried | stated[True]) - stated[False]
        if not claims.holders(connection, [(EMAIL, address)]) - covered
    }


def _stated(plan: Plan, doomed: Iterable[tuple[RecordKey, bool]]) -> dict[RecordKey, list[Interval]]:
    """What the facts to be refused say that these records hold."""
    held: dict[RecordKey, list[Interval]] = {key: [] for key, _ in doomed}
    for stated in plan.facts:
        key, doc = plan.records[stated.record][0], stated.fact.doc
        if key in held:
            claims_ = [(kind, value) for kind, value in doc.get("c", {}).items() if value is not None]
            held[key] += [Interval(*one, stated.fact.at, None, doc.get("v", True)) for one in claims_]
    return held


def _covered(connection: Connection, hub: Hub, plan: Plan) -> set[str]:
    named = plan.records | plan.aside
    parts = {id_: key for id_, (key, part, _) in named.items() if part}
    whole = {id_: key for id_, (key, _, _) in named.items() if id_ not in parts}
    held = held_by(connection, records.load(connection, sorted(whole)))
    first: dict[str, int] = {}
    for stated in plan.facts:
        first[stated.record] = min(first.get(stated.record, stated.fact.at), stated.fact.at)
    for id_, key in whole.items():
        known = held.get(id_, Held(key, set(), None))
        times = [at for at in (known.created_at, first.get(id_)) if at is not None]
        held[id_] = Held(key, known.stated | plan.claimed.get(id_, set()), min(times, default=None))
    found = forbidden(connection, hub, held)
    return found | buried(connection, hub, parts) | {id_ for id_ in parts if plan.owners.get(id_, set()) & found}


def _drop(plan: Plan, covered: set[str]) -> None:
    plan.facts = [s for s in plan.facts if s.record not in covered]
    plan.events = [(event, row) for event, row in plan.events if event[0] not in covered]
    plan.links = [link for link in plan.links if link[0] not in covered and link[1] not in covered]
    plan.consent_records -= covered
    plan.unnamed -= covered
    for id_ in covered:
        plan.records.pop(id_, None)
        plan.claimed.pop(id_, None)
        plan.owners.pop(id_, None)
