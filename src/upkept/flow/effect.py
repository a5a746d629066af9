"""The effect transaction of a batch: lock, fold, settle, derive, write, fence. All or nothing.

Locks are taken in one order everywhere, each kind sorted: identifiers, records, people. Claims are read after their
locks, so two workers that bring two new records with one address cannot miss each other, nor one that leaves a
crowded address the other that comes to it. A part that nobody heard of cannot be locked: its row is written once, at
the end, and if another worker was first this one tries again. So it does where a record went while it waited for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from upkept.contract import LOWERING_ACTS
from upkept.flow import component, meant, replay, tellings
from upkept.flow.component import Outgrown
from upkept.flow.hub import Hub
from upkept.flow.plan import Plan, Stated
from upkept.flow.replay import Before
from upkept.flow.settle import Effect, settle
from upkept.people.fold import Head, advance, changed_late, conflicts, fold
from upkept.people.values import AdmittedFact, Interval, RecordKey
from upkept.store import claims, connections, consent, facts, readbacks, records, repeats, timeline
from upkept.store.claims import Identifier
from upkept.store.engine import Contended
from upkept.store.records import Record

READ_BACK_AFTER = 2_000_000
"""Vendors' seconds are whole: a read-back that must outrank a tie waits until the second is over (R7)."""


def write(connection: Connection, hub: Hub, plan: Plan, *, now: int, also: Iterable[str] = ()) -> Effect:
    """Everything a batch changes. Raises `Outgrown` when the component needs more locks than were taken."""
    effect = Effect(unnamed=plan.unnamed, narrows=True)
    was = replay.before(connection, hub, plan)
    locked = _lock(connection, hub, plan, effect, was, frozenset(also))
    refold = replay.take_back(connection, plan, effect, was)
    _fold(connection, hub, plan, effect, refold, now)
    if not effect.touched <= locked:  # they were looked at before they were locked, or a late fact bore on others
        raise Outgrown(frozenset(effect.claimed))
    meant.secured(effect.records, plan.unnamed, locked)
    _statements(connection, hub, plan, effect, was, now)
    effect.emptied -= plan.records.keys()
    settle(connection, hub, effect, now=now)
    readbacks.wish(connection, [(*key, *wish) for key, wish in sorted(effect.wishes.items())])
    return effect


def _lock(
    connection: Connection, hub: Hub, plan: Plan, effect: Effect, was: Before, also: frozenset[str]
) -> set[Identifier]:
    """Lock what the batch needs; the identifiers among it."""
    wanted = _moving(connection, plan, also & plan.records.keys())
    bound = {("email", address) for address in plan.consent_addresses}
    bound |= claims.ever(connection, plan.unnamed) if plan.unnamed else set()
    wanted |= bound
    wanted |= was.identifiers(connection) if was.rows else set()
    claims.lock(connection, wanted)
    records.insert_missing(connection, plan.whole)
    near = component.near(connection, hub, wanted) | plan.linked | plan.bereft | was.records | also
    # Of an address that links nobody (blocked or crowded) the holders are near to no one, and bound all the same.
    near |= claims.holders(connection, sorted(bound | was.bound.identifiers))
    effect.take(connection, plan.records.keys() | near)
    absent = {id_: row for id_, row in plan.records.items() if id_ not in effect.records}
    if not all(part for _, part, _ in absent.values()):
        raise Contended("another transaction removed a record of this batch; try again")
    effect.begin(records.fresh(id_, *row) for id_, row in absent.items())
    effect.leave(plan.bereft)
    return wanted


def _moving(connection: Connection, plan: Plan, again: frozenset[str]) -> set[Identifier]:
    """All that those records ever stated of which one will be held anew, no longer, or since another time.

    Most facts repeat what is held: they lock nothing. Of the records `again` that was expected, and was wrong.
    """
    stating = again | {one.record for one in plan.facts if "c" in one.fact.doc or one.fact.doc.get("d")}
    if not stating:
        return set()
    stated = claims.of(connection, sorted(stating))
    held = {(id_, i.kind): i for id_, intervals in stated.items() for i in intervals if i.end is None}
    moving = again | {one.record for one in plan.facts if _moves(one, held)}
    found = {(i.kind, i.value) for id_ in moving for i in stated.get(id_, ())}
    return found.union(*(plan.claimed.get(id_, ()) for id_ in moving))


def _moves(one: Stated, held: Mapping[tuple[str, str], Interval]) -> bool:
    doc = one.fact.doc
    if doc.get("d"):
        return True
    for kind, value in doc.get("c", {}).items():
        stood = held.get((one.record, kind))
        if value is not None if stood is None else value != stood.value or one.fact.at < stood.start:
            return True
    return False


def _fold(connection: Connection, hub: Hub, plan: Plan, effect: Effect, refold: set[str], now: int) -> None:
    new = facts.insert(connection, [(s.record, s.fact, s.row.id, s.row.run) for s in plan.facts])
    if len(new) < len(plan.facts):
        told = ((s.record, s.fact.fact_id, s.row.id, str(s.fact.at)) for s in plan.facts)
        repeats.note(connection, "fact", repeats.further(told, new))
    stated: dict[str, list[AdmittedFact]] = {}
    for one in plan.facts:
        place = (one.record, one.fact.fact_id)
        if place in new:
            new.remove(place)  # of several rows that state it the first one brings it, with the time that it gives it
            stated.setdefault(one.record, []).append(one.fact)
            effect.news.add(one.row.id)
    late = set(refold)
    for id_, news in stated.items():
        record = effect.records[id_]
        head, tied = _advance(hub, record, news)
        if tied:
            _wish(effect, hub, record.key, "tie", now)
        if head is None:
            late.add(id_)
        elif id_ not in refold:
            effect.fold(hub, record, head)
    _refold(connection, hub, effect, late, stated, now)
    for id_, (key, part, _) in plan.records.items():
        if not part and not effect.records[id_].known:
            _wish(effect, hub, key, "unknown", now)


