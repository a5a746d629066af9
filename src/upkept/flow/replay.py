"""A replay replaces all that its rows said before (R1): facts, links, events, and what raised consent.

What they say still is said again by the batch; what another row said too passes on to that one; the rest goes, and
what it touched is made anew. Opt-outs stay, whatever a row says today (SEMANTICS D). So do events from before the
horizon (`flow.prune`): none of them is taken, so none is withdrawn, and who told of it is listed still.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from upkept.flow.bound import Bound, Subject, behind
from upkept.flow.hub import Hub
from upkept.flow.plan import Plan
from upkept.flow.settle import Effect
from upkept.people.identifiers import EMAIL
from upkept.store import claims, consent, facts, pruning, repeats, timeline
from upkept.store.claims import Identifier
from upkept.store.row_key import row_key


@dataclass(slots=True)
class Before:
    """What the rows of a batch said when they were read before; empty where none was.

    `told` are the records that facts, links and events of theirs are about, those too that another row brought.
    `events` are those events, by record and id.
    `statements` may go, if one of these rows brought them and does not say them any more.
    """

    rows: list[int] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    events: set[tuple[str, str]] = field(default_factory=set)
    statements: dict[str, Subject] = field(default_factory=dict)
    bound: Bound = field(default_factory=Bound)

    @property
    def records(self) -> set[str]:
        """All that may lose something."""
        return self.told | self.bound.records

    def identifiers(self, connection: Connection) -> set[Identifier]:
        """What must be locked before the records are."""
        return claims.ever(connection, self.told) | self.bound.identifiers


def before(connection: Connection, hub: Hub, plan: Plan) -> Before:
    """Look before anything is locked. One statement where a row was never applied, none where all are new."""
    stood = repeats.standing(connection, plan.replayed) if plan.replayed else set()
    if not stood:
        return Before()
    told = {record for kind, record, _ in stood if kind != "consent"}
    known = consent.raising(connection, {id_ for kind, _, id_ in stood if kind == "consent"})
    said, keys = _said(plan), _keys(plan)
    anyhow = {id_ for id_, _ in said}
    statements = {
        id_: (kind, subject)
        for id_, (kind, subject, key) in known.items()
        if ((id_, key) not in said if key in keys else id_ not in anyhow)
    }
    addresses = {(EMAIL, address) for address in plan.consent_addresses}
    addresses |= {one for claimed in plan.claimed.values() for one in claimed}
    near = told | plan.records.keys()
    bound = behind(connection, hub, statements.values(), near=near, said=addresses)
    events = {(record, id_) for kind, record, id_ in stood if kind == "event"}
    return Before(plan.replayed, told, events, statements, bound)


def take_back(connection: Connection, plan: Plan, effect: Effect, was: Before) -> set[str]:
    """Withdraw what the rows said before, under the locks; the records that must be folded again."""
    if not was.rows:
        return set()
    holders = consent.lock(connection, was.statements)
    since = pruning.horizon(connection) if plan.horizon is None else plan.horizon
    repeats.forget_rows(connection, was.rows, since=since)
    refold = facts.remove_by_inbox(connection, was.rows)
    part(connection, effect, was.rows, since=since)
    said, keys = _said(plan), _keys(plan)
    mine = {id_ for id_, key in holders.items() if key in keys and (id_, key) not in said}
    withdraw(connection, effect, mine, was.bound)
    return refold


def _said(plan: Plan) -> set[tuple[str, str]]:
    """The consent statements of the batch, each with the key of the row that says it."""
    return {(fact.id, key) for fact, key, _ in plan.consents}


def _keys(plan: Plan) -> set[str]:
    return {row_key(row.connection, row.dedup_key) for row in plan.rows if row.epoch > 1}


def part(connection: Connection, effect: Effect, rows: list[int], *, since: int | None = None) -> None:
    """Withdraw the links and events of these rows, with their counts (R16); both ends of a link are settled again.

    Events from before `since` stay.
    """
    ends = claims.remove_links(connection, rows)
    effect.loses(timeline.remove_by_inbox(connection, rows, since=since) | ends)
    effect.unsettled |= {id_ for id_ in ends if (record := effect.records.get(id_)) is not None and not record.part}


def withdraw(connection: Connection, effect: Effect, statements: Iterable[str], bound: Bound) -> None:
    """Take locked statements back from the rows that brought them; opt-outs among them stay."""
    if consent.withdraw(connection, statements):
        holders = claims.holders(connection, sorted(bound.identifiers))
        effect.loses(bound.records)
        effect.dirty |= (bound.records | holders) & effect.records.keys()
