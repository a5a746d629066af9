"""Facts of one record, in any order of arrival, to its head (SEMANTICS R3, R4, R5, R7, R12)."""

from __future__ import annotations

from collections.abc import Iterable

from upkept.contract import FactKind
from upkept.people.draft import Draft, same
from upkept.people.head import EMPTY, Cell, Head, Owner, live
from upkept.people.policies import DEFAULT_POLICIES, Policies
from upkept.people.values import AdmittedFact, Json, Stamp

__all__ = [
    "Cell",
    "Head",
    "Owner",
    "advance",
    "changed_late",
    "compact",
    "conflicts",
    "fold",
    "live",
    "says_nothing_new",
]


def fold(
    facts: Iterable[AdmittedFact],
    floor: Head | None = None,
    *,
    policies: Policies = DEFAULT_POLICIES,
) -> Head:
    """The head that these facts amount to, whatever their order and however often each is given.

    A fact older than `floor` (the compacted rest, R4) fills only what was never stated.
    """
    draft = Draft(floor or EMPTY, policies.extremes)
    ordered = sorted(facts, key=_stamp)
    limit = draft.newest
    for fact in ordered:
        if limit is not None and fact.stamp < limit:
            draft.fill(fact, floor or EMPTY)
        elif fact.stamp != draft.newest:
            draft.apply(fact)
    return draft.head()


def advance(head: Head | None, fact: AdmittedFact, *, policies: Policies = DEFAULT_POLICIES) -> Head | None:
    """The head after a fact newer than all it knows, in the time its fields take; None if a re-fold is needed.

    The newest fact again changes nothing. Any other older fact needs the re-fold, even if it was seen before.
    """
    if head is None:
        head = EMPTY
    elif head.newest is not None:
        stamp = fact.stamp
        if stamp <= head.newest:
            return head if stamp == head.newest else None
    draft = Draft(head, policies.extremes)
    draft.apply(fact)
    return draft.head()


def says_nothing_new(head: Head | None, fact: AdmittedFact) -> bool:
    """Whether a snapshot read without a version equals the head, so that it is not admitted (R5)."""
    if head is None or head.newest is None:
        return False
    doc = fact.doc
    deleted = doc.get("d")
    owner = doc.get("o")
    return (
        all(_says(head, name, value) for name, value in doc.get("f", {}).items())
        and all(head.held(kind) == value for kind, value in doc.get("c", {}).items())
        and (deleted is None or deleted == head.deleted)
        and (owner is None or (head.owner is not None and tuple(owner) == head.owner))
        and (head.makes_user or not doc.get("u", False))
    )


def conflicts(head: Head | None, fact: AdmittedFact, *, policies: Policies = DEFAULT_POLICIES) -> bool:
    """Whether a fact ties with what the head (as it is *before* the fact) says, so that one read-back is due (R7).

    A reading is no exception: of what happened in its own second, whole as vendors' seconds are, nobody knows whether
    it was before. The read-back that settles a tie is made when that second is over.
    """
    if head is None:
        return False
    doc, at = fact.doc, fact.at
    if head.stood is not None and doc.get("d") not in (None, head.stood[1]) and head.stood[0] == at:
        return True
    for name, value in doc.get("f", {}).items():
        cell = head.cells.get(name)
        if (
            cell is not None
            and name not in policies.extremes
            and _ties(cell.stamp, fact)
            and not same(cell.value, value)
        ):
            return True
    began = {i.kind: i.value for i in head.claims if i.start == at}
    return any(value is not None and began.get(kind, value) != value for kind, value in doc.get("c", {}).items())


def changed_late(before: Head | None, after: Head, fact: AdmittedFact, *, walked_at: int | None) -> bool:
    """Whether a fact older than the connection's last completed walk changed the head: one read-back is due (R5)."""
    if walked_at is None or fact.at >= walked_at or fact.kind == FactKind.READ_BACK:
        return False
    if before is None:
        return True
    was, now = before.cells, after.cells
    return (
        was.keys() != now.keys()
        or any(not same(was[name].value, cell.value) for name, cell in now.items())
        or before.claims != after.claims
        or before.deleted != after.deleted
        or before.owner != after.owner
    )


def compact(
    floor: Head | None,
    facts: Iterable[AdmittedFact],
    *,
    before: int,
    policies: Policies = DEFAULT_POLICIES,
) -> tuple[Head, list[AdmittedFact]]:
    """Facts older than `before` folded into the floor, and the facts that stay. Every claim interval is kept."""
    old: list[AdmittedFact] = []
    young: list[AdmittedFact] = []
    for fact in facts:
        (old if fact.at < before else young).append(fact)
    return fold(old, floor, policies=policies), young


def _stamp(fact: AdmittedFact) -> Stamp:
    return fact.stamp


def _says(head: Head, name: str, value: Json) -> bool:
    cell = head.cells.get(name)
    return cell is not None and same(cell.value, value)


def _ties(stamp: Stamp, fact: AdmittedFact) -> bool:
    return stamp.at == fact.at and stamp.fact_id != fact.fact_id
