"""The outbox: the newest desired state per destination and person, written with the change itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from upkept.people.facts import canonical
from upkept.people.values import Json
from upkept.store import bulk
from upkept.store.tables import outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Bring `subject` (a person's id, or a vendor's id for a delete) at `destination` to `desired`."""

    destination: str
    subject: str
    desired: dict[str, Json]
    action: Literal["upsert", "delete"] = "upsert"
    lane: Literal["consent", "outbound"] = "outbound"


def write(connection: Connection, wishes: Sequence[Wish], *, now: int) -> None:
    """Coalesce by (destination, subject, action): the latest state wins and is offered again."""
    unique = {(w.destination, w.subject, w.action): w for w in wishes}
    rows = [
        (w.destination, w.subject, w.action, "new", canonical(w.desired).decode(), w.lane, now)
        for _, w in sorted(unique.items(), key=lambda item: item[0])
    ]
    columns = ("destination", "subject", "action", "state", "desired", "lane", "next_attempt_at")
    bulk.insert(
        connection, outbox, columns, rows,
        conflict="(destination, subject, action) DO UPDATE SET desired = excluded.desired, state = 'new', "
        "version = outbox.version + 1, attempts = 0, next_attempt_at = excluded.next_attempt_at, "
        "lane = CASE WHEN outbox.state = 'new' AND outbox.lane = 'consent' THEN outbox.lane ELSE excluded.lane END",
    )  # fmt: skip


def remove(connection: Connection, subjects: Iterable[str]) -> None:
    """Forget what was to be sent about these people; deletes at vendors stay."""
    bulk.change_within(connection, "DELETE FROM outbox WHERE action = 'upsert' AND subject {set}", subjects)
