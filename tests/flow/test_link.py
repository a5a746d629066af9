"""Merge and unmerge: links between records, so nothing moves and each side keeps its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flow.desk import Desk, pushed, with_desks
from tests.flow.stage import RecordRef, Stage, at, customer, plan, row, stage, user

from upkept.contract import Consent, Fact
from upkept.flow.find import Unknown
from upkept.flow.link import Linked, Refused, merge, unmerge
from upkept.store.engine import Store


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    made = stage(store, tmp_path)
    made.tell("app", user("1", 1, "a@x.example", name="Ann", city="Cork"))
    made.tell("shop", customer("cus_1", 2, "b@x.example", name="Bea"))
    return made


def joined(on: Stage, a: str, b: str) -> Linked:
    return merge(on.hub, a, b, now=on.clock(), actor="test")


def parted(on: Stage, a: str, b: str) -> Linked:
    return unmerge(on.hub, a, b, now=on.clock(), actor="test")


def test_the_merged_person_shows_the_id_of_the_second(on: Stage) -> None:
    a, b = on.explain("1")["id"], on.explain("shop:cus_1")["id"]
    linked = joined(on, "1", "shop:cus_1")
    assert (linked.changed, linked.people, linked.apart) == (True, (b,), ())
    assert on.people() == ["app:1 shop:cus_1"]
    said = on.explain(a)
    assert (said["id"], said["aliases"]) == (b, [a])
    assert (said["name"], said["attributes"]["city"]["value"]) == ("Bea", "Cork")


@pytest.mark.parametrize(("a", "b"), [("1", "shop:cus_1"), ("shop:cus_1", "1"), ("a@x.example", "b@x.example")])
def test_unmerge_gives_each_side_back_what_is_its_own(on: Stage, a: str, b: str) -> None:
    before = on.digest()
    ids = on.explain("1")["id"], on.explain("shop:cus_1")["id"]
    joined(on, a, b)
    assert on.digest() != before
    linked = parted(on, *ids)
    assert (linked.changed, linked.people) == (True, ids)
    assert on.people() == ["app:1", "shop:cus_1"]
    assert (on.explain("1")["id"], on.explain("shop:cus_1")["id"]) == ids
    assert on.digest() == before
    assert on.rows("SELECT action FROM audit ORDER BY id") == [("merge",), ("unmerge",)]


def test_again_changes_nothing(on: Stage) -> None:
    joined(on, "1", "shop:cus_1")
    again = joined(on, "1", "shop:cus_1")
    assert (again.changed, again.said) == (False, "they were merged before; nothing changed")
    parted(on, "app:1", "shop:cus_1")
    again = parted(on, "app:1", "shop:cus_1")
    assert (again.changed, "unmerged before" in again.said) == (False, True)
    assert on.count_of("links") == 2
    assert joined(on, "1", "shop:cus_1").changed
    assert on.people() == ["app:1 shop:cus_1"]


def test_the_shown_id_can_be_turned_round(on: Stage) -> None:
    a, b = on.explain("1")["id"], on.explain("shop:cus_1")["id"]
    joined(on, a, b)
    assert joined(on, b, a).people == (a,)
    assert on.explain("1")["id"] == a


def test_a_word_given_on_a_clock_that_was_set_back_counts_all_the_same(on: Stage) -> None:
    joined(on, "1", "shop:cus_1")
    earlier = on.now - 3_600_000_000
    assert unmerge(on.hub, "app:1", "shop:cus_1", now=earlier, actor="test").changed
    assert on.people() == ["app:1", "shop:cus_1"]


def test_people_never_merged_are_told_so(on: Stage) -> None:
    linked = parted(on, "1", "shop:cus_1")
    assert (linked.changed, "never merged" in linked.said) == (False, True)
    assert on.count_of("links") == 0


def test_one_record_is_no_pair(on: Stage) -> None:
    with pytest.raises(Refused, match="same record"):
        joined(on, "1", "a@x.example")
    with pytest.raises(Refused, match="connection:source id"):
        parted(on, "1", "app:1")


def test_an_unknown_side_changes_nothing(on: Stage) -> None:
    with pytest.raises(Unknown):
        joined(on, "1", "nobody@x.example")
    assert on.count_of("links") + on.count_of("audit") == 0


def test_a_late_event_for_the_loser_still_counts(on: Stage) -> None:
    joined(on, "1", "shop:cus_1")
    on.tell("app", user("1", 9, city="Kyiv"))
    assert on.value("shop:cus_1", "city") == "Kyiv"
    parted(on, "app:1", "shop:cus_1")
    assert (on.value("1", "city"), on.value("shop:cus_1", "city")) == ("Kyiv", None)


def test_an_unmerge_beats_what_an_address_joins(on: Stage) -> None:
    on.tell("csv", row("a@x.example", 3))
    assert on.people() == ["app:1 csv:email:a@x.example", "shop:cus_1"]
    parted(on, "app:1", "csv:email:a@x.example")
    on.tell("csv", row("a@x.example", 4, city="Oslo"))
    assert on.people() == ["app:1", "csv:email:a@x.example", "shop:cus_1"]
    assert on.explain("1")["conflicts"][0]["reason"] == "unlinked"


def test_two_app_users_can_be_merged_by_hand(on: Stage) -> None:
    on.tell("app", user("2", 3, "c@x.example"))
    joined(on, "2", "1")
    said = on.explain("2")
    assert (said["external_id"], len(said["records"])) == ("1", 2)


def test_the_app_user_id_that_merges_chose_stays_when_a_value_changes(on: Stage) -> None:
    on.tell("app", user("2", 3))
    joined(on, "1", "app:2")
    joined(on, "app:2", "shop:cus_1")
    assert on.explain("1")["external_id"] == "2"
    on.tell("app", user("1", 4, "a@x.example", city="Bray"))
    assert (on.value("1", "city"), on.explain("1")["external_id"]) == ("Bray", "2")
    assert on.differences() == []


def test_consent_of_a_part_makes_nobody_of_it_beside_several_new_app_users(on: Stage) -> None:
    part = RecordRef("plan", "p1")
    on.say("shop", plan("p1", "cus_1", 5, 3), Consent(act="opt_out", record=part, at=at(3)))
    on.say("app", user("8", 3), user("9", 3))
    on.apply()
    assert on.rows("SELECT person FROM records WHERE part") == [(None,)]
    assert {"app:8", "app:9"} < set(on.people())


def test_who_stays_apart_is_told(on: Stage) -> None:
    """The CSV row was parted from the shop's customer, so it cannot follow the merge."""
    on.tell("csv", row("a@x.example", 3))
    on.tell("csv", row("b@x.example", 3))
    assert on.people() == ["app:1 csv:email:a@x.example", "csv:email:b@x.example shop:cus_1"]
    joined(on, "1", "shop:cus_1")
    parted(on, "csv:email:a@x.example", "shop:cus_1")
    parted(on, "app:1", "shop:cus_1")
    linked = joined(on, "1", "shop:cus_1")
    assert on.people() == ["app:1 csv:email:b@x.example shop:cus_1", "csv:email:a@x.example"]
    assert linked.apart == (on.explain("csv:email:a@x.example")["id"],)


def test_each_side_keeps_its_own_opt_outs(on: Stage) -> None:
    joined(on, "1", "shop:cus_1")
    on.tell("shop", Consent(act="opt_out", record=RecordRef("customer", "cus_1"), address="b@x.example", at=at(5)))
    assert on.consent("1") == "unsubscribed"
    parted(on, "app:1", "shop:cus_1")
    assert (on.consent("1"), on.consent("shop:cus_1")) == ("unknown", "unsubscribed")


def test_vendors_are_told_about_both(on: Stage) -> None:
    desk = Desk(people={"p1": {}, "p2": {}})
    with_desks(on, desk.connection())
    for id_, address in (("p1", "a@x.example"), ("p2", "b@x.example")):
        on.tell("desk", Fact(record=RecordRef("person", id_), claims={"email": address}, observed_at=at(2)))
    on.tell("shop", customer("cus_1", 3, "b@x.example", city="Bray"))
    joined(on, "1", "shop:cus_1")
    assert (pushed(on), desk.people) == (0, {"p1": {"city": "Bray"}, "p2": {"city": "Bray"}})
    parted(on, "app:1", "shop:cus_1")
    assert (pushed(on), desk.people) == (0, {"p1": {"city": "Cork"}, "p2": {"city": "Bray"}})
