"""What an erasure forbids for ever, decided from keyed hashes (SEMANTICS R12)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

from upkept.people.consent import Subject, record_subject
from upkept.people.identifiers import EMAIL, PHONE, USER_ID
from upkept.people.values import RecordKey

TombstoneKind = Literal["record", "email", "user_id", "phone", "spared"]

FIRST_PARTY: Final = frozenset({"app", "api", "csv", "console"})
"""Connections through which a person may come back to us of themselves or by our own hand."""

_KINDS: Final[dict[str, TombstoneKind]] = {EMAIL: "email", USER_ID: "user_id", PHONE: "phone"}

Lookup = Callable[[TombstoneKind, str], int | None]
"""(kind, keyed hash) -> when that was erased, or None."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One identifier or record key that was erased at `at`. `subject` is a keyed hash; the key is never rotated.

    Kind `spared`: an identifier that was erased with somebody, and the record of somebody else who had held it before.
    """

    kind: TombstoneKind
    subject: str
    at: int


def tombstones(
    keys: Iterable[RecordKey], claims: Iterable[tuple[str, str]], *, at: int, subject: Subject
) -> list[Tombstone]:
    """What erasing these records leaves: their keys and every identifier (kind, key) they ever stated."""
    buried: set[tuple[TombstoneKind, str]] = {("record", subject("record", record_subject(key))) for key in keys}
    buried.update((_KINDS[kind], subject(kind, value)) for kind, value in claims if kind in _KINDS)
    return [Tombstone(kind, hashed, at) for kind, hashed in sorted(buried)]


def spared(holders: Iterable[tuple[RecordKey, tuple[str, str]]], *, at: int, subject: Subject) -> list[Tombstone]:
    """What lets these records be, although they once stated this (kind, key), which is erased with another person."""
    kept = {subject("spared", _spared_subject(key, claim)) for key, claim in holders}
    return [Tombstone("spared", hashed, at) for hashed in sorted(kept)]


def asked(key: RecordKey, claims: Iterable[tuple[str, str]], *, subject: Subject) -> set[str]:
    """Every keyed hash that `refused` looks up for a record."""
    stated = list(claims)
    found = {subject("record", record_subject(key))} | {subject(kind, value) for kind, value in stated}
    return found | {subject("spared", _spared_subject(key, claim)) for claim in stated}


def _spared_subject(key: RecordKey, claim: tuple[str, str]) -> str:
    return "\x1f".join((record_subject(key), *claim))


def refused(
    key: RecordKey,
    claims: Iterable[tuple[str, str]],
    *,
    first_party: bool,
    created_at: int | None,
    lookup: Lookup,
    subject: Subject,
) -> bool:
    """Whether an erasure covers this record, as a whole, with all its facts.

    `claims` are all (kind, key) it ever stated, those of the new fact included, and `created_at` the `at` of its
    first fact. A record key and a user id are erased for ever; an address or number yields to a first-party record
    created later. What a record once stated that is erased with somebody else does not count against it, if it was
    spared. A record that is covered gets a tombstone of its own, so that its other facts are refused in
    whatever order they come. A part is asked about under its owner's key too.
    """
    if lookup("record", subject("record", record_subject(key))) is not None:
        return True
    for kind, value in claims:
        buried = _KINDS.get(kind)
        erased_at = None if buried is None else lookup(buried, subject(kind, value))
        if erased_at is None or lookup("spared", subject("spared", _spared_subject(key, (kind, value)))) is not None:
            continue
        if kind == USER_ID or not first_party or created_at is None or created_at <= erased_at:
            return True
    return False
