"""A crowded address (R14): by one address its oldest holdings link, and a newcomer costs no more for the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench.prove.orders import divergences
from bench.prove.world import open_world
from tests.flow.stage import Consent, RecordRef, Stage, at, customer, row, stage, us, user
from tests.model import reference_links

from upkept.flow import alarm, rebuild, walk
from upkept.flow.erase import erase
from upkept.flow.steps import step
from upkept.people import identity
from upkept.settings import Identity
from upkept.store import alerts, claims, records
from upkept.store.engine import Store

SHARED = "shared@x.example"


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "OLDEST_OF_AN_ADDRESS", 3)


def crowd(on: Stage, numbers: range) -> None:
    for n in numbers:
        on.say("shop", customer(f"cus_{n:04}", n, SHARED))
    on.apply()


def apart(on: Stage) -> list[str]:
    return [
        source for (source,) in on.rows(
            "SELECT r.source_id FROM conflicts c JOIN records r ON r.id = c.a WHERE c.a = c.b ORDER BY r.source_id"
        )
    ]  # fmt: skip


def rebuilt(on: Stage) -> list[Any]:
    return [one for page in rebuild.check(on.hub, now=on.clock) for one in page]


def test_the_oldest_link_whoever_comes_first(on: Stage, three: None) -> None:
    seconds = [3, 1, 5, 2, 4]
    for n in seconds:
        on.tell("shop", customer(f"cus_{n}", n, SHARED))
    assert on.people() == ["shop:cus_1 shop:cus_2 shop:cus_3", "shop:cus_4", "shop:cus_5"]
    assert apart(on) == ["cus_4", "cus_5"]
    assert rebuilt(on) == []


def test_at_one_moment_the_keys_decide(on: Stage, three: None) -> None:
    for n in (4, 2, 5, 1, 3):
        on.tell("shop", customer(f"cus_{n}", 1, SHARED))
    assert on.people() == ["shop:cus_1 shop:cus_2 shop:cus_3", "shop:cus_4", "shop:cus_5"]
    assert rebuilt(on) == []


def test_many_that_come_in_one_batch_displace_as_many(on: Stage, three: None) -> None:
    crowd(on, range(10, 14))
    crowd(on, range(2))
    assert on.people()[0] == "shop:cus_0000 shop:cus_0001 shop:cus_0010"
    assert apart(on) == ["cus_0011", "cus_0012", "cus_0013"]
    assert rebuilt(on) == []


def test_one_of_the_oldest_is_erased_and_the_next_moves_up(on: Stage, three: None) -> None:
    for n in range(1, 5):
        on.tell("app", user(str(n), n, SHARED))
    assert apart(on) == ["4"]
    erase(on.hub, "1", now=on.clock(), actor="test")
    assert apart(on) == []
    assert {one["reason"] for one in on.explain("4")["conflicts"]} == {"two_user_ids"}
    assert rebuilt(on) == []


def test_one_of_the_oldest_that_is_read_anew_makes_room(on: Stage, three: None) -> None:
    for n in range(1, 6):
        on.tell("shop", replace(customer(f"cus_{n}", n, SHARED), claims={"email": SHARED, "user_id": f"u{n}"}),
                key=f"event of {n}")  # fmt: skip
    assert apart(on) == ["cus_4", "cus_5"]
    on.mapping.silent.add("event of 1")
    on.run("UPDATE inbox SET state = 'new', lease_until = NULL WHERE dedup_key = 'event of 1'")
    on.apply()
    assert on.people() == ["shop:cus_2", "shop:cus_3", "shop:cus_4", "shop:cus_5"]
    assert apart(on) == ["cus_5"]
    assert rebuilt(on) == []


def test_who_holds_an_own_address_too_is_joined_by_that_one(on: Stage, three: None) -> None:
    crowd(on, range(5))
    on.tell("shop", customer("cus_9", 9, "own@x.example"))
    on.tell("csv", row("own@x.example", 10))
    on.tell("shop", customer("cus_9", 11, SHARED))
    assert "csv:email:own@x.example shop:cus_9" in on.people()
    assert apart(on) == ["cus_0003", "cus_0004", "cus_9"]


def test_mere_assertions_take_nobodys_place_where_they_do_not_link(store: Store, tmp_path: Path, three: None) -> None:
    on = stage(store, tmp_path, enforce=True)
    for n in range(5):
        on.tell("app", replace(customer(f"u{n}", n, SHARED), verified=False))
    on.tell("shop", customer("cus_1", 50, SHARED))
    on.tell("csv", row(SHARED, 60))
    assert f"csv:email:{SHARED} shop:cus_1" in on.people()
    assert apart(on) == []


def test_an_opt_out_binds_all_holders(on: Stage, three: None) -> None:
    crowd(on, range(6))
    on.tell("mailer", Consent(act="opt_out", at=at(99), address=SHARED, record=RecordRef("member", "1")))
    assert {on.consent(f"shop:cus_{n:04}") for n in range(6)} == {"unsubscribed"}
    crowd(on, range(6, 7))
    assert on.consent("shop:cus_0006") == "unsubscribed"


def test_it_is_explained_and_told_once_without_the_address(on: Stage, three: None) -> None:
    crowd(on, range(3))
    alarm.shared_addresses(on.hub, now=us(200_000))
    assert _standing(on) == []
    crowd(on, range(3, 5))
    assert on.explain("shop:cus_0004")["conflicts"] == [{"with": None, "reason": "crowded_address"}]
    for _ in range(2):
        alarm.shared_addresses(on.hub, now=us(200_001))
    (told,) = _standing(on)
    assert told.key == "shared_address"
    assert "blocked_addresses" in told.cure
    assert SHARED not in told.message + told.cure
    cured = replace(on.hub.settings, identity=Identity(blocked_addresses=(SHARED,)))
    blocking = Stage(replace(on.hub, settings=cured), on.mapping)
    run, _ = walk.start(on.hub, "rebuild", "", {}, cursor=rebuild.BEGIN, total=5, actor="test", now=on.clock())
    for _ in range(9):
        step(blocking.hub, run.id, now=on.clock)
    alarm.shared_addresses(blocking.hub, now=us(200_002))
    assert (_standing(on), len(on.people())) == ([], 5)


def _standing(on: Stage) -> list[alerts.Alert]:
    with on.hub.store.read() as connection:
        return alerts.unresolved(connection)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_any_arrival_gives_what_the_model_gives(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(identity, "OLDEST_OF_AN_ADDRESS", most)
    monkeypatch.setattr(reference_links, "CROWD", most)
    found = divergences(open_world(store, tmp_path), range(100 * most, 100 * most + 6), permutations=3)
    assert [one for one in found if one is not None] == []


def test_the_two_thousandth_loads_no_more_than_the_hundredth(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    crowd(on, range(1, 1_990))
    counted = Counted(monkeypatch)
    crowd(on, range(2_000, 2_001))
    assert counted.locked <= 2
    assert counted.claims <= 2
    assert counted.looked_up <= 500
    counted = Counted(monkeypatch)
    crowd(on, range(1))
    assert counted.locked <= 3 * 101
    assert counted.looked_up <= 1_500
    assert apart(on)[0] == "cus_0100"


class Counted:
    """Rows that came back from the store while the core worked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.locked = self.claims = self.looked_up = 0
        for module, name, counts in (
            (records, "lock", "locked"), (claims, "of", "claims"), (claims, "oldest", "looked_up"),
            (claims, "holders", "looked_up"), (claims, "holders_of_each", "looked_up"),
        ):  # fmt: skip
            monkeypatch.setattr(module, name, self._counting(getattr(module, name), counts))

    def _counting(self, ask: Callable[..., Any], counts: str) -> Callable[..., Any]:
        def asked(*args: Any, **options: Any) -> Any:
            found = ask(*args, **options)
            size = sum(len(one.records) for one in found.values()) if ask.__name__ == "oldest" else len(found)
            setattr(self, counts, getattr(self, counts) + size)
            return found

        return asked
