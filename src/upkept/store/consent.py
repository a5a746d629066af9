"""Consent statements: insert-only. What stands here is what every consent answer reads (SEMANTICS B)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection

from upkept.people.consent import ConsentFact
from upkept.store import bulk
from upkept.store.tables import consent

_COLUMNS = (
    "id", "subject_kind", "subject", "channel", "topic", "act", "at", "qualified", "verified", "connection", "reason",
    "evidence", "inbox_key", "recorded_at",
)  # fmt: skip


def insert(connection: Connection, new: Sequence[tuple[ConsentFact, str]], *, now: int) -> set[str]:
    """Store (statement, inbox key) pairs; the ids of those that were news."""
    rows = sorted(
        {
            f.id: (
                f.id, f.subject_kind, f.subject, f.channel, f.topic, f.act, f.at, f.qualified, f.verified,
                f.connection, f.reason, f.evidence, key, now,
            )
            for f, key in new
        }.values()
    )  # fmt: skip
    return {
        row[0] for row in bulk.insert(connection, consent, _COLUMNS, rows, conflict="(id) DO NOTHING", returning="id")
    }


def about(connection: Connection, subjects: Iterable[str]) -> dict[str, list[ConsentFact]]:
    """Every statement about these subjects (keyed hashes of addresses and records)."""
    found: dict[str, list[ConsentFact]] = {}
    statement = f"SELECT {', '.join(_COLUMNS[:-2])} FROM consent WHERE subject {{set}}"
    for row in bulk.within(connection, statement, subjects):
        id_, subject_kind, subject, channel, topic, act, at, qualified, verified, source, reason, evidence = row
        found.setdefault(subject, []).append(
            ConsentFact(
                id=id_, subject_kind=subject_kind, subject=subject, channel=channel, topic=topic, act=act, at=at,
                qualified=bool(qualified), verified=bool(verified), connection=source, reason=reason, evidence=evidence,
            )
        )  # fmt: skip
    return found


def brought(connection: Connection, keys: Mapping[str, str]) -> set[str]:
    """Those of the statements (id -> inbox key) that this very row brought first."""
    rows = bulk.within(connection, "SELECT id, inbox_key FROM consent WHERE id {set}", sorted(keys))
    return {id_ for id_, key in rows if keys[id_] == key}


def hush(connection: Connection, theirs: Iterable[str], shared: Iterable[str]) -> set[str]:
    """Drop words that may hold personal data; the statements themselves stand (erasure).

    `theirs` are subjects of whom every statement is hushed; of the `shared` ones only what came in the same inbox
    rows. Returns the keys of those rows.
    """
    statement = "SELECT DISTINCT inbox_key FROM consent WHERE inbox_key <> '' AND subject {set}"
    keys = {row[0] for row in bulk.within(connection, statement, sorted(theirs))}
    blanked = "SET evidence = '', inbox_key = ''"
    bulk.change_within(connection, f"UPDATE consent {blanked} WHERE subject {{set}}", sorted(theirs))
    for subject in sorted(shared):
        bulk.change_within(
            connection, f"UPDATE consent {blanked} WHERE subject = ? AND inbox_key {{set}}", sorted(keys),
            extra=(subject,),
        )  # fmt: skip
    return keys


def remove(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Withdraw statements (undo, forget; never an opt-out); the subjects they bound."""
    return {
        row[0] for row in bulk.within(connection, "DELETE FROM consent WHERE id {set} RETURNING subject", sorted(ids))
    }
