"""What happened is told to those who want to know: which events, when, how often, of whom (SEMANTICS R16, R18)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.flow.desk import Desk, left, pushed, with_desks
from tests.flow.stage import LATER, Consent, RecordRef, Stage, at, happened, plan, stage, us, user

from upkept.contract import Fact, Permanent, Retryable, TimelineEvent
from upkept.flow import link, prune, tellings, undo
from upkept.flow import push as pushing
from upkept.flow.erase import erase
from upkept.flow.forget import start as forget
from upkept.store import outbox, runs
from upkept.store.engine import Store

HOUR = 3_600_000_000
NOW = (LATER - us(0)) // 1_000_000 - 60
"""A minute ago, in seconds from the beginning."""
FAILED = frozenset({"charge failed", "signed up"})


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def on(store: Store, tmp_path: Path, desk: Desk) -> Stage:
    made = with_desks(stage(store, tmp_path), desk.connection(tells=FAILED))
    arrives(made, desk, "p1", "a@x.example")
    made.tell("app", user("1", 1, "a@x.example"))
    assert pushed(made) == 0
    return made


def arrives(on: Stage, desk: Desk, id_: str, address: str, second: float = 1) -> None:
    """The desk knows somebody."""
    desk.people[id_] = {}
    on.tell(desk.name, Fact(record=RecordRef("person", id_), claims={"email": address}, observed_at=at(second)))


def told(on: Stage) -> list[tuple[str, bool]]:
    """Every event that anybody is told of, and whether he was."""
    return [(id_, bool(done)) for id_, done in on.rows("SELECT id, told_at IS NOT NULL FROM tellings ORDER BY at, id")]


def test_what_the_rule_names_is_told_once(on: Stage, desk: Desk) -> None:
    on.tell("app", happened("e1", "charge failed", NOW, amount=49, paid=False),
            happened("e2", "logged in", NOW))  # fmt: skip
    assert pushed(on) == 0
    ((id_, event),) = desk.noted.values()
    assert (id_, event.name, event.at, event.source) == ("p1", "charge failed", at(NOW), "app")
    assert event.metadata == {"amount": 49, "paid": False}
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    on.tell("app", happened("e1", "charge failed", NOW, amount=49, paid=False))
    assert (pushed(on), len(desk.tried)) == (0, 2)
    assert (desk.heard, told(on)) == ([("p1", "charge failed")], [("e1", True)])


def test_nobody_is_told_what_it_said_itself(on: Stage, desk: Desk) -> None:
    """Else a vendor that shows what it was told as an event would be told of that, for ever."""
    other = Desk("other")
    with_desks(on, desk.connection(tells=FAILED), other.connection(tells=FAILED))
    arrives(on, other, "o1", "a@x.example")
    said = TimelineEvent(record=RecordRef("person", "p1"), name="charge failed", id="e", at=at(NOW))
    on.tell("desk", said)
    assert (pushed(on), desk.heard, other.heard) == (0, [], [("o1", "charge failed")])


def test_what_stood_before_the_rule_is_never_told(store: Store, tmp_path: Path, desk: Desk) -> None:
    on = with_desks(stage(store, tmp_path), desk.connection())
    arrives(on, desk, "p1", "a@x.example")
    on.tell("app", user("1", 1, "a@x.example"))
    row = on.tell("app", happened("e1", "charge failed", NOW))
    with_desks(on, desk.connection(tells=FAILED))
    on.replay(row)
    on.tell("app", happened("e1", "charge failed", NOW))
    on.tell("app", user("1", 9, "a@x.example", city="Bray"))
    assert (pushed(on), desk.heard, len(desk.calls)) == (0, [], 1)
    on.tell("app", happened("e2", "charge failed", NOW))
    assert (pushed(on), desk.heard) == (0, [("p1", "charge failed")])


def test_a_rule_that_was_taken_out_ends_it(on: Stage, desk: Desk) -> None:
    on.tell("app", happened("e1", "charge failed", NOW))
    with_desks(on, desk.connection(tells=frozenset({"signed up"})))
    assert (pushed(on), desk.heard) == (0, [])


def test_old_news_is_none_and_late_news_is_some(on: Stage, desk: Desk) -> None:
    on.now += 80 * HOUR
    fresh = NOW + 80 * 3600
    on.tell("app", happened("old", "charge failed", fresh - 73 * 3600),
            happened("late", "charge failed", fresh - 71 * 3600))  # fmt: skip
    assert (pushed(on), told(on), desk.heard) == (0, [("late", True)], [("p1", "charge failed")])


def test_what_is_news_waits_for_whoever_comes_to_be_there(on: Stage, desk: Desk) -> None:
    on.tell("app", user("2", 1, "b@x.example"), happened("e1", "charge failed", NOW, of="2"))
    assert (pushed(on), desk.heard, told(on)) == (0, [], [("e1", False)])
    arrives(on, desk, "p2", "b@x.example", NOW)
    assert (pushed(on), desk.heard) == (0, [("p2", "charge failed")])


def test_what_is_no_news_any_more_does_not(on: Stage, desk: Desk) -> None:
    on.tell("app", user("2", 1, "b@x.example"), happened("e1", "charge failed", NOW, of="2"))
    on.now += 73 * HOUR
    arrives(on, desk, "p2", "b@x.example", NOW)
    assert (pushed(on), desk.heard, told(on)) == (0, [], [("e1", False)])


def test_what_was_owed_in_time_is_told_however_long_the_vendor_is_away(on: Stage, desk: Desk) -> None:
    desk.fails = [Retryable("away")] * 4
    on.tell("app", happened("e1", "charge failed", NOW))
    for _ in range(4):
        assert pushed(on) == 1
        on.now += 48 * HOUR
    assert (pushed(on), desk.heard, len(set(desk.tried))) == (0, [("p1", "charge failed")], 1)


def test_one_that_is_withdrawn_before_its_turn_is_not_told(on: Stage, desk: Desk) -> None:
    row = on.tell("shop", TimelineEvent(record=RecordRef("customer", "c1"), name="charge failed", id="e1", at=at(NOW)),
                  Fact(record=RecordRef("customer", "c1"), claims={"email": "a@x.example"}, observed_at=at(2)),
                  key="k1")  # fmt: skip
    assert on.count_of("outbox") == 1
    on.mapping.silent.add("k1")
    on.replay(row)
    assert (pushed(on), desk.heard, on.count_of("timeline")) == (0, [], 0)


def test_one_that_is_withdrawn_and_comes_back_is_not_told_again(on: Stage, desk: Desk) -> None:
    said = TimelineEvent(record=RecordRef("customer", "c1"), name="charge failed", id="e1", at=at(NOW))
    fact = Fact(record=RecordRef("customer", "c1"), claims={"email": "a@x.example"}, observed_at=at(2))
    on.tell("shop", fact)
    row = on.tell("shop", said, key="k1")
    assert (pushed(on), desk.heard) == (0, [("p1", "charge failed")])
    on.mapping.silent.add("k1")
    on.replay(row)
    assert on.count_of("timeline") == 0
    on.mapping.silent.clear()
    on.replay(row)
    assert (on.count_of("timeline"), pushed(on), len(desk.tried)) == (1, 0, 1)
    assert told(on) == [("e1", True)]


def test_a_program_that_runs_wild_floods_nobody(on: Stage, desk: Desk) -> None:
    for part in range(0, 120, 30):
        on.tell("app", *(happened(f"e{n:03}", "charge failed", NOW + n / 10) for n in range(part, part + 30)))
    most = 0
    while on.count_of("outbox"):
        before = len(desk.noted)
        with on.hub.store.read() as connection:
            due = [id_ for _, id_ in outbox.due(connection, now=on.now)]
        pushing._some(on.hub, on.hub.connections["desk"], on.clock, [])
        assert due
        most = max(most, len(desk.noted) - before)
    assert (len(desk.noted), most) == (tellings.MOST_A_DAY, pushing.FEW)
    assert [event.at for _, event in desk.noted.values()] == [at(NOW + n / 10) for n in range(50)]
    on.tell("app", happened("beyond", "charge failed", NOW), happened("yesterday", "charge failed", NOW - 24 * 3600))
    assert (pushed(on), len(desk.noted)) == (0, tellings.MOST_A_DAY + 1)


def test_a_few_of_each_person_go_at_once(on: Stage, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pushing, "FEW", 100)
    on.tell("app", *(happened(f"e{n:03}", "charge failed", NOW + n) for n in range(25)))
    sizes = []
    for _ in range(3):
        pushing._some(on.hub, on.hub.connections["desk"], on.clock, [])
        sizes.append(len(desk.noted))
    assert (sizes, on.count_of("outbox")) == ([10, 20, 25], 0)


def test_an_opt_out_neither_waits_for_an_event_nor_fails_with_it(on: Stage, desk: Desk) -> None:
    desk.declines = {"charge failed"}
    arrives(on, desk, "p2", "a@x.example", 2)
    on.tell("app", happened("e1", "charge failed", NOW), happened("e2", "signed up", NOW + 1))
    on.tell("shop", Consent(act="opt_out", address="a@x.example", at=at(5)))
    assert on.count_of("outbox") == 1
    assert pushed(on) == 1
    assert desk.out == {"p1", "p2"}
    assert [name for _, name in desk.heard] == ["signed up"]
    assert left(on)["state"] == "dead"
    assert left(on)["reason"] == "no charge failed here"
    tried = len(desk.tried)
    desk.declines = set()
    with on.hub.store.write() as connection:
        outbox.offer(connection, now=on.now)
    assert (pushed(on), len(desk.tried) - tried) == (0, 1)
    assert [name for _, name in desk.heard] == ["signed up", "charge failed"]


def test_opt_outs_go_before_events_of_anybody(on: Stage, desk: Desk) -> None:
    on.tell("app", happened("e1", "charge failed", NOW))
    arrives(on, desk, "p2", "b@x.example")
    on.tell("shop", Consent(act="opt_out", address="b@x.example", at=at(5)))
    desk.fails = [Retryable("away")]
    assert pushed(on) == 2
    on.now += 120_000_000
    assert pushed(on) == 0
    assert (desk.out, desk.heard) == ({"p2"}, [("p1", "charge failed")])
    assert desk.tried[0] != next(iter(desk.noted)), "the opt-out was asked for first"


def test_a_kill_between_the_answer_and_our_commit_asks_with_the_same_key(
    on: Stage, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    on.tell("app", happened("e1", "charge failed", NOW))

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pushing, "acknowledge", killed)
        with pytest.raises(KeyboardInterrupt):
            pushed(on)
    assert (len(desk.noted), told(on)) == (1, [("e1", False)])
    on.now += outbox.LEASE + 1
    assert (pushed(on), len(desk.tried), len(set(desk.tried)), told(on)) == (0, 2, 1, [("e1", True)])


def test_the_key_is_that_of_the_event_whatever_the_hub_forgot(on: Stage, desk: Desk) -> None:
    on.tell("app", happened("e1", "charge failed", NOW))
    pushed(on)
    on.run("UPDATE tellings SET told_at = NULL, target = NULL")  # as in a backup
    on.tell("app", user("1", 9, "a@x.example", city="Bray"))
    assert (pushed(on), len(desk.noted)) == (0, 1)


def test_a_retry_goes_to_the_record_that_was_tried(on: Stage, desk: Desk) -> None:
    desk.fails = [Retryable("away")]
    on.tell("app", happened("e1", "charge failed", NOW))
    assert pushed(on) == 1
    arrives(on, desk, "p2", "a@x.example", 2)
    assert (pushed(on), desk.heard) == (0, [("p1", "charge failed")])


def test_of_several_records_one_is_told_the_best_and_newest(on: Stage, desk: Desk) -> None:
    arrives(on, desk, "p2", "a@x.example", 2)
    on.tell("app", happened("e1", "charge failed", NOW))
    assert (pushed(on), desk.heard) == (0, [("p2", "charge failed")])
    made = desk.connection(tells=FAILED, connector={"told_on": ("card", "person")})
    with_desks(on, made)
    on.tell("desk", Fact(record=RecordRef("card", "c"), claims={"email": "a@x.example"}, observed_at=at(3)))
    arrives(on, desk, "p3", "a@x.example", 4)
    on.tell("app", happened("e2", "charge failed", NOW + 1))
    assert (pushed(on), desk.heard[1:]) == (0, [("c", "charge failed")])


def test_whoever_takes_over_is_told_when_the_record_is_gone(on: Stage, desk: Desk) -> None:
    desk.fails = [Retryable("away")] * 2
    on.tell("app", happened("e1", "charge failed", NOW))
    assert pushed(on) == 1
    arrives(on, desk, "p2", "a@x.example", 2)
    on.tell("desk", Fact(record=RecordRef("person", "p1"), deleted=True, observed_at=at(NOW)))
    assert pushed(on) == 1
    on.now += 80 * HOUR
    assert (pushed(on), desk.heard) == (0, [("p2", "charge failed")])


def test_old_news_goes_on_no_record_that_came_later(on: Stage, desk: Desk) -> None:
    desk.declines = {"charge failed"}
    on.tell("app", happened("e1", "charge failed", NOW))
    assert pushed(on) == 1
    on.tell("desk", Fact(record=RecordRef("person", "p1"), deleted=True, observed_at=at(NOW)))
    on.now += 80 * HOUR
    desk.declines = set()
    arrives(on, desk, "p2", "a@x.example", NOW + 1)
    assert (pushed(on), desk.heard) == (0, [])


def test_who_is_merged_brings_what_happened_and_who_is_unmerged_takes_it(on: Stage, desk: Desk) -> None:
    on.tell("app", user("2", 1), happened("e1", "charge failed", NOW, of="2"))
    assert (pushed(on), desk.heard) == (0, [])
    link.merge(on.hub, "app:2", "desk:p1", now=on.clock(), actor="test")
    assert on.count_of("outbox") == 1
    link.unmerge(on.hub, "app:2", "desk:p1", now=on.clock(), actor="test")
    assert (pushed(on), desk.heard) == (0, [])
    link.merge(on.hub, "app:2", "desk:p1", now=on.clock(), actor="test")
    assert (pushed(on), desk.heard) == (0, [("p1", "charge failed")])
    link.unmerge(on.hub, "app:2", "desk:p1", now=on.clock(), actor="test")
    arrives(on, desk, "p2", "two@x.example", 2)
    on.tell("app", user("2", 9, "two@x.example"))
    assert (pushed(on), len(desk.noted)) == (0, 1)


def test_nothing_is_left_of_the_erased(on: Stage, desk: Desk) -> None:
    on.tell("app", happened("e1", "charge failed", NOW))
    erase(on.hub, "app:1", now=on.clock(), actor="test")
    assert (pushed(on), desk.heard, desk.people, told(on)) == (0, [], {}, [])


def test_nothing_is_told_of_a_connection_that_was_forgotten(on: Stage, desk: Desk) -> None:
    on.tell("app", happened("e1", "charge failed", NOW))
    on.walk(forget(on.hub, "app", now=on.clock(), actor="test"))
    assert (pushed(on), desk.heard, told(on)) == (0, [], [])


def test_an_undone_run_tells_nothing(on: Stage, desk: Desk) -> None:
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "import", "app", {}, on.now)
    on.tell("app", happened("e1", "charge failed", NOW), run=run.id)
    assert on.count_of("outbox") == 1
    on.run("UPDATE runs SET state = 'complete', finished_at = 1")
    on.walk(undo.start(on.hub, run.id, now=on.clock(), actor="test"))
    assert (on.count_of("timeline"), pushed(on), desk.heard) == (0, 0, [])


def subscription(owner: str | None) -> Fact:
    return replace(plan("s1", owner, 9, 2), fields={})


def of_plan(**options: Any) -> TimelineEvent:
    return TimelineEvent(record=RecordRef("plan", "s1"), name="charge failed", id="e1", at=at(NOW), **options)


def test_what_happened_to_a_part_is_told_of_its_owners_person(on: Stage, desk: Desk) -> None:
    known = Fact(record=RecordRef("customer", "c1"), claims={"email": "a@x.example"}, observed_at=at(2))
    on.tell("shop", known, subscription("c1"))
    pushed(on)
    on.tell("shop", of_plan())
    assert (pushed(on), desk.heard) == (0, [("p1", "charge failed")])


def test_a_part_may_learn_later_whose_it_is(on: Stage, desk: Desk) -> None:
    shop = on.hub.connections["shop"]
    with_desks(on, replace(shop, connector=replace(shop.connector, summarize=None)))  # no summary changes with it
    known = Fact(record=RecordRef("customer", "c1"), claims={"email": "a@x.example"}, observed_at=at(2))
    on.tell("shop", known)
    on.tell("shop", of_plan())
    assert (pushed(on), desk.heard) == (0, [])
    on.tell("shop", subscription("c1"))
    assert (pushed(on), desk.heard) == (0, [("p1", "charge failed")])


def test_a_record_that_is_made_is_told_what_happened(store: Store, tmp_path: Path, desk: Desk) -> None:
    gold = {"field": "plan", "operator": "=", "value": "gold"}
    on = with_desks(stage(store, tmp_path, segments={"gold": gold}), desk.connection(create="gold", tells=FAILED))
    on.tell("app", user("1", 5, "a@x.example", plan="gold"), happened("e1", "charge failed", NOW))
    assert (pushed(on), desk.heard) == (0, [("new 1", "charge failed")])


def test_what_is_named_like_a_secret_stays_here(on: Stage, desk: Desk) -> None:
    said: dict[str, Any] = {"amount": 1, "api_key": "x", "resetToken": "y", "password": "z", "plan": "gold"}
    on.tell("app", happened("e1", "charge failed", NOW, **said))
    pushed(on)
    ((_, event),) = desk.noted.values()
    assert event.metadata == {"amount": 1, "plan": "gold"}


def test_tellings_go_with_the_events_that_are_pruned(on: Stage, desk: Desk) -> None:
    on.tell("app", happened("e1", "charge failed", NOW))
    pushed(on)
    on.now += 731 * 24 * HOUR
    for _ in range(4):
        prune.events(on.hub, now=on.now, limit=100)
    assert (on.count_of("timeline"), told(on)) == (0, [])


def test_who_takes_no_events_is_told_none(on: Stage, desk: Desk) -> None:
    with_desks(on, desk.connection(tells=FAILED, connector={"told_on": ()}))
    on.tell("app", happened("e1", "charge failed", NOW))
    assert (pushed(on), desk.heard, desk.tried) == (0, [], [])


def test_a_refused_event_does_not_keep_newer_ones(on: Stage, desk: Desk) -> None:
    desk.fails = [Permanent("no")]
    on.tell("app", *(happened(f"e{n}", "charge failed", NOW + n) for n in range(3)))
    assert pushed(on) == 1
    assert (len(desk.noted), left(on)["state"]) == (2, "dead")


def test_more_than_is_told_at_once_and_all_refused_is_dead_too(
    on: Stage, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "FEW", 100)
    desk.declines = {"charge failed"}
    on.tell("app", *(happened(f"e{n:02}", "charge failed", NOW + n) for n in range(12)))
    for _ in range(3):
        pushing._some(on.hub, on.hub.connections["desk"], on.clock, [])
    assert (left(on)["state"], len(desk.tried)) == ("dead", pushing.EVENTS)
