"""Push: what a destination is owed, when it is told, and that its echo is no news (SEMANTICS R6, R8, R11, R12)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.flow.desk import Desk, left, pushed, with_desks
from tests.flow.stage import BEGIN, Consent, RecordRef, Stage, at, customer, stage, user

from upkept.contract import Config, Fact, Permanent, Pushed, Retryable
from upkept.flow import alarm, echo, forget
from upkept.flow.erase import erase
from upkept.flow.push import push, refused
from upkept.people.values import Json, RecordKey
from upkept.store import outbox, records, told
from upkept.store.engine import Store

SECOND = 1_000_000
MINUTE = 60 * SECOND


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def on(store: Store, tmp_path: Path, desk: Desk) -> Stage:
    made = with_desks(stage(store, tmp_path), desk.connection())
    desk.people["p1"] = {"city": "Cork"}
    made.tell("desk", Fact(record=RecordRef("person", "p1"), fields={"city": "Cork"}, observed_at=at(1),
                           claims={"email": "a@x.example"}))  # fmt: skip
    assert pushed(made) == 0
    return made


def out(second: float, address: str = "a@x.example") -> Consent:
    return Consent(act="opt_out", address=address, at=at(second))


def shown(on: Stage, id_: str) -> Mapping[str, Json]:
    """What the desk's record of somebody says, as far as the hub knows."""
    record = on.hub.record_id(RecordKey("desk", "person", id_))
    with on.hub.store.read() as connection:
        return {name: cell.value for name, cell in records.heads(connection, [record])[record].cells.items()}


def test_a_newer_value_goes_out_once(on: Stage, desk: Desk) -> None:
    on.tell("app", user("1", 5, "a@x.example", city="Bray", plan="gold"))
    assert pushed(on) == 0
    assert desk.calls == [("p1", {"city": "Bray", "plan": "gold"}, {})]
    on.tell("app", user("1", 6, "a@x.example", shoe_size=9))
    assert pushed(on) == 0
    assert len(desk.calls) == 1


def test_who_is_not_there_is_not_told_of(on: Stage, desk: Desk) -> None:
    on.tell("app", user("9", 5, "z@x.example", city="Bray"))
    assert (pushed(on), desk.calls) == (0, [])


def test_a_vendor_whose_own_word_counts_is_told_nothing(on: Stage, desk: Desk) -> None:
    on.tell("app", user("1", 0, "a@x.example", city="Bray"))
    assert (on.value("1", "city"), pushed(on), desk.calls) == ("Cork", 0, [])


def test_the_newest_state_goes_out_not_each_step(on: Stage, desk: Desk) -> None:
    for second in range(5, 9):
        on.tell("app", user("1", second, "a@x.example", city=f"Bray {second}"))
    assert on.count_of("outbox") == 1
    assert pushed(on) == 0
    assert desk.calls == [("p1", {"city": "Bray 8"}, {})]


def test_what_was_taken_back_before_its_turn_is_not_sent(on: Stage, desk: Desk) -> None:
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    on.tell("app", user("1", 6, "a@x.example", city="Cork"))
    assert (pushed(on), desk.calls) == (0, [])


def test_what_was_sent_is_taken_back_before_the_vendor_shows_it(on: Stage, desk: Desk) -> None:
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    pushed(on)
    on.tell("app", user("1", 6, "a@x.example", city="Cork"))
    assert (pushed(on), desk.people["p1"]["city"]) == (0, "Cork")
    on.tell("app", user("1", 7, "a@x.example", city="Cork"))
    assert (pushed(on), len(desk.calls)) == (0, 2)


def test_an_emptied_field_is_emptied_there(on: Stage, desk: Desk) -> None:
    on.tell("app", user("1", 5, "a@x.example", city=None))
    assert pushed(on) == 0
    assert desk.calls == [("p1", {"city": None}, {})]


def test_an_opt_out_reaches_every_record_of_the_person(on: Stage, desk: Desk) -> None:
    desk.people["p2"] = {}
    on.tell("desk", Fact(record=RecordRef("person", "p2"), claims={"email": "a@x.example"}, observed_at=at(2)))
    on.tell("shop", out(5))
    assert left(on)["lane"] == "consent"
    assert (pushed(on), desk.out) == (0, {"p1", "p2"})
    assert desk.calls == [("p1", {}, {"*": "opt_out"}), ("p2", {"city": "Cork"}, {"*": "opt_out"})]


