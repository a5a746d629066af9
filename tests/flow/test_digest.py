"""The digest: equal for the same facts in any order and on both databases, different for anything else."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.flow.stage import Stage, at, customer, happened, plan, row, stage, us, user

from upkept.contract import Consent, Statement
from upkept.flow.digest import measure
from upkept.flow.erase import erase
from upkept.flow.link import merge
from upkept.store import whole
from upkept.store.engine import Store, open_store
from upkept.store.migrations import upgrade

TOLD: tuple[tuple[str, Statement], ...] = (
    ("app", user("1", 1, "a@x.example", name="Ann", score=1.5, big=2**53 + 1, flag=True, seen=at(1))),
    ("app", user("2", 1, "a@x.example", name="Åsa\u2028")),
    ("app", happened("e1", "bought", 1)),
    ("app", happened("e2", "bought", 2)),
    ("csv", row("a@x.example", 2, city="Cork")),
    ("shop", customer("cus_1", 2, "b@x.example", plan="gold")),
    ("shop", plan("plan_1", "cus_1", 5)),
    ("shop", Consent(act="opt_out", address="b@x.example", at=at(3))),
)


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


def tell(on: Stage, seed: int) -> str:
    told = list(TOLD)
    random = Random(seed)
    random.shuffle(told)
    for connection, said in [*told, *random.sample(told, 3)]:
        on.say(connection, said, received=us(100_000))
        if random.random() < 0.5:
            on.apply()
    on.apply()
    return on.digest()


@pytest.mark.parametrize("seed", range(4))
def test_any_order_gives_the_same(on: Stage, seed: int, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'other.sqlite3'}"
    upgrade(url)
    other = open_store(url)
    assert tell(on, seed) == tell(stage(other, tmp_path), 99)
    other.close()


CHANGES: dict[str, Any] = {
    "a value": ("app", user("1", 50, city="Kyiv")),
    "an event": ("app", happened("e3", "bought", 3)),
    "consent": ("shop", Consent(act="opt_out", address="z@x.example", at=at(3))),
    "a conflict": ("shop", customer("cus_1", 3, "a@x.example")),
    "a person": ("csv", row("new@x.example", 1)),
}


@pytest.mark.parametrize("what", sorted(CHANGES))
def test_any_change_shows(on: Stage, what: str) -> None:
    before = tell(on, 1)
    connection, said = CHANGES[what]
    on.tell(connection, said)
    assert on.digest() != before


def test_an_erasure_and_a_merge_show(on: Stage) -> None:
    before = tell(on, 1)
    merge(on.hub, "1", "2", now=on.clock(), actor="test")
    merged = on.digest()
    erase(on.hub, "shop:cus_1", now=on.clock(), actor="test")
    assert len({before, merged, on.digest()}) == 3


def test_segments_show(store: Store, tmp_path: Path) -> None:
    on = stage(store, tmp_path, segments={"named": {"field": "name", "operator": "=", "value": "Ann"}})
    before = tell(on, 1)
    on.run("UPDATE people SET segments = '[]'")
    assert on.digest() != before


def test_ids_and_arrival_times_do_not_show(on: Stage) -> None:
    before = tell(on, 1)
    on.run("UPDATE people SET updated_at = updated_at + 1")
    on.run("UPDATE records SET issued_at = issued_at + 1")
    on.run("UPDATE consent SET recorded_at = recorded_at + 1, evidence = '', inbox_key = ''")
    assert on.digest() == before


def test_it_tells_its_sections(on: Stage) -> None:
    tell(on, 1)
    measured = measure(on.hub)
    assert {name: section.rows for name, section in measured.sections.items()} == {
        "people": 3, "counters": 1, "conflicts": 1, "consent": 1, "tombstones": 0,
    }  # fmt: skip


def test_it_is_of_one_moment_whatever_is_written_meanwhile(on: Stage) -> None:
    tell(on, 1)
    with whole.snapshot(on.hub.store) as connection:
        before = list(whole.people(connection))
        on.tell("csv", row("new@x.example", 1))
        assert list(whole.people(connection)) == before
    assert on.count_of("people") == len(before) + 1
