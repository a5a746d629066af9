"""A sample of `make prove`, and every planted bug is caught."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from bench.prove.__main__ import caught, first_wrong
from bench.prove.bugs import BUGS, no_tie_break
from bench.prove.orders import divergences
from bench.prove.races import races
from bench.prove.trials import TRIALS
from bench.prove.vendors import bugs as vendors
from bench.prove.vendors.orders import divergences as mixed
from bench.prove.vendors.stage import Stage, open_stage
from bench.prove.world import World, open_world

from upkept.store.engine import Store, open_store
from upkept.store.migrations import upgrade_store


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Histories hold clocks that are ahead; ten thousand warnings of it help nobody."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[World]:
    store = open_store("sqlite://")
    upgrade_store(store)
    yield open_world(store, tmp_path)
    store.close()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One for all: it is emptied before each arrival."""
    store = open_store("sqlite://")
    upgrade_store(store)
    yield open_stage(store, tmp_path_factory.mktemp("stage"))
    store.close()


def test_any_order_gives_one_store_on_sqlite(memory: World) -> None:
    assert [one for one in divergences(memory, range(40), permutations=4) if one] == []


def test_any_order_gives_one_store(store: Store, tmp_path: Path) -> None:
    world = open_world(store, tmp_path)
    assert [one for one in divergences(world, range(100, 106), permutations=3) if one] == []


def test_any_order_of_what_four_vendors_deliver_gives_one_store_on_sqlite(stage: Stage) -> None:
    assert [one for one in mixed(stage, range(6), permutations=3) if one] == []


def test_any_order_of_what_four_vendors_deliver_gives_one_store(store: Store, tmp_path: Path) -> None:
    assert [one for one in mixed(open_stage(store, tmp_path), range(100, 102), permutations=2) if one] == []


def test_two_workers_with_one_address_make_one_person(postgres_url: str, tmp_path: Path) -> None:
    store = open_store(postgres_url)
    upgrade_store(store)
    store.close()
    assert races(postgres_url, tmp_path, times=60) == 0


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.__name__)
def test_a_trial_holds(memory: World, trial: Callable[[World], str]) -> None:
    assert trial(memory) == ""


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_caught(memory: World, bug: Callable[[], Any]) -> None:
    assert caught(memory, bug)


QUICKLY_CAUGHT = (
    vendors.mailchimp_read_stamped_with_arrival,
    vendors.salesforce_unticked_box_opts_in,
    vendors.marketo_taken_back_lifts,
    vendors.loser_dropped,
    vendors.opt_out_stays_behind,
    no_tie_break,
)
"""Within ten orders each; `make prove` plants the others too."""


@pytest.mark.parametrize("bug", QUICKLY_CAUGHT, ids=lambda bug: bug.__name__)
def test_a_bug_planted_into_a_connector_is_caught(stage: Stage, bug: Callable[[], Any]) -> None:
    assert first_wrong(mixed, stage, bug, each=2)
