"""A head while facts are being applied to it: where each rule about one record stands (SEMANTICS R4, R5, R12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from upkept.people.head import Cell, Head, Owner
from upkept.people.policies import beats
from upkept.people.values import AdmittedFact, Interval, Json, Stamp


class Draft:
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
            self._state(fields, stamp, snapshot=doc.get("n", False), passed=doc.get("p"))
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

    def _state(
        self, fields: Mapping[str, Json], stamp: Stamp, *, snapshot: bool, passed: Mapping[str, Sequence[Any]] | None
    ) -> None:
        cells, extremes = self.cells, self.extremes
        for name, value in fields.items():
            if name in extremes:
                self.stretch(name, Cell(value, stamp, stamp))
                continue
            held = cells.get(name) if snapshot else None
            since = held.since if held is not None and same(held.value, value) else stamp
            if passed is not None and name in passed:
                since = min(since, Stamp(*passed[name]))  # an echo is as old as what it repeats (R6)
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


def same(a: Json, b: Json) -> bool:
    """Equal as JSON: true is not 1."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)
