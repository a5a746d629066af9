"""The fold: order-free, equal to its increments, compact, and honest about what is news (R3, R4, R5, R7, R12)."""

from __future__ import annotations

import random
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from upkept.people.facts import canonical, digest
from upkept.people.fold import (
    Head,
    advance,
    changed_late,
    compact,
    conflicts,
    fold,
    live,
    says_nothing_new,
)
from upkept.people.values import AdmittedFact, Interval

VALUES = st.sampled_from(["a", "b", None, {"$w": 1}, {"$t": 5}, 1, True, 2.5])
DOCS = st.fixed_dictionaries(
    {},
    optional={
        "f": st.dictionaries(st.sampled_from(["name", "city", "last_seen_at", "signed_up_at"]), VALUES, min_size=1),
        "c": st.dictionaries(st.sampled_from(["email", "user_id"]), st.sampled_from(["p", "q", None]), min_size=1),
        "d": st.booleans(),
        "o": st.sampled_from([["customer", "1"], ["customer", "2"]]),
        "n": st.just(True),
        "u": st.just(True),
        "v": st.just(False),
    },
)


def stated(at: int, doc: dict[str, Any], kind: int = 1, sequence: int = 0) -> AdmittedFact:
    return AdmittedFact(digest(at, kind, sequence, doc), at, kind, sequence, doc)


FACTS = st.lists(st.builds(stated, st.integers(0, 5), DOCS, st.integers(0, 2), st.integers(0, 1)), max_size=12)


def fields(at: int, said: dict[str, Any], **more: Any) -> AdmittedFact:
    extra = {"n": True} if more.pop("snapshot", False) else {}
    return stated(at, {"f": said, **extra}, **more)


