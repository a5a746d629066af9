"""Old ids lead to the person for as long as they live on, whatever was forgotten or undone meanwhile (R15)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.flow.stage import RecordRef, Stage, customer, row, stage, user
from tests.flow.test_forget import forgotten
from tests.flow.test_undo import an_import, back, imported, undone

from upkept.contract import Link
from upkept.flow.erase import erase
from upkept.flow.find import Unknown
from upkept.flow.link import merge
from upkept.people.values import RecordKey
from upkept.store.engine import Store


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


CUS_1 = RecordKey("shop", "customer", "cus_1")
MEMBER = RecordKey("mailer", "member", "m1")


def known_to_three(on: Stage) -> tuple[str, str]:
    """Ann, of whom the shop, the mailer and a file tell; the ids of her records at the first two."""
    on.tell("shop", customer("cus_1", 1, "a@x.example"))
    on.tell("mailer", replace(customer("m1", 2, "a@x.example"), record=RecordRef("member", "m1")))
    on.tell("csv", row("a@x.example", 3))
    return on.hub.record_id(CUS_1), on.hub.record_id(MEMBER)


def leads(on: Stage, ids: Sequence[str], name: str) -> bool:
    """Do they all lead to the person known as `name`, and does that person say so?"""
    said = on.explain(name)
    return {*ids} <= {said["id"], *said["aliases"]} and all(on.explain(id_) == said for id_ in ids)


def nobody(on: Stage, id_: str) -> bool:
    with pytest.raises(Unknown, match="nobody is left"):
        on.explain(id_)
    return True


def test_an_id_outlives_what_was_forgotten(on: Stage) -> None:
    old, second = known_to_three(on)
    assert on.explain("a@x.example")["id"] == old
    forgotten(on)
    assert leads(on, [old], "a@x.example")
    assert on.explain(old)["id"] == second
    forgotten(on, "mailer")
    assert leads(on, [old, second], "csv:email:a@x.example")
    assert on.differences() == []
    forgotten(on, "csv")
    assert nobody(on, old)
    assert nobody(on, second)


def test_it_leaves_no_mark_on_the_store(on: Stage) -> None:
    on.tell("csv", row("a@x.example", 3))
    before = on.digest()
    on.tell("shop", customer("cus_1", 1, "a@x.example"))
    forgotten(on)
    assert on.digest() == before


def test_what_comes_back_bears_its_own_id_again(on: Stage) -> None:
    old, second = known_to_three(on)
    forgotten(on)
    on.tell("shop", customer("cus_1", 9, "z@x.example"))
    assert on.explain(old)["email"] == "z@x.example"
    assert on.explain("a@x.example")["aliases"] == [on.hub.record_id(RecordKey("csv", "row", "email:a@x.example"))]
    forgotten(on)
    assert nobody(on, old)
    forgotten(on, "mailer")
    on.tell("mailer", replace(customer("m1", 2, "a@x.example"), record=RecordRef("member", "m1")))
    assert leads(on, [second], "a@x.example")


def test_what_led_to_a_record_that_comes_back_leads_there_again(on: Stage) -> None:
    old, _ = known_to_three(on)
    forgotten(on, "csv")
    forgotten(on)
    forgotten(on, "mailer")
    assert nobody(on, old)
    on.tell("mailer", replace(customer("m1", 2, "a@x.example"), record=RecordRef("member", "m1")))
    assert leads(on, [old], "a@x.example")


def test_it_follows_a_merge_and_can_be_named_in_one(on: Stage) -> None:
    old, second = known_to_three(on)
    forgotten(on)
    on.tell("app", user("1", 1))
    shown = on.explain("1")["id"]
    assert merge(on.hub, old, "1", now=on.clock(), actor="test").people == (shown,)
    assert leads(on, [old, second, shown], "1")
    forgotten(on, "mailer")
    assert on.people() == ["app:1", "csv:email:a@x.example"]
    assert leads(on, [old, second, shown], "1")


def test_of_a_person_who_falls_apart_the_one_with_the_shown_id_inherits(on: Stage) -> None:
    on.tell("csv", row("a@x.example", 1))
    on.tell("app", user("1", 1))
    on.tell("shop", customer("cus_1", 2))
    merge(on.hub, "1", "shop:cus_1", now=on.clock(), actor="test")
    merge(on.hub, "shop:cus_1", "a@x.example", now=on.clock(), actor="test")
    forgotten(on)
    assert on.people() == ["app:1", "csv:email:a@x.example"]
    assert leads(on, [on.hub.record_id(CUS_1)], "a@x.example")


def test_else_the_first_inherits(on: Stage) -> None:
    on.tell("csv", row("a@x.example", 1))
    on.tell("app", user("1", 1, "b@x.example"))
    on.tell("shop", customer("cus_1", 2, "a@x.example"))
    on.tell("shop", customer("cus_1", 3, "b@x.example"))
    assert len(on.people()) == 1
    forgotten(on)
    assert on.people() == ["app:1", "csv:email:a@x.example"]
    assert leads(on, [on.hub.record_id(CUS_1)], "1")


def test_an_undo_ends_no_id_and_its_way_back_gives_it_back(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    run = an_import(on, imported("a@x.example", 5, city="York"), imported("new@x.example", 5))
    old = on.hub.record_id(RecordKey("csv", "row", "email:a@x.example"))
    new = on.explain("new@x.example")["id"]
    undone(on, run)
    assert on.count_of("records", "connection = 'csv'") == 0
    assert leads(on, [old], "1")
    assert nobody(on, new)
    back(on, run)
    assert leads(on, [old], "1")
    assert leads(on, [new], "new@x.example")
    assert on.differences() == []


def test_an_erasure_leaves_none_of_them(on: Stage) -> None:
    old, second = known_to_three(on)
    forgotten(on)
    forgotten(on, "mailer")
    erase(on.hub, old, now=on.clock(), actor="test")
    assert on.count_of("aliases") == 0
    assert nobody(on, old)
    assert nobody(on, second)


def test_an_erasure_of_one_that_came_back_leaves_nothing_of_where_its_id_led(on: Stage) -> None:
    old, _ = known_to_three(on)
    forgotten(on)
    on.tell("shop", customer("cus_1", 9, "z@x.example"))
    erase(on.hub, old, now=on.clock(), actor="test")
    assert nobody(on, old)
    assert on.explain("a@x.example")["id"]


def test_a_record_that_only_a_link_named_had_an_id_too(on: Stage) -> None:
    on.tell("csv", row("a@x.example", 1))
    ends = RecordRef("customer", "cus_1"), RecordRef("customer", "cus_2")
    on.tell("shop", customer("cus_1", 2, "a@x.example"), Link(a=ends[0], b=ends[1]))
    ids = [on.hub.record_id(RecordKey("shop", *ref)) for ref in ends]
    assert leads(on, ids, "a@x.example")
    forgotten(on)
    assert leads(on, ids, "a@x.example")
