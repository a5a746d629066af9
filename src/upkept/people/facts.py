"""From what a connector said to an immutable, content-addressed fact (SEMANTICS R1, R3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import orjson

from upkept.contract import WITHDRAWN, Fact, Link, RecordRef, Said
from upkept.people.identifiers import identifier_key
from upkept.people.values import AdmittedFact, Json, LinkFact, RecordKey

CLOCK_LIMIT: Final = 300_000_000
"""How far ahead of ours, in microseconds, a vendor's clock may be before it is reported (R3)."""

MAILS: Final = "_mails:"
"""Before a topic: the note whether the vendor would mail a record about it (`Fact.mails`)."""

WITHDRAWN_JSON: Final[Json] = {"$w": 1}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_INT64: Final = 1 << 63
_EXACT: Final = float(1 << 53)


DAY: Final = 86_400_000_000
"""Microseconds."""


def to_us(dt: datetime) -> int:
    """Microseconds since 1970, exactly. Raises ValueError for a naive time, which would be a guess."""
    if dt.tzinfo is None:
        raise ValueError("a time must carry its zone; the contract asks for aware UTC datetimes")
    return (dt - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """The aware UTC time of so many microseconds."""
    return _EPOCH + us * _MICROSECOND


def canonical(value: Json) -> bytes:
    """The one encoding of a value for ids and digests: JSON, keys sorted, no spaces."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest(*parts: Json) -> str:
    """32 hexadecimal digits that name these parts, in this order."""
    return blake2b(canonical(list(parts)), digest_size=16).hexdigest()


def clean(text: str) -> str:
    """The text as both databases can hold it: NUL and lone surrogates become U+FFFD."""
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encode(value: Said) -> Json:
    """The canonical JSON of what was said (R1). Raises TypeError for anything nested.

    An int beyond int64 becomes a float. A large whole float becomes an int, and minus zero zero, because a
    database that keeps numbers as decimals gives them back so.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else _number(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, datetime):
        return {"$t": to_us(value)}
    if value is WITHDRAWN:
        return dict(WITHDRAWN_JSON)
    raise TypeError(f"a field holds a scalar, a time or WITHDRAWN, never a {type(value).__name__}")


def decode(value: Json) -> Said:
    """What `encode` was given, up to its documented replacements."""
    if isinstance(value, dict):
        return from_us(value["$t"]) if "$t" in value else WITHDRAWN
    said: Said = value
    return said


@dataclass(frozen=True, slots=True)
class Admitted:
    """A fact ready to be stored; `clamped` if the vendor's clock was more than `CLOCK_LIMIT` ahead."""

    key: RecordKey
    owner: RecordKey | None
    fact: AdmittedFact
    clamped: bool


def admit(connection: str, fact: Fact, *, received_at: int, run: int | None = None) -> Admitted:
    """Fix a fact's key, time and id. `received_at` is that of the inbox row, so that replays agree.

    `run` is part of the id of imported facts, so that undoing one run leaves what another one said (R12).
    """
    observed = received_at if fact.observed_at is None else to_us(fact.observed_at)
    key = record_key(connection, fact.record)
    doc = _doc(fact)
    kind = int(fact.kind)
    fact_id = digest(list(key), observed, fact.sequence, kind, doc, *(() if run is None else (run,)))
    return Admitted(
        key=key,
        owner=None if fact.owner is None else record_key(connection, fact.owner),
        fact=AdmittedFact(fact_id, min(observed, received_at), kind, fact.sequence, doc),
        clamped=observed > received_at + CLOCK_LIMIT,
    )


def admit_link(connection: str, link: Link, *, received_at: int) -> LinkFact:
    """A vendor's own word that two of its records are one person: a strong link (R13)."""
    observed = received_at if link.at is None else to_us(link.at)
    a, b = record_key(connection, link.a), record_key(connection, link.b)
    at = min(observed, received_at)
    return LinkFact(digest("link", list(a), list(b), at), a, b, at, "strong", reason=clean(link.reason))


def admin_link(a: RecordKey, b: RecordKey, *, at: int, cut: bool = False, reason: str = "") -> LinkFact:
    """A teammate's merge of `a` into `b`, or by `cut` their word that the two are apart (R13)."""
    return LinkFact(digest("cut" if cut else "merge", list(a), list(b), at), a, b, at, "admin", cut, reason)


def record_key(connection: str, ref: RecordRef) -> RecordKey:
    """The key of a thing that a connection names."""
    return RecordKey(connection, clean(ref.type), clean(ref.id))


def _doc(fact: Fact) -> dict[str, Json]:
    doc: dict[str, Json] = {}
    if fact.fields or fact.mails:
        doc["f"] = {clean(name): encode(value) for name, value in fact.fields.items()}
        doc["f"] |= {f"{MAILS}{clean(topic)}": would for topic, would in fact.mails.items()}
    if fact.claims:
        doc["c"] = {kind: _claim(kind, value) for kind, value in sorted(fact.claims.items())}  # as it is stored
        if not fact.verified:
            doc["v"] = False
    if fact.deleted is not None:
        doc["d"] = fact.deleted
    if fact.owner is not None:
        doc["o"] = [clean(fact.owner.type), clean(fact.owner.id)]
    if fact.snapshot:
        doc["n"] = True
    if fact.makes_user:
        doc["u"] = True
    return doc


def _claim(kind: str, value: str | None) -> str | None:
    """A claim nobody can be known by ("n/a") ends the one before it, as None does."""
    return None if value is None else identifier_key(kind, clean(value))


def _number(value: Any) -> Json:
    try:
        number = float(value)
    except OverflowError:
        return None
    if not math.isfinite(number):
        return None
    if number == 0.0:
        return 0.0
    if abs(number) >= _EXACT and -_INT64 <= number < _INT64:
        return int(number)
    return number
