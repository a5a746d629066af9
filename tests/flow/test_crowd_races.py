"""Seats of a crowded address (R14) while two transactions are at work: they end as one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.flow.race import race
from tests.flow.stage import Stage, customer, stage

from upkept.contract import Fact
from upkept.flow import forget
from upkept.people import identity
from upkept.store.engine import open_store

SHARED = "shared@x.example"

LEAVES = {
    "for another address": replace(customer("cus_1", 1, "own@x.example"), sequence=1),
    "for none": replace(customer("cus_1", 1), claims={"email": None}, sequence=1),
    "deleted": replace(customer("cus_1", 1), deleted=True),
    "forgotten": None,
}
COMES = customer("cus_5", 2.5, SHARED)
COMES_BACK = replace(customer("cus_6", 2.2), deleted=False)
"""A late word: cus_6 stood when it stated the address."""

PAIRS = {
    **{how: (leaves, COMES) for how, leaves in LEAVES.items()},
    "for none, back": (LEAVES["for none"], COMES_BACK),
}


@pytest.fixture
def on(with_tables: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Three seats, taken by m_1, cus_1 and cus_2; others wait, and cus_6 was gone when it stated the address."""
    monkeypatch.setattr(identity, "OLDEST_OF_AN_ADDRESS", 3)
    store = open_store(with_tables("postgresql"), pool_size=4)
    on = stage(store, tmp_path)
    on.tell("mailer", customer("m_1", 1, SHARED))
    for n in range(1, 5):
        on.tell("shop", customer(f"cus_{n}", n, SHARED))
    on.tell("shop", replace(customer("cus_6", 2.1), deleted=True), customer("cus_6", 2.3, SHARED))
    yield on
    store.close()


@pytest.mark.parametrize("turn", [1, -1], ids=["leaves first", "comes first"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_one_leaves_while_another_comes(
    on: Stage, pair: tuple[Fact | None, Fact | None], turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    race(on, monkeypatch, *(_act(on, said) for said in pair[::turn]))
    assert on.waiting() == []
    assert on.differences() == []


def _act(on: Stage, said: Fact | None) -> Callable[[], object]:
    if said is not None:
        id_ = on.say("shop", said)
        return lambda: on.apply(id_)
    run = forget.start(on.hub, "mailer", now=on.clock(), actor="test")
    return lambda: on.walk(run)
