"""Two records of one connection that are one person: what the connector says over both is what they show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from tests.flow.stage import RecordRef, Stage, at, customer, plan, stage, user

from upkept.contract import AnyConnector, Combine, Fact, Summary, Whole
from upkept.flow.export import export
from upkept.flow.link import merge, unmerge
from upkept.store.engine import Store
from upkept.store.tables import metadata


def combine(records: Iterable[Whole], /) -> Mapping[str, Summary]:
    """The totals added up; the level of the customer that spent most."""
    ranked = sorted(records, key=lambda one: (-int(str(one.summary.get("shop_total", 0))), one.ref))
    used = tuple(one.ref for one in ranked)
    total = sum(int(str(one.summary.get("shop_total", 0))) for one in ranked)
    return {
        "shop_total": Summary(value=total, used=used),
        "level": Summary(value=ranked[0].fields.get("level"), used=used),
    }


def broken(_records: Iterable[Whole], /) -> Mapping[str, Summary]:
    raise ZeroDivisionError


def combining(on: Stage, way: Combine) -> Stage:
    """The same hub, its shop combining this way."""
    shop = on.hub.connections["shop"]
    connector: AnyConnector = replace(shop.connector, combine=way)
    connections = {**on.hub.connections, "shop": replace(shop, connector=connector)}
    return replace(on, hub=replace(on.hub, connections=connections))


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return combining(stage(store, tmp_path), combine)


def deleted(id_: str, second: float) -> Fact:
    return Fact(record=RecordRef("customer", id_), observed_at=at(second), deleted=True)


SAID = (
    customer("cus_1", 1, "a@x.example", level="gold", city="Cork"),
    plan("plan_1", "cus_1", 30, 2),
    customer("cus_2", 5, "a@x.example", level="new", city="Kyiv"),
    plan("plan_2", "cus_2", 12, 6),
)


def test_both_are_shown_together_whatever_came_first(on: Stage) -> None:
    digests = set()
    for order in list(permutations(SAID))[::5]:
        for table in metadata.sorted_tables:
            on.run(str(table.delete()))
        for said in order:
            on.tell("shop", said)
        assert [on.value("shop:cus_2", name) for name in ("shop_total", "level", "city")] == [42, "gold", "Kyiv"]
        digests.add(on.digest())
    assert len(digests) == 1
    assert on.differences() == []


def test_explain_lists_what_a_value_was_made_of(on: Stage) -> None:
    on.tell("shop", *SAID)
    on.tell("app", user("1", 3, "a@x.example", level="none"))
    attributes = on.explain("1")["attributes"]
    assert attributes["shop_total"] == {
        "value": 42,
        "source": "shop",
        "at": "2026-01-01T00:00:06Z",
        "rule": "combined",
        "lost": [],
        "made_of": [
            {"type": "customer", "id": "cus_1", "value": 30, "at": "2026-01-01T00:00:02Z"},
            {"type": "customer", "id": "cus_2", "value": 12, "at": "2026-01-01T00:00:06Z"},
        ],
    }
    assert (attributes["level"]["value"], attributes["level"]["rule"]) == ("gold", "combined")
    assert [lost["source"] for lost in attributes["level"]["lost"]] == ["app"]
    assert "made_of" not in attributes["city"]
    assert export(on.hub, "1", now=on.clock(), actor="test")["attributes"] == attributes


def test_one_alone_says_what_it_says_alone(on: Stage) -> None:
    on.tell("shop", *SAID)
    alone = {"shop_total": 12, "level": "new", "city": "Kyiv", "email": "a@x.example"}
    unmerge(on.hub, "shop:cus_1", "shop:cus_2", now=on.clock(), actor="test")
    apart = on.explain("shop:cus_2")["attributes"]
    assert {name: one["value"] for name, one in apart.items()} == alone
    assert on.value("shop:cus_1", "shop_total") == 30
    assert {one["rule"] for one in apart.values()} == {"lww"}
    merge(on.hub, "shop:cus_1", "shop:cus_2", now=on.clock(), actor="test")
    assert on.value("shop:cus_1", "shop_total") == 42
    assert on.differences() == []


def test_a_deleted_one_is_left_out_however_late_its_delete_was_told(on: Stage) -> None:
    on.tell("shop", *SAID, deleted("cus_1", 9))
    said = on.explain("shop:cus_2")["attributes"]
    assert (said["shop_total"]["value"], said["level"]["value"]) == (12, "new")
    assert [share["id"] for share in said["shop_total"]["made_of"]] == ["cus_2"]
    assert [lost["value"] for lost in said["shop_total"]["lost"]] == [30], "what outlives the delete is still told"
    on.tell("shop", deleted("cus_2", 10))
    assert on.explain("shop:cus_2")["attributes"]["shop_total"]["rule"] == "lww", "nobody is left to combine"
    assert on.differences() == []


def test_an_error_in_it_holds_up_only_the_delivery_that_meets_it(on: Stage) -> None:
    sick = combining(on, broken)
    sick.tell("shop", *SAID[:2])
    bad = sick.say("shop", *SAID[2:])
    good = sick.say("shop", customer("cus_9", 7, "z@x.example", level="new"))
    applied = sick.apply()
    assert (applied.done, applied.retried) == (1, 1)
    assert (sick.inbox(bad)["state"], sick.inbox(good)["state"]) == ("new", "done")
    assert sick.inbox(bad)["reason"].startswith("ZeroDivisionError at test_together.py")
    on.replay(bad)
    assert on.value("shop:cus_2", "shop_total") == 42