def test_a_vendor_that_said_the_opt_out_is_not_told_it(on: Stage, desk: Desk) -> None:
    on.tell("desk", Consent(act="opt_out", record=RecordRef("person", "p1"), address="a@x.example", at=at(5)))
    assert (on.consent("desk:p1"), pushed(on), desk.calls) == ("unsubscribed", 0, [])


def test_a_vendor_that_says_subscribed_again_is_told_again(on: Stage, desk: Desk) -> None:
    on.tell("shop", out(5))
    assert (pushed(on), len(desk.calls)) == (0, 1)
    later = on.now + MINUTE
    on.now = later + MINUTE
    in_ = Consent(act="opt_in", record=RecordRef("person", "p1"), address="a@x.example", at=at(200_000))
    on.tell("desk", in_)
    assert (on.consent("desk:p1"), pushed(on)) == ("unsubscribed", 0)
    assert desk.calls[1:] == [("p1", {}, {"*": "opt_out"})]


def test_an_opt_out_that_somebody_takes_back_there_is_told_again(on: Stage, desk: Desk) -> None:
    """An import, an unticked box: to the reading before the push it is no change, and it happens within its second."""
    on.tell("desk", desk.read("p1", 3))
    on.tell("shop", out(5))
    assert (pushed(on), desk.out) == (0, {"p1"})
    on.apply()
    assert shown(on, "p1")["_mails:*"] is False, "a pull that reads true finds news"
    desk.out.clear()
    second = on.now // SECOND - BEGIN
    on.tell("desk", desk.read("p1", second))
    assert (pushed(on), desk.out, on.consent("desk:p1")) == (0, {"p1"}, "unsubscribed")
    on.apply()
    for _ in range(3):
        assert (pushed(on), len(desk.calls)) == (0, 2)
        on.tell("desk", desk.read("p1", second))
    desk.out.clear()
    on.now += MINUTE
    on.tell("desk", desk.read("p1", on.now // SECOND - BEGIN))
    assert (pushed(on), desk.out, len(desk.calls)) == (0, {"p1"}, 3)
    on.apply()
    assert on.differences() == []


def test_before_its_answer_is_taken_in_a_taken_back_opt_out_is_told_again_too(on: Stage, desk: Desk) -> None:
    on.tell("desk", desk.read("p1", 3))
    on.tell("shop", out(5))
    assert pushed(on) == 0
    desk.out.clear()
    on.now += MINUTE
    answer, reading = on.waiting()[0], on.say("desk", desk.read("p1", on.now // SECOND - BEGIN))
    on.apply(reading)
    assert (pushed(on), desk.out) == (0, {"p1"})
    on.apply(answer)
    assert (pushed(on), len(desk.calls)) == (0, 2)


def test_a_field_of_ours_that_somebody_sets_back_there_is_told_again(on: Stage, desk: Desk) -> None:
    desk.people["p1"]["plan"] = None
    on.tell("desk", desk.read("p1", 3))
    on.tell("app", user("1", 5, "a@x.example", plan="gold"))
    assert (pushed(on), desk.people["p1"]["plan"]) == (0, "gold")
    on.apply()
    assert shown(on, "p1")["_plan"] == "gold"
    desk.people["p1"]["plan"] = None
    on.now += MINUTE
    on.tell("desk", desk.read("p1", on.now // SECOND - BEGIN))
    assert (pushed(on), desk.people["p1"]["plan"]) == (0, "gold")


def test_what_is_answered_for_a_record_that_is_gone_makes_none(on: Stage, desk: Desk) -> None:
    on.tell("shop", out(5))
    with on.hub.store.read() as connection:
        (row,) = [row for _, row in outbox.due(connection, now=on.now)]
    ask = desk.push

    def forgotten_meanwhile(*said: Any, key: str) -> Pushed:
        on.walk(forget.start(on.hub, "desk", now=on.clock(), actor="test"))
        return ask(*said, key=key)

    with_desks(on, desk.connection(connector={"push": forgotten_meanwhile}))
    push(on.hub, [row], now=on.clock)
    on.apply()
    assert on.count_of("records", "connection = 'desk'") == 0


def test_only_a_qualified_opt_in_is_passed_on(on: Stage, desk: Desk) -> None:
    on.tell("shop", out(5))
    pushed(on)
    on.tell("shop", Consent(act="opt_in", address="a@x.example", at=at(1_000)))
    assert (on.consent("desk:p1"), pushed(on), len(desk.calls)) == ("unsubscribed", 0, 1)
    on.tell("shop", Consent(act="opt_in", address="a@x.example", at=at(2_000), qualified=True, evidence="form 9"))
    assert (on.consent("desk:p1"), pushed(on)) == ("subscribed", 0)
    assert desk.calls[1:] == [("p1", {}, {"*": "opt_in"})]
    assert desk.out == set()


def test_with_an_opt_in_of_everything_goes_the_topic_that_stays_closed(on: Stage, desk: Desk) -> None:
    """Else a vendor of that topic would take the one for the other."""
    of_news = Consent(act="opt_out", record=RecordRef("person", "p1"), address="a@x.example", topic="news", at=at(2))
    on.tell("desk", of_news)
    on.tell("shop", out(5))
    pushed(on)
    on.tell("shop", Consent(act="opt_in", address="a@x.example", at=at(2_000), qualified=True, evidence="form 9"))
    assert (on.consent("desk:p1"), pushed(on)) == ("subscribed", 0)
    on.tell("app", user("1", 9, "a@x.example"))
    assert pushed(on) == 0
    assert [consent for *_, consent in desk.calls] == [{"*": "opt_out"}, {"*": "opt_in", "news": "opt_out"}]


def test_nobody_is_opted_in_who_was_never_out(on: Stage, desk: Desk) -> None:
    on.tell("shop", Consent(act="opt_in", address="a@x.example", at=at(5), qualified=True, evidence="form 9"))
    assert (on.consent("desk:p1"), pushed(on), desk.calls) == ("subscribed", 0, [])


def test_an_echo_keeps_the_stamp_of_what_was_sent(on: Stage, desk: Desk) -> None:
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    pushed(on)
    on.tell("desk", desk.fact("p1", 50))
    assert on.value("1", "city") == "Bray"
    on.tell("app", user("1", 20, "a@x.example", city="Naas"))  # late: between what was sent and its echo
    assert on.value("1", "city") == "Naas"
    assert on.differences() == []


def test_without_the_mark_the_late_word_would_lose(on: Stage, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(echo, "mark", lambda *_: {})
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    pushed(on)
    on.tell("desk", desk.fact("p1", 50))
    on.tell("app", user("1", 20, "a@x.example", city="Naas"))
    assert on.value("1", "city") == "Bray"


def test_the_vendors_own_later_change_is_news(on: Stage, desk: Desk) -> None:
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    pushed(on)
    desk.people["p1"]["city"] = "Athy"
    on.now += MINUTE
    on.tell("desk", desk.fact("p1", 100_030))
    assert (on.value("1", "city"), pushed(on), len(desk.calls)) == ("Athy", 0, 1)


def test_a_vendor_that_comes_back_to_what_it_was_sent_says_something_new(on: Stage, desk: Desk) -> None:
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    pushed(on)
    on.now += MINUTE
    for second, city in ((100_030, "Athy"), (100_050, "Bray")):
        desk.people["p1"]["city"] = city
        on.tell("desk", desk.fact("p1", second))
    on.tell("app", user("1", 100_040, "a@x.example", city="Naas"))  # late: older than what the vendor says now
    assert (on.value("1", "city"), pushed(on), len(desk.calls)) == ("Bray", 0, 1)
    assert on.differences() == []


def two_forms(on: Stage, tells: bool = True) -> tuple[Desk, Desk]:
    """Two vendors that know one person, and store a text each in a form of its own."""
    small, large = Desk("small", form=str.lower, tells=tells), Desk("large", form=str.upper, tells=tells)
    with_desks(on, small.connection(), large.connection())
    for desk in (small, large):
        desk.people["p"] = {}
        on.tell(desk.name, Fact(record=RecordRef("person", "p"), claims={"email": "b@x.example"}, observed_at=at(1)))
    return small, large


def ping_pong(on: Stage, small: Desk, large: Desk, *, rounds: int, ours: bool = False) -> int:
    """Both vendors tell the hub of every change; how often they were written to."""
    on.tell("app", user("2", 5, "b@x.example", city="Bray"))
    for _ in range(rounds):
        for desk in (small, large):
            before = len(desk.calls)
            pushed(on)
            if len(desk.calls) > before:
                on.now += MINUTE
                on.tell(desk.name, desk.fact("p", on.now / 1_000_000 - BEGIN, ours=ours))
    return len(small.calls) + len(large.calls)


def test_two_vendors_with_forms_of_their_own_come_to_rest(on: Stage) -> None:
    small, large = two_forms(on)
    assert ping_pong(on, small, large, rounds=20) == 2
    assert (small.people["p"]["city"], large.people["p"]["city"], on.value("2", "city")) == ("bray", "BRAY", "Bray")


def test_where_nothing_is_remembered_they_never_do(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "of", lambda *_: {})
    small, large = two_forms(on)
    assert ping_pong(on, small, large, rounds=20) >= 20


def test_vendors_that_only_tell_who_changed_it_come_to_rest_too(on: Stage) -> None:
    small, large = two_forms(on, tells=False)
    assert ping_pong(on, small, large, rounds=20, ours=True) == 2
    assert (small.people["p"]["city"], large.people["p"]["city"], on.value("2", "city")) == ("bray", "BRAY", "Bray")
    assert on.differences() == []


def test_a_record_is_made_where_the_rule_asks(store: Store, tmp_path: Path) -> None:
    desk = Desk()
    gold = {"field": "plan", "operator": "=", "value": "gold"}
    on = with_desks(stage(store, tmp_path, segments={"gold": gold}), desk.connection(create="gold"))
    on.tell("app", user("1", 5, "a@x.example", city="Bray", plan="gold"), user("2", 5, "b@x.example", plan="tin"))
    assert pushed(on) == 0
    assert desk.calls == [("new 1", {"city": "Bray", "plan": "gold"}, {})]
    assert on.people() == ["app:1 desk:new 1", "app:2"]
    on.tell("app", user("1", 6, "a@x.example", city="Naas"))
    assert pushed(on) == 0
    assert desk.calls[1:] == [("new 1", {"city": "Naas"}, {})]
    assert on.differences() == []


def test_an_erasure_is_passed_on(on: Stage, desk: Desk) -> None:
    erase(on.hub, "desk:p1", now=on.clock(), actor="test")
    assert (pushed(on), desk.people) == (0, {})
    assert on.count_of("told") == 0


def test_a_vendor_that_is_away_is_tried_again_with_the_same_key(on: Stage, desk: Desk) -> None:
    desk.fails = [Retryable("away")]
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    assert pushed(on) == 1
    assert left(on) == {"state": "new", "lane": "outbound", "attempts": 1, "reason": "away"}
    on.now += MINUTE
    assert (pushed(on), len(desk.calls)) == (0, 1)
    on.tell("app", user("1", 6, "a@x.example", city="Naas"))
    assert (pushed(on), len(set(desk.tried)), len(desk.tried)) == (0, 2, 3)


def test_an_opt_out_is_tried_every_minute_for_ever(on: Stage, desk: Desk) -> None:
    desk.fails = [Retryable("away")] * 20
    on.tell("shop", out(5))
    for _ in range(20):
        assert pushed(on) == 1
        on.now += MINUTE
    assert (pushed(on), desk.out) == (0, {"p1"})


def test_one_that_never_succeeds_is_dead_until_somebody_offers_it_again(on: Stage, desk: Desk) -> None:
    desk.fails = [Permanent("no such field")]
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    assert pushed(on) == 1
    assert left(on)["state"] == "dead"
    assert on.rows("SELECT connection, message FROM alerts") == [("desk", "a push did not succeed: no such field")]


@pytest.mark.parametrize("error", [Permanent("no such person"), TypeError("a bug")])
def test_a_dead_opt_out_is_tried_every_hour_for_ever(on: Stage, desk: Desk, error: Exception) -> None:
    desk.refuses = {"p1": error}
    on.tell("shop", out(5))
    with capture_logs():  # a traceback takes its time
        for _ in range(12):
            assert pushed(on) == 1
            on.now += 60 * MINUTE
        assert left(on)["state"] == "dead"
        for _ in range(2):
            refused(on.hub, now=on.clock())
            assert (pushed(on), left(on)["state"]) == (1, "dead")
            asked = len(desk.tried)
            on.now += 59 * MINUTE
            refused(on.hub, now=on.clock())
            assert (pushed(on), len(desk.tried)) == (1, asked)
            on.now += 2 * MINUTE
    desk.refuses = {}
    refused(on.hub, now=on.clock())
    assert (pushed(on), desk.out) == (0, {"p1"})


def test_the_alert_is_over_when_nothing_refused_is_left(on: Stage, desk: Desk) -> None:
    desk.fails = [Permanent("no such field")]
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    pushed(on)
    alarm.refused_pushes(on.hub, now=on.clock())
    assert on.count_of("alerts", "resolved_at IS NULL") == 1
    on.tell("app", user("1", 6, "a@x.example", city="Naas"))
    assert pushed(on) == 0
    alarm.refused_pushes(on.hub, now=on.clock())
    assert on.count_of("alerts", "resolved_at IS NULL") == 0


def test_one_record_that_is_refused_buries_no_other(on: Stage, desk: Desk) -> None:
    desk.people["p2"] = {"city": "Cork"}
    on.tell("desk", Fact(record=RecordRef("person", "p2"), fields={"city": "Cork"}, observed_at=at(2),
                         claims={"email": "a@x.example"}))  # fmt: skip
    desk.refuses = {"p1": Permanent("p1 is locked"), "p2": Retryable("p2 is busy")}
    on.tell("shop", out(5))
    assert (pushed(on), left(on)["state"]) == (1, "new")
    on.now += MINUTE
    del desk.refuses["p2"]
    assert (pushed(on), desk.out, left(on)["state"]) == (1, {"p2"}, "dead")


def test_one_person_at_whom_the_vendor_fails_delays_nobody_for_ever(on: Stage, desk: Desk) -> None:
    for name in ("p2", "p3", "p4"):
        claims = {"email": f"{name}@x.example"}
        on.tell("desk", Fact(record=RecordRef("person", name), claims=claims, observed_at=at(2)))
    desk.refuses = {"p1": Retryable("out of order")}
    on.tell("shop", out(5))
    on.tell("shop", *(out(5, f"{name}@x.example") for name in ("p2", "p3", "p4")))
    for _ in range(3):
        pushed(on)
        on.now += MINUTE
    assert (on.count_of("outbox"), desk.out) == (1, {"p2", "p3", "p4"})


def test_a_paused_vendor_is_left_alone(on: Stage, desk: Desk) -> None:
    desk.fails = [Config("the key is revoked")]
    on.tell("app", user("1", 5, "a@x.example", city="Bray"))
    pushed(on)
    on.now += 20 * MINUTE
    with on.hub.store.read() as connection:
        assert connection.exec_driver_sql("SELECT paused_reason FROM connections WHERE name = 'desk'").scalar()
    assert (pushed(on), desk.calls) == (1, [])


def test_one_vendor_that_is_down_keeps_nothing_from_another(on: Stage, desk: Desk) -> None:
    other = Desk("other")
    with_desks(on, desk.connection(), other.connection())
    other.people["o1"] = {}
    on.tell("other", Fact(record=RecordRef("person", "o1"), claims={"email": "a@x.example"}, observed_at=at(2)))
    desk.fails = [Retryable("away")] * 9
    on.tell("shop", out(5))
    assert pushed(on) == 1
    assert other.out == {"o1"}


def test_a_customer_of_the_shop_keeps_what_only_goes_out_to_itself(on: Stage, desk: Desk) -> None:
    """What the desk holds of a field that only we write is no word of the desk's."""
    on.tell("desk", Fact(record=RecordRef("person", "p1"), fields={"plan": "tin"}, observed_at=at(3)))
    assert on.value("desk:p1", "plan") is None
    on.tell("shop", customer("c1", 4, "a@x.example", plan="gold"))
    assert pushed(on) == 0
    assert desk.calls == [("p1", {"plan": "gold"}, {})]
