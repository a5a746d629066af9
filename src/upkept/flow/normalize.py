"""Normalize: claimed rows to statements, by the connector's pure function."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from upkept.contract import (
    LOWERING_ACTS,
    Consent,
    Fact,
    Link,
    Permanent,
    RawEvent,
    Retryable,
    Skipped,
    Statement,
    TimelineEvent,
)
from upkept.flow.hub import Hub
from upkept.people.facts import from_us
from upkept.registry import Connection
from upkept.sources import ANSWERED
from upkept.sources.envelope import decode
from upkept.store.inbox import Claimed, Lowering, Outcome
from upkept.store.traces import Body

log = structlog.get_logger(__name__)

ATTEMPTS = 12
FIRST_WAIT = 5_000_000
LONGEST_WAIT = 3_600_000_000
VOID: Final[Mapping[Lowering, str]] = {
    "undone": "its run was undone; its opt-outs are in force",
    "forgotten": "its connection was forgotten; its opt-outs are in force",
}


@dataclass(slots=True)
class Work:
    """A claimed row and what it says; `skipped` is why one that may have been applied before says nothing."""

    row: Claimed
    facts: list[Fact] = field(default_factory=list)
    consents: list[Consent] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    events: list[TimelineEvent] = field(default_factory=list)
    skipped: str | None = None

    @property
    def opts_out(self) -> bool:
        """Does it take consent away?"""
        return any(consent.act in LOWERING_ACTS for consent in self.consents)

    @property
    def is_void(self) -> bool:
        """Was it undone or forgotten before it could be read? Then only its opt-outs count."""
        return self.row.lowering in VOID

    @property
    def end(self) -> Outcome:
        """How a row that was taken in ends."""
        if self.is_void:
            return Outcome(self.row, "skipped", VOID[self.row.lowering])
        return Outcome(self.row, "done" if self.skipped is None else "skipped", self.skipped)


def normalize(hub: Hub, rows: Iterable[Claimed], *, now: int) -> tuple[list[Work], list[Outcome]]:
    """What each row says; and the outcome of those that say nothing we can apply."""
    works: list[Work] = []
    ended: list[Outcome] = []
    for row in rows:
        connection = hub.connections.get(row.connection)
        if connection is None:
            reason = f"connection {row.connection!r} is not configured; add it to upkept.toml"
            ended.append(failed(row, Permanent(f"{reason} and run: upkept replay --state dead"), now=now))
            continue
        try:
            statements = said_by(connection, row)
        except Skipped as error:
            # Read before (R1), it may have said something then.
            if row.epoch > 1:
                works.append(Work(row, skipped=str(error)))
            else:
                ended.append(failed(row, error, now=now))
        except Exception as error:
            ended.append(failed(row, error, now=now))
        else:
            works.append(_sorted_by_kind(row, statements))
    return works, ended


def said_by(connection: Connection, row: Claimed | Body) -> list[Statement]:
    """What a stored row of this connection says. Raises whatever the connector raises."""
    if row.kind == ANSWERED:
        return list(decode(row.body))
    event = RawEvent(id=row.dedup_key, kind=row.kind, body=row.body, received_at=from_us(row.received_at))
    return list(connection.connector.normalize(event, connection.fields))


def failed(row: Claimed, error: Exception, *, now: int) -> Outcome:
    """The table of errors: skipped, dead, or tried again later. What may hold an opt-out never goes dead."""
    if isinstance(error, Skipped):
        return Outcome(row, "skipped", str(error))
    if isinstance(error, Retryable):
        return Outcome(row, "new", str(error), retry_at=now + waiting(row.attempts, error.after))
    reason = str(error) if isinstance(error, Permanent) else _where(error)
    log.error("row_failed", connection=row.connection, inbox_id=row.id, kind=row.kind, attempts=row.attempts + 1,
              error=type(error).__name__, cure=f"upkept replay {row.id} after a fix")  # fmt: skip
    hopeless = isinstance(error, Permanent) or row.attempts + 1 >= ATTEMPTS
    if hopeless and row.lowering == "no":
        return Outcome(row, "dead", reason)
    return Outcome(row, "new", reason, retry_at=now + waiting(row.attempts))


def waiting(attempts: int, after: float | None = None) -> int:
    """Microseconds until the next try: doubling from 5 s to an hour, or what the vendor asked for."""
    if after is not None:
        return min(int(after * 1_000_000), LONGEST_WAIT)
    return min(FIRST_WAIT << min(attempts, 10), LONGEST_WAIT)


def _sorted_by_kind(row: Claimed, statements: list[Statement]) -> Work:
    work = Work(row)
    for statement in statements:
        match statement:
            case Fact():
                work.facts.append(statement)
            case Consent():
                work.consents.append(statement)
            case Link():
                work.links.append(statement)
            case TimelineEvent():
                work.events.append(statement)
    return work


def _where(error: Exception) -> str:
    """A bug of ours as its type and place; its message may hold personal data and is left out."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}{place}"
