"""Facts of one record, in any order of arrival, to its head (SEMANTICS R3, R4, R5, R7, R12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from upkept.contract import FactKind
from upkept.people.head import EMPTY, Cell, Head, Owner, live
from upkept.people.policies import DEFAULT_POLICIES, Policies, beats
from upkept.people.values import AdmittedFact, Interval, Json, Stamp

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
    "touch",
]


def fold(
    facts: Iterable[AdmittedFact],
    floor: Head | None = None,
    *,
    kept: Head | None = None,
    policies: Policies = DEFAULT_POLICIES,
) -> Head:
    """The head that these facts amount to, whatever their order and however often each is given.

    A fact older than `floor` (the compacted rest, R4) fills only what was never stated. `kept` is the head before,
    whose `touch`ed fields carry over; leave it out after facts were removed (undo, forget, erase).
    """
    draft = _Draft(floor or EMPTY, policies.extremes)
    ordered = sorted(facts, key=_stamp)
    limit = draft.newest
    for fact in ordered:
        if limit is not None and fact.stamp < limit:
            draft.fill(fact, floor or EMPTY)
        elif fact.stamp != draft.newest:
            draft.apply(fact)
    if kept is not None:
        draft.carry(kept)
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
    draft = _Draft(head, policies.extremes)
    draft.apply(fact)
    return draft.head()


def touch(head: Head | None, fields: Mapping[str, Json], policies: Policies = DEFAULT_POLICIES, *, at: int = 0) -> Head:
    """The head after input that states nothing but `max` and `min` fields, which makes no fact (R4).

    Returns the very same head if nothing became more extreme. `at` is when it was said, for `explain`.
    Raises ValueError for a field that another rule governs.
    """
    before = head or EMPTY
    stamp = Stamp(at, int(FactKind.EVENT), 0, "")
    draft = _Draft(before, policies.extremes)
    for name, value in fields.items():
        if name not in policies.extremes:
            raise ValueError(f"{name} has no policy max or min; it needs a fact")
        draft.stretch(name, Cell(value, stamp, stamp))
    return draft.head() if draft.cells != before.cells else before


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

    A read-back settles ties and causes none.
    """
    if head is None or fact.kind == FactKind.READ_BACK:
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
            and not _same(cell.value, value)
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
        or any(not _same(was[name].value, cell.value) for name, cell in now.items())
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
    return cell is not None and _same(cell.value, value)


def _ties(stamp: Stamp, fact: AdmittedFact) -> bool:
    return stamp.at == fact.at and stamp.fact_id != fact.fact_id and stamp.kind != FactKind.READ_BACK