def _advance(hub: Hub, record: Record, news: list[AdmittedFact]) -> tuple[Head | None, bool]:
    """The head with these facts, or None if it must be folded again; and whether a tie needs the vendor (R7)."""
    head, tied, late = record.head, False, False
    for fact in sorted(news, key=lambda f: f.stamp):
        tied = tied or (head is not None and conflicts(head, fact, policies=hub.policies))
        moved = advance(head, fact, policies=hub.policies)
        if moved is None:
            late = True
        else:
            head = moved
    return (None if late else head), tied


def _refold(
    connection: Connection,
    hub: Hub,
    effect: Effect,
    late: set[str],
    stated: dict[str, list[AdmittedFact]],
    now: int,
) -> None:
    """Fold whole records again. A late fact older than the last walk that changed one asks the vendor, once (R5)."""
    if not late:
        return
    walked = {name: seen.walked_at for name, seen in connections.all_standings(connection).items()}
    stored = facts.of(connection, sorted(late))
    for id_ in sorted(late):
        record = effect.records[id_]
        before = record.head
        head = fold(stored.get(id_, []), record.floor, policies=hub.policies)
        walk = walked.get(record.key.connection)
        if any(changed_late(before, head, fact, walked_at=walk) for fact in stated.get(id_, ())):
            _wish(effect, hub, record.key, "late", now)
        effect.fold(hub, record, head)


def _wish(effect: Effect, hub: Hub, key: RecordKey, reason: str, now: int) -> None:
    known = hub.connections.get(key.connection)
    if known is not None and known.connector.fetch is not None:
        effect.wishes.setdefault(key, (reason, now + READ_BACK_AFTER))


def _statements(connection: Connection, hub: Hub, plan: Plan, effect: Effect, was: Before, now: int) -> None:
    """Consent, links and timeline: each insert says what was news."""
    if plan.consents:
        new = consent.insert(connection, [(fact, key) for fact, key, _ in plan.consents], now=now)
        new |= _said_again(connection, plan, new, now)
        new |= _in_force_before(connection, plan, new)
        effect.news.update(row for fact, _, row in plan.consents if fact.id in new)
        holders = claims.holders(connection, [("email", address) for address in sorted(plan.consent_addresses)])
        effect.dirty |= plan.consent_records | (holders & effect.records.keys())
    if plan.links:
        made = claims.add_links(connection, plan.links)
        effect.unsettled |= plan.linked if made else set()
        if len(made) < len(plan.links):
            known = ((a, link.id, row, link.reason) for a, _, link, row in plan.links if row is not None)
            repeats.note(connection, "link", repeats.further(known, made))
    if plan.events:
        happened = timeline.insert(connection, [event for event, _ in plan.events])
        effect.news.update(row for event, row in plan.events if event[:2] in happened)
        if len(happened) < len(plan.events):
            again = (timeline.told(event) for event, _ in plan.events)
            repeats.note(connection, "event", repeats.further(again, happened))
        _owe(connection, effect, tellings.note(connection, hub, plan, happened - was.events, now=now))


def _owe(connection: Connection, effect: Effect, about: set[str]) -> None:
    """Whoever did what others must know is derived, and so are they told; of a part it is the owner's person."""
    whole = {record.owner if record.part else id_ for id_ in about if (record := effect.records.get(id_)) is not None}
    owners = {id_ for id_ in whole if id_ is not None}
    missing = records.load(connection, sorted(owners - effect.records.keys()))
    if missing:
        raise Outgrown(frozenset(missing.keys() | effect.records.keys()))
    effect.dirty |= owners & effect.records.keys()


def _said_again(connection: Connection, plan: Plan, new: set[str], now: int) -> set[str]:
    """Note which rows raise consent as another one did; what was withdrawn at this very moment is said anew."""
    raising = {(fact.id, row): (fact, key) for fact, key, row in plan.consents if fact.act not in LOWERING_ACTS}
    told = [("", id_, row, str(fact.at)) for (id_, row), (fact, _) in raising.items()]
    told = list(repeats.further(told, {("", id_) for id_ in new}))
    if not told:
        return set()
    ids = {id_ for _, id_, _, _ in told}
    gone = ids - consent.lock(connection, ids).keys()
    anew = consent.insert(connection, [pair for (id_, _), pair in raising.items() if id_ in gone], now=now)
    holder = consent.lock(connection, ids)
    repeats.note(connection, "consent", [one for one in told if holder.get(one[1]) != raising[one[1], one[2]][1]])
    return anew


def _in_force_before(connection: Connection, plan: Plan, new: set[str]) -> set[str]:
    """Opt-outs that came with a page are in force since it was stored; they are news of their rows all the same."""
    pulled = {row.id for row in plan.rows if row.run is not None and row.epoch == 1}
    keys = {fact.id: key for fact, key, row in plan.consents if row in pulled and fact.id not in new}
    return consent.brought(connection, keys) if keys else set()
