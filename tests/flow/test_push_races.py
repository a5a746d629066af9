"""What happens between a push and its answer: nothing is lost by it, and nothing comes back (SEMANTICS R8, R12)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.flow.desk import Desk, pushed, with_desks
from tests.flow.race import waits
from tests.flow.stage import BEGIN, Consent, RecordRef, Stage, at, stage, user

from upkept.contract import Fact, Pushed, Retryable
from upkept.flow import forget, told
from upkept.flow.erase import erase
from upkept.flow.link import merge
from upkept.flow.owed import Owed
from upkept.flow.push import push
from upkept.store import outbox
from upkept.store.engine import Store, open_store

SECOND = 1_000_000
MINUTE = 60 * SECOND


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def on(store: Store, tmp_path: Path, desk: Desk) -> Stage:
    """One person whom the desk knows."""
    made = with_desks(stage(store, tmp_path), desk.connection())
    desk.people["p1"] = {"city": "Cork"}
    made.tell("desk", Fact(record=RecordRef("person", "p1"), fields={"city": "Cork"}, observed_at=at(1),
                           claims={"email": "a@x.example"}))  # fmt: skip
    assert pushed(made) == 0
    return made


def opted_out_there(on: Stage, desk: Desk) -> None:
    """The desk holds an opt-out, and is owed the opt-in that the person gave since."""
    desk.out = {"p1"}
    on.tell("desk", Consent(act="opt_out", record=RecordRef("person", "p1"), address="a@x.example", at=at(2)))
    on.tell("shop", Consent(act="opt_in", address="a@x.example", at=at(1_000), qualified=True, evidence="form 9"))


def opts_out(on: Stage) -> None:
    on.tell("shop", Consent(act="opt_out", address="a@x.example", at=at(2_000)))


def takes(desk: Desk, error: BaseException) -> None:
    """The desk takes an opt-in, and its answer is lost."""
    desk.out = set()
    raise error


def goes(on: Stage, how: str) -> None:
    if how == "erased":
        erase(on.hub, "desk:p1", now=on.clock(), actor="test")
    else:
        on.walk(forget.start(on.hub, "desk", now=on.clock(), actor="test"))


@pytest.mark.parametrize("how", ["erased", "forgotten"])
def test_who_goes_while_the_vendor_is_asked_leaves_no_note(on: Stage, desk: Desk, how: str) -> None:
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    desk.meanwhile = [lambda: goes(on, how)]
    assert pushed(on) == 0
    assert on.count_of("told") == 0
    assert desk.people == ({} if how == "erased" else {"p1": {"city": "Bray"}})


@pytest.mark.parametrize("how", ["erased", "forgotten"])
def test_who_goes_before_it_is_noted_is_not_told_of(
    on: Stage, desk: Desk, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(hub: object, letters: dict[str, Owed]) -> set[str]:
        if letters:
            goes(on, how)
        return noted(on.hub, letters)

    noted = told.on_its_way
    monkeypatch.setattr(told, "on_its_way", late)
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    assert pushed(on) == 0
    assert on.count_of("told") == 0
    assert [fields for _, fields, _ in desk.calls if fields] == []


@pytest.mark.parametrize("lost", [False, True], ids=["under way", "answer lost"])
def test_a_value_that_is_taken_back_while_the_vendor_is_asked(on: Stage, desk: Desk, lost: bool) -> None:
    def meanwhile() -> None:
        on.tell("app", user("1", 6, "a@x.example", city="Cork"))
        if lost:
            desk.people["p1"]["city"] = "Bray"
            raise Retryable("no answer")

    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    desk.meanwhile = [meanwhile]
    pushed(on)
    on.now += MINUTE
    assert (pushed(on), desk.people["p1"]["city"]) == (0, "Cork")


def test_an_opt_out_behind_an_opt_in_under_way_is_told_next(on: Stage, desk: Desk) -> None:
    opted_out_there(on, desk)
    desk.meanwhile = [lambda: opts_out(on)]
    assert (pushed(on), desk.out) == (0, {"p1"})
    assert [consent for *_, consent in desk.calls] == [{"*": "opt_in"}, {"*": "opt_out"}]


def test_an_opt_out_behind_an_opt_in_whose_answer_is_lost_is_told(on: Stage, desk: Desk) -> None:
    opted_out_there(on, desk)
    desk.meanwhile = [lambda: takes(desk, Retryable("no answer"))]
    assert (pushed(on), desk.out) == (1, set())
    opts_out(on)
    assert (pushed(on), desk.out) == (0, {"p1"})
    on.tell("app", user("1", 9, "a@x.example"))
    assert (pushed(on), len(desk.calls)) == (0, 1)  # once


def test_an_opt_out_behind_a_courier_that_was_killed_is_told(on: Stage, desk: Desk) -> None:
    opted_out_there(on, desk)
    desk.meanwhile = [lambda: takes(desk, KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        pushed(on)
    opts_out(on)
    on.now += 3 * MINUTE
    assert (pushed(on), desk.out) == (0, {"p1"})


def test_an_opt_in_whose_answer_is_lost_is_tried_again(on: Stage, desk: Desk) -> None:
    opted_out_there(on, desk)
    desk.meanwhile = [lambda: takes(desk, Retryable("no answer"))]
    pushed(on)
    on.now += MINUTE
    assert (pushed(on), [consent for *_, consent in desk.calls]) == (0, [{"*": "opt_in"}])


def test_an_opt_out_that_is_taken_back_while_its_answer_is_on_its_way_is_told_again(on: Stage, desk: Desk) -> None:
    """The answer comes late, or many are acknowledged one by one: by then the vendor's word looks like an old one."""

    def answers_late(*said: Any, key: str) -> Pushed:
        answer = desk.push(*said, key=key)
        if len(desk.calls) == 1:
            desk.out.clear()
            on.now += 6 * SECOND
        return answer

    with_desks(on, desk.connection(connector={"push": answers_late}))
    on.tell("desk", desk.read("p1", 3))
    on.tell("shop", Consent(act="opt_out", address="a@x.example", at=at(5)))
    second = on.now // SECOND - BEGIN
    assert (pushed(on), desk.out) == (0, set())
    on.apply()
    on.tell("desk", desk.read("p1", second))
    assert (pushed(on), desk.out, len(desk.calls)) == (0, {"p1"}, 2)