class _Draft:
    """A head while facts are being applied to it, oldest first."""

    __slots__ = (
        "cells",
        "claims",
        "extremes",
        "first_at",
        "makes_user",
        "newest",
        "owner",
        "owner_stamp",
        "stood",
        "user_id",
        "user_id_stamp",
    )

    def __init__(self, head: Head, extremes: Mapping[str, bool]) -> None:
        self.extremes = extremes
        self.cells = dict(head.cells)
        self.claims = list(head.claims)
        self.stood = head.stood
        self.owner, self.owner_stamp = head.owner, head.owner_stamp
        self.user_id, self.user_id_stamp = head.user_id, head.user_id_stamp
        self.makes_user = head.makes_user
        self.first_at, self.newest = head.first_at, head.newest

    def head(self) -> Head:
        return Head(
            self.cells,
            tuple(self.claims),
            self.stood,
            self.owner,
            self.owner_stamp,
            self.user_id,
            self.user_id_stamp,
            self.makes_user,
            self.first_at,
            self.newest,
        )

    def apply(self, fact: AdmittedFact) -> None:
        """Take a fact newer than all before it."""
        doc, stamp = fact.doc, fact.stamp
        self.newest = stamp
        self._note(fact, stamp)
        fields = doc.get("f")
        if fields:
            self._state(fields, stamp, snapshot=doc.get("n", False))
        if doc.get("d"):
            self._end_all(fact.at)
        claims = doc.get("c")
        if claims:
            verified = doc.get("v", True)
            for kind, value in claims.items():
                self._claim(kind, value, fact.at, verified=verified)

    def fill(self, fact: AdmittedFact, floor: Head) -> None:
        """Take a fact older than the floor: it fills only what the floor never stated."""
        doc, stamp = fact.doc, fact.stamp
        self._note(fact, stamp)
        for name, value in doc.get("f", {}).items():
            cell = Cell(value, stamp, stamp)
            if name in self.extremes:
                self.stretch(name, cell)
            elif name not in floor.cells:
                self.cells[name] = cell
        if self.stood == (fact.at, True):
            self._end_all(fact.at)
        for kind, value in doc.get("c", {}).items():
            if value is not None:
                self._claim_before(kind, value, fact.at, verified=doc.get("v", True))

    def carry(self, kept: Head) -> None:
        for name in self.extremes:
            cell = kept.cells.get(name)
            if cell is not None:
                self.stretch(name, cell)

    def stretch(self, name: str, cell: Cell) -> None:
        """A `max` or `min` field takes the more extreme value; of equal ones the first stated."""
        held = self.cells.get(name)
        largest = self.extremes[name]
        if (
            held is None
            or beats(cell.value, held.value, largest=largest)
            or (cell.since < held.since and not beats(held.value, cell.value, largest=largest))
        ):
            self.cells[name] = cell

    def _note(self, fact: AdmittedFact, stamp: Stamp) -> None:
        """Everything but fields and claims: registers that need no order."""
        doc = fact.doc
        if self.first_at is None or fact.at < self.first_at:
            self.first_at = fact.at
        if doc.get("u"):
            self.makes_user = True
        deleted = doc.get("d")
        if deleted is not None and (self.stood is None or (fact.at, deleted) > self.stood):
            self.stood = (fact.at, deleted)
        owner = doc.get("o")
        if owner is not None and (self.owner_stamp is None or stamp >= self.owner_stamp):
            self.owner, self.owner_stamp = Owner(owner[0], owner[1]), stamp
        user_id = doc["c"].get("user_id") if "c" in doc else None
        if user_id is not None and (self.user_id_stamp is None or stamp >= self.user_id_stamp):
            self.user_id, self.user_id_stamp = user_id, stamp

    def _state(self, fields: Mapping[str, Json], stamp: Stamp, *, snapshot: bool) -> None:
        cells, extremes = self.cells, self.extremes
        for name, value in fields.items():
            if name in extremes:
                self.stretch(name, Cell(value, stamp, stamp))
                continue
            held = cells.get(name) if snapshot else None
            since = held.since if held is not None and _same(held.value, value) else stamp
            cells[name] = Cell(value, stamp, since)

    def _claim(self, kind: str, value: str | None, at: int, *, verified: bool) -> None:
        claims = self.claims
        for place, held in enumerate(claims):
            if held.kind == kind and held.end is None:
                if held.value == value:
                    if verified and not held.verified:
                        claims[place] = replace(held, verified=True)
                    return
                claims[place] = replace(held, end=at)
        if value is None:
            return
        if self.stood is None or not self.stood[1]:
            claims.append(Interval(kind, value, at, None, verified))
        elif not any(i.kind == kind and i.value == value for i in claims):
            # A deleted record holds nothing, but that it stated this is remembered: erasure asks.
            claims.append(Interval(kind, value, at, at, verified))

    def _claim_before(self, kind: str, value: str, at: int, *, verified: bool) -> None:
        same = [i for i in self.claims if i.kind == kind]
        covering = [i for i in same if i.start <= at and (i.end is None or at < i.end)]
        if any(i.value == value and i.start <= at and (i.end is None or at <= i.end) for i in same):
            return
        later = min((i.start for i in same if i.start >= at), default=None)
        deleted = self.stood is not None and self.stood[1]
        end = at if covering or (deleted and later is None) else later
        self.claims.append(Interval(kind, value, at, end, verified))

    def _end_all(self, at: int) -> None:
        self.claims = [i if i.end is not None else replace(i, end=max(i.start, at)) for i in self.claims]


def _same(a: Json, b: Json) -> bool:
    """Equal as JSON: true is not 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)
