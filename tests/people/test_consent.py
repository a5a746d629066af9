"""Consent: an opt-out loses only to a later, qualified opt-in by the person (R8, R9, R10, R11)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.model import reference
from tests.model.histories import Say, moment
from tests.model.pure import hashed

from upkept.contract import LOWERING_ACTS, Consent, RecordRef
from upkept.people.consent import (
    SKEW,
    ConsentFact,
    admit_consent,
    decide,
    deliverability,
    locks,
    subjects,
)
from upkept.people.values import Interval, RecordKey

MINUTE = 60_000_000
BASE = 1_767_225_600_000_000
LATER = BASE + 10_000 * MINUTE
MEMBER = RecordRef("member", "l/1")


def said(act: Any, at: int = 0, connection: str = "mail", **more: Any) -> Say:
    if act == "opt_in" and more.pop("signed", False):
        more |= {"qualified": True, "evidence": "form 9"}
    return Say(connection, Consent(act=act, record=MEMBER, at=moment(BASE + at), **more), LATER)


def facts(*statements: Say) -> list[ConsentFact]:
    return [
        fact
        for s in statements
        if isinstance(s.statement, Consent)
        for fact in admit_consent(s.connection, s.statement, received_at=s.received_at, subject=hashed)
    ]


def state(*statements: Say, topic: str = "*") -> str:
    return decide(facts(*statements), topic=topic).state


STATEMENTS = st.lists(
    st.builds(
        said,
        st.sampled_from(["opt_out", "opt_in", "opt_in", "complaint", "block", "lift", "bounce_hard", "lock"]),
        st.sampled_from([0, 1, 5 * MINUTE, 5 * MINUTE + 1, 10 * MINUTE, 11 * MINUTE]),
        st.sampled_from(["mail", "app"]),
        topic=st.sampled_from(["*", "news"]),
        qualified=st.booleans(),
        verified=st.booleans(),
        evidence=st.sampled_from(["", "form 9"]),
        reason=st.sampled_from(["", "by phone"]),
    ),
    max_size=7,
)


@given(STATEMENTS, st.sampled_from(["*", "news", "other"]))
def test_the_rule_is_the_reference_models(statements: list[Say], topic: str) -> None:
    docs = reference.consents_of(list(statements))
    records = [{"key": (connection, "member", "l/1"), "held": []} for connection in ("mail", "app")]
    assert state(*statements, topic=topic) == reference.consent(records, docs, topic)


@given(STATEMENTS, st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_matters(statements: list[Say], order: random.Random) -> None:
    shuffled = facts(*statements, *statements[:3])
    order.shuffle(shuffled)
    assert decide(shuffled) == decide(facts(*statements))
    assert locks(shuffled) == locks(facts(*statements))
    assert deliverability(shuffled) == deliverability(facts(*statements))


@given(STATEMENTS, STATEMENTS, st.sampled_from(["*", "news"]))
def test_nothing_unqualified_ever_reverts_an_opt_out(statements: list[Say], more: list[Say], topic: str) -> None:
    before = decide(facts(*statements), topic=topic)
    weak = [s for s in more if s.statement.act in ("opt_in", "lock", "bounce_hard")]  # type: ignore[union-attr]
    weak = [s for s in weak if not (s.statement.qualified and s.statement.evidence)]  # type: ignore[union-attr]
    if before.state == "unsubscribed":
        assert decide(facts(*statements, *weak), topic=topic) == before


@given(STATEMENTS, st.sampled_from(["opt_out", "complaint", "block"]))
def test_a_newest_opt_out_always_holds(statements: list[Say], act: str) -> None:
    assert state(*statements, said(act, 11 * MINUTE)) == "unsubscribed"


def test_unknown_until_somebody_says() -> None:
    assert state() == "unknown"
    assert state(said("bounce_hard")) == "unknown"
    assert state(said("opt_in")) == "subscribed"
    assert state(said("opt_in", topic="news")) == "unknown"
    assert state(said("opt_in", topic="news"), topic="news") == "subscribed"


def test_an_opt_in_must_be_later_beyond_the_doubt_of_two_clocks() -> None:
    out = said("opt_out", 0)
    assert state(out, said("opt_in", 0, signed=True)) == "unsubscribed"
    assert state(out, said("opt_in", 1, signed=True)) == "subscribed"
    assert state(out, said("opt_in", SKEW, "app", signed=True)) == "unsubscribed"
    assert state(out, said("opt_in", SKEW + 1, "app", signed=True)) == "subscribed"


def test_only_the_persons_own_act_with_evidence_is_qualified() -> None:
    out = said("opt_out", 0)
    assert state(out, said("opt_in", 9)) == "unsubscribed"
    assert state(out, said("opt_in", 9, qualified=True)) == "unsubscribed"
    assert state(out, said("opt_in", 9, signed=True, verified=False)) == "unsubscribed"


def test_topics() -> None:
    everything, news = said("opt_out", 5), said("opt_out", 5, topic="news")
    assert state(news) == "unknown"
    assert state(news, topic="news") == "unsubscribed"
    assert state(everything, topic="news") == "unsubscribed"
    assert state(news, said("opt_in", 9, signed=True), topic="news") == "unsubscribed"
    assert state(everything, said("opt_in", 9, signed=True, topic="news")) == "unsubscribed"
    assert state(everything, said("opt_in", 9, signed=True, topic="news"), topic="news") == "subscribed"
    assert state(said("opt_in", 1, signed=True, topic="news"), everything, topic="news") == "unsubscribed"


def test_a_complaint_or_block_is_lifted_only_with_a_reason() -> None:
    for act in ("complaint", "block"):
        assert state(said(act, 0), said("opt_in", 9, signed=True)) == "unsubscribed"
        assert state(said(act, 0), said("lift", 9)) == "unsubscribed"
        assert state(said(act, 0), said("lift", 9, reason="by phone", verified=False)) == "unsubscribed"
        assert state(said(act, 0), said("lift", 9, reason="by phone")) == "unknown"
        assert state(said(act, 9), said("lift", 9, reason="by phone")) == "unsubscribed"
    assert state(said("opt_out", 0), said("lift", 9, reason="by phone")) == "unsubscribed"


def test_the_answer_says_since_when_and_why() -> None:
    first, second = said("opt_out", 5), said("opt_out", 9)
    decided = decide(facts(said("opt_in", 7, signed=True), second, said("opt_out", 11)))
    assert decided.since == BASE + 9
    assert decided.because is not None
    assert decided.because.act == "opt_out"
    assert decide(facts(first, second)).since == BASE + 5
    assert decide(facts(first, said("opt_in", 7, signed=True))).since == BASE + 7


def test_channels_are_apart() -> None:
    told = facts(said("opt_out", 0, channel="sms"))
    assert decide(told).state == "unknown"
    assert decide(told, channel="sms").state == "unsubscribed"


def bound(connection: str = "mail", **options: Any) -> list[tuple[str, str]]:
    statement = Consent(at=moment(BASE), **options)
    found = admit_consent(connection, statement, received_at=LATER, subject=lambda kind, value: value)
    return [(fact.subject_kind, fact.subject) for fact in found]


def test_an_opt_out_binds_the_address_and_the_record() -> None:
    both = [("address", "ann@x.example"), ("record", "mail\x1fmember\x1fl/1")]
    holder = ("holder", "mail\x1fmember\x1fl/1")
    assert bound(act="opt_out", record=MEMBER, address="Ann@X.example") == both
    assert bound(act="opt_out", address="Ann@X.example") == both[:1]
    assert bound(act="opt_out", record=MEMBER, address="n/a") == [*both[1:], holder]
    assert bound(act="opt_out", record=MEMBER) == [*both[1:], holder]
    assert bound(act="opt_out", record=MEMBER, verified=False) == bound(act="opt_in", record=MEMBER) == both[1:]
    assert bound(act="opt_out", address="n/a") == []
    assert bound(act="opt_out", channel="sms", address="+353 1 234 5678") == [("address", "+35312345678")]


def test_an_unverified_statement_binds_its_record_only() -> None:
    record = [("record", "mail\x1fmember\x1fl/1")]
    assert bound(act="opt_out", record=MEMBER, address="ann@x.example", verified=False) == record
    assert bound(act="opt_in", address="ann@x.example", verified=False) == []


def test_bounces_and_locks_are_the_addresss() -> None:
    for act in ("bounce_soft", "bounce_hard", "deliverable", "lock"):
        assert bound(act=act, record=MEMBER, address="ann@x.example") == [("address", "ann@x.example")]


def test_statements_are_content_addressed_and_never_of_the_future() -> None:
    statement = Consent(act="opt_out", record=MEMBER, address="a@x.example", at=moment(LATER + MINUTE))
    first = admit_consent("mail", statement, received_at=LATER, subject=hashed)
    again = admit_consent("mail", statement, received_at=LATER + 5, subject=hashed)
    assert [f.id for f in first] == [f.id for f in again]
    assert len({f.id for f in first}) == 2
    assert {f.at for f in first} == {LATER}
    other = admit_consent("app", statement, received_at=LATER, subject=hashed)
    assert not {f.id for f in other} & {f.id for f in first}


def test_deliverability_is_the_worst_bounce_since_mail_last_arrived() -> None:
    def reached(*statements: Say) -> str:
        return deliverability(facts(*statements))

    assert reached(said("opt_out")) == "ok"
    assert reached(said("bounce_hard", 1), said("bounce_soft", 5)) == "hard"
    assert reached(said("bounce_hard", 1), said("deliverable", 2), said("bounce_soft", 5)) == "soft"
    assert reached(said("bounce_hard", 1), said("deliverable", 2)) == "ok"
    assert reached(said("bounce_hard", 2), said("deliverable", 2)) == "hard"


def test_a_lock_stands_until_the_person_signs_up_there_again() -> None:
    lock = said("lock", 5, topic="audience-1", reason="compliance")
    assert [(x.connection, x.audience, x.at, x.reason) for x in locks(facts(lock))] == [
        ("mail", "audience-1", BASE + 5, "compliance")
    ]
    assert locks(facts(lock, said("opt_in", 9))) != []
    assert locks(facts(lock, said("opt_in", 9, "app", signed=True))) != []
    assert locks(facts(lock, said("opt_in", 9, signed=True))) == []


@pytest.mark.parametrize(
    ("act", "lowers"), [("opt_out", True), ("complaint", True), ("block", True), ("opt_in", False), ("lift", False)]
)
def test_lowering(act: Any, lowers: bool) -> None:
    assert (act in LOWERING_ACTS) is lowers


def test_a_person_is_bound_by_its_records_and_what_they_hold_now() -> None:
    key = RecordKey("mail", "member", "l/1")
    claims = [
        Interval("email", "old@x.example", 0, 5, True),
        Interval("email", "new@x.example", 5, None, True),
        Interval("user_id", "7", 0, None, True),
    ]
    assert subjects([key], claims, lambda kind, value: value) == {
        ("address", "new@x.example"),
        ("record", "mail\x1fmember\x1fl/1"),
    }
