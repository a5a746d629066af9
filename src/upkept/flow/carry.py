"""No undo and no forgetting lifts an opt-out (SEMANTICS D): what is left of a person goes on being bound by it.

An opt-out binds the record it names and the address that record holds (R9). When that record goes or lets go of its
address, the person's other records would be bound no more; so each gets the statement in its own name. And one that
stands in a delivery nobody has applied yet is taken out of it before the delivery goes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection

from upkept.contract import LOWERING_ACTS, Consent
from upkept.flow import view
from upkept.flow.hub import Hub
from upkept.flow.traces import says
from upkept.people.consent import ConsentFact, admit_consent, record_subject
from upkept.people.facts import digest, record_key
from upkept.people.identifiers import EMAIL, email_key
from upkept.store import claims, consent
from upkept.store.records import Record
from upkept.store.traces import Body


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


def rescue(connection: Connection, hub: Hub, rows: Iterable[Body], *, now: int) -> set[str]:
    """Put in force what deliveries say that lowers consent, before they go unapplied; the records it concerns."""
    found: set[str] = set()
    rescued: list[tuple[ConsentFact, str]] = []
    for row in rows:
        lowering = [one for one in says(hub, row) or () if isinstance(one, Consent) and one.act in LOWERING_ACTS]
        for one in lowering:
            admitted = admit_consent(row.connection, one, received_at=row.received_at, subject=hub.subject)
            rescued += [(fact, f"{row.connection}\x1f{row.dedup_key}") for fact in admitted]
        found |= concerned(connection, hub, row.connection, lowering)
    consent.insert(connection, rescued, now=now)
    return found


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
