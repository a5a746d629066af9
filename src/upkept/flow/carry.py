"""No undo and no forgetting lifts an opt-out (SEMANTICS D): what is left of a person goes on being bound by it.

An opt-out binds the record it names and the address that record holds (R9). When that record goes or lets go of its
address, the person's other records would be bound no more; so each gets the statement in its own name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import Connection

from upkept.contract import LOWERING_ACTS
from upkept.flow import view
from upkept.flow.hub import Hub
from upkept.people.consent import ConsentFact, record_subject
from upkept.people.facts import digest
from upkept.store import consent
from upkept.store.records import Record


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


def _in_the_name_of(one: ConsentFact, subject: str) -> ConsentFact:
    return replace(
        one, id=digest("carried", one.id, subject), subject_kind="record", subject=subject, evidence="",
        reason=one.reason or f"said of a record that {one.connection} no longer shows",
    )  # fmt: skip
