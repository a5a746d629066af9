"""`make prove`: any order of arrival gives one store, and wrong designs are caught.

The pure core, SQLite and PostgreSQL play random histories of statements, and SQLite and PostgreSQL such of what the
four vendors deliver; two workers race; bugs are planted into all of them.

The exit status says whether everything held. Seeds are printed; `--seed` plays the same histories again.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final, Protocol, TypeVar

import psycopg
import structlog
from bench.prove.bugs import BUGS
from bench.prove.ground import Ground
from bench.prove.orders import Divergence, divergences
from bench.prove.races import races
from bench.prove.trials import TRIALS
from bench.prove.vendors.bugs import BUGS as VENDOR_BUGS
from bench.prove.vendors.orders import divergences as mixed
from bench.prove.vendors.stage import Stage, open_stage
from bench.prove.world import World, open_world
from tests.model import convergence, planted

from upkept.store.engine import Store, open_store
from upkept.store.migrations import upgrade_store

CATCH_WITHIN: Final = 3_000
"""Orders a planted bug may survive before it counts as not caught."""

ORDERS_AT_LEAST: Final = 4
"""Of each history of vendors' deliveries."""

G = TypeVar("G", bound=Ground, contravariant=True)


class Player(Protocol[G]):
    """Plays histories in many orders; yields once per order, None where it held."""

    def __call__(self, ground: G, seeds: range, /, *, permutations: int) -> Iterator[Divergence | None]: ...


