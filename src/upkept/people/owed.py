"""What a vendor's record should say and does not say yet, from the person and from what it says (SEMANTICS R6, R8).

What was sent once and acknowledged is not owed again until it changes here, or the vendor says something else later
than that: so a vendor that stores a value in a form of its own is told it once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from upkept.contract import LOWERING_ACTS, FactKind
from upkept.people.consent import ALL, ConsentFact, decide, locks
from upkept.people.draft import same
from upkept.people.facts import MAILS
from upkept.people.head import Cell
from upkept.people.identifiers import EMAIL
from upkept.people.values import AdmittedFact, Json, Stamp

Act = Literal["opt_out", "opt_in"]

ECHO: Final = int(FactKind.ANSWER)
"""The kind in the stamp of an echo: of one moment the statement that we passed on counts more than its echo."""

UNSURE: Final = 3_000_000
"""Vendors' seconds are whole, and a clock of ours that is wrong by less than two is not corrected: of what a vendor did
so long before it took something from us, nobody can tell whether it was before."""


class Sent(NamedTuple):
    """A field as it was sent, as the vendor stored it, the moment it did (None: not acknowledged yet), and since when
    we hold it. Times are microseconds."""

    value: Json
    stored: Json
    at: int | None
    since: int


class Passed(NamedTuple):
    """A consent that was sent, a moment no later than the vendor took it, and the time of the newest that the vendor
    said before."""

    act: Act
    at: int
    over: int = 0

    def answers(self, heard: Heard) -> bool:
        """Was it sent with this in mind, or does it date from before?"""
        return heard.at <= self.over or heard.at < self.at - UNSURE


class Heard(NamedTuple):
    """What a vendor says of a record: since `at` (microseconds) it would mail it about `topic`, or would not."""

    at: int
    mails: bool
    topic: str


@dataclass(frozen=True, slots=True)
class Told:
    """What one record at a vendor was told last: fields by attribute, consent by topic.

    `raising` are the topics whose opt-in is on its way: the vendor may hold it by now, or never.
    """

    fields: Mapping[str, Sent] = field(default_factory=dict)
    consent: Mapping[str, Passed] = field(default_factory=dict)
    raising: frozenset[str] = frozenset()

    def dump(self) -> dict[str, Any]:
        fields = {name: list(sent) for name, sent in self.fields.items()}
        consent = {topic: list(passed) for topic, passed in self.consent.items()}
        return {"f": fields, "c": consent} | ({"r": sorted(self.raising)} if self.raising else {})

    @staticmethod
    def load(doc: Mapping[str, Any]) -> Told:
        fields = {name: Sent(*row) for name, row in doc["f"].items()}
        consent = {topic: Passed(*row) for topic, row in doc["c"].items()}
        return Told(fields, consent, frozenset(doc.get("r", ())))

    def may_be_raised(self, topic: str) -> bool:
        """May an opt-in that nobody acknowledged have raised this topic?"""
        return bool(self.raising) if topic == ALL else not self.raising.isdisjoint({ALL, topic})


NOTHING_TOLD: Final = Told()


def owes_field(wanted: Cell | None, held: Cell | None, sent: Sent | None) -> bool:
    """Must a vendor's field be written, whose record says `held` where the person says `wanted`?

    The vendor holds what it was sent, or what its record said since. Where the sending was not acknowledged it may hold
    either.
    """
    if wanted is None:
        return False
    says = _value(held)
    as_said = same(says, wanted.value)
    if sent is None:
        return not as_said
    as_sent = same(sent.value, wanted.value)
    if sent.at is None:
        return not (as_said and as_sent)
    if held is None or held.stamp.at <= sent.at:
        return not as_sent
    return not as_said and not (as_sent and same(says, sent.stored))


def desired_consent(statements: Iterable[ConsentFact], *, connection: str) -> dict[str, Act]:
    """What a vendor should hold of a person, per topic: opted out, or, where a qualified opt-in decides, opted in.

    Where neither is so, nothing is said: nobody's consent is raised by a push (R8). A compliance lock of this vendor
    keeps an opt-in from being sent (R11).
    """
    said = [s for s in statements if s.channel == EMAIL]
    found: dict[str, Act] = {}
    for topic in sorted({ALL} | {s.topic for s in said if s.act in LOWERING_ACTS or s.act == "opt_in"}):
        state = decide(said, topic=topic)
        if state.state == "unsubscribed":
            found[topic] = "opt_out"
        elif state.because is not None and state.because.qualified and not _locked(said, connection, topic):
            found[topic] = "opt_in"
    if found.get(ALL) == "opt_out":
        return {ALL: "opt_out"}
    return found


def heard(said: Iterable[ConsentFact], cells: Mapping[str, Cell]) -> list[Heard]:
    """What a vendor says of a record's mail: its statements about the record, and what the record shows."""
    told = [Heard(s.at, s.act == "opt_in", s.topic) for s in said if s.channel == EMAIL and s.act in _ABOUT_MAIL]
    shown = (
        Heard(cell.stamp.at, bool(cell.value), name.removeprefix(MAILS))
        for name, cell in cells.items()
        if name.startswith(MAILS)
    )
    return [*told, *shown]