def merged_and_told(on: Stage) -> None:
    """The person becomes one with somebody who opted out, and another courier is quicker."""
    merge(on.hub, "desk:p1", "app:2", now=on.clock(), actor="test")
    pushed(on)


def expired_and_told(on: Stage) -> None:
    """It takes so long that another courier takes over, who is quicker."""
    on.now += 3 * MINUTE
    opts_out(on)
    pushed(on)


@pytest.mark.parametrize("overtaken", [merged_and_told, expired_and_told])
def test_an_opt_in_that_is_overtaken_by_an_opt_out_does_not_stand(
    on: Stage, desk: Desk, overtaken: Callable[[Stage], None]
) -> None:
    on.tell("app", user("2", 3, "b@x.example"))
    on.tell("shop", Consent(act="opt_out", address="b@x.example", at=at(2_000)))
    opted_out_there(on, desk)
    desk.meanwhile = [lambda: overtaken(on)]
    assert (pushed(on), desk.out) == (0, {"p1"})
    assert [consent["*"] for *_, consent in desk.calls] == ["opt_out", "opt_in", "opt_out"]


def test_who_is_just_opted_out_is_looked_at_again(
    with_tables: Callable[[str], str], tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The courier saw the opt-in, and whoever takes in the opt-out saw nothing on its way."""
    store = open_store(with_tables("postgresql"), pool_size=6)
    on = with_desks(stage(store, tmp_path), desk.connection())
    on.tell("desk", Fact(record=RecordRef("person", "p1"), observed_at=at(1), claims={"email": "a@x.example"}))
    on.tell("app", user("1", 2, "a@x.example"))
    opted_out_there(on, desk)
    id_ = on.say("app", Consent(act="opt_out", record=RecordRef("user", "1"), at=at(2_000)))
    paused, go_on = threading.Event(), threading.Event()

    def late(*args: Any) -> None:
        paused.set()
        assert go_on.wait(30)
        settled(*args)

    settled = outbox.settled
    monkeypatch.setattr(outbox, "settled", late)
    settling = threading.Thread(target=on.apply, args=(id_,))
    settling.start()
    assert paused.wait(30)
    pushing = threading.Thread(target=pushed, args=(on,))
    pushing.start()
    while pushing.is_alive() and not waits(on):
        pushing.join(0.01)
    go_on.set()
    pushing.join(30)
    settling.join(30)
    assert (pushed(on), desk.out) == (0, {"p1"})
    store.close()


@pytest.mark.parametrize("pushers", [1, 2])
def test_no_more_couriers_write_at_a_time_than_the_vendor_bears(on: Stage, desk: Desk, pushers: int) -> None:
    with_desks(on, desk.connection(connector={"pushers": pushers}))
    desk.people["p2"] = {}
    on.tell("desk", Fact(record=RecordRef("person", "p2"), fields={"city": "Ayr"}, observed_at=at(1),
                         claims={"email": "b@x.example"}))  # fmt: skip
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))

    def another_courier() -> None:
        on.tell("app", user("2", 5, "b@x.example", city="Bray"))
        pushed_meanwhile = [row[0] for row in on.rows("SELECT id FROM outbox")]
        push(on.hub, pushed_meanwhile, now=on.clock)
        seen.append(len(desk.calls))

    seen: list[int] = []
    desk.meanwhile.append(another_courier)
    assert pushed(on) == 0
    assert (seen, len(desk.calls)) == ([pushers - 1], 2)
