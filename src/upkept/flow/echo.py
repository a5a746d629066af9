"""Echo: a vendor that repeats what we told it says nothing new (R6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection

from upkept.flow.hub import Hub
from upkept.flow.plan import Plan
from upkept.people.owed import Told, learnt, outlived, recognise
from upkept.store import told

Learnt = Mapping[str, tuple[Told, Told]]
"""By record id what it was told, as it was noted and as it is known now."""


def mark(connection: Connection, hub: Hub, plan: Plan) -> Learnt:
    """Note on the facts of a batch which of their fields are echoes, and since when those have been known.

    The note is stored with the fact, so that a rebuild gives the same; the id of the fact does not depend on it. What
    is returned was learnt of what records were told; `keep` it once those are locked.
    """
    written_to = {destination.name for destination in hub.destinations}
    ids = {id_ for id_, (key, part, _) in plan.records.items() if not part and key.connection in written_to}
    before = told.of(connection, sorted(ids)) if ids else {}
    tellings = dict(before)
    for place, stated in enumerate(plan.facts):
        telling = tellings.get(stated.record)
        fields = stated.fact.doc.get("f", {})
        if telling is None or not fields:
            continue
        if echoes := recognise(fields, telling, ours=stated.ours):
            passed = {name: list(stamp) for name, stamp in sorted(echoes.items())}
            plan.facts[place] = replace(stated, fact=replace(stated.fact, doc={**stated.fact.doc, "p": passed}))
        news = {name: value for name, value in fields.items() if name not in echoes}
        tellings[stated.record] = outlived(news, learnt(fields, telling) if stated.ours else telling, at=stated.fact.at)
    return {id_: (was, tellings[id_]) for id_, was in before.items() if tellings[id_] != was}


def keep(connection: Connection, learnt: Learnt) -> None:
    """Keep what was learnt, but of records that were told something since."""
    standing = told.of(connection, sorted(learnt))
    told.keep(connection, {id_: now for id_, (was, now) in learnt.items() if standing.get(id_) == was})
