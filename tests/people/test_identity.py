"""Links, guards, cuts and the id a person shows (R13, R14, R15)."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkept.people.facts import admin_link
from upkept.people.identity import Conflict, Node, Resolution, resolve, shown, user_id_links, weak_links
from upkept.people.values import Interval, LinkFact, RecordKey


def key(name: str) -> RecordKey:
    connection, _, id_ = name.partition(":")
    return RecordKey(connection, "customer", id_ or "1")


def held(start: int, end: int | None = None, address: str = "ann@x.example", *, verified: bool = True) -> Interval:
    return Interval("email", address, start, end, verified)


def node(name: str, *intervals: Interval, user_id: str | None = None, **more: bool) -> Node:
    claims = intervals if user_id is None else (*intervals, Interval("user_id", user_id, 0, None, True))
    return Node(key(name), user_id, claims, **more)


def strong(a: str, b: str, at: int = 0) -> LinkFact:
    return LinkFact(f"{a}{b}{at}", key(a), key(b), at, "strong")


def merge(a: str, b: str, at: int = 0) -> LinkFact:
    return admin_link(key(a), key(b), at=at)


def cut(a: str, b: str, at: int = 0) -> LinkFact:
    return admin_link(key(a), key(b), at=at, cut=True)


def groups(resolution: Resolution) -> list[str]:
    return sorted("".join(sorted(k.connection for k in group)) for group in resolution.components)


def test_one_address_at_overlapping_times_links() -> None:
    assert groups(resolve([node("a", held(0)), node("b", held(5))], [])) == ["ab"]


@pytest.mark.parametrize(("first", "second"), [((0, 5), (5, None)), ((0, 5), (9, None)), ((0, None), (5, 5))])
def test_an_address_that_moved_on_links_nobody(first: tuple[int, int], second: tuple[int, int | None]) -> None:
    assert groups(resolve([node("a", held(*first)), node("b", held(*second))], [])) == ["a", "b"]


def test_each_links_to_the_oldest_that_held_it_then() -> None:
    links = weak_links([node("a", held(0, 10)), node("b", held(5)), node("c", held(7)), node("d", held(20))])
    assert [(x.a.connection, x.b.connection, x.at) for x in links] == [("b", "a", 5), ("c", "a", 7), ("d", "b", 20)]


def test_k_holders_make_fewer_than_k_links() -> None:
    assert len(weak_links([node(f"r:{n}", held(n)) for n in range(80)])) == 79


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8), st.integers(0, 4)), max_size=8))
def test_the_links_connect_whatever_overlaps(spans: list[tuple[int, int, int]]) -> None:
    intervals: dict[int, list[Interval]] = {}
    for name, start, length in spans:
        if all(start >= (i.end or 0) for i in intervals.get(name, ())):
            intervals.setdefault(name, []).append(held(start, start + length))
    nodes = [node(f"r:{name}", *claims) for name, claims in intervals.items()]
    together = {frozenset(group) for group in resolve(nodes, []).components}
    for a in nodes:
        for b in nodes:
            if any(max(i.start, j.start) < min(i.end or 0, j.end or 0) for i in a.intervals for j in b.intervals):
                assert any({a.key, b.key} <= group for group in together)


def test_nobodys_address_links_nobody() -> None:
    nobody = [node(name, held(0, None, "noreply@x.example")) for name in "ab"]
    assert groups(resolve(nobody, [])) == ["a", "b"]


def test_two_app_users_stay_apart_and_the_conflict_is_listed() -> None:
    resolution = resolve([node("a", held(0), user_id="1"), node("b", held(5), user_id="2")], [])
    assert groups(resolution) == ["a", "b"]
    assert resolution.conflicts == [Conflict(key("a"), key("b"), "two_user_ids")]
    assert groups(resolve([node("a", user_id="1"), node("b", user_id="2")], [strong("a", "b")])) == ["a", "b"]


def test_a_teammate_may_join_two_app_users_and_their_records_follow() -> None:
    nodes = [node("a", user_id="1"), node("b", user_id="2"), node("c", user_id="1"), node("d", user_id="3")]
    assert groups(resolve(nodes, [merge("a", "b")])) == ["abc", "d"]
    assert groups(resolve(nodes, [merge("a", "b"), strong("d", "a")])) == ["abc", "d"]


def test_one_user_id_joins_and_a_blocked_one_does_not() -> None:
    assert groups(resolve([node("a", user_id="7"), node("b", user_id="7")], [])) == ["ab"]
    assert groups(resolve([node("a", user_id="null"), node("b", user_id="null")], [])) == ["a", "b"]


def test_a_user_id_link_is_as_old_as_the_younger_claim() -> None:
    young = Node(key("b"), "7", (Interval("user_id", "7", 9, None, True),))
    assert [x.at for x in user_id_links([node("a", user_id="7"), young])] == [9]


@pytest.mark.parametrize(("anonymous", "enforced", "joined"), [(0, 0, 1), (0, 1, 0), (1, 0, 0), (1, 1, 0)])
def test_unverified_claims(anonymous: bool, enforced: bool, joined: bool) -> None:
    public = node("b", held(5, verified=False), anonymous=bool(anonymous))
    resolution = resolve([node("a", held(0)), public], [], link_unverified=not enforced)
    assert (len(resolution.components) == 1) == joined


def test_weak_links_gather_ten_counted_records_and_no_more() -> None:
    nodes = [node(f"r:{n:02}", held(n)) for n in range(12)]
    own = [node(f"csv:{n}", held(20 + n), counted=False) for n in range(3)]
    resolution = resolve([*nodes, *own], [])
    assert sorted(map(len, resolution.components)) == [1, 1, 13]
    assert [c.reason for c in resolution.conflicts] == ["too_many_records"] * 2
    tied = [strong(f"r:{n:02}", "r:00") for n in range(1, 12)]
    assert sorted(map(len, resolve([*nodes, *own], tied).components)) == [15]


def test_a_cut_beats_weak_links_and_older_strong_ones() -> None:
    nodes = [node("a", held(0)), node("b", held(5))]
    assert groups(resolve(nodes, [cut("a", "b", 3)])) == ["a", "b"]
    assert resolve(nodes, [cut("a", "b", 3)]).conflicts == [Conflict(key("a"), key("b"), "unlinked")]
    assert groups(resolve(nodes, [cut("a", "b", 3), strong("a", "b", 3)])) == ["a", "b"]
    assert groups(resolve(nodes, [cut("a", "b", 3), strong("a", "b", 4)])) == ["ab"]


def test_no_weak_link_joins_a_cut_pair_through_others() -> None:
    nodes = [node("a", held(0)), node("b", held(1)), node("c", held(2))]
    assert groups(resolve(nodes, [cut("b", "c", 9)])) == ["ab", "c"]


def test_the_newest_word_of_a_teammate_about_a_pair_counts() -> None:
    nodes = [node("a", held(0)), node("b", held(5)), node("c")]
    assert groups(resolve(nodes, [merge("a", "b", 1), cut("b", "a", 2)])) == ["a", "b", "c"]
    assert groups(resolve(nodes, [merge("a", "b", 3), cut("a", "b", 2)])) == ["ab", "c"]
    assert groups(resolve(nodes, [merge("a", "b", 2), cut("a", "b", 2)])) == ["a", "b", "c"]


def test_a_cut_undoes_an_older_merge_that_went_through_a_third_record() -> None:
    chain = [merge("a", "c", 1), merge("c", "b", 2)]
    nodes = [node(name) for name in "abc"]
    assert groups(resolve(nodes, chain)) == ["abc"]
    assert groups(resolve(nodes, [*chain, cut("a", "b", 3)])) == ["ac", "b"]
    assert groups(resolve(nodes, [*chain, cut("a", "b", 3), merge("a", "b", 4)])) == ["abc"]


def test_links_to_records_that_are_not_here_are_ignored() -> None:
    assert groups(resolve([node("a")], [strong("a", "gone"), merge("a", "gone"), cut("a", "gone")])) == ["a"]


def test_targets_are_those_of_merges_that_hold_newest_first() -> None:
    nodes = [node(name) for name in "abcd"]
    resolution = resolve(nodes, [merge("a", "b", 1), merge("b", "c", 2), merge("c", "d", 3), cut("d", "c", 4)])
    assert dict(zip(groups(resolution), resolution.targets, strict=True)) == {"abc": [key("c"), key("b")], "d": []}


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde"), st.integers(0, 3), st.sampled_from("smc")),
        max_size=10,
    ),
    st.lists(st.sampled_from(["1", "2", None]), min_size=5, max_size=5),
    st.randoms(use_true_random=False),
)
def test_the_order_of_arrival_decides_nothing(
    said: list[tuple[str, str, int, str]], ids: list[str | None], order: random.Random
) -> None:
    make = {"s": strong, "m": merge, "c": cut}
    links = [make[kind](a, b, at) for a, b, at, kind in said if a != b]
    nodes = [node(name, held(n), user_id=id_) for n, (name, id_) in enumerate(zip("abcde", ids, strict=True))]
    expected = resolve(nodes, links)
    order.shuffle(links)
    order.shuffle(nodes)
    assert resolve(nodes, links + links[:2]) == expected
    newest = {frozenset((x.a, x.b)): x for x in sorted(links, key=lambda x: (x.at, x.cut)) if x.strength == "admin"}
    admin_joins = any(not x.cut for x in newest.values())
    for group in expected.components:
        if not admin_joins:
            assert len({n.user_id for n in nodes if n.key in group} - {None}) <= 1
        for word in newest.values():
            if word.cut and {word.a, word.b} <= group:
                assert any(x.at > word.at and not x.cut and {x.a, x.b} <= group for x in links)


@dataclass(frozen=True)
class Showing:
    key: RecordKey
    makes_user: bool
    issued_at: int


def test_a_person_shows_the_target_of_its_newest_merge_else_its_first_record() -> None:
    lead, first, second = Showing(key("a"), False, 1), Showing(key("b"), True, 5), Showing(key("c"), True, 3)
    assert shown([lead, first, second]) == key("c")
    assert shown([lead, first]) == key("b")
    assert shown([lead, Showing(key("0"), False, 1)]) == key("0")
    assert shown([lead, first, second], [key("gone"), key("a"), key("b")]) == key("a")
