"""Fetch and read-back: one call per record, no lost wish, and a vendor that is away stops nothing else."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from tests.flow.small_vendor import Clock, Vendor, arrive, follow, heads, hub_of, inbox_states, ring

from upkept.contract import Config, Permanent, Retryable
from upkept.flow import runs
from upkept.flow.fetch import READERS, fetch, read_back
from upkept.flow.hub import Hub
from upkept.store import alerts, connections, inbox, quotas, readbacks
from upkept.store.engine import Store


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(store: Store, tmp_path: Path, vendor: Vendor) -> Hub:
    return hub_of(store, tmp_path, vendor.connection())


def wish(hub: Hub, *ids: str, due_at: int, name: str = "acme", reason: str = "tie") -> None:
    with hub.store.write() as connection:
        readbacks.wish(connection, [(name, "customer", id, reason, due_at) for id in ids])


def wishes(hub: Hub) -> int:
    with hub.store.read() as connection:
        return sum(count for _, count in readbacks.waiting(connection))


def waiting_alerts(hub: Hub) -> list[str]:
    with hub.store.read() as connection:
        return [alert.key for alert in alerts.unresolved(connection)]


def rows(hub: Hub) -> list[tuple[str, str | None]]:
    with hub.store.read() as connection:
        return [(row.state, row.reason) for row in reversed(inbox.listed(connection))]


def test_a_thin_event_becomes_its_answer(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    event = vendor.tell("cus_1", clock.at, name="Ann")
    row = arrive(hub, {**event, "customer": {}}, clock, thin=True)
    bells = fetch(hub, [row], now=clock)
    assert [bell.task for bell in bells] == ["apply"]
    ring(hub, bells, clock)
    assert heads(hub)["cus_1"] == {"name": "Ann"}
    assert rows(hub) == [("done", None), ("done", None)]
    assert fetch(hub, [row], now=clock) == ()
    assert vendor.calls == 1


def test_a_thin_event_whose_answer_is_known_is_done(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    event = vendor.tell("cus_1", clock.at, name="Ann")
    row = arrive(hub, {**event, "customer": {}}, clock, thin=True)
    ring(hub, fetch(hub, [row], now=clock), clock)
    with hub.store.write() as connection:
        inbox.replay(connection, now=clock(), ids=[row])
    assert fetch(hub, [row], now=clock) == ()
    assert rows(hub)[0] == ("done", "known already")


def test_the_backlog_of_one_vendor_holds_few_couriers(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    """An opt-out for another one may wait for a courier. What is passed over is taken along by those who are at it."""
    ids = [
        arrive(hub, {**vendor.tell(f"cus_{n}", clock.at, name="Ann"), "customer": {}}, clock, thin=True)
        for n in range(2)
    ]
    with hub.store.write() as connection:
        places = [
            quotas.take_slot(connection, "fetch:acme", limit=READERS, holder=str(n), now=clock())
            for n in range(READERS)
        ]
    assert fetch(hub, ids[:1], now=clock) == ()
    assert vendor.calls == 0
    assert places[0] is not None
    with hub.store.write() as connection:
        quotas.give_back(connection, places[0])
    ring(hub, fetch(hub, ids[1:], now=clock), clock)
    assert heads(hub).keys() == {"cus_0", "cus_1"}


def test_a_row_that_is_not_thin_is_not_fetched(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    row = arrive(hub, vendor.tell("cus_1", clock.at, name="Ann"), clock)
    assert fetch(hub, [row], now=clock) == ()
    assert (vendor.calls, inbox_states(hub)) == (0, {"new": 1})


@pytest.mark.parametrize(
    ("error", "state", "alert"),
    [
        (Permanent("gone for good"), "dead", ["fetch:acme"]),
        (Retryable("busy", after=30), "new", []),
        (Config("the key was revoked"), "new", ["paused:acme"]),
        (ValueError("c1@example.com"), "new", []),
    ],
)
def test_errors_of_a_fetch(
    hub: Hub, clock: Clock, vendor: Vendor, error: Exception, state: str, alert: list[str]
) -> None:
    ids = [
        arrive(hub, {**vendor.tell(f"cus_{n}", clock.at, name="Ann"), "customer": {}}, clock, thin=True)
        for n in range(3)
    ]
    vendor.fail_at[1] = error
    ring(hub, fetch(hub, ids, now=clock), clock)
    assert rows(hub)[0][0] == state
    assert "example.com" not in str(rows(hub)[0][1])
    assert waiting_alerts(hub) == alert
    away = isinstance(error, Retryable | Config)
    assert vendor.calls == (1 if away else 3)
    if away:
        clock.pass_seconds(1000)
        with hub.store.write() as connection:
            connections.resume(connection, "acme")
    clock.pass_seconds(60)
    if state == "new":
        ring(hub, fetch(hub, ids, now=clock), clock)
        assert set(heads(hub)) == {"cus_0", "cus_1", "cus_2"}


def test_a_read_back_is_one_call_for_any_number_of_wishes(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.put("cus_1", name="Ann")
    for _ in range(3):
        wish(hub, "cus_1", due_at=clock.at + 2_000_000)
    assert read_back(hub, now=clock) == ()
    clock.pass_seconds(3)
    bells = read_back(hub, now=clock)
    assert vendor.asked == ["fetch cus_1"]
    ring(hub, bells, clock)
    assert heads(hub)["cus_1"] == {"name": "Ann"}
    assert wishes(hub) == 0


def test_of_two_wishes_the_earlier_time_stands(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    wish(hub, "cus_1", due_at=clock.at + 9_000_000)
    wish(hub, "cus_1", due_at=clock.at + 2_000_000)
    wish(hub, "cus_1", due_at=clock.at + 90_000_000)
    clock.pass_seconds(3)
    read_back(hub, now=clock)
    assert vendor.calls == 1


def test_a_wish_made_while_the_record_is_read_asks_for_another_read(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.put("cus_1", name="Ann")
    wish(hub, "cus_1", due_at=clock.at)

    def wished_meanwhile() -> None:
        vendor.while_asked = lambda: None
        wish(hub, "cus_1", due_at=clock.at)
        vendor.put("cus_1", name="Eve")

    vendor.while_asked = wished_meanwhile
    ring(hub, read_back(hub, now=clock), clock)
    assert wishes(hub) == 1
    clock.pass_seconds(3)
    ring(hub, read_back(hub, now=clock), clock)
    assert (vendor.calls, wishes(hub)) == (2, 0)
    assert heads(hub)["cus_1"] == {"name": "Eve"}


def test_two_couriers_do_not_read_the_same_record(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    for n in range(12):
        vendor.put(f"cus_{n:02}", name="Ann")
    wish(hub, *vendor.customers, due_at=clock.at)
    vendor.while_asked = lambda: time.sleep(0.005)
    couriers = [threading.Thread(target=read_back, args=(hub,), kwargs={"now": clock}) for _ in range(3)]
    for courier in couriers:
        courier.start()
    for courier in couriers:
        courier.join(timeout=60)
    assert sorted(vendor.asked) == [f"fetch {id}" for id in sorted(vendor.customers)]
    assert wishes(hub) == 0


def test_a_courier_that_dies_leaves_the_wish(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.put("cus_1", name="Ann")
    wish(hub, "cus_1", due_at=clock.at)
    with hub.store.write() as connection:
        assert len(readbacks.claim(connection, now=clock(), limit=9)) == 1
    assert read_back(hub, now=clock) == ()
    clock.pass_seconds(121)
    ring(hub, read_back(hub, now=clock), clock)
    assert (vendor.calls, wishes(hub)) == (1, 0)


@pytest.mark.parametrize(
    ("error", "kept", "alert"),
    [
        (Permanent("gone for good"), 0, ["read_back:acme"]),
        (Retryable("busy", after=30), 1, []),
        (Config("the key was revoked"), 1, ["paused:acme"]),
        (ValueError("c1@example.com"), 1, []),
    ],
)
def test_errors_of_a_read_back(
    hub: Hub, clock: Clock, vendor: Vendor, error: Exception, kept: int, alert: list[str]
) -> None:
    vendor.put("cus_1", name="Ann")
    wish(hub, "cus_1", due_at=clock.at)
    vendor.fail_at[1] = error
    read_back(hub, now=clock)
    assert (vendor.calls, wishes(hub), waiting_alerts(hub)) == (1, kept, alert)
    clock.pass_seconds(31)
    ring(hub, read_back(hub, now=clock), clock)
    assert vendor.calls == (2 if kept and not isinstance(error, Config) else 1)


def test_a_vendor_that_is_away_does_not_hold_up_another(
    store: Store, tmp_path: Path, clock: Clock, vendor: Vendor
) -> None:
    other = Vendor()
    hub = hub_of(store, tmp_path, vendor.connection(), other.connection("other"))
    for n in range(20):
        vendor.put(f"cus_{n:02}", name="Ann")
    wish(hub, *vendor.customers, due_at=clock.at)
    other.put("cus_1", name="Eve")
    wish(hub, "cus_1", due_at=clock.at + 1, name="other")
    vendor.fail_at = {call: Retryable("no answer") for call in range(1, 99)}
    ring(hub, read_back(hub, now=clock), clock)
    assert vendor.calls == 1
    assert heads(hub)["cus_1"] == {"name": "Eve"}
    assert wishes(hub) == 20


def test_nothing_to_read_from_is_dropped(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    wish(hub, "row_1", due_at=clock.at, name="csv")
    wish(hub, "other_1", due_at=clock.at)
    assert read_back(hub, now=clock) == ()
    assert wishes(hub) == 0
    assert waiting_alerts(hub) == []


def test_a_paused_connection_is_not_read_from(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    row = arrive(hub, {**vendor.tell("cus_1", clock.at, name="Ann"), "customer": {}}, clock, thin=True)
    wish(hub, "cus_1", due_at=clock.at)
    with hub.store.write() as connection:
        connections.pause(connection, "acme", reason="wrong key", now=clock())
    assert read_back(hub, now=clock) == ()
    assert fetch(hub, [row], now=clock) == ()
    assert (vendor.calls, wishes(hub), inbox_states(hub)) == (0, 1, {"new": 1})


def test_what_could_not_be_read_back_is_over_after_a_walk_that_began_later(
    hub: Hub, clock: Clock, vendor: Vendor
) -> None:
    def given_up() -> None:
        wish(hub, "cus_1", due_at=clock.at)
        vendor.fail_at[vendor.calls + 1] = Permanent("gone for good")
        read_back(hub, now=clock)

    vendor.put("cus_1", name="Ann")
    under_way = runs.start(hub, "acme", now=clock()).run
    given_up()
    follow(hub, under_way.id, clock)
    assert waiting_alerts(hub) == ["read_back:acme"]  # that walk may have shown the record as it was before
    since = runs.start(hub, "acme", now=clock(), mode="since", since=clock.at).run
    follow(hub, since.id, clock)
    assert waiting_alerts(hub) == ["read_back:acme"]
    follow(hub, runs.start(hub, "acme", now=clock()).run.id, clock)
    assert waiting_alerts(hub) == []
    given_up()
    assert waiting_alerts(hub) == ["read_back:acme"]
