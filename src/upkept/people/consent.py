"""Consent as its own lattice: statements are a set, and the answer a pure function of it (SEMANTICS B)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from upkept.contract import LOWERING_ACTS, Consent, ConsentAct
from upkept.people.facts import clean, digest, record_key, to_us
from upkept.people.identifiers import EMAIL, PHONE, identifier_key
from upkept.people.values import Interval, RecordKey

SKEW: Final = 300_000_000
"""An opt-in on another clock must be later than the opt-out by more than this many microseconds (R8)."""

ALL: Final = "*"
"""The topic that stands for all."""

SubjectKind = Literal["address", "record", "holder"]
State = Literal["subscribed", "unsubscribed", "unknown"]
Deliverability = Literal["ok", "soft", "hard"]
Subject = Callable[[str, str], str]
"""(kind, value) -> the keyed hash a statement is stored under; kinds are those of `SubjectKind`."""

_OF_THE_ADDRESS: Final = frozenset({"bounce_soft", "bounce_hard", "deliverable", "lock"})
_ONLY_LIFTED: Final = frozenset({"complaint", "block"})
_NEVER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ConsentFact:
    """One statement about one subject, immutable and content-addressed. `at` is in microseconds."""

    id: str
    subject_kind: SubjectKind
    subject: str
    channel: str
    topic: str
    act: ConsentAct
    at: int
    qualified: bool
    verified: bool
    connection: str
    reason: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class ConsentState:
    """The answer, the time from which it holds, and the statement it follows from."""

    state: State
    since: int | None = None
    because: ConsentFact | None = None


class Lock(NamedTuple):
    """A vendor refuses this address in this audience, whatever we send (R11)."""

    connection: str
    audience: str
    at: int
    reason: str


def record_subject(key: RecordKey) -> str:
    """The value that stands for a record where a subject is hashed."""
    return "\x1f".join(key)


def holder(key: RecordKey, subject: Subject) -> str:
    """Under what stand the opt-outs that name this record and no address: they mean whatever address it holds."""
    return subject("holder", record_subject(key))


def subjects(
    keys: Iterable[RecordKey], intervals: Iterable[Interval], subject: Subject
) -> set[tuple[SubjectKind, str]]:
    """All that binds a person: its records, deleted ones too, and the addresses and numbers they hold now."""
    found: set[tuple[SubjectKind, str]] = {("record", subject("record", record_subject(key))) for key in keys}
    for i in intervals:
        if i.end is None and i.kind in (EMAIL, PHONE):
            found.add(("address", subject("address", i.value)))
    return found


def admit_consent(connection: str, statement: Consent, *, received_at: int, subject: Subject) -> list[ConsentFact]:
    """A statement on every subject it binds: the address *and* the record (R9).

    An unverified statement binds its record only, and is never qualified. Deliverability and locks are the
    address's alone where there is one (R10, R11). An opt-out that names a record and no address stands for its `holder`
    too: which addresses that means, `implied` tells. Nothing to bind gives an empty list.
    """
    observed = received_at if statement.at is None else to_us(statement.at)
    topic, channel = clean(statement.topic).strip() or ALL, clean(statement.channel).strip() or EMAIL
    reason, evidence = clean(statement.reason).strip(), clean(statement.evidence).strip()
    qualified = statement.qualified and statement.verified and bool(evidence or statement.act != "opt_in")
    said = (channel, topic, statement.act, observed, qualified, statement.verified, connection, reason, evidence)
    return [
        ConsentFact(
            digest(kind, value, *said),
            kind,
            value,
            channel,
            topic,
            statement.act,
            min(observed, received_at),
            qualified,
            statement.verified,
            connection,
            reason,
            evidence,
        )
        for kind, value in _bound(connection, statement, channel, subject)
    ]


def implied(
    said: Iterable[ConsentFact], intervals: Iterable[Interval], subject: Subject
) -> Iterator[tuple[tuple[str, str], ConsentFact]]:
    """What opt-outs of a record that name no address are for the addresses it held, each with its (kind, value) (R9).

    `said` are those that stand for the record's `holder`, `intervals` all it ever held. Meant is what it held at that
    time and later, and if it held nothing then, the last before; what was merely asserted is nobody's address (R13).
    """
    sure = [i for i in intervals if i.verified]
    for one in said:
        kind = _kind_of(one.channel)
        held = [i for i in sure if i.kind == kind]
        last = max((_end(i) for i in held if i.start <= one.at), default=_NEVER)
        for value in sorted({i.value for i in held if _end(i) >= min(one.at, last)}):
            hashed = subject("address", value)
            yield (kind, value), replace(one, id=implied_id(one, hashed), subject_kind="address", subject=hashed)


def implied_id(one: ConsentFact, address: str) -> str:
    """The id of what an opt-out without an address is for this one, given as its keyed hash."""
    return digest("implied", one.id, address)


def decide(statements: Iterable[ConsentFact], *, channel: str = EMAIL, topic: str = ALL) -> ConsentState:
    """Whether this may be sent, by R8: subscribed iff one qualified opt-in is later than every opt-out in scope.

    Give the statements of all `subjects` of a person. `because` of an unsubscribed answer is the first opt-out
    that no opt-in answered.
    """
    scope = [s for s in statements if s.channel == channel and s.topic in (ALL, topic)]
    outs = [s for s in scope if s.act == "opt_out" or (s.act in _ONLY_LIFTED and not _lifted(s, scope))]
    ins = [s for s in scope if s.act == "opt_in"]
    if not outs:
        first = min(ins, key=_age, default=None)
        return ConsentState("unknown") if first is None else ConsentState("subscribed", first.at, first)
    answers = [s for s in ins if s.qualified]
    winner = min((r for r in answers if all(_beats(r, u) for u in outs)), key=_age, default=None)
    if winner is not None:
        return ConsentState("subscribed", winner.at, winner)
    standing = [u for u in outs if not any(_beats(r, u) for r in answers)]
    because = min(standing, key=_age) if standing else max(outs, key=_age)
    return ConsentState("unsubscribed", because.at, because)


def deliverability(statements: Iterable[ConsentFact]) -> Deliverability:
    """Whether mail arrives at one address: its worst bounce that no later proof of delivery answered (R10)."""
    found = list(statements)
    proven = max((s.at for s in found if s.act == "deliverable"), default=None)
    bounces = {s.act for s in found if s.act in ("bounce_soft", "bounce_hard") and (proven is None or s.at >= proven)}
    if "bounce_hard" in bounces:
        return "hard"
    return "soft" if bounces else "ok"


def locks(statements: Iterable[ConsentFact]) -> list[Lock]:
    """The compliance locks that stand (R11). Only the person's own later act at that vendor ends one."""
    found = list(statements)
    standing = {
        Lock(s.connection, s.topic, s.at, s.reason)
        for s in found
        if s.act == "lock" and not any(_unlocks(other, s) for other in found)
    }
    return sorted(standing)


