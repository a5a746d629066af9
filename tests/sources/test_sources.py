"""Our own doors: the envelope reads back what was written, and each door speaks of its own records only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkept.contract import (
    WITHDRAWN,
    Consent,
    Fact,
    FactKind,
    Link,
    Permanent,
    RawEvent,
    RecordRef,
    Skipped,
    Statement,
    TimelineEvent,
)
from upkept.settings import RESERVED
from upkept.sources import RANKS, SOURCES, TYPES
from upkept.sources.envelope import EPOCH, decode, encode

texts = st.text(st.characters(codec="utf-8"), max_size=12)
times = st.integers(0, 4 * 10**15).map(lambda microseconds: EPOCH + timedelta(microseconds=microseconds))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
    times,
)
records = st.builds(RecordRef, texts, texts)
statements: st.SearchStrategy[Statement] = st.one_of(
    st.builds(
        Fact,
        record=records,
        fields=st.dictionaries(texts, scalars | st.just(WITHDRAWN), max_size=3),
        claims=st.dictionaries(texts, texts | st.none(), max_size=2),
        observed_at=times | st.none(),
        sequence=st.integers(0, 2**40),
        kind=st.sampled_from(FactKind),
        owner=records | st.none(),
        snapshot=st.booleans(),
        deleted=st.none() | st.booleans(),
        verified=st.booleans(),
        makes_user=st.booleans(),
    ),
    st.builds(
        Consent,
        act=st.sampled_from(["opt_out", "opt_in", "lift", "bounce_hard"]),
        record=records | st.none(),
        address=texts | st.none(),
        at=times | st.none(),
        qualified=st.booleans(),
        evidence=texts,
    ),
    st.builds(Link, a=records, b=records, at=times | st.none(), reason=texts),
    st.builds(
        TimelineEvent,
        record=records,
        name=texts,
        id=texts,
        at=times,
        metadata=st.dictionaries(texts, scalars, max_size=2),
    ),
)


@given(st.lists(statements, max_size=5))
def test_an_envelope_reads_back_equal(said: list[Statement]) -> None:
    read = decode(encode(said))
    assert read == tuple(said)
    assert encode(read) == encode(said)  # 1, 1.0 and True are equal in Python, yet not the same value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b'{"statements": [{"fact": {}}]}',
        b'{"statements": [{"fact": {"record": ["contact"]}}]}',
        b'{"statements": [{"fact": {"record": [1, 2]}}]}',
        b'{"statements": [{"fact": {"record": ["contact", "1"], "fields": {"a": [1]}}}]}',
        b'{"statements": [{"fact": {"record": ["contact", "1"], "observed_at": {"$t": 1e99}}}]}',
        b'{"statements": [{"fact": {"record": ["contact", "1"], "observed_at": {"$t": 9999999999999999999}}}]}',
        b'{"statements": [{"fact": {"record": ["contact", "1"]}, "link": {}}]}',
        b'{"statements": [{"rumour": {"record": ["contact", "1"]}}]}',
        b'{"statements": [{"fact": {"record": ["contact", "1"], "loud": true}}]}',
    ],
)
def test_what_is_no_envelope_is_permanent(body: bytes) -> None:
    with pytest.raises(Permanent):
        decode(body)


def event(said: Statement, kind: str = "statements") -> RawEvent:
    return RawEvent(id="1", kind=kind, body=encode([said]))


def test_the_five_doors_are_the_reserved_names() -> None:
    assert set(SOURCES) == set(RANKS) == set(RESERVED)
    assert all(source.name == name for name, source in SOURCES.items())
    assert [name for name, source in SOURCES.items() if not source.first_party] == ["rules"]


@pytest.mark.parametrize("name", RESERVED)
def test_a_door_normalizes_its_own_records_and_refuses_others(name: str) -> None:
    source = SOURCES[name]
    for of in TYPES[name]:
        said = Fact(record=RecordRef(of, "1"), fields={"plan": "gold"})
        assert list(source.normalize(event(said), source.fields)) == [said]
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=1)
    good, bad = RecordRef(min(TYPES[name]), "1"), RecordRef("customer", "cus_9")
    others: list[Statement] = [
        Fact(record=bad),
        Fact(record=good, owner=bad),
        Consent(act="opt_out", record=bad),
        Link(a=good, b=bad),
        TimelineEvent(record=bad, name="x", id="1", at=at),
    ]
    for other in others:
        with pytest.raises(Permanent, match="no records of type 'customer'"):
            source.normalize(event(other), source.fields)
    with pytest.raises(Skipped):
        source.normalize(event(Fact(record=good), kind="read.contact"), source.fields)
