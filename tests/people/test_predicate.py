"""Search and segments in Intercom's shape, with dates by calendar day (R17)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkept.people.facts import to_us
from upkept.people.predicate import Predicate, check, field_value, matches, segments_of, time_based

DUBLIN = ZoneInfo("Europe/Dublin")
NOW = to_us(datetime(2026, 7, 10, 12, 0, tzinfo=UTC))
DAY = 86_400

PERSON: dict[str, Any] = {
    "role": "user",
    "email": "Ann@X.example",
    "name": "Ann O'Neill",
    "external_id": "42",
    "tags": ["vip"],
    "companies": ["acme"],
    "archived": False,
    "segments": ["s1"],
    "consent": "unsubscribed",
    "attributes": {
        "email": "Ann@X.example",
        "plan": "Pro",
        "seats": 5,
        "mrr": 12.5,
        "beta": True,
        "last_seen_at": NOW // 1_000_000 - 5 * DAY,
        "renews": {"$t": to_us(datetime(2026, 7, 5, 23, 30, tzinfo=UTC))},
        "phone": "+353 1",
    },
}


def is_(field: str, operator: str, value: Any) -> bool:
    predicate = {"field": field, "operator": operator, "value": value}
    assert check(predicate) == []
    return matches(predicate, PERSON, now=NOW, zone=DUBLIN)


@pytest.mark.parametrize(
    ("field", "operator", "value", "found"),
    [
        ("role", "=", "user", True),
        ("role", "!=", "user", False),
        ("email", "=", "ann@x.EXAMPLE", True),
        ("email", "IN", ["bob@x.example", "ann@x.example"], True),
        ("email_domain", "=", "x.example", True),
        ("name", "=", "ann o'neill", False),
        ("name", "~", "O'NEILL", True),
        ("name", "!~", "bob", True),
        ("name", "^", "ann", True),
        ("name", "$", "neill", True),
        ("name", "$", "ann", False),
        ("phone", "^", "+353", True),
        ("external_id", "=", "42", True),
        ("external_id", "NIN", ["41", "43"], True),
        ("tag_id", "=", "vip", True),
        ("tag_id", "!=", "vip", False),
        ("tag_id", "=", "gone", False),
        ("segment_id", "=", "s1", True),
        ("company_id", "=", "acme", True),
        ("archived", "=", False, True),
        ("unsubscribed_from_emails", "=", True, True),
        ("custom_attributes.plan", "=", "Pro", True),
        ("custom_attributes.plan", "IN", ["Free", "Pro"], True),
        ("custom_attributes.seats", "=", 5, True),
        ("custom_attributes.seats", "=", "5", True),
        ("custom_attributes.seats", ">", 4, True),
        ("custom_attributes.seats", "<", 5, False),
        ("custom_attributes.seats", ">=", 5, True),
        ("custom_attributes.seats", "<=", 4, False),
        ("custom_attributes.mrr", ">", 12, True),
        ("custom_attributes.plan", ">", 1, False),
        ("custom_attributes.beta", "=", True, True),
        ("custom_attributes.beta", "=", "true", True),
        ("custom_attributes.beta", "=", 1, False),
        ("custom_attributes.seats", "=", True, False),
        ("custom_attributes.none", "=", None, True),
        ("custom_attributes.plan", "=", None, False),
        ("custom_attributes.plan", "!=", None, True),
        ("custom_attributes.none", "!=", "x", True),
        ("custom_attributes.none", "~", "x", False),
        ("custom_attributes.none", "!~", "x", True),
        ("custom_attributes.none", ">", 1, False),
    ],
)
def test_filters(field: str, operator: str, value: Any, found: bool) -> None:
    assert is_(field, operator, value) is found


def unix(*when: int) -> int:
    return int(datetime(*when, tzinfo=UTC).timestamp())  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("operator", "value", "found"),
    [
        # 23:30 UTC on the 5th is 00:30 on the 6th in Dublin's summer.
        ("=", unix(2026, 7, 6, 9), True),
        ("=", unix(2026, 7, 5, 23, 15), True),
        ("=", unix(2026, 7, 5, 12), False),
        (">", unix(2026, 7, 5, 12), True),
        (">", unix(2026, 7, 6, 0), False),
        (">=", unix(2026, 7, 6, 12), True),
        (">=", unix(2026, 7, 7, 0), False),
        ("<=", unix(2026, 7, 6, 0), True),
        ("<=", unix(2026, 7, 5, 12), False),
        ("<", unix(2026, 7, 6, 12), False),
        ("<", unix(2026, 7, 7, 0), True),
    ],
)
def test_dates_match_by_day_in_the_workspaces_zone(operator: str, value: int, found: bool) -> None:
    assert is_("custom_attributes.renews", operator, value) is found


def test_midnight_belongs_to_the_day_that_begins() -> None:
    told = {"attributes": {"seen_at": unix(2026, 7, 5, 23)}}
    asked = {"field": "custom_attributes.seen_at", "value": unix(2026, 7, 5, 12)}
    assert matches({**asked, "operator": ">"}, told, now=NOW, zone=DUBLIN)
    assert not matches({**asked, "operator": "="}, told, now=NOW, zone=DUBLIN)


def test_a_day_ends_at_the_next_midnight_even_when_the_clock_is_set_back() -> None:
    told = {"attributes": {"seen_at": unix(2026, 10, 25, 23, 30)}}
    same_day = {"field": "custom_attributes.seen_at", "operator": "=", "value": unix(2026, 10, 25, 0, 30)}
    assert matches(same_day, told, now=NOW, zone=DUBLIN)


@pytest.mark.parametrize(("operator", "days", "found"), [(">", 30, True), (">", 5, False), ("<", 4, True), ("<", 9, 0)])
def test_relative_dates_are_instants(operator: str, days: int, found: bool) -> None:
    assert is_("last_seen_at", operator, {"days_ago": days}) == found


def test_groups() -> None:
    pro = {"field": "custom_attributes.plan", "operator": "=", "value": "Pro"}
    lead = {"field": "role", "operator": "=", "value": "lead"}
    either = {"operator": "OR", "value": [lead, pro]}
    assert matches(either, PERSON, now=NOW)
    assert not matches({"operator": "AND", "value": [lead, pro]}, PERSON, now=NOW)
    assert matches({"operator": "AND", "value": [either, pro]}, PERSON, now=NOW)


SLIPPING: Predicate = {
    "operator": "AND",
    "value": [
        {"field": "last_seen_at", "operator": ">", "value": {"days_ago": 60}},
        {"field": "last_seen_at", "operator": "<", "value": {"days_ago": 30}},
    ],
}
USERS: Predicate = {"field": "role", "operator": "=", "value": "user"}


def test_segments_drift_with_time_only_if_they_are_time_based() -> None:
    segments = {"users": USERS, "slipping": SLIPPING}
    assert segments_of(PERSON, segments, NOW) == ["users"]
    assert segments_of(PERSON, segments, NOW + 40 * DAY * 1_000_000) == ["slipping", "users"]
    assert time_based(SLIPPING)
    assert not time_based(USERS)


def test_a_persons_own_fields_and_attributes_are_found() -> None:
    assert field_value(PERSON, "custom_attributes.plan") == "Pro"
    assert field_value(PERSON, "phone") == "+353 1"
    assert field_value(PERSON, "email_domain") == "x.example"
    assert field_value({}, "email_domain") is None
    assert field_value({}, "tag_id") == []


@pytest.mark.parametrize(
    ("predicate", "problem"),
    [
        ([], "query must be an object"),
        ({}, "must have a field, or the operator AND or OR"),
        ({"operator": "XOR", "value": []}, "must have a field, or the operator AND or OR"),
        ({"operator": "AND", "value": []}, "query.value must be a list of filters"),
        ({"operator": "AND", "value": "x"}, "query.value must be a list of filters"),
        ({"operator": "AND", "value": [7]}, "query.value[0] must be an object"),
        ({"operator": "AND", "value": [USERS] * 16}, "at most 15"),
        (
            {"operator": "AND", "value": [{"operator": "OR", "value": [{"operator": "AND", "value": [USERS]}]}]},
            "query.value[0].value[0] is nested too deep",
        ),
        ({"field": "plan", "operator": "=", "value": 1}, "custom_attributes.NAME"),
        ({"field": "custom_attributes.", "operator": "=", "value": 1}, "custom_attributes.NAME"),
        ({"field": ["x"], "operator": "=", "value": 1}, "custom_attributes.NAME"),
        ({"field": "role", "operator": "==", "value": 1}, "operator must be one of"),
        ({"field": "role", "operator": ["="], "value": 1}, "operator must be one of"),
        ({"field": "role", "operator": "="}, "value is missing"),
        ({"field": "role", "operator": "=", "value": [1]}, "the value must be plain"),
        ({"field": "role", "operator": "IN", "value": "user"}, "IN needs a list"),
        ({"field": "role", "operator": "IN", "value": [[1]]}, "IN needs a list of plain values"),
        ({"field": "role", "operator": "~", "value": 1}, "~ needs text"),
        ({"field": "role", "operator": ">", "value": "x"}, "> needs a number or a date"),
        ({"field": "tag_id", "operator": "IN", "value": ["x"]}, "tag_id can only be compared by = and !="),
        ({"field": "created_at", "operator": "!=", "value": 1}, "!= cannot be used with a date"),
        ({"field": "created_at", "operator": ">=", "value": 1}, ">= cannot be used with a date"),
        ({"field": "created_at", "operator": "IN", "value": [1]}, "IN cannot be used with a date"),
        ({"field": "created_at", "operator": ">", "value": "soon"}, "unix seconds"),
        ({"field": "created_at", "operator": ">", "value": 10**30}, "unix seconds"),
        ({"field": "created_at", "operator": "=", "value": {"days_ago": 3}}, "days_ago needs > or <"),
        ({"field": "created_at", "operator": ">", "value": {"days_ago": -1}}, "days_ago needs > or <"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(predicate: Any, problem: str) -> None:
    errors = check(predicate)
    assert len(errors) == 1
    assert problem in errors[0]


def test_a_segment_cannot_ask_for_segments() -> None:
    predicate = {"field": "segment_id", "operator": "=", "value": "s1"}
    assert check(predicate) == []
    assert "cannot ask for segments" in check(predicate, in_segment=True)[0]


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just("nan"))
WORDS = st.sampled_from(["role", "created_at", "custom_attributes.x", "custom_attributes.y_at", "tag_id", "email"])
OPERATORS = st.sampled_from(["=", "!=", "IN", "NIN", ">", "<", ">=", "<=", "~", "!~", "^", "$", "AND", "?"])
OPERANDS = SCALARS | st.lists(SCALARS, max_size=2) | st.just({"days_ago": 3}) | st.just({"days_ago": 1e9})
FILTERS = st.fixed_dictionaries({"operator": OPERATORS, "value": OPERANDS}, optional={"field": WORDS | SCALARS})
PREDICATES = FILTERS | st.fixed_dictionaries(
    {"operator": st.just("OR"), "value": st.lists(FILTERS | SCALARS, max_size=3)}
)
HELD = SCALARS.filter(lambda held: held is None or held == held) | st.just({"$t": NOW})


@given(PREDICATES, HELD, HELD)
def test_what_passes_the_check_can_be_asked_of_anyone(predicate: Any, x: Any, y: Any) -> None:
    if not check(predicate):
        asked = matches(predicate, {"attributes": {"x": x, "y_at": y, "created_at": x}}, now=NOW, zone=DUBLIN)
        assert isinstance(asked, bool)
        assert isinstance(time_based(predicate), bool)
