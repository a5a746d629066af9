"""Apply: a batch of rows, each exactly once in effect, on both databases."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.flow.stage import RecordRef, Stage, at, customer, happened, plan, row, stage, us, user

from upkept.contract import Consent, Fact, TimelineEvent
from upkept.flow import component, normalize
from upkept.flow.apply import LONG, apply
from upkept.store import readbacks
from upkept.store.engine import Store, open_store


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


def test_a_batch_makes_people(on: Stage) -> None:
    on.say("app", user("1", 1, "Ann@X.example", name="Ann"))
    on.say("csv", row("ann@x.example", 2, city="Cork"))
    on.say("shop", customer("cus_1", 3, "bob@x.example", name="Bob"))
    applied = on.apply()
    assert (applied.done, applied.changed, applied.people, applied.dead) == (3, 3, 2, 0)
    assert on.people() == ["app:1 csv:email:ann@x.example", "shop:cus_1"]
    assert (on.value("1", "name"), on.value("1", "city")) == ("Ann", "Cork")


def test_the_same_delivery_again_changes_nothing(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"), happened("e1", "signed up"), key="evt")
    before = on.digest()
    assert on.say("app", user("1", 9, "b@x.example"), key="evt") == 0
    assert on.apply().done == 0
    again = on.say("app", user("1", 1, "a@x.example"), happened("e1", "signed up"), key="another key")
    applied = on.apply(again)
    assert (applied.done, applied.changed, applied.people) == (1, 0, 0)
    assert on.digest() == before


def test_a_row_taken_twice_from_the_queue_counts_once(on: Stage) -> None:
    id_ = on.say("app", user("1", 1), happened("e1", "signed up"))
    on.apply(id_)
    before = on.digest()
    assert on.apply(id_).done == 0
    on.run("UPDATE inbox SET state = 'new'")
    assert on.apply(id_).done == 1
    assert on.digest() == before
    assert on.explain("1")["timeline"] == {"signed up": 1}


def test_a_replay_replaces_what_its_row_said(on: Stage) -> None:
    id_ = on.tell("shop", customer("cus_1", 1, "a@x.example", plan="gold", score=1))
    on.tell("shop", customer("cus_1", 2, score=2))
    on.mapping.renamed = {"plan": "tier"}
    on.replay(id_)
    said = on.explain("shop:cus_1")["attributes"]
    assert {name: one["value"] for name, one in said.items()} == {"email": "a@x.example", "tier": "gold", "score": 2}


def test_a_replay_that_speaks_of_another_record_leaves_nothing_behind(on: Stage) -> None:
    """Two records were one person through the address that the replaced fact stated."""
    on.tell("app", user("1", 1, "a@x.example", name="Ann"))
    on.tell("csv", row("b@x.example", 1, city="Cork"))
    id_ = on.tell("shop", customer("cus_1", 2, "a@x.example"), customer("cus_1", 3, "b@x.example"))
    assert on.people() == ["app:1 csv:email:b@x.example shop:cus_1"]
    on.mapping.moved = {"cus_1": "cus_2"}
    on.mapping.renamed = {"email": "mail"}
    on.replay(id_)
    assert on.people() == ["app:1 csv:email:b@x.example shop:cus_2"]
    assert on.count_of("claims", "kind = 'email' AND value = 'b@x.example'") == 2


def test_a_replay_moves_what_no_identifier_leads_to(on: Stage) -> None:
    id_ = on.tell("shop", customer("cus_1", 1, plan="gold"))
    on.mapping.moved = {"cus_1": "cus_2"}
    on.replay(id_)
    assert on.people() == ["shop:cus_2"]
    assert on.count_of("facts") == 1


def test_a_replay_takes_back_the_most_extreme_value_too(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1, last_seen_at=5))
    id_ = on.tell("shop", customer("cus_1", 2, last_seen_at=900))
    on.mapping.renamed = {"last_seen_at": "seen"}
    on.replay(id_)
    assert (on.value("shop:cus_1", "last_seen_at"), on.value("shop:cus_1", "seen")) == (5, 900)


def test_a_replay_that_says_nothing_any_more_parts_whom_it_joined(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example", name="Ann"))
    on.tell("csv", row("b@x.example", 1, city="Cork"))
    id_ = on.tell("shop", customer("cus_1", 2, "a@x.example"), customer("cus_1", 3, "b@x.example"))
    shown = on.explain("1")["id"]
    on.mapping.silent = {on.inbox(id_)["dedup_key"]}
    on.replay(id_)
    assert on.people() == ["app:1", "csv:email:b@x.example"]
    assert on.explain("1")["id"] == shown
    assert on.value("b@x.example", "city") == "Cork"
    assert (on.value("1", "name"), on.value("1", "city")) == ("Ann", None)
    assert on.count_of("claims", "value = 'b@x.example'") == 1


def test_a_poison_row_spoils_no_other(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [on.say("app", user(str(n), 1, f"u{n}@x.example")) for n in range(4)]
    poison = on.say("app", Fact(record=RecordRef("user", "9"), claims={"user_id": "9"}))
    whole = normalize.Work

    def poisoned(row_: Any) -> Any:
        work = whole(row_)
        if row_.id == poison:
            work.facts.append(Fact(record=RecordRef("user", "9"), fields={"nested": {"a": 1}}))  # type: ignore[dict-item]
        return work

    monkeypatch.setattr(normalize, "Work", poisoned)
    applied = on.apply()
    assert (applied.done, applied.retried, applied.people) == (4, 1, 4)
    states = dict(on.rows("SELECT id, state FROM inbox"))
    assert [states[id_] for id_ in good] == ["done"] * 4
    assert states[poison] == "new"
    assert on.inbox(poison)["attempts"] == 1


def test_what_cannot_be_read_is_a_dead_letter_with_its_reason(on: Stage) -> None:
    on.mapping.broken = {"bad"}
    on.say("shop", customer("cus_1", 1), key="bad")
    on.say("shop", customer("cus_2", 1), key="good")
    on.run("UPDATE inbox SET lane = 'inbound'")
    applied = on.apply()
    assert (applied.done, applied.dead) == (1, 1)
    assert on.rows("SELECT state, reason FROM inbox WHERE dedup_key = 'bad'") == [("dead", "bad cannot be read")]
    assert on.rows("SELECT key, resolved_at FROM alerts") == [("dead:shop", None)]


def test_a_consent_delivery_never_goes_dead(on: Stage) -> None:
    on.mapping.broken = {"bad"}
    id_ = on.say("shop", customer("cus_1", 1), key="bad", lowering="may")
    on.run("UPDATE inbox SET lane = 'bulk', attempts = 32767")
    applied = on.apply(id_)
    assert (applied.dead, applied.retried) == (0, 1)
    ((state, due),) = on.rows("SELECT state, next_attempt_at FROM inbox")
    assert state == "new"
    assert on.now < due <= on.now + 3_600_000_000
    assert on.rows("SELECT key, resolved_at FROM alerts") == [("opt_out:shop", None)]
    on.mapping.broken = set()
    on.now += 3_700_000_000
    on.apply(id_)
    assert on.rows("SELECT key FROM alerts WHERE resolved_at IS NULL") == []


def test_an_event_about_a_part_does_not_make_a_person_of_it(on: Stage) -> None:
    on.say("shop", TimelineEvent(record=RecordRef("plan", "p1"), name="charge disputed", id="d1", at=at(1)), key="d1")
    on.apply()
    assert on.rows("SELECT part, person FROM records") == [(True, None)]


def test_only_an_import_puts_its_run_into_a_fact(on: Stage) -> None:
    on.say("shop", customer("cus_1", 1), key="by webhook")
    on.say("shop", customer("cus_1", 1), key="by resync", run=7)
    on.apply()
    assert on.rows("SELECT count(*) FROM facts") == [(1,)]


def test_a_worker_that_lost_its_lease_writes_nothing(on: Stage) -> None:
    on.tell("app", user("1", 1, name="Ann"))
    before = on.digest()
    id_ = on.say("app", user("1", 2, name="Late"), happened("e1", "signed up"))
    looks = 0

    def clock() -> int:
        nonlocal looks
        looks += 1
        if looks == 2:  # claimed, not yet in the effect transaction: another worker takes over
            on.run("UPDATE inbox SET lease_epoch = lease_epoch + 1")
        return on.clock()

    assert apply(on.hub, [id_], now=clock).done == 0
    assert looks >= 3
    assert on.digest() == before
    assert (on.inbox(id_)["state"], on.inbox(id_)["lease_epoch"]) == ("claimed", 2)


def test_rows_that_waited_long_are_worked_off_in_full_batches(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upkept.flow.apply.FULL", 4)
    ids = [on.say("app", user(str(n), n)) for n in range(9)]
    assert apply(on.hub, ids[5:7], now=on.clock, beside=True).done == 2  # they have only just come
    on.now += LONG
    assert apply(on.hub, ids[7:8], now=on.clock).done == 1
    assert apply(on.hub, ids[6:9], now=on.clock, beside=True).done == 4
    assert on.waiting() == ids[3:5]
    assert apply(on.hub, ids[:3], now=on.clock, beside=True).done == 0
    assert apply(on.hub, ids[3:4], now=on.clock, beside=True).done == 2


def test_ties_cause_one_coalesced_read_back(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 5, plan="gold"))
    assert on.count_of("readbacks") == 0
    on.tell("shop", customer("cus_1", 5, plan="free"))
    on.tell("shop", customer("cus_1", 5, plan="pro"))
    assert on.rows("SELECT source_id, reason, wishes FROM readbacks") == [("cus_1", "tie", 2)]
    with on.hub.store.write() as connection:
        assert len(readbacks.claim(connection, now=on.now + 10_000_000, limit=10)) == 1


def test_an_unknown_owner_is_read_once(on: Stage) -> None:
    on.say("shop", plan("p1", "cus_1", 10, 1))
    on.say("shop", plan("p2", "cus_1", 20, 1))
    on.apply()
    assert on.rows("SELECT source_id, reason, wishes FROM readbacks") == [("cus_1", "unknown", 1)]
    assert on.value("shop:cus_1", "shop_total") == 30


def test_a_part_that_does_not_name_its_owner_changes_the_owners_summary(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1), plan("p1", "cus_1", 10, 1))
    on.tell("shop", plan("p1", None, 25, 2))
    assert on.value("shop:cus_1", "shop_total") == 25


def test_a_part_that_moves_changes_both_owners(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1), customer("cus_2", 1), plan("p1", "cus_1", 10, 1), plan("p2", "cus_1", 5, 1))
    on.tell("shop", plan("p1", "cus_2", 10, 2))
    assert (on.value("shop:cus_1", "shop_total"), on.value("shop:cus_2", "shop_total")) == (5, 10)


def test_an_opt_out_reaches_everybody_who_holds_the_address(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    on.tell("app", user("2", 1, "a@x.example"))
    on.tell("shop", Consent(act="opt_out", address="A@x.example", at=at(2)))
    assert [on.consent("1"), on.consent("2")] == ["unsubscribed"] * 2
    assert on.rows("SELECT DISTINCT consent FROM people") == [("unsubscribed",)]


def test_a_component_larger_than_its_locks_is_locked_again(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new record meets a person whose past address is held by somebody whom no lock covers yet."""
    on.tell("app", user("1", 1, "d@x.example"))
    on.tell("app", user("2", 1, "d@x.example"))
    on.tell("app", user("2", 2, "c@x.example"))
    outgrown: list[int] = []
    raised = component.Outgrown.__init__

    def counted(self: component.Outgrown, ids: frozenset[str]) -> None:
        outgrown.append(len(ids))
        raised(self, ids)

    monkeypatch.setattr(component.Outgrown, "__init__", counted)
    applied = on.apply(on.say("csv", row("c@x.example", 3, city="Cork")))
    assert (applied.done, applied.retried) == (1, 0)
    assert outgrown == [3]
    assert on.people() == ["app:1", "app:2 csv:email:c@x.example"]


