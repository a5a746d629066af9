"""Rebuild: the store is a function of its facts, and whatever was spoilt is found and put right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.flow.stage import RecordRef, Stage, at, customer, happened, plan, row, stage, us, user

from upkept.contract import Consent, Fact, Link
from upkept.flow import rebuild, walk
from upkept.flow.erase import erase
from upkept.flow.find import Unknown
from upkept.flow.link import merge, unmerge
from upkept.flow.runs import claim
from upkept.flow.steps import step
from upkept.people.erasure import Tombstone
from upkept.people.policies import Policies, Policy
from upkept.store import tombstones
from upkept.store.engine import Store
from upkept.store.runs import Run


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    made = stage(store, tmp_path)
    made.tell("app", user("1", 1, "a@x.example", name="Ann", last_seen_at=5), happened("e1", "signed up"))
    made.tell("app", user("2", 1, "a@x.example"))
    made.tell("csv", row("a@x.example", 2, city="Cork"))
    made.tell("shop", customer("cus_1", 2, "b@x.example", plan="gold"), plan("plan_1", "cus_1", 5))
    made.tell("shop", plan("plan_9", None, 5), Link(a=RecordRef("customer", "cus_1"), b=RecordRef("customer", "cus_2")))
    made.tell("shop", Consent(act="opt_out", address="b@x.example", record=RecordRef("customer", "cus_1"), at=at(3)))
    merge(made.hub, "2", "shop:cus_1", now=made.clock(), actor="test")
    return made


def rebuilt(on: Stage) -> Run:
    run, new = walk.start(on.hub, "rebuild", "", {}, cursor=rebuild.BEGIN, total=5, actor="test", now=on.clock())
    assert new
    return on.walk(run)


def test_a_store_as_it_was_applied_differs_in_nothing(on: Stage) -> None:
    before, told = on.digest(), on.rows("SELECT subject, version FROM outbox")
    assert on.differences() == []
    assert on.digest() == before
    run = rebuilt(on)
    assert (run.state, run.scanned, run.changed) == ("complete", 6, 0)
    assert on.digest() == before
    assert on.rows("SELECT subject, version FROM outbox") == told


SPOILT = {
    "head": "UPDATE records SET head = replace(head, 'Cork', 'York') WHERE connection = 'csv'",
    "summary": "UPDATE records SET summary = NULL WHERE source_id = 'cus_1'",
    "claims": "DELETE FROM claims WHERE value = 'b@x.example'",
    "membership": "UPDATE records SET person = 'nobody' WHERE connection = 'csv'",
    "person": "UPDATE people SET name = 'Spoilt' WHERE name = 'Ann'",
    "conflicts": "DELETE FROM conflicts",
    "nobody": "INSERT INTO people SELECT 'ghost', role, external_id, email, name, attributes, tags, segments, "
    "companies, consent, archived, 'hash', updated_at FROM people WHERE name = 'Ann'",
    "part": "UPDATE records SET owner = NULL WHERE source_id = 'plan_1'",
}


@pytest.mark.parametrize("what", sorted(SPOILT))
def test_whatever_is_spoilt_is_found_and_put_right(on: Stage, what: str) -> None:
    before, text = on.digest(), _people(on)
    on.run(SPOILT[what])
    found = on.differences()
    assert what in {one.what for one in found}
    assert [one.what for one in on.differences()] == [one.what for one in found]
    assert rebuilt(on).changed >= (what != "nobody")
    assert on.differences() == []
    assert (on.digest(), _people(on)) == (before, text)


def test_a_part_s_own_fields_are_shown_under_names_that_people_know(on: Stage) -> None:
    on.run("UPDATE records SET head = replace(head, ':5}', ':6}') WHERE source_id = 'plan_1'")
    found = next(one for one in on.differences() if one.what == "head")
    assert (found.stored, found.rebuilt) == ({"amount_a_month": 6}, {"amount_a_month": 5})


def test_a_label_that_is_another_field_s_name_hides_nothing(on: Stage) -> None:
    on.tell("shop", replace(plan("plan_1", "cus_1", 5, 8), fields={"_a": 5, "amount_a_month": 7}))
    on.run("UPDATE records SET head = replace(head, ':5,', ':6,') WHERE source_id = 'plan_1'")
    found = next(one for one in on.differences() if one.what == "head")
    assert (found.stored, found.rebuilt) == ({"_a": 6}, {"_a": 5})


def _people(on: Stage) -> list[tuple[Any, ...]]:
    return on.rows("SELECT id, role, external_id, email, name, consent, hash FROM people ORDER BY id")


def test_a_difference_tells_what_is_stored_and_what_the_facts_say(on: Stage) -> None:
    on.run(SPOILT["head"])
    head = next(one for one in on.differences() if one.what == "head")
    assert (dict(head.stored), dict(head.rebuilt)) == ({"city": "York"}, {"city": "Cork"})
    on.run(SPOILT["person"])
    person = next(one for one in on.differences() if one.what == "person")
    assert (dict(person.stored), dict(person.rebuilt)) == ({"name": "Spoilt"}, {"name": "Ann"})


def test_a_change_of_policy_takes_effect_by_a_rebuild(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1, city="Oslo"))
    on.tell("app", user("2", 9, city="Kyiv"))
    assert on.value("2", "city") == "Kyiv"
    policies = {**on.hub.policies.by_attribute, "city": Policy("authority", (("shop",),))}
    object.__setattr__(on.hub, "policies", Policies(policies, on.hub.policies.ranks))
    assert {one.what for one in on.differences()} == {"person"}
    rebuilt(on)
    assert on.differences() == []
    assert [r[0] for r in on.rows("SELECT attributes FROM people WHERE external_id = '2'")] != []
    assert on.value("2", "city") == "Oslo"


def test_it_goes_on_after_a_kill_at_any_turn(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "PAGE", 1)
    before = on.digest()
    for spoilt in ("head", "claims", "person"):
        on.run(SPOILT[spoilt])
    run, _ = walk.start(on.hub, "rebuild", "", {}, cursor=rebuild.BEGIN, total=5, actor="test", now=on.clock())
    turns = 0

    def killed(hub: Any, one: Run, found: walk.Walk, now: Any) -> Run:
        nonlocal turns
        turns += 1
        if turns % 2:
            raise KeyboardInterrupt
        return turn(hub, one, found, now)

    turn = walk._turn
    monkeypatch.setattr(walk, "_turn", killed)
    for _ in range(60):
        try:
            step(on.hub, run.id, now=on.clock)
        except KeyboardInterrupt:
            continue
        break
    assert turns > 10
    assert on.digest() == before


def test_a_walk_taken_over_by_another_process_writes_nothing(on: Stage) -> None:
    on.run(SPOILT["head"])
    spoilt = on.digest()
    run, _ = walk.start(on.hub, "rebuild", "", {}, cursor=rebuild.BEGIN, total=5, actor="test", now=on.clock())
    mine = claim(on.hub, run.id, now=on.clock())
    assert mine is not None
    on.run("UPDATE runs SET lease_epoch = lease_epoch + 1")
    with pytest.raises(walk.FenceBroken):
        walk._turn(on.hub, mine, rebuild.WALK, on.clock)
    assert on.digest() == spoilt


def test_a_second_asking_joins_the_first(on: Stage) -> None:
    first, new = walk.start(on.hub, "rebuild", "", {}, cursor=rebuild.BEGIN, total=5, actor="test", now=on.clock())
    second, again = walk.start(on.hub, "rebuild", "", {}, cursor=rebuild.BEGIN, total=5, actor="test", now=on.clock())
    assert (new, again, first.id) == (True, False, second.id)
    assert on.rows("SELECT action FROM audit WHERE action = 'rebuild'") == [("rebuild",)]


def test_a_bug_ends_the_walk_with_its_reason(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(rebuild, "_page", broken)
    run, _ = walk.start(on.hub, "rebuild", "", {}, cursor=rebuild.BEGIN, total=5, actor="test", now=on.clock())
    for _ in range(walk.BUG_TRIES):
        step(on.hub, run.id, now=on.clock)
    ((state, reason),) = on.rows("SELECT state, reason FROM runs")
    assert state == "failed"
    assert "ZeroDivisionError" in reason
    assert on.count_of("alerts") == 1


def test_what_was_erased_and_stands_again_goes(on: Stage) -> None:
    """A restored backup brings an erased person back; its tombstones are laid first, then all is rebuilt."""
    on.tell("shop", customer("cus_1", 4, note="later"))
    held = on.rows("SELECT 1 FROM records WHERE connection = 'shop'")
    key = on.hub.tombstone("email", "b@x.example")
    with on.hub.store.write() as connection:
        tombstones.lay(connection, [Tombstone("email", key, us(1_000_000))])
    found = on.differences()
    assert "erased" in {one.what for one in found}
    assert on.rows("SELECT 1 FROM records WHERE connection = 'shop'") == held
    rebuilt(on)
    assert on.people() == ["app:1 csv:email:a@x.example", "app:2", "shop:cus_2"]
    with pytest.raises(Unknown):
        on.explain("shop:cus_1")
    assert on.differences() == []


def test_segments_that_ask_for_the_time_are_no_difference(store: Store, tmp_path: Path) -> None:
    active = {"field": "last_seen_at", "operator": ">", "value": {"days_ago": 1}}
    on = stage(
        store, tmp_path, segments={"active": active, "named": {"field": "name", "operator": "=", "value": "Ann"}}
    )
    on.tell("app", user("1", 1, name="Ann", last_seen_at=at(90_000)))
    assert on.explain("1")["segments"] == ["active", "named"]
    on.now = us(500_000)
    assert on.differences() == []
    on.run("UPDATE people SET segments = '[]'")
    assert {one.what for one in on.differences()} == {"person"}
    rebuilt(on)
    assert on.explain("1")["segments"] == ["named"]


def test_every_act_leaves_a_store_that_a_rebuild_does_not_change(on: Stage) -> None:
    unmerge(on.hub, "2", "shop:cus_1", now=on.clock(), actor="test")
    assert on.differences() == []
    on.tell("shop", Fact(record=RecordRef("customer", "cus_1"), deleted=True, observed_at=at(7)))
    assert on.differences() == []
    erase(on.hub, "1", now=on.clock(), actor="test")
    assert on.differences() == []
