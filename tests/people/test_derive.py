"""Records to a person: policies, provenance and the decision that both share (R2, R4, R12, R15)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkept.people.derive import (
    DEFAULT_POLICIES,
    Explained,
    Lost,
    Person,
    Policies,
    Policy,
    RecordView,
    derive,
    explain,
)
from upkept.people.facts import canonical
from upkept.people.fold import Cell, fold, live
from upkept.people.values import AdmittedFact, RecordKey, Stamp

ORDER = Policies(
    {
        "plan": Policy("authority", (("bill",), ("crm", "csv"))),
        "last_seen_at": Policy("max"),
        "signed_up_at": Policy("min"),
    },
    {"crm": 2, "bill": 1},
)


def view(name: str, /, cells: dict[str, Any] | None = None, *, at: int = 1, **more: Any) -> RecordView:
    connection, _, id_ = name.partition(":")
    key = RecordKey(connection, more.pop("type", "customer"), id_ or "1")
    stamp = Stamp(at, more.pop("kind", 1), 0, more.pop("fact_id", f"id of {name}"))
    held = {name: Cell(value, stamp, stamp) for name, value in (cells or {}).items()}
    return RecordView(key, f"public {name}", more.pop("issued_at", at), held, **more)


def value(attribute: str, *records: RecordView, policies: Policies = ORDER) -> Any:
    found = derive(records, policies=policies)
    explained = explain(records, policies).get(attribute)
    assert explained is None or found.attributes.get(attribute) == explained.value, "one decision, told twice"
    return found.attributes.get(attribute)


def test_the_newest_statement_wins() -> None:
    assert value("name", view("a", {"name": "Ann"}, at=1), view("b", {"name": "Bob"}, at=2)) == "Bob"


def test_a_tie_goes_to_the_read_back_then_the_rank_then_the_fact() -> None:
    event, read = view("app", {"name": "Ann"}), view("csv", {"name": "Bob"}, kind=2)
    assert value("name", event, read) == "Bob"
    ranked = view("crm", {"name": "Bob"}, fact_id="a"), view("bill", {"name": "Ann"}, fact_id="b")
    assert value("name", *ranked, view("app", {"name": "Cy"}, fact_id="c")) == "Bob"
    assert value("name", view("x", {"name": "A"}, fact_id="b"), view("y", {"name": "B"}, fact_id="a")) == "A"


def test_an_old_untouched_field_does_not_beat_a_newer_one() -> None:
    def told(at: int, name: str, snapshot: bool) -> AdmittedFact:
        return AdmittedFact(f"{at}", at, 1, 0, {"f": {"name": name}, **({"n": True} if snapshot else {})})

    seen_again = fold([told(1, "Ann", True), told(9, "Ann", True)])
    said_once = fold([told(5, "Bob", False)])
    records = [
        RecordView(RecordKey("bill", "customer", "1"), "p", 1, live(seen_again, survives=frozenset())),
        RecordView(RecordKey("app", "user", "1"), "q", 1, live(said_once, survives=frozenset())),
    ]
    assert value("name", *records) == "Bob"


def test_known_empty_competes_and_withdrawn_does_not() -> None:
    ann = view("a", {"name": "Ann"}, at=1)
    assert value("name", ann, view("b", {"name": None}, at=2)) is None
    assert value("name", ann, view("b", {"name": {"$w": 1}}, at=2)) == "Ann"
    assert "name" not in derive([view("b", {"name": {"$w": 1}})]).attributes
    assert "name" not in derive([view("b", {"name": None})]).attributes


def test_authority_ranks_connections_and_stamps_only_inside_a_group() -> None:
    bill, crm, csv = (view(name, {"plan": name}, at=at) for name, at in (("bill", 1), ("crm", 5), ("csv", 7)))
    app = view("app", {"plan": "app"}, at=9)
    assert value("plan", app, crm, bill, csv) == "bill"
    assert value("plan", app, crm, csv) == "csv"
    assert value("plan", app) == "app"
    assert value("plan", app, view("bill", {"plan": {"$w": 1}}, at=3), crm) == "crm"


def test_extremes() -> None:
    early, late = (view(n, {"last_seen_at": v, "signed_up_at": v}, at=v) for n, v in (("a", 5), ("b", 9)))
    empty = view("c", {"last_seen_at": None, "signed_up_at": None}, at=99)
    assert value("last_seen_at", early, late, empty) == 9
    assert value("signed_up_at", early, late, empty) == 5
    assert value("last_seen_at", empty, view("d", {"last_seen_at": {"$t": 1}})) == {"$t": 1}


def test_rules_fill_only_what_is_empty() -> None:
    rule = view("rules", {"name": "Rule", "city": "Rule", "plan": "Rule", "last_seen_at": 99}, at=99)
    other = view("app", {"name": "Ann", "city": None, "last_seen_at": 5}, at=1)
    assert value("name", rule, other) == "Ann"
    assert value("city", rule, other) == "Rule"
    assert value("plan", rule, other) == "Rule"
    assert value("last_seen_at", rule, other) == 5
    assert value("city", view("rules", {"city": None}, at=99), other) is None


def test_tags_and_companies_are_sets_of_booleans() -> None:
    person = derive(
        [
            view("a", {"tag:vip": True, "tag:old": True, "company:acme": True, "company:b": None}, at=1),
            view("b", {"tag:old": False, "tag:new": True, "tag:odd": 1}, at=2),
        ]
    )
    assert (person.tags, person.companies, person.attributes) == (["new", "vip"], ["acme"], {})


def test_the_role_never_falls_back() -> None:
    assert derive([view("mail")]).role == "lead"
    assert derive([view("mail"), view("bill", makes_user=True, deleted=True)]).role == "user"
    assert derive([view("mail", user_id="7")]).role == "user"
    visitor = view("app", type="anonymous")
    assert derive([visitor]).role == "visitor"
    assert derive([view("app", {"email": "a@x.example"}, type="anonymous")]).role == "lead"
    assert derive([visitor, view("mail")]).role == "lead"


def test_the_standard_fields_are_texts_and_the_held_user_id_counts() -> None:
    person = derive([view("bill", {"name": 7, "email": "a@x.example", "external_id": 42}, user_id="9")])
    assert (person.name, person.email, person.external_id) == ("7", "a@x.example", "42")
    assert derive([view("a"), view("b", user_id="9")]).external_id == "9"
    two = [view("a", user_id="1", makes_user=True), view("b", user_id="2")]
    assert derive(two).external_id == "1"
    assert derive(two, targets=[two[1].key]).external_id == "2"


def test_archived_when_every_record_is_deleted() -> None:
    gone, there = view("a", deleted=True), view("b")
    assert derive([gone]).archived
    assert not derive([gone, there]).archived


def test_the_id_is_that_of_the_record_shown() -> None:
    records = [view("a", at=1), view("b", at=2, makes_user=True)]
    assert derive(records).id == "public b"
    assert derive(records, targets=[records[0].key]).id == "public a"


def test_the_document_knows_neither_surrogate_ids_nor_arrival() -> None:
    def told(issued_at: int, ids: str) -> Person:
        records = [view("a", {"name": "Ann"}, user_id="1"), view("b", {"renews": {"$t": 5}})]
        return derive([RecordView(r.key, ids + r.public_id, issued_at, r.cells, user_id=r.user_id) for r in records])

    assert told(1, "x").doc() == told(2, "y").doc()
    assert canonical(told(1, "x").doc())


def test_explain_names_the_source_the_time_the_rule_and_what_lost() -> None:
    records = [
        view("app", {"name": "Ann", "gone": {"$w": 1}}, at=1),
        view("bill", {"name": "Bob", "plan": "Pro"}, at=2),
        view("crm", {"name": None, "plan": "Free"}, at=3),
    ]
    assert explain(records, ORDER) == {
        "name": Explained(None, "crm", 3, "lww", [Lost("Bob", "bill", 2), Lost("Ann", "app", 1)]),
        "plan": Explained("Pro", "bill", 2, "authority", [Lost("Free", "crm", 3)]),
    }


NAMES = ["name", "plan", "last_seen_at", "signed_up_at", "tag:vip"]
CELLS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["a", "b", 1, 2, None, True, {"$w": 1}, {"$t": 7}]))
RECORDS = st.lists(
    st.tuples(st.sampled_from(["app", "bill", "crm", "csv", "rules"]), CELLS, st.integers(0, 2), st.integers(1, 2)),
    min_size=1,
    max_size=5,
)


@given(RECORDS, st.randoms(use_true_random=False))
def test_any_order_of_records_gives_one_person_and_explain_agrees(
    told: list[tuple[str, dict[str, Any], int, int]], order: random.Random
) -> None:
    records = [view(f"{c}:{n}", cells, at=at, kind=kind) for n, (c, cells, at, kind) in enumerate(told)]
    expected, explained = derive(records, policies=ORDER), explain(records, ORDER)
    known = {name: why.value for name, why in explained.items() if why.value is not None}
    assert expected.attributes == {n: v for n, v in known.items() if not n.startswith("tag:")}
    assert expected.tags == (["vip"] if known.get("tag:vip") is True else [])
    order.shuffle(records)
    assert derive(records, policies=ORDER) == expected
    assert explain(records, ORDER) == explained


def test_a_summary_replaces_what_the_record_itself_says_and_after_a_delete_survives_or_goes() -> None:
    stamp = Stamp(3, 1, 0, "d")
    summary = {name: Cell(6, stamp, stamp) for name in ("mrr", "lifetime")}
    head = fold([AdmittedFact("1", 1, 1, 0, {"f": {"mrr": 1, "name": "Ann"}})])
    shown = live(head, survives=frozenset({"lifetime"}), summary=summary)
    assert {name: cell.value for name, cell in shown.items()} == {"mrr": 6, "name": "Ann", "lifetime": 6}
    gone = fold([AdmittedFact("1", 1, 1, 0, {"f": {"name": "Ann"}}), AdmittedFact("2", 2, 1, 0, {"d": True})])
    assert live(gone, survives=frozenset({"lifetime"}), summary=summary).keys() == {"lifetime"}


def test_policies_know_their_extremes() -> None:
    assert ORDER.extremes == {"last_seen_at": True, "signed_up_at": False}
    assert DEFAULT_POLICIES.extremes["last_seen_at"] is True


@pytest.mark.parametrize("records", [1, 2])
def test_derive_changes_none_of_its_input(records: int) -> None:
    views = [view(f"a:{n}", {"tag:vip": True, "name": "Ann"}) for n in range(records)]
    before = [dict(v.cells) for v in views]
    derive(views)
    assert [dict(v.cells) for v in views] == before