def _bound(connection: str, statement: Consent, channel: str, subject: Subject) -> Sequence[tuple[SubjectKind, str]]:
    key = None if statement.record is None else record_key(connection, statement.record)
    record: list[tuple[SubjectKind, str]] = [] if key is None else [("record", subject("record", record_subject(key)))]
    if not statement.verified:
        return record
    named = None if statement.address is None else identifier_key(_kind_of(channel), clean(statement.address))
    if named is not None:
        address: list[tuple[SubjectKind, str]] = [("address", subject("address", named))]
        return address if statement.act in _OF_THE_ADDRESS else address + record
    return record if key is None or statement.act not in LOWERING_ACTS else [*record, ("holder", holder(key, subject))]


def _kind_of(channel: str) -> str:
    return EMAIL if channel == EMAIL else PHONE


def _end(interval: Interval) -> int:
    return _NEVER if interval.end is None else interval.end


def _age(statement: ConsentFact) -> tuple[int, str]:
    return statement.at, statement.id


def _answers(statement: ConsentFact, earlier: ConsentFact) -> bool:
    """Later beyond the doubt of two clocks, and about the same topic or against a global statement."""
    skew = 0 if statement.connection == earlier.connection else SKEW
    return statement.at > earlier.at + skew and earlier.topic in (ALL, statement.topic)


def _beats(opt_in: ConsentFact, out: ConsentFact) -> bool:
    """A complaint or a block yields to a lift alone, so it is never beaten here."""
    return out.act not in _ONLY_LIFTED and _answers(opt_in, out)


def _lifted(out: ConsentFact, scope: Iterable[ConsentFact]) -> bool:
    return any(s.act == "lift" and s.verified and s.reason and _answers(s, out) for s in scope)


def _unlocks(opt_in: ConsentFact, lock: ConsentFact) -> bool:
    return (
        opt_in.act == "opt_in"
        and opt_in.qualified
        and opt_in.connection == lock.connection
        and opt_in.topic in (ALL, lock.topic)
        and opt_in.at > lock.at
    )
