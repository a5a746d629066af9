"""The effect transaction of a batch: lock, fold, settle, derive, write, fence. All or nothing.

Locks are taken in one order everywhere, each kind sorted: identifiers of new claims, records, people. Claims are
read after their locks, so two workers that bring two new records with one address cannot miss each other.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from upkept.flow.hub import Hub
from upkept.flow.plan import Plan
from upkept.flow.settle import Effect, settle
from upkept.people.fold import Head, advance, changed_late, conflicts, fold
from upkept.people.values import AdmittedFact, RecordKey
from upkept.store import claims, connections, consent, facts, readbacks, records, timeline
from upkept.store.records import Record

READ_BACK_AFTER = 2_000_000
"""Vendors' seconds are whole: a read-back that must outrank a tie waits until the second is over (R7)."""


def write(connection: Connection, hub: Hub, plan: Plan, *, now: int, also: Iterable[str] = ()) -> Effect:
    """Everything a batch changes. Raises `Outgrown` when the component needs more locks than were taken."""
    effect = Effect()
    _lock(connection, plan, effect, also)
    _fold(connection, hub, plan, effect, now)
    _statements(connection, plan, effect, now)
    settle(connection, hub, effect, now=now)
    readbacks.wish(connection, [(*key, *wish) for key, wish in sorted(effect.wishes.items())])
    return effect


def _lock(connection: Connection, plan: Plan, effect: Effect, also: Iterable[str]) -> None:
    held = claims.open_by_record(connection, sorted(plan.claimed)) if plan.claimed else {}
    fresh = {i for record, wanted in plan.claimed.items() for i in wanted - held.get(record, set())}
    fresh |= {("email", address) for address in plan.consent_addresses}
    replaced = facts.brought_by(connection, plan.replayed) if plan.replayed else set()
    fresh |= claims.ever(connection, replaced)
    claims.lock(connection, fresh)
    records.insert_missing(connection, [(id_, *row) for id_, row in plan.records.items()])
    near = claims.holders(connection, sorted(fresh)) | plan.linked | plan.bereft | replaced | set(also)
    effect.take(connection, plan.records.keys() | near)
    effect.leave(plan.bereft)


def _fold(connection: Connection, hub: Hub, plan: Plan, effect: Effect, now: int) -> None:
    # R1: a replay replaces what its row said before.
    refold = facts.remove_by_inbox(connection, plan.replayed) if plan.replayed else set()
    new = facts.insert(connection, [(s.record, s.fact, s.row.id, s.row.run) for s in plan.facts])
    stated: dict[str, list[AdmittedFact]] = {}
    for one in plan.facts:
        if (one.record, one.fact.fact_id) in new:
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
    _refold(connection, hub, effect, late, refold, stated, now)
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
    replaced: set[str],
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
        kept = None if id_ in replaced else before
        head = fold(stored.get(id_, []), record.floor, kept=kept, policies=hub.policies)
        walk = walked.get(record.key.connection)
        if any(changed_late(before, head, fact, walked_at=walk) for fact in stated.get(id_, ())):
            _wish(effect, hub, record.key, "late", now)
        effect.fold(hub, record, head)


def _wish(effect: Effect, hub: Hub, key: RecordKey, reason: str, now: int) -> None:
    known = hub.connections.get(key.connection)
    if known is not None and known.connector.fetch is not None:
        effect.wishes.setdefault(key, (reason, now + READ_BACK_AFTER))


def _statements(connection: Connection, plan: Plan, effect: Effect, now: int) -> None:
    """Consent, links and timeline: each insert says what was news."""
    if plan.consents:
        new = consent.insert(connection, [(fact, key) for fact, key, _ in plan.consents], now=now)
        new |= _in_force_before(connection, plan, new)
        effect.news.update(row for fact, _, row in plan.consents if fact.id in new)
        holders = claims.holders(connection, [("email", address) for address in sorted(plan.consent_addresses)])
        effect.dirty |= plan.consent_records | (holders & effect.records.keys())
    if plan.links and claims.add_links(connection, plan.links):
        effect.unsettled |= plan.linked
    if plan.events:
        happened = timeline.insert(connection, [event for event, _ in plan.events])
        effect.news.update(row for event, row in plan.events if event[:2] in happened)


def _in_force_before(connection: Connection, plan: Plan, new: set[str]) -> set[str]:
    """Opt-outs that came with a page are in force since it was stored; they are news of their rows all the same."""
    pulled = {row.id for row in plan.rows if row.run is not None and row.epoch == 1}
    keys = {fact.id: key for fact, key, row in plan.consents if row in pulled and fact.id not in new}
    return consent.brought(connection, keys) if keys else set()