Bug = Callable[[], AbstractContextManager[None]]
"""A mistake that is there as long as the context is."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make prove", description=__doc__)
    parser.add_argument("--histories", type=int, default=1_000)
    parser.add_argument("--sqlite", type=int, default=20_000, help="orders of arrival on SQLite")
    parser.add_argument("--postgresql", type=int, default=2_000, help="orders of arrival on PostgreSQL")
    parser.add_argument("--pure", type=int, default=200_000, help="orders of arrival in the pure core")
    parser.add_argument("--vendor-histories", type=int, default=400, help="histories of vendors' deliveries")
    parser.add_argument("--vendor-sqlite", type=int, default=1_600, help="orders of their arrival on SQLite")
    parser.add_argument("--vendor-postgresql", type=int, default=160, help="orders of their arrival on PostgreSQL")
    parser.add_argument("--races", type=int, default=1_000, help="two workers, one address, on PostgreSQL")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--postgresql-url", default=os.environ.get("UPKEPT_TEST_POSTGRES", POSTGRESQL))
    chosen = parser.parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    print(f"seed {chosen.seed}", flush=True)
    seeds = range(chosen.seed, chosen.seed + chosen.histories)
    vendors = range(chosen.seed, chosen.seed + chosen.vendor_histories)
    fewer = vendors[: max(1, chosen.vendor_postgresql // ORDERS_AT_LEAST)]
    with tempfile.TemporaryDirectory(prefix="upkept-prove-") as folder, _database(chosen.postgresql_url) as url:
        home = Path(folder)
        results = [
            pure(seeds, chosen.pure),
            on_store("SQLite", _world("sqlite://", home), divergences, seeds, chosen.sqlite),
            on_store("PostgreSQL", _world(url, home), divergences, seeds, chosen.postgresql),
            on_store("SQLite, four vendors", _stage("sqlite://", home), mixed, vendors, chosen.vendor_sqlite),
            on_store("PostgreSQL, four vendors", _stage(url, home), mixed, fewer, chosen.vendor_postgresql),
            raced(url, home, chosen.races),
            trials(_world("sqlite://", home)),
            pure_bugs_caught(),
            bugs_caught("the product", BUGS, partial(caught, _world("sqlite://", home))),
            bugs_caught("the connectors", VENDOR_BUGS, partial(first_wrong, mixed, _stage("sqlite://", home), each=2)),
        ]
    print("all held" if all(results) else f"FAILED; again with --seed {chosen.seed}", flush=True)
    return 0 if all(results) else 1


POSTGRESQL: Final = "postgresql://postgres@127.0.0.1:5432/postgres"


def pure(seeds: range, orders: int) -> bool:
    """The pure core against the reference model."""
    each = max(1, orders // len(seeds))
    began = time.monotonic()
    found = list(convergence.divergences(seeds, permutations=each))
    _tell("pure core", len(seeds), len(seeds) * each, len(found), began)
    for one in found[:3]:
        print(f"  {one}")
    return not found


def on_store(name: str, ground: G, play: Player[G], seeds: range, orders: int) -> bool:
    """The product on a real store: the digests of all orders are one, and what stands is what the history says."""
    each = max(1, orders // len(seeds))
    began, played, wrong = time.monotonic(), 0, 0
    for one in play(ground, seeds, permutations=each):
        played += 1
        if one is not None:
            wrong += 1
            print(f"  {name}: history {one.seed}, arrival {one.arrival}: {one.what}", flush=True)
        if played % 2_000 == 0:
            print(f"  {name}: {played} of {len(seeds) * each}", flush=True)
    _tell(name, len(seeds), played, wrong, began)
    ground.hub.store.close()
    return wrong == 0


def raced(url: str, home: Path, times: int) -> bool:
    """Two workers, two new records, one address."""
    wrong = races(url, home, times=times)
    print(f"races: {times} on PostgreSQL, {times - wrong} ended with one person", flush=True)
    return wrong == 0


def trials(world: World) -> bool:
    """Lost bells, failed commits, sleepers."""
    wrong = {trial.__name__: said for trial in TRIALS if (said := trial(world))}
    print(f"trials: {len(TRIALS)}, wrong {len(wrong)} {wrong or ''}", flush=True)
    return not wrong


def pure_bugs_caught() -> bool:
    """Wrong designs of the pure core."""
    missed = [
        bug.__name__
        for bug in planted.BUGS
        if next(convergence.divergences(range(CATCH_WITHIN), permutations=4, hub=bug), None) is None
    ]
    print(f"planted in the pure core: {len(planted.BUGS)}, not caught: {missed or 'none'}", flush=True)
    return not missed


def bugs_caught(where: str, bugs: Sequence[Bug], how: Callable[[Bug], str]) -> bool:
    """Wrong designs planted into the running product, or mistakes planted into its connectors."""
    missed = []
    for bug in bugs:
        by = how(bug)
        print(f"  {bug.__name__}: {by or 'NOT CAUGHT'}", flush=True)
        if not by:
            missed.append(bug.__name__)
    print(f"planted in {where}: {len(bugs)}, not caught: {missed or 'none'}", flush=True)
    return not missed


def caught(world: World, bug: Bug) -> str:
    """By what a planted bug was caught; empty if by nothing."""
    with bug():
        tried = next((trial.__name__ for trial in TRIALS if trial(world)), "")
    return tried or first_wrong(divergences, world, bug, each=4)


def first_wrong(play: Player[G], ground: G, bug: Bug, *, each: int) -> str:
    """In which order of arrival a planted bug first showed, and as what; empty if in none."""
    with bug():
        orders = islice(enumerate(play(ground, range(CATCH_WITHIN), permutations=each), start=1), CATCH_WITHIN)
        return next((f"order {n}: {one.what}" for n, one in orders if one is not None), "")


def _tell(name: str, histories: int, orders: int, wrong: int, began: float) -> None:
    took = time.monotonic() - began
    print(f"{name}: {orders} orders of {histories} histories, {wrong} diverged, {took:.0f} s", flush=True)


def _world(url: str, home: Path) -> World:
    return open_world(_store(url), home)


def _stage(url: str, home: Path) -> Stage:
    return open_stage(_store(url), home)


def _store(url: str) -> Store:
    store = open_store(url)
    upgrade_store(store)
    return store


@contextmanager
def _database(server: str) -> Iterator[str]:
    """A throw-away database on a reachable PostgreSQL."""
    name = f"upkept_prove_{os.getpid()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        # What is shown here does not depend on the disk; the crash harness keeps full durability.
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off'.encode())
        try:
            yield server.rsplit("/", 1)[0] + f"/{name}"
        finally:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())


if __name__ == "__main__":
    sys.exit(main())
