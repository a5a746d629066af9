"""No undo and no forgetting lifts an opt-out (SEMANTICS D): what is left of a person goes on being bound by it.

An opt-out binds the record it names and the address that record holds (R9). When that record goes or lets go of its
address, the person's other records would be bound no more; so each gets the statement in its own name. And one that
stands in a delivery nobody has applied yet is taken out of it before the delivery goes. Where nobody can read the
delivery, it stays, until somebody can: then its opt-outs count, and nothing else of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from upkept.contract import LOWERING_ACTS, Consent
from upkept.flow import opt_outs, view
from upkept.flow.hub import Hub
from upkept.flow.opt_outs import OptOut
from upkept.flow.plan import Plan
from upkept.flow.settle import Effect, settle
from upkept.flow.traces import may_lower, opts_out
from upkept.people.consent import ConsentFact, record_subject
from upkept.people.facts import digest, record_key
from upkept.people.identifiers import EMAIL, email_key
from upkept.store import claims, consent
from upkept.store.records import Record
from upkept.store.traces import Body

SHOWN = 20
"""Deliveries named in words."""


@dataclass(slots=True)
class Rescued:
    """Records whose people are bound anew, and the deliveries that may hold an opt-out and that nobody can read."""

    about: set[str] = field(default_factory=set)
    unread: list[int] = field(default_factory=list)


def carry(connection: Connection, hub: Hub, leaving: Iterable[Record], left: Iterable[Record], *, now: int) -> int:
    """Bind the records that are `left` of a person by the opt-outs of those `leaving`, as these stood; how many."""
    held = list(left)
    theirs = view.subjects(hub, leaving) - view.subjects(hub, held)
    said = [one for about in consent.about(connection, sorted(theirs)).values() for one in about]
    lowering = [one for one in said if one.act in LOWERING_ACTS]
    carried = [
        (_in_the_name_of(one, hub.subject("record", record_subject(r.key))), "") for one in lowering for r in held
    ]
    return len(consent.insert(connection, carried, now=now))


def rescue(connection: Connection, hub: Hub, rows: Iterable[Body], *, now: int) -> Rescued:
    """Put in force what deliveries say that lowers consent, before they go unapplied."""
    rescued = Rescued()
    found: list[OptOut] = []
    for row in rows:
        lowering = opts_out(hub, row)
        if lowering is None:
            rescued.unread += [row.id] if may_lower(hub, row) else []
            continue
        key = opt_outs.row_key(row.connection, row.dedup_key)
        facts = opt_outs.among(hub, row.connection, lowering, received_at=row.received_at)
        found += [(fact, key) for fact in facts]
        rescued.about |= concerned(connection, hub, row.connection, lowering)
    consent.insert(connection, found, now=now)
    return rescued


def unread_among(hub: Hub, rows: Iterable[Body]) -> list[int]:
    """Those of the deliveries that `rescue` could not read, though they may hold an opt-out."""
    return [row.id for row in rows if may_lower(hub, row) and opts_out(hub, row) is None]


def kept(ids: Sequence[int]) -> str:
    """That these deliveries are kept, why, and the cure."""
    named = " ".join(map(str, ids[:SHOWN])) + (f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else "")
    return (
        f"kept, for they cannot be read and may hold an opt-out: {len(ids):,} of the inbox ({named}); tried every "
        "hour, at once after a fix by: upkept replay ID"
    )


def opt_outs_alone(connection: Connection, hub: Hub, plan: Plan, *, now: int, also: Iterable[str] = ()) -> Effect:
    """What deliveries change that were undone or forgotten before anybody could read them. Raises `Outgrown`."""
    said = [(fact, key) for fact, key, _ in plan.consents if fact.act in LOWERING_ACTS]
    consent.insert(connection, said, now=now)
    addresses = [(EMAIL, address) for address in sorted(plan.consent_addresses)]
    about = plan.consent_records | claims.holders(connection, addresses)
    return again(connection, hub, about, {*also, *plan.bereft}, now=now, bereft=plan.bereft)


def again(
    connection: Connection, hub: Hub, about: set[str], also: Iterable[str], *, now: int, bereft: Iterable[str] = ()
) -> Effect:
    """Derive the people of these records again: other statements bind them now. Raises `Outgrown`."""
    effect = Effect()
    effect.take(connection, about | set(also))
    effect.leave(bereft)
    effect.dirty |= about & effect.records.keys()
    settle(connection, hub, effect, now=now)
    return effect


def concerned(connection: Connection, hub: Hub, name: str, said: Iterable[Consent]) -> set[str]:
    """The records that these statements of one connection are about, by name or by address."""
    found: set[str] = set()
    for one in said:
        if one.record is not None:
            found.add(hub.record_id(record_key(name, one.record)))
        address = email_key(one.address) if one.address else None
        if address is not None:
            found |= claims.holders(connection, [(EMAIL, address)])
    return found


def _in_the_name_of(one: ConsentFact, subject: str) -> ConsentFact:
    return replace(
        one, id=digest("carried", one.id, subject), subject_kind="record", subject=subject, evidence="",
        reason=one.reason or f"said of a record that {one.connection} no longer shows",
    )  # fmt: skip
