"""Refuse what was erased, by whatever path it comes back (SEMANTICS D).

A record key's tombstone is permanent. A record that states an erased address is covered as a whole, unless it is
first-party and was created after the erasure. Every refusal blanks the row that brought it and queues a delete at
the vendor. Consent statements pass: they stand on keyed hashes, and an opt-out outlives an erasure.
"""

from __future__ import annotations

from sqlalchemy import Connection

from upkept.flow.hub import Hub
from upkept.flow.plan import Plan
from upkept.people.consent import record_subject
from upkept.people.erasure import FIRST_PARTY, Tombstone, refused
from upkept.people.values import RecordKey
from upkept.store import bulk, claims, erasure, inbox, outbox, records, tombstones
from upkept.store.claims import Identifier
from upkept.store.inbox import Outcome
from upkept.store.outbox import Wish

ERASED = "erased: this person was erased, and stays so"


def refuse(connection: Connection, hub: Hub, plan: Plan, *, now: int) -> dict[int, Outcome]:
    """Take what is covered out of the plan; how the rows that brought nothing else end, by inbox id."""
    if bulk.on_postgresql(connection):
        # An erasure takes EXCLUSIVE: none can commit between this check and our effects.
        connection.exec_driver_sql("LOCK TABLE tombstones IN ROW SHARE MODE")
    if not tombstones.standing(connection):
        return {}
    covered = _covered(connection, hub, plan)
    if not covered:
        return {}
    rows = {s.row.id for s in plan.facts if s.record in covered}
    rows |= {row for event, row in plan.events if event[0] in covered}
    keys = {plan.records[id_][0] for id_ in covered}
    _drop(plan, covered)
    inbox.blank(connection, sorted(rows))
    keys |= erasure.remove_records(connection, covered)
    tombstones.lay(connection, [Tombstone("record", hub.tombstone("record", record_subject(key)), now) for key in keys])
    vendors = [key for key in sorted(keys) if key.connection not in FIRST_PARTY]
    outbox.write(connection, [vendor_delete(key) for key in vendors], now=now)
    kept = {s.row.id for s in plan.facts} | {row for _, row in plan.events} | {row for *_, row in plan.consents}
    return {row.id: Outcome(row, "skipped", ERASED) for row in plan.rows if row.id in rows - kept}


def vendor_delete(key: RecordKey) -> Wish:
    """Ask the vendor to delete what was erased here."""
    return Wish(destination=key.connection, subject=key.id, desired={"type": key.type}, action="delete")


def _covered(connection: Connection, hub: Hub, plan: Plan) -> set[str]:
    whole = {id_: key for id_, (key, part, _) in plan.records.items() if not part}
    stored = claims.of(connection, sorted(whole))
    ever: dict[str, set[Identifier]] = {
        id_: plan.claimed.get(id_, set()) | {(i.kind, i.value) for i in stored.get(id_, ())} for id_ in whole
    }
    subjects = {hub.tombstone("record", record_subject(key)) for key, _, _ in plan.records.values()}
    subjects |= {hub.tombstone(kind, value) for held in ever.values() for kind, value in held}
    standing = {(t.kind, t.subject): t.at for t in tombstones.about(connection, sorted(subjects))}
    if not standing:
        return set()
    created = _created(connection, plan)
    found = {
        id_
        for id_, key in whole.items()
        if refused(
            key, ever[id_], first_party=key.connection in FIRST_PARTY, created_at=created[id_],
            lookup=lambda kind, subject: standing.get((kind, subject)), subject=hub.tombstone,
        )
    }  # fmt: skip
    for id_, (key, part, _) in plan.records.items():
        if part and (
            plan.owners.get(id_, set()) & found or ("record", hub.tombstone("record", record_subject(key))) in standing
        ):
            found.add(id_)
    return found


def _created(connection: Connection, plan: Plan) -> dict[str, int]:
    """When each record was created: the time of its first fact."""
    first = {id_: issued for id_, (_, _, issued) in plan.records.items()}
    for stated in plan.facts:
        first[stated.record] = min(first[stated.record], stated.fact.at)
    for id_, record in records.load(connection, sorted(plan.records)).items():
        if record.head is not None and record.head.first_at is not None:
            first[id_] = min(first[id_], record.head.first_at)
    return first


def _drop(plan: Plan, covered: set[str]) -> None:
    plan.facts = [s for s in plan.facts if s.record not in covered]
    plan.events = [(event, row) for event, row in plan.events if event[0] not in covered]
    plan.links = [link for link in plan.links if link[0] not in covered and link[1] not in covered]
    plan.consent_records -= covered
    for id_ in covered:
        plan.records.pop(id_, None)
        plan.claimed.pop(id_, None)
        plan.owners.pop(id_, None)
