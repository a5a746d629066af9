"""The values of the pure core. Times are integers: microseconds since 1970-01-01 UTC.

Strings compare by code point, which is the byte order of UTF-8 and so the order both databases use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Json = Any
"""A value of canonical JSON. A time is `{"$t": microseconds}`, WITHDRAWN is `{"$w": 1}`."""


class RecordKey(NamedTuple):
    """A source record or a part of one: what one connection calls one thing (R2)."""

    connection: str
    type: str
    id: str


class Stamp(NamedTuple):
    """The order of facts inside a record (R3). Across connections the source's rank goes before `fact_id`."""

    at: int
    kind: int
    sequence: int
    fact_id: str


@dataclass(frozen=True, slots=True)
class AdmittedFact:
    """A fact as stored: content-addressed, its `at` (effective_at) fixed at admission (R1, R3).

    `doc` is JSON with a key only for what is said: `f` fields, `c` claims, `d` deleted, `o` [type, id] of the
    owner, `n` true for a snapshot, `u` true if it makes a user, `v` false if its claims are unverified, `p` the stamps
    that fields keep which are the echo of what we sent; these are no part of what the id names (R6).
    """

    fact_id: str
    at: int
    kind: int
    sequence: int
    doc: Mapping[str, Json]

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.at, self.kind, self.sequence, self.fact_id)


@dataclass(frozen=True, slots=True)
class Interval:
    """A record held an identifier from `start` until `end` (None: still). `value` is normalized (its key)."""

    kind: str
    value: str
    start: int
    end: int | None
    verified: bool


@dataclass(frozen=True, slots=True)
class LinkFact:
    """Two records are one person, or by `cut` are not (R13). Admin links are directed: `b` is the target."""

    id: str
    a: RecordKey
    b: RecordKey
    at: int
    strength: Literal["strong", "admin"]
    cut: bool = False
    reason: str = ""
