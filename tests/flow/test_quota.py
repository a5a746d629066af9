"""A vendor account's quota holds across threads and processes; slots and tokens are shared and safe."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from tests.flow.small_vendor import Clock, Vendor, hub_of

from upkept.contract import Retryable
from upkept.flow import runs
from upkept.flow.context import PATIENCE, VendorContext
from upkept.flow.hub import Hub
from upkept.registry import Connection
from upkept.store import quotas, tokens
from upkept.store.engine import Store, open_store

RATE = 50.0
GONE = 4194305
"""Above every process id there can be."""


def limited(rate: float = RATE, slots: int = 2) -> Connection:
    connection = Vendor().connection()
    connector = replace(connection.connector, api_calls=rate, api_slots=slots)
    return replace(connection, connector=connector)


def wall_clock() -> int:
    return time.time_ns() // 1000


def calls_of(url: str, home: Path, go: Event, seconds: float, calls: list[float]) -> None:
    """One worker: call as fast as the quota lets it."""
    store = open_store(url)
    context = VendorContext(hub_of(store, home), limited(), wall_clock)
    go.wait(30)
    until = time.time() + seconds
    while time.time() < until:
        context.permit()
        calls.append(time.time())
    store.close()


def test_several_processes_never_exceed_the_rate_together_and_use_it(store_url: str, tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager:
        calls = manager.list()
        go = spawn.Event()
        workers = [
            spawn.Process(target=calls_of, args=(store_url, tmp_path, go, 3.0, calls), daemon=True) for _ in range(3)
        ]
        for worker in workers:
            worker.start()
        time.sleep(1.5)
        go.set()
        for worker in workers:
            worker.join(30)
            assert worker.exitcode == 0
        made = sorted(calls)
    # A call may come late by what the machine makes it wait; ten calls of 150 in any three seconds allow for that.
    for length in (1.0, 2.0):
        most = max(sum(1 for other in made if start <= other < start + length) for start in made)
        assert most <= RATE * length + 10, f"{most} calls in {length} s"
    assert len(made) >= 0.5 * RATE * (made[-1] - made[0])


def test_who_walks_leases_longer_stretches(store: Store, tmp_path: Path) -> None:
    clock = Clock(tick=0)
    leased: list[int] = []
    context = VendorContext(hub_of(store, tmp_path), limited(), clock, clock.sleep)
    begun = clock.at
    for _ in range(200):
        context.permit()
        with store.read() as connection:
            leased.append(quotas.free_at(connection, "small:1"))
    assert len(set(leased)) <= 10
    assert (clock.at - begun) / 1_000_000 == pytest.approx(199 / RATE, rel=0.02)
    assert max(leased) - clock.at <= 1_100_000


def test_time_that_passed_unused_is_not_made_up_for(store: Store, tmp_path: Path) -> None:
    clock = Clock(tick=0)
    context = VendorContext(hub_of(store, tmp_path), limited(), clock, clock.sleep)
    for _ in range(40):
        context.permit()
    clock.pass_seconds(30)
    begun = clock.at
    for _ in range(40):
        context.permit()
    assert (clock.at - begun) / 1_000_000 >= 38 / RATE


def test_two_connections_of_one_account_share_its_line(store: Store, tmp_path: Path) -> None:
    clock = Clock(tick=0)
    contexts = [
        VendorContext(hub_of(store, tmp_path), replace(limited(), name=name), clock, clock.sleep) for name in "ab"
    ]
    begun = clock.at
    for _ in range(25):
        for context in contexts:
            context.permit()
    assert (clock.at - begun) / 1_000_000 >= 48 / RATE


def test_a_turn_too_far_off_is_for_later_and_costs_nobody_anything(store: Store, tmp_path: Path) -> None:
    clock = Clock(tick=0)
    hub = hub_of(store, tmp_path)
    with store.write() as connection:
        quotas.hold(connection, "small:1", until=clock.at + PATIENCE + 5_000_000)
    for _ in range(3):
        with pytest.raises(Retryable) as refused:
            VendorContext(hub, limited(), clock, clock.sleep).permit()
        assert refused.value.after == pytest.approx(13.0)
    clock.pass_seconds(6)
    VendorContext(hub, limited(), clock, clock.sleep).permit()


def test_no_more_calls_at_once_than_the_account_has_slots(store: Store, tmp_path: Path) -> None:
    clock = Clock(tick=0)
    hub = hub_of(store, tmp_path)
    context = VendorContext(hub, limited(slots=2), clock, clock.sleep)
    with context.slot():
        with context.slot(), pytest.raises(Retryable, match="concurrent"), context.slot():
            pass
        with context.slot():
            pass
    with pytest.raises(ValueError, match="as said"), context.slot():
        raise ValueError("as said")
    with context.slot(), context.slot():
        pass


def test_the_slot_of_a_dead_worker_comes_free(store: Store, tmp_path: Path) -> None:
    clock = Clock(tick=0)
    context = VendorContext(hub_of(store, tmp_path), limited(slots=1), clock, clock.sleep)
    held = context.slot()
    held.__enter__()
    clock.pass_seconds(121)
    with context.slot():
        held.__exit__(None, None, None)  # the first holder must not give back what is not its own
        with pytest.raises(Retryable), context.slot():
            pass


def test_the_slot_of_a_killed_process_of_this_machine_is_free_at_once(store: Store, tmp_path: Path) -> None:
    clock = Clock(tick=0)
    context = VendorContext(hub_of(store, tmp_path), limited(slots=1), clock, clock.sleep)
    here = runs.holder().rpartition(":")[0]
    for who, free in ((f"{here}:{GONE}", True), (f"another-machine:{GONE}", False), (runs.holder(), False)):
        with store.write() as connection:
            assert quotas.take_slot(connection, "small:1", limit=1, holder=f"ab12@{who}", now=clock())
        if free:
            with context.slot():
                pass
        else:
            with pytest.raises(Retryable, match="concurrent"), context.slot():
                pass
        clock.pass_seconds(121)


def test_a_token_is_shared_sealed_and_forgotten_before_it_expires(store: Store, tmp_path: Path) -> None:
    clock = Clock(tick=0)
    hub = hub_of(store, tmp_path)
    context = VendorContext(hub, limited(), clock, clock.sleep)
    assert context.token("access") is None
    context.keep_token("access", "a-secret-token", seconds=600)
    context.keep_token("access", "a-newer-token", seconds=600)
    assert VendorContext(hub, limited(), clock, clock.sleep).token("access") == "a-newer-token"
    with store.read() as connection:
        sealed = tokens.read(connection, "acme", "access", valid_at=clock.at)
    assert sealed is not None
    assert b"newer" not in sealed
    clock.pass_seconds(545)
    assert context.token("access") is None


@pytest.mark.parametrize("change", ["key", "place", "account"])
def test_a_token_is_worth_nothing_elsewhere(store: Store, tmp_path: Path, change: str) -> None:
    clock = Clock(tick=0)
    hub: Hub = hub_of(store, tmp_path)
    make: Callable[[Hub, Connection], VendorContext] = lambda h, c: VendorContext(h, c, clock, clock.sleep)  # noqa: E731
    make(hub, limited()).keep_token("access", "a-secret-token", seconds=600)
    if change == "key":
        hub = replace(hub, keys=replace(hub.keys, secret=b"x" * 32))
        assert make(hub, limited()).token("access") is None
    elif change == "place":
        with store.write() as connection:
            connection.exec_driver_sql("UPDATE tokens SET name = 'refresh'")
        assert make(hub, limited()).token("refresh") is None
    else:
        assert make(hub, replace(limited(), account="small:2")).token("access") is None
