"""Admission: content-addressed, clamped, clean (R1, R3)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkept.contract import WITHDRAWN, Fact, FactKind, RecordRef
from upkept.people.facts import CLOCK_LIMIT, admit, canonical, decode, digest, encode, from_us, to_us

AT = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
NOW = to_us(AT) + 60_000_000
FACT = Fact(record=RecordRef("customer", "cus_9"), fields={"name": "Ann"}, observed_at=AT)

SAID = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),
    st.datetimes(timezones=st.just(UTC)),
    st.just(WITHDRAWN),
)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7))])))
def test_times_are_exact(when: datetime) -> None:
    assert from_us(to_us(when)) == when


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        to_us(datetime(2026, 1, 1))  # noqa: DTZ001


@given(SAID)
def test_whatever_is_said_has_one_json_that_both_databases_hold(value: Any) -> None:
    encoded = encode(value)
    written = canonical(encoded)
    assert b"\\u0000" not in written
    read = orjson.loads(written)
    assert read == encoded
    assert canonical(read) == written
    assert canonical(encode(decode(read))) == written


@pytest.mark.parametrize(
    ("said", "encoded"),
    [
        ("a\0b", "a\ufffdb"),
        ("x\ud800y", "x\ufffdy"),
        ("\ud83d\ude00", "\U0001f600"),
        ("dash \u2013", "dash \u2013"),
        (2**63, float(2**63)),
        (-(2**63), -(2**63)),
        (10**400, None),
        (float("nan"), None),
        (float("-inf"), None),
        (-0.0, 0.0),
        (1e17, 10**17),
        (True, True),
        (AT, {"$t": to_us(AT)}),
        (WITHDRAWN, {"$w": 1}),
    ],
)
def test_what_no_database_or_json_can_hold_is_replaced(said: Any, encoded: Any) -> None:
    assert repr(encode(said)) == repr(encoded)


@pytest.mark.parametrize("nested", [[1], {"a": 1}, ("x",), b"x"])
def test_nested_values_are_refused_without_being_shown(nested: Any) -> None:
    with pytest.raises(TypeError, match=f"never a {type(nested).__name__}$"):
        encode(nested)


def test_the_same_fact_has_the_same_id_whenever_it_arrives() -> None:
    first, again = (admit("stripe", FACT, received_at=at).fact for at in (NOW, NOW + 9_000_000))
    assert first == again
    assert len(first.fact_id) == 32


@pytest.mark.parametrize(
    "other",
    [
        replace(FACT, observed_at=AT + timedelta(microseconds=1)),
        replace(FACT, sequence=1),
        replace(FACT, kind=FactKind.READ_BACK),
        replace(FACT, fields={"name": "Bob"}),
        replace(FACT, record=RecordRef("customer", "cus_8")),
        replace(FACT, deleted=True),
        replace(FACT, claims={"email": "a@x.example"}),
    ],
)
def test_whatever_differs_makes_another_fact(other: Fact) -> None:
    assert admit("stripe", other, received_at=NOW).fact.fact_id != admit("stripe", FACT, received_at=NOW).fact.fact_id


def test_the_connection_and_the_import_run_are_part_of_the_id() -> None:
    admitted = [admit("a", FACT, received_at=NOW, run=run).fact.fact_id for run in (None, 1, 2)]
    admitted.append(admit("b", FACT, received_at=NOW).fact.fact_id)
    assert len(set(admitted)) == 4


def test_without_a_vendor_time_the_time_of_receipt_counts() -> None:
    admitted = admit("stripe", replace(FACT, observed_at=None), received_at=NOW)
    assert admitted.fact.at == NOW
    assert not admitted.clamped


@pytest.mark.parametrize(("ahead", "clamped"), [(1, False), (CLOCK_LIMIT, False), (CLOCK_LIMIT + 1, True)])
def test_a_clock_ahead_of_ours_never_wins_the_future(ahead: int, clamped: bool) -> None:
    admitted = admit("stripe", replace(FACT, observed_at=from_us(NOW + ahead)), received_at=NOW)
    assert (admitted.fact.at, admitted.clamped) == (NOW, clamped)


def test_the_document_says_only_what_was_said() -> None:
    assert dict(admit("stripe", FACT, received_at=NOW).fact.doc) == {"f": {"name": "Ann"}}
    part = Fact(
        record=RecordRef("subscription", "sub_1"),
        fields={"na\0me": None},
        claims={"email": " Ann@X.Example ", "user_id": "undefined", "phone": None},
        owner=RecordRef("customer", "cus_\ud800"),
        snapshot=True,
        deleted=False,
        verified=False,
        makes_user=True,
    )
    admitted = admit("stripe", part, received_at=NOW)
    assert dict(admitted.fact.doc) == {
        "f": {"na\ufffdme": None},
        "c": {"email": "ann@x.example", "user_id": None, "phone": None},
        "o": ["customer", "cus_\ufffd"],
        "d": False,
        "n": True,
        "u": True,
        "v": False,
    }
    assert admitted.owner == ("stripe", "customer", "cus_\ufffd")


def test_digests_separate_their_parts() -> None:
    assert digest("ab", "c") != digest("a", "bc")