def is_said_again(fact: AdmittedFact, cells: Mapping[str, Cell], said: Iterable[Heard]) -> bool:
    """Does a reading that shows of a record's mail what `cells` hold answer a word that came in between?

    An opt-out that was told, and taken back before anybody read it, leaves the vendor showing what it always showed.
    """
    words = list(said)
    return any(
        name.startswith(MAILS)
        and (cell := cells.get(name)) is not None
        and cell.stamp.at < fact.at
        and any(
            cell.stamp.at <= one.at and one.mails != bool(value) and one.topic in (ALL, name.removeprefix(MAILS))
            for one in words
        )
        for name, value in fact.doc.get("f", {}).items()
    )


def owed_consent(desired: Mapping[str, Act], heard: Iterable[Heard], told: Told) -> dict[str, Act]:
    """What of it a record's vendor does not hold yet: it would mail whom it must not, or does not mail whom it may.

    An opt-out that meets an opt-in on its way is owed, whatever the vendor holds. With an opt-in of everything go the
    topics that stay closed, for the vendor takes it for those that are not named.
    """
    said = list(heard)
    owed: dict[str, Act] = {}
    for topic, act in desired.items():
        last = max((one for one in said if one.topic in (ALL, topic)), key=_newest, default=None)
        passed = max(
            ((p.at, about != ALL, p) for about, p in told.consent.items() if about in (ALL, topic)), default=None
        )
        if passed is not None and (last is None or passed[2].answers(last)):
            last = Heard(passed[0], passed[2].act == "opt_in", topic)
        holds = last is not None and last.mails == (act == "opt_in")
        raised = act == "opt_out" and told.may_be_raised(topic)
        if raised or (not holds and (last is not None or act == "opt_out")):  # an opt-in of the unknown is not owed
            owed[topic] = act
    if owed.get(ALL) == "opt_in":
        owed |= {topic: act for topic, act in desired.items() if act == "opt_out"}
    return owed


_ABOUT_MAIL: Final = LOWERING_ACTS | {"opt_in"}


def _newest(heard: Heard) -> tuple[int, bool, bool]:
    """Of one moment what is said of a topic counts more than what is of everything; then the word to be overruled."""
    return heard.at, heard.topic != ALL, heard.mails


def recognise(fields: Mapping[str, Json], told: Told, *, ours: bool) -> dict[str, Stamp]:
    """Which of these values of a vendor's record are the echo of what we sent it, and the stamps they keep (R6).

    What our own account changed (`ours`) is an echo in whatever form the vendor gave it.
    """
    return {
        name: Stamp(sent.since, ECHO, 0, "")
        for name, value in fields.items()
        if (sent := told.fields.get(name)) is not None and (ours or same(value, sent.value) or same(value, sent.stored))
    }


def learnt(fields: Mapping[str, Json], told: Told) -> Told:
    """What was told, with the form in which the vendor's record shows it."""
    shown = {name: sent._replace(stored=fields[name]) for name, sent in told.fields.items() if name in fields}
    return replace(told, fields={**told.fields, **shown})


def outlived(news: Mapping[str, Json], told: Told, *, at: int) -> Told:
    """What was told, without what the vendor's record said otherwise later: the same again is no echo of it then."""
    over = {name for name, sent in told.fields.items() if name in news and sent.at is not None and at > sent.at}
    return replace(told, fields={n: sent for n, sent in told.fields.items() if n not in over}) if over else told


def _value(held: Cell | None) -> Json:
    if held is None or (isinstance(held.value, dict) and "$w" in held.value):
        return None
    return held.value


def _locked(said: Iterable[ConsentFact], connection: str, topic: str) -> bool:
    return any(lock.connection == connection and lock.audience in (ALL, topic) for lock in locks(said))
