"""Forget a connection: all it ever said goes, opt-outs excepted, in steps that survive a kill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.flow.stage import RecordRef, Stage, at, customer, plan, row, stage, user

from upkept.contract import Consent, Link
from upkept.flow import forget, walk
from upkept.flow.find import Unknown
from upkept.flow.hub import Hub
from upkept.flow.steps import step
from upkept.store.engine import Store
from upkept.store.runs import Run


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    made = stage(store, tmp_path)
    made.tell("app", user("1", 1, "a@x.example", city="Cork"))
    made.tell("csv", row("b@x.example", 1))
    return made


def shop(on: Stage) -> None:
    """What joins the app's user and the file's row into one person, and a stranger."""
    on.tell("shop", customer("cus_1", 2, "a@x.example", city="York"), plan("plan_1", "cus_1", 5))
    on.tell("shop", customer("cus_1", 3, "b@x.example"))
    on.tell("shop", customer("cus_2", 2, "c@x.example"), plan("plan_2", "cus_2", 5), plan("plan_3", None, 5))
    on.tell("shop", Link(a=RecordRef("customer", "cus_2"), b=RecordRef("customer", "cus_3"), at=at(1)))
    on.tell("shop", Consent(act="opt_in", address="a@x.example", at=at(3), qualified=True, evidence="form"))
    on.tell("shop", customer("cus_1", 4), kind="unknown kind")


def forgotten(on: Stage, name: str = "shop") -> Run:
    return on.walk(forget.start(on.hub, name, now=on.clock(), actor="test"))


def test_the_store_is_as_if_it_had_never_spoken(on: Stage) -> None:
    before = on.digest()
    shop(on)
    assert on.people() == ["app:1 csv:email:b@x.example shop:cus_1", "shop:cus_2 shop:cus_3"]
    assert on.consent("1") == "subscribed"
    run = forgotten(on)
    assert (run.state, run.scanned, run.total) == ("complete", 6, 6)
    assert on.digest() == before
    assert on.people() == ["app:1", "csv:email:b@x.example"]
    assert (on.value("1", "city"), on.consent("1")) == ("Cork", "unknown")
    for table in ("inbox", "records", "readbacks", "connections"):
        name = "name" if table == "connections" else "connection"
        assert on.count_of(table, f"{name} = 'shop'") == 0
    assert on.count_of("links") + on.count_of("readbacks") == 0
    assert on.differences() == []
    assert on.rows("SELECT action FROM audit") == [("forget",)]


def test_an_opt_out_it_told_of_goes_on_binding_the_person(on: Stage) -> None:
    shop(on)
    ref = RecordRef("customer", "cus_1")
    on.tell("shop", Consent(act="opt_out", record=ref, address="b@x.example", at=at(5)))
    on.tell("shop", customer("cus_1", 6, "z@x.example"))
    on.tell("csv", row("b@x.example", 7, plan="gold"))
    run = forgotten(on)
    assert "1 opt-outs" in (run.reason or "")
    assert (on.consent("1"), on.consent("b@x.example")) == ("unsubscribed", "unsubscribed")
    assert on.differences() == []


def test_an_opt_out_nobody_applied_yet_binds_all_the_same(on: Stage) -> None:
    shop(on)
    ref = RecordRef("customer", "cus_1")
    on.say("shop", Consent(act="opt_out", record=ref, address="b@x.example", at=at(5)))
    on.run("DELETE FROM consent WHERE act = 'opt_out'")
    forgotten(on)
    assert (on.consent("1"), on.consent("b@x.example")) == ("unsubscribed", "unsubscribed")
    assert on.differences() == []


def test_what_it_said_to_raise_consent_of_strangers_addresses_goes(on: Stage) -> None:
    on.tell("app", user("9", 1, "z@x.example"))
    before = on.digest()
    on.tell("shop", Consent(act="opt_in", address="z@x.example", at=at(3), qualified=True, evidence="form"))
    assert on.consent("9") == "subscribed"
    forgotten(on)
    assert on.consent("9") == "unknown"
    assert on.digest() == before


def test_what_it_says_to_raise_consent_meanwhile_goes_and_whom_it_bound_is_derived_again(
    on: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop(on)
    turn = walk._turn

    def meanwhile(hub: Hub, run: Run, *rest: Any) -> Run:
        if run.cursor == "consent:" and not on.count_of("records", "connection = 'shop'"):
            opt_in = Consent(
                act="opt_in", record=RecordRef("customer", "cus_9"), at=at(9), qualified=True, evidence="f"
            )
            on.tell("shop", customer("cus_9", 9, name="Ann"), opt_in)
            assert on.consent("shop:cus_9") == "subscribed"
        return turn(hub, run, *rest)

    monkeypatch.setattr(walk, "_turn", meanwhile)
    forgotten(on)
    assert on.consent("shop:cus_9") == "unknown"
    assert on.differences() == []


def test_it_begins_anew_where_it_is_configured(on: Stage) -> None:
    shop(on)
    after = on.digest()
    forgotten(on)
    on.count = 2
    shop(on)
    assert on.digest() == after


def test_a_connection_that_is_configured_no_more_can_be_forgotten(on: Stage) -> None:
    shop(on)
    connections = {name: one for name, one in on.hub.connections.items() if name != "shop"}
    on.hub = replace(on.hub, connections=connections)
    forgotten(on)
    assert on.people() == ["app:1", "csv:email:b@x.example"]


def test_it_goes_on_after_a_kill_at_any_turn(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    before = on.digest()
    shop(on)
    monkeypatch.setattr(forget, "PAGE", 1)
    monkeypatch.setattr(forget, "ROWS", 1)
    run = forget.start(on.hub, "shop", now=on.clock(), actor="test")
    turn, turns = walk._turn, 0

    def killed(*args: object) -> Run:
        nonlocal turns
        turns += 1
        if turns % 2:
            raise KeyboardInterrupt
        return turn(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(walk, "_turn", killed)
    for _ in range(200):
        try:
            step(on.hub, run.id, now=on.clock)
        except KeyboardInterrupt:
            continue
        break
    assert turns > 20
    assert on.digest() == before


def test_what_it_owes_a_vendor_stays_owed(on: Stage) -> None:
    shop(on)
    on.run("INSERT INTO outbox (destination, subject, action, state, type, lane, next_attempt_at) "
           "VALUES ('shop', 'cus_8', 'delete', 'new', 'customer', 'outbound', 0), "
           "('shop', 'p', 'upsert', 'new', '', 'outbound', 0)")  # fmt: skip
    forgotten(on)
    assert on.rows("SELECT subject FROM outbox WHERE destination = 'shop'") == [("cus_8",)]


def test_one_of_our_own_doors_can_be_forgotten(on: Stage) -> None:
    forgotten(on, "csv")
    assert on.people() == ["app:1"]


def test_a_name_of_nothing_is_refused(on: Stage) -> None:
    with pytest.raises(Unknown):
        forget.start(on.hub, "shop", now=on.clock(), actor="test")
