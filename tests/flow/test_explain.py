"""Explain: whoever is meant is found, and every value says where it comes from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.flow.stage import RecordRef, Stage, at, customer, happened, plan, row, stage, user

from upkept.contract import WITHDRAWN, Consent, Fact, FieldMap, Rule, TimelineEvent
from upkept.flow.explain import explain
from upkept.flow.export import export
from upkept.flow.find import Several, Unknown
from upkept.store.engine import Store


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


def test_each_value_says_who_said_so_when_and_what_lost(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example", name="Ann", city="Cork"))
    on.tell("csv", row("a@x.example", 2, city="Kyiv"))
    on.tell("shop", customer("cus_1", 0, "a@x.example", city="Oslo", shop_since=at(0)))
    said = on.explain("1")
    assert set(said) >= {
        *("id", "role", "external_id", "email", "name", "attributes", "consent", "tags", "segments", "companies"),
        *("records", "aliases"),
    }
    assert said["attributes"]["city"] == {
        "value": "Kyiv",
        "source": "csv",
        "at": "2026-01-01T00:00:02Z",
        "rule": "lww",
        "lost": [
            {"value": "Cork", "source": "app", "at": "2026-01-01T00:00:01Z"},
            {"value": "Oslo", "source": "shop", "at": "2026-01-01T00:00:00Z"},
        ],
    }
    assert said["attributes"]["shop_since"]["value"] == "2026-01-01T00:00:00Z"
    assert (said["role"], said["email"], said["name"], said["external_id"]) == ("user", "a@x.example", "Ann", "1")
    assert said["attributes"]["external_id"]["source"] == "app"
    assert said["attributes"]["email"]["source"] == "csv"
    assert [(r["connection"], r["type"], r["id"], r["deleted"]) for r in said["records"]] == [
        ("app", "user", "1", False),
        ("csv", "row", "email:a@x.example", False),
        ("shop", "customer", "cus_1", False),
    ]
    assert {r["upkept_id"] for r in said["records"]} == {said["id"], *said["aliases"]}


def test_known_to_be_empty_is_a_value_and_withdrawn_is_not(on: Stage) -> None:
    on.tell("app", user("1", 1, city=None, plan=WITHDRAWN))
    said = on.explain("1")["attributes"]
    assert said["city"]["value"] is None
    assert "plan" not in said


def test_tags_and_companies_are_lists_with_their_own_provenance(on: Stage) -> None:
    sets: dict[str, Any] = {"tag:vip": True, "tag:old": False, "company:acme": True}
    on.tell("app", user("1", 1, **sets))
    said = on.explain("1")
    assert (said["tags"], said["companies"]) == (["vip"], ["acme"])
    assert said["memberships"]["tag:old"] == {
        "value": False, "source": "app", "at": "2026-01-01T00:00:01Z", "rule": "lww", "lost": [],
    }  # fmt: skip
    assert "tag:vip" not in said["attributes"]


def test_consent_tells_its_state_and_the_whole_ledger(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    unknown = on.explain("1")["consent"]["email"]
    assert (unknown["state"], unknown["since"], unknown["because"], unknown["ledger"]) == ("unknown", None, None, [])
    ref = RecordRef("customer", "cus_1")
    on.tell("shop", customer("cus_1", 1, "a@x.example"))
    on.tell("shop", Consent(act="opt_out", address="a@x.example", record=ref, at=at(5), reason="clicked"))
    on.tell("shop", Consent(act="opt_in", address="a@x.example", record=ref, at=at(3), qualified=True, evidence="form"))
    on.tell("shop", Consent(act="bounce_soft", address="a@x.example", at=at(6), reason="full"))
    on.tell("shop", Consent(act="opt_in", address="a@x.example", at=at(9), topic="news", qualified=True, evidence="f2"))
    said = on.explain("1")
    assert said["consent"]["email"]["state"] == "unsubscribed"
    assert said["consent"]["email"]["since"] == "2026-01-01T00:00:05Z"
    assert said["consent"]["email"]["because"]["source"] == "shop"
    assert said["consent"]["email"]["topics"] == {"news": "subscribed"}
    ledger = said["consent"]["email"]["ledger"]
    assert [(one["act"], one["topic"], one["evidence"], one["binds"]) for one in ledger] == [
        ("opt_in", "*", "form", ["address", "record"]),
        ("opt_out", "*", "", ["address", "record"]),
        ("opt_in", "news", "f2", ["address"]),
    ]
    assert said["deliverability"]["a@x.example"]["state"] == "soft"


@pytest.mark.parametrize("name", ["1", "A@X.example", "app:1", "shop:cus_1", "shop:plan_1", "csv:email:a@x.example"])
def test_a_person_is_found_by_every_name(on: Stage, name: str) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    on.tell("csv", row("a@x.example", 1))
    on.tell("shop", customer("cus_1", 1, "a@x.example"), plan("plan_1", "cus_1", 5))
    assert on.explain(name)["external_id"] == "1"


def test_ids_resolve_for_ever(on: Stage) -> None:
    on.tell("app", user("1", 1))
    on.tell("shop", customer("cus_1", 1, "a@x.example"))
    alone = on.explain("shop:cus_1")["id"]
    on.tell("app", user("1", 2, "a@x.example"))
    said = on.explain(alone)
    assert said["external_id"] == "1"
    assert {said["id"], *said["aliases"]} >= {alone}


def test_the_current_holder_comes_before_a_past_one(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    on.tell("app", user("1", 2, "b@x.example"))
    assert on.explain("a@x.example")["external_id"] == "1"
    on.tell("app", user("2", 3, "a@x.example"))
    assert on.explain("a@x.example")["external_id"] == "2"


def test_several_holders_are_candidates(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    on.tell("app", user("2", 1, "a@x.example"))
    with pytest.raises(Several) as several:
        explain(on.hub, "a@x.example")
    ids = [on.explain(name)["id"] for name in ("1", "2")]
    assert sorted(one.id for one in several.value.candidates) == sorted(ids)
    conflicts = on.explain("1")["conflicts"]
    assert conflicts == [{"with": ids[1], "reason": "two_user_ids"}]


@pytest.mark.parametrize("name", ["", "nobody", "nobody@x.example", "shop:cus_9", "nowhere:1", "0" * 24])
def test_nobody_is_unknown(on: Stage, name: str) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    with pytest.raises(Unknown):
        explain(on.hub, name)


def test_the_stored_person_says_the_same(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example", name="Ann"), happened("e1", "signed up"))
    on.tell("shop", customer("cus_1", 2, "a@x.example", name="Anna"), plan("plan_1", "cus_1", 5))
    said = on.explain("1")
    ((role, email, name),) = on.rows("SELECT role, email, name FROM people")
    assert (role, email, name) == (said["role"], said["email"], said["name"])
    assert said["attributes"]["shop_total"]["value"] == 5
    assert said["timeline"] == {"signed up": 1}


def test_what_happened_to_a_part_counts_for_its_holder(on: Stage) -> None:
    disputed = TimelineEvent(record=RecordRef("plan", "plan_1"), name="charge disputed", id="d1", at=at(3))
    on.tell("shop", disputed)
    on.tell("shop", customer("cus_1", 2, "a@x.example"), plan("plan_1", "cus_1", 5))
    assert on.explain("a@x.example")["timeline"] == {"charge disputed": 1}


def test_an_export_holds_everything_and_is_audited(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example", name="Ann", since=at(0)), happened("e1", "signed up", 3, via="web"))
    on.tell("shop", customer("cus_1", 2, "a@x.example"), plan("plan_1", "cus_1", 5))
    told = export(on.hub, "1", now=on.now, actor="test")
    records = {tuple(one["record"]): one for one in told["facts"]}
    assert set(records) == {("app", "user", "1"), ("shop", "customer", "cus_1"), ("shop", "plan", "plan_1")}
    (fact,) = records["app", "user", "1"]["facts"]
    assert (fact["at"], fact["fields"]["since"]) == ("2026-01-01T00:00:01Z", "2026-01-01T00:00:00Z")
    (part,) = records["shop", "plan", "plan_1"]["facts"]
    assert part["fields"] == {"amount_a_month": 5}
    assert told["timeline"] == [
        {"at": "2026-01-01T00:00:03Z", "name": "signed up", "record": ["app", "user", "1"], "metadata": {"via": "web"}}
    ]
    assert on.rows("SELECT action FROM audit") == [("export",)]


def test_an_export_shows_two_fields_under_two_names(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 2, "a@x.example"), replace(plan("plan_1", "cus_1", 5), fields={"_a": 5}))
    on.tell("shop", replace(plan("plan_1", "cus_1", 5, 3), fields={"_a": 6, "amount_a_month": 7}))
    (told,) = (
        one for one in export(on.hub, "shop:cus_1", now=on.now, actor="test")["facts"] if "plan" in one["record"]
    )
    assert [one["fields"] for one in told["facts"]] == [{"_a": 5}, {"_a": 6, "amount_a_month": 7}]


def test_a_label_that_the_field_map_gives_away_is_not_used(on: Stage) -> None:
    shop = on.hub.connections["shop"]
    assert on.hub.labels("shop", ["_a", "name"]) == {"_a": "amount_a_month", "name": "name"}
    mapped = FieldMap(rules=(Rule(of="plan", path="metadata.amount", attribute="amount_a_month"),))
    hub = replace(on.hub, connections={"shop": replace(shop, fields=mapped)})
    assert hub.labels("shop", ["_a"]) == {"_a": "_a"}
    assert hub.labels("gone", ["_a"]) == {"_a": "_a"}


def test_a_vendor_deleted_record_is_told_as_such(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1, "a@x.example", plan="gold", shop_id="cus_1"))
    on.tell("shop", Fact(record=RecordRef("customer", "cus_1"), deleted=True, observed_at=at(2)))
    said = on.explain("a@x.example")
    assert [r["deleted"] for r in said["records"]] == [True]
    assert said["archived"] is True
    assert set(said["attributes"]) == {"shop_id"}
