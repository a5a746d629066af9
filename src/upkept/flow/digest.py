"""One hash over the whole derived store, free of surrogate ids and arrival times.

Two stores with the same keys that were told the same facts have the same digest, on either database, in whatever
order and however often they were told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from sqlalchemy import Connection

from upkept.flow.hub import Hub
from upkept.people.facts import canonical
from upkept.store import whole

SECTIONS: Final[Mapping[str, Callable[[Connection], whole.Rows]]] = {
    "people": whole.people,
    "counters": whole.counters,
    "conflicts": whole.conflicts,
    "consent": whole.consent,
    "tombstones": whole.tombstones,
}


@dataclass(frozen=True, slots=True)
class Section:
    """One family of rows: how many, and their hash."""

    rows: int
    hash: str


@dataclass(frozen=True, slots=True)
class Digest:
    """`hash` covers all sections."""

    hash: str
    sections: Mapping[str, Section]


def digest(hub: Hub) -> str:
    """The hash alone."""
    return measure(hub).hash


def measure(hub: Hub) -> Digest:
    """The digest with its sections, of one moment. Reads everything, in little memory."""
    with whole.snapshot(hub.store) as connection:
        sections = {name: _section(rows(connection)) for name, rows in SECTIONS.items()}
    total = blake2b(canonical([[name, one.rows, one.hash] for name, one in sections.items()]), digest_size=32)
    return Digest(total.hexdigest(), sections)


def _section(rows: whole.Rows) -> Section:
    hashed, count = blake2b(digest_size=32), 0
    for row in rows:
        hashed.update(canonical(row))
        hashed.update(b"\n")
        count += 1
    return Section(count, hashed.hexdigest())
