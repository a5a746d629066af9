"""No undo and no forgetting lifts an opt-out (SEMANTICS D): what is left of a person goes on being bound by it.

An opt-out binds the record it names and the address that record holds (R9). When that record goes or lets go of its
address, the person's other records would be bound no more; so each gets the statement in its own name. And one that
stands in a delivery nobody has applied yet is taken out of it before the delivery goes. Where nobody can read the
delivery, it stays, until somebody can: then its opt-outs count, and nothing else of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from upkept.contract import LOWERING_ACTS
from upkept.flow import meant, opt_outs, view
from upkept.flow.hub import Hub
from upkept.flow.opt_outs import OptOut
from upkept.flow.plan import Plan
from upkept.flow.settle import Effect, settle
from upkept.flow.traces import may_lower, opts_out
from upkept.people.consent import ConsentFact, record_subject
from upkept.people.facts import digest, record_key
from upkept.people.identifiers import EMAIL, email_key
from upkept.store import claims, consent, traces
from upkept.store.inbox import GIVEN_UP
from upkept.store.records import Record
from upkept.store.row_key import row_key
from upkept.store.traces import Body

SHOWN = 20
"""Deliveries named in words."""


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


def rescue(connection: Connection, hub: Hub, rows: Iterable[Body], also: Iterable[str], *, now: int) -> list[int]:
    """Put in force what deliveries say that lowers consent, before they go unapplied; whom it binds is derived again.

    Returns those that may hold an opt-out and that nobody can read. Raises `Outgrown`.
    """
    unread: list[int] = []
    found: list[OptOut] = []
    about: set[str] = set()
    addresses: set[str] = set()
    for row in rows:
        lowering = opts_out(hub, row)
        if lowering is None:
            unread += [row.id] if _must_stay(hub, row) else []
            continue
        key = row_key(row.connection, row.dedup_key)
        facts = opt_outs.among(hub, row.connection, lowering, received_at=row.received_at)
        found += [(fact, key) for fact in facts]
        about |= {hub.record_id(record_key(row.connection, one.record)) for one in lowering if one.record is not None}
        addresses |= {address for one in lowering if one.address and (address := email_key(one.address))}
    if found:
        _bind(connection, hub, found, about, addresses, also, now=now)
    return unread


def unread_among(hub: Hub, page: Callable[[Connection, int], list[int]]) -> tuple[int, ...]:
    """Those deliveries that `rescue` could not read, though they may hold an opt-out. Many short looks, no long one.

    `page` gives the ids of some of them behind one.
    """
    found: list[int] = []
    after = 0
    while True:
        with hub.store.read() as connection:
            ids = page(connection, after)
            rows = traces.told(connection, ids)
        found += [row.id for row in rows if _must_stay(hub, row) and opts_out(hub, row) is None]
        if not ids:
            return tuple(found)
        after = ids[-1]


def kept(ids: Sequence[int]) -> str:
    """That these deliveries are kept, why, and the cure."""
    named = " ".join(map(str, ids[:SHOWN])) + (f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else "")
    return (
        f"kept, for they cannot be read and may hold an opt-out: {len(ids):,} of the inbox ({named}); tried every "
        "hour, at once after a fix by: upkept replay ID; if nobody ever will: upkept give-up ID"
    )


def opt_outs_alone(connection: Connection, hub: Hub, plan: Plan, *, now: int, also: Iterable[str] = ()) -> Effect:
    """What deliveries change that were undone or forgotten before anybody could read them. Raises `Outgrown`."""
    said = [(fact, key) for fact, key, _ in plan.consents if fact.act in LOWERING_ACTS]
    about, addresses = plan.consent_records, plan.consent_addresses
    return _bind(connection, hub, said, about, addresses, also, now=now, bereft=plan.bereft)


def _must_stay(hub: Hub, row: Body) -> bool:
    """May it hold an opt-out, if nobody can read it? One that a person gave up need not stay."""
    return row.state != GIVEN_UP and may_lower(hub, row)


def _bind(
    connection: Connection,
    hub: Hub,
    said: Sequence[OptOut],
    about: set[str],
    addresses: Iterable[str],
    also: Iterable[str],
    *,
    now: int,
    bereft: Iterable[str] = (),
) -> Effect:
    """Put opt-outs in force and derive whom they bind again, under the locks of the effect transaction."""
    named = {(EMAIL, address) for address in addresses}
    unnamed = about if any(fact.subject_kind == "holder" for fact, _ in said) else set()
    named |= claims.ever(connection, unnamed)
    claims.lock(connection, named)
    wanted = about | claims.holders(connection, sorted(named))
    effect = Effect(unnamed=unnamed)
    effect.take(connection, {*wanted, *also, *bereft})
    meant.secured(effect.records, unnamed, named)
    effect.leave(bereft)
    consent.insert(connection, said, now=now)
    effect.dirty |= wanted & effect.records.keys()
    settle(connection, hub, effect, now=now)
    return effect


def _in_the_name_of(one: ConsentFact, subject: str) -> ConsentFact:
    return replace(
        one, id=digest("carried", one.id, subject), subject_kind="record", subject=subject, evidence="",
        reason=one.reason or f"said of a record that {one.connection} no longer shows",
    )  # fmt: skip