@given(FACTS, st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(facts: list[AdmittedFact], order: random.Random) -> None:
    shuffled = facts + facts[:4]
    order.shuffle(shuffled)
    assert fold(shuffled) == fold(facts)


@given(FACTS)
def test_one_fact_at_a_time_equals_the_fold(facts: list[AdmittedFact]) -> None:
    head: Head | None = None
    for fact in sorted(facts, key=lambda f: f.stamp):
        head = advance(head, fact)
        assert head is not None
    assert (head or Head()) == fold(facts)


@given(FACTS)
def test_in_order_of_arrival_with_folding_again_where_asked(facts: list[AdmittedFact]) -> None:
    head: Head | None = None
    for n, fact in enumerate(facts, 1):
        head = advance(head, fact) or fold(facts[:n])
    assert (head or Head()) == fold(facts)


@given(FACTS, st.randoms(use_true_random=False))
def test_heads_survive_their_json_and_equal_ones_dump_alike(facts: list[AdmittedFact], order: random.Random) -> None:
    head = fold(facts)
    written = canonical(head.dump())
    assert Head.load(orjson.loads(written)) == head
    head_again: Head | None = None
    order.shuffle(facts)
    for n, fact in enumerate(facts, 1):
        head_again = advance(head_again, fact) or fold(facts[:n])
    assert canonical((head_again or Head()).dump()) == written


@given(FACTS, st.integers(0, 6))
def test_what_is_newer_than_the_floor_folds_as_without_it(facts: list[AdmittedFact], before: int) -> None:
    floor, young = compact(None, facts, before=before)
    assert all(fact.at >= before for fact in young)
    assert fold(young, floor) == fold(facts)


def test_a_fact_older_than_the_floor_fills_only_what_was_never_stated() -> None:
    floor, _ = compact(None, [fields(10, {"name": "Ann"}), stated(10, {"c": {"email": "a@x"}})], before=11)
    late = stated(5, {"f": {"name": "Old", "city": "Cork"}, "c": {"email": "old@x", "user_id": "7"}})
    head = fold([late], floor)
    assert {name: cell.value for name, cell in head.cells.items()} == {"name": "Ann", "city": "Cork"}
    assert head.user_id == "7"
    assert Interval("email", "old@x", 5, 10, True) in head.claims
    assert head.held("email") == "a@x"
    assert fold([late, late], floor) == head


def test_a_compacted_fact_that_comes_again_changes_nothing() -> None:
    facts = [stated(1, {"f": {"name": "Ann"}, "c": {"email": "a@x"}}), fields(2, {"city": "Cork"})]
    floor, _ = compact(None, facts, before=5)
    assert fold(facts, floor) == floor


def test_a_snapshot_keeps_the_run_and_a_statement_starts_one() -> None:
    seen = [fields(at, {"name": "Ann"}, snapshot=True) for at in (10, 20, 30)]
    assert fold(seen).cells["name"].since.at == 10
    assert fold(seen).cells["name"].stamp.at == 30
    assert fold([*seen[:2], fields(25, {"name": "Ann"})]).cells["name"].since.at == 25
    broken = [*seen, fields(15, {"name": "Bob"}, snapshot=True)]
    assert fold(broken).cells["name"].since.at == 20


def test_true_is_not_one() -> None:
    told = [fields(1, {"x": 1}, snapshot=True), fields(2, {"x": True}, snapshot=True)]
    assert fold(told).cells["x"].since.at == 2
    assert not says_nothing_new(fold(told[:1]), told[1])


def test_a_delete_wins_a_tie_and_a_later_fact_undeletes() -> None:
    gone, stood = stated(5, {"d": True}), stated(5, {"d": False}, sequence=9)
    assert fold([gone, stood]).deleted
    assert not fold([gone, stood, stated(6, {"d": False})]).deleted
    assert fold([gone, fields(9, {"name": "late"})]).deleted


def test_a_delete_ends_fields_but_survivors_and_all_claims() -> None:
    told = [
        stated(1, {"f": {"stripe_id": "cus_9", "name": "Ann"}, "c": {"email": "a@x", "user_id": "7"}}),
        stated(5, {"d": True}),
    ]
    head = fold(told)
    assert live(head, survives=frozenset({"stripe_id"})).keys() == {"stripe_id"}
    assert [(i.kind, i.start, i.end) for i in head.claims] == [("email", 1, 5), ("user_id", 1, 5)]
    assert head.user_id == "7"
    restated = fold([*told, stated(6, {"c": {"email": "b@x"}})])
    assert restated.held("email") is None, "a deleted record holds nothing"
    assert any(i.value == "b@x" for i in restated.claims), "but what it ever stated is known"


def test_a_part_belongs_to_the_owner_last_stated() -> None:
    told = [stated(at, {"o": ["customer", id_]}) for at, id_ in ((5, "new"), (1, "old"))]
    for order in (told, told[::-1]):
        assert fold([*order, fields(9, {"amount": 1})]).owner == ("customer", "new")


def test_a_claim_lasts_from_the_fact_that_states_it_to_the_one_that_ends_it() -> None:
    told = [stated(at, {"c": {"email": email}}) for at, email in ((1, "a@x"), (3, "a@x"), (5, "b@x"), (9, None))]
    assert fold(told).claims == (Interval("email", "a@x", 1, 5, True), Interval("email", "b@x", 5, 9, True))


def test_a_claim_is_verified_once_anyone_verified_it() -> None:
    told = [stated(1, {"c": {"email": "a@x"}, "v": False}), stated(3, {"c": {"email": "a@x"}})]
    assert [i.verified for i in fold(told[:1]).claims] == [False]
    assert [i.verified for i in fold(told).claims] == [True]


@given(FACTS, DOCS)
def test_what_says_nothing_new_changes_no_value(facts: list[AdmittedFact], doc: dict[str, Any]) -> None:
    head, read = fold(facts), stated(9, {**doc, "n": True})
    if facts and says_nothing_new(head, read):
        after = advance(head, read)
        assert after is not None
        assert {n: c.value for n, c in after.cells.items()} == {n: c.value for n, c in head.cells.items()}
        assert (after.deleted, after.owner, after.makes_user) == (head.deleted, head.owner, head.makes_user)
        assert [(i.value, i.end) for i in after.claims] == [(i.value, i.end) for i in head.claims]
        assert {n: c.since for n, c in after.cells.items()} == {n: c.since for n, c in head.cells.items()}


@given(DOCS, DOCS, st.integers(0, 1), st.integers(0, 1), st.integers(0, 2), st.integers(0, 2))
def test_a_tie_is_seen_from_either_side(a: dict[str, Any], b: dict[str, Any], x: int, y: int, k: int, j: int) -> None:
    one, other = stated(5, a, sequence=x, kind=k), stated(5, b, sequence=y, kind=j)
    assert conflicts(fold([one]), other) == conflicts(fold([other]), one)


def test_only_a_tie_that_differs_asks_for_a_read_back_and_a_read_back_settles_it() -> None:
    created = fields(5, {"name": "Ann"})
    head = fold([created])
    assert conflicts(head, fields(5, {"name": "Bob"}, sequence=1))
    assert not conflicts(head, fields(5, {"name": "Ann"}, sequence=1))
    assert not conflicts(head, fields(5, {"city": "Cork"}))
    assert not conflicts(head, fields(6, {"name": "Bob"}))
    assert not conflicts(head, created)
    assert not conflicts(head, fields(7, {"name": "Bob"}, kind=2))
    read = fold([created, fields(7, {"name": "Bob"}, kind=2)])
    assert not conflicts(read, fields(5, {"name": "Cy"}, sequence=2))


def test_a_reading_and_what_happened_in_its_second_tie_in_either_order() -> None:
    """A walk reads a record at the start of a second and its vendor changes it at the end: the change is the truth."""
    read, changed = fields(5, {"name": "Ann"}, kind=2), fields(5, {"name": "Bob"})
    assert conflicts(fold([read]), changed)
    assert conflicts(fold([changed]), read)
    assert conflicts(fold([read]), fields(5, {"name": "Cy"}, kind=2)), "two readings of one second"


def test_only_a_late_change_older_than_the_walk_asks_for_a_read_back() -> None:
    before = fold([fields(10, {"name": "Ann"})])
    late = fields(15, {"name": "Bob"})
    after = advance(before, late)
    assert after is not None
    assert changed_late(before, after, late, walked_at=20)
    assert not changed_late(before, after, late, walked_at=15)
    assert not changed_late(before, after, late, walked_at=None)
    silent = fields(5, {"name": "Old"})
    assert not changed_late(before, fold([fields(10, {"name": "Ann"}), silent]), silent, walked_at=20)
