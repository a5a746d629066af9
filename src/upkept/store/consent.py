"""Consent statements: insert-only. What stands here is what every consent answer reads (SEMANTICS B)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection

from upkept.contract import LOWERING_ACTS
from upkept.people.consent import ConsentFact
from upkept.store import bulk, repeats
from upkept.store.tables import consent

LOWERING: Final = ", ".join(f"'{act}'" for act in sorted(LOWERING_ACTS))
"""The acts of opt-outs, for an IN of SQL."""
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
            for f, key in reversed(new)
        }.values()
    )  # fmt: skip
    return {
        row[0] for row in bulk.insert(connection, consent, _COLUMNS, rows, conflict="(id) DO NOTHING", returning="id")
    }


def about(connection: Connection, subjects: Iterable[str]) -> dict[str, list[ConsentFact]]:
    """Every statement about these subjects (keyed hashes of addresses and records)."""
    found: dict[str, list[ConsentFact]] = {}
    for fact, _ in keyed(connection, subjects):
        found.setdefault(fact.subject, []).append(fact)
    return found


def keyed(connection: Connection, subjects: Iterable[str]) -> Iterator[tuple[ConsentFact, str]]:
    """`about`, each with the key of the inbox row that brought it."""
    statement = f"SELECT {', '.join(_COLUMNS[:-1])} FROM consent WHERE subject {{set}}"
    for row in bulk.within(connection, statement, subjects):
        id_, subject_kind, subject, channel, topic, act, at, qualified, verified, source, reason, evidence, key = row
        fact = ConsentFact(
            id=id_, subject_kind=subject_kind, subject=subject, channel=channel, topic=topic, act=act, at=at,
            qualified=bool(qualified), verified=bool(verified), connection=source, reason=reason, evidence=evidence,
        )  # fmt: skip
        yield fact, key


def known(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of these statements that stand."""
    return {row[0] for row in bulk.within(connection, "SELECT id FROM consent WHERE id {set}", ids)}


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
    keys |= repeats.hush(connection, theirs)
    blanked = "SET evidence = '', inbox_key = ''"
    bulk.change_within(connection, f"UPDATE consent {blanked} WHERE subject {{set}}", sorted(theirs))
    for subject in sorted(shared):
        bulk.change_within(
            connection, f"UPDATE consent {blanked} WHERE subject = ? AND inbox_key {{set}}", sorted(keys),
            extra=(subject,),
        )  # fmt: skip
    return keys


def lock(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Keep statements from being withdrawn, or passed on, before this transaction ends; who brought those that stand.

    Id to the key of the inbox row. An address's statement is under no record's lock.
    """
    tail = " ORDER BY id FOR UPDATE" if bulk.on_postgresql(connection) else ""
    rows = bulk.within(connection, f"SELECT id, inbox_key FROM consent WHERE id {{set}}{tail}", sorted(ids))
    return {row[0]: row[1] for row in rows}


def raising(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[str, str, str]]:
    """(kind, keyed hash) of whom these statements bind and who brought them, by id: opt-outs are left out."""
    statement = f"SELECT id, subject_kind, subject, inbox_key FROM consent WHERE act NOT IN ({LOWERING}) AND id {{set}}"
    return {row[0]: (row[1], row[2], row[3]) for row in bulk.within(connection, statement, sorted(ids))}


def withdraw(connection: Connection, ids: Iterable[str]) -> bool:
    """Take statements back from the rows that brought them: they go, unless another row said them too.

    They must be locked. No opt-out among them ever goes (SEMANTICS B). False: there was none.
    """
    brought = sorted(raising(connection, ids))
    passed = repeats.heirs(connection, "consent", "id {set}", brought, by="text")
    rows = [(heir.id, int(heir.doc), heir.inbox_key) for heir in passed]
    bulk.update(connection, consent, ("id",), ("at", "inbox_key"), rows)
    remove(connection, set(brought) - {heir.id for heir in passed})
    return bool(brought)


def remove(connection: Connection, ids: Iterable[str]) -> None:
    """Withdraw statements (undo, forget); an opt-out never, but what it implied of an address that was not meant."""
    bulk.change_within(connection, "DELETE FROM consent WHERE id {set}", sorted(ids))