def test_a_component_that_never_stands_still_is_tried_again_later(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def outgrown(*_: Any, **__: Any) -> None:
        raise component.Outgrown(frozenset({"x"}))

    monkeypatch.setattr(component, "settle", outgrown)
    on.say("app", user("1", 1))
    on.say("app", user("2", 1))
    applied = on.apply()
    assert (applied.done, applied.retried, applied.dead) == (0, 2, 0)


def test_late_facts_fold_into_their_place(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 5, plan="gold", city="Cork"))
    on.tell("shop", customer("cus_1", 1, plan="free", name="Ann"))
    assert [on.value("shop:cus_1", name) for name in ("plan", "city", "name")] == ["gold", "Cork", "Ann"]
    assert us(5) > us(1)


TIMES = 200


def test_two_workers_that_bring_one_address_make_one_person(
    postgres_server: Any, migrated_postgres: str, tmp_path: Path
) -> None:
    """Each time two new records with one new address, from two workers at the same moment, on PostgreSQL."""
    url = postgres_server.create(migrated_postgres)
    stores = [open_store(url, pool_size=2) for _ in range(2)]
    stages = [stage(one, tmp_path) for one in stores]
    pairs = [
        (
            stages[0].say("app", user(str(n), 1, f"u{n}@x.example"), key=f"a{n}"),
            stages[0].say("csv", row(f"u{n}@x.example", 1), key=f"c{n}"),
        )
        for n in range(TIMES)
    ]
    together = threading.Barrier(2, timeout=60)
    failed: list[BaseException] = []

    def work(side: int) -> None:
        try:
            for pair in pairs:
                together.wait()
                assert stages[side].apply(pair[side]).done == 1
        except BaseException as error:
            failed.append(error)
            together.abort()

    threads = [threading.Thread(target=work, args=(side,)) for side in range(2)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(timeout=120)
    people = stages[0].people()
    for one_store in stores:
        one_store.close()
    postgres_server.drop(url)
    assert not failed, failed
    assert people == sorted(f"app:{n} csv:email:u{n}@x.example" for n in range(TIMES))
