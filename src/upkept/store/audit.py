"""Who did what to whom, and when: ids, never values (SEMANTICS D)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection

from upkept.people.facts import canonical
from upkept.store.tables import audit


@dataclass(frozen=True, slots=True)
class Act:
    """`actor` is the door and its user (`cli:ops`); `subjects` are ids of people, records, runs, connections."""

    id: int
    at: int
    actor: str
    action: str
    subjects: list[str]


def note(connection: Connection, action: str, subjects: Sequence[str], *, actor: str, now: int) -> None:
    """Write an act down, in the transaction that does it."""
    connection.execute(
        audit.insert().values(at=now, actor=actor, action=action, subjects=canonical(list(subjects)).decode())
    )


def listed(connection: Connection, *, limit: int = 100) -> list[Act]:
    """The newest acts first."""
    rows = connection.execute(audit.select().order_by(audit.c.id.desc()).limit(limit))
    return [Act(row.id, row.at, row.actor, row.action, orjson.loads(row.subjects)) for row in rows]
