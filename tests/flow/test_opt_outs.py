"""An opt-out that we ask for is in force as soon as it is stored, and a delivery that may hold one never goes dead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.flow.small_vendor import Clock, Vendor, arrive, follow, get, heads, hub_of, inbox_states, ring
from tests.flow.stage import RecordRef, Stage, at, stage, user

from upkept.contract import Consent, Fact
from upkept.flow import runs
from upkept.flow.apply import apply
from upkept.flow.explain import explain
from upkept.flow.fetch import fetch, read_back
from upkept.flow.hub import Hub
from upkept.flow.normalize import ATTEMPTS
from upkept.flow.pull import step
from upkept.store import alerts, readbacks
from upkept.store.engine import Store
from upkept.store.runs import Run

LOWERING = frozenset({"customer.updated", "read.customer"})


@pytest.fixture
def vendor() -> Vendor:
    made = Vendor(lowering=LOWERING)
    for n in range(12):
        made.put(f"cus_{n:02}", email=f"p{n}@x.example", name=f"P{n}")
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(store: Store, tmp_path: Path, vendor: Vendor, clock: Clock) -> Hub:
    made = hub_of(store, tmp_path, vendor.connection())
    assert walked(made, clock).state == "complete"
    return made


def walked(hub: Hub, clock: Clock) -> Run:
    return follow(hub, runs.start(hub, "acme", now=clock(), afresh=True).run.id, clock)


def state(hub: Hub, id_: str) -> str:
    return str(explain(hub, f"acme:{id_}")["consent"]["email"]["state"])


def rows(hub: Hub, statement: str) -> list[tuple[object, ...]]:
    with hub.store.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement)]


def waiting(hub: Hub) -> list[int]:
    return [int(str(id_)) for (id_,) in rows(hub, "SELECT id FROM inbox WHERE state = 'new' ORDER BY id")]


def standing(hub: Hub) -> list[str]:
    with hub.store.read() as connection:
        return [one.key for one in alerts.unresolved(connection)]


def test_of_a_page_when_it_is_stored(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.put("cus_03", unsubscribed=True)
    vendor.put("cus_11", unsubscribed=True)
    run = runs.start(hub, "acme", now=clock()).run
    bells = step(hub, run.id, now=clock)
    assert inbox_states(hub)["new"] == 2
    assert [state(hub, id_) for id_ in ("cus_03", "cus_11", "cus_04")] == ["unsubscribed", "unsubscribed", "unknown"]
    assert rows(hub, "SELECT DISTINCT lane, lowering FROM inbox") == [("bulk", "may")]
    count = rows(hub, "SELECT count(*) FROM consent")
    ring(hub, bells, clock)
    assert (follow(hub, run.id, clock).state, get(hub, run.id).changed) == ("complete", 2)
    assert rows(hub, "SELECT count(*) FROM consent") == count == [(4,)]


def test_of_an_event_that_no_webhook_brought(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.tell("cus_03", clock(), unsubscribed=True)
    step(hub, runs.start(hub, "acme", now=clock(), mode="incremental").run.id, now=clock)
    assert state(hub, "cus_03") == "unsubscribed"
    assert rows(hub, "SELECT lane, state FROM inbox WHERE kind = 'customer.updated'") == [("consent", "new")]


def test_of_a_thin_event_when_it_is_fetched(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    event = vendor.tell("cus_03", clock(), unsubscribed=True)
    row = arrive(hub, event, clock, thin=True)
    fetch(hub, [row], now=clock)
    assert state(hub, "cus_03") == "unsubscribed"
    assert rows(hub, "SELECT lowering FROM inbox WHERE state = 'new'") == [("may",)]


def test_of_a_record_that_is_read_back(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.put("cus_03", unsubscribed=True)
    with hub.store.write() as connection:
        readbacks.wish(connection, [("acme", "customer", "cus_03", "tie", clock())])
    clock.pass_seconds(1)
    read_back(hub, now=clock)
    assert inbox_states(hub)["new"] == 1
    assert state(hub, "cus_03") == "unsubscribed"


def test_one_without_a_time_is_told_once(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    """Its time is that of its arrival: told again it would beat an opt-in made since."""
    vendor.tell("cus_03", clock(), unsubscribed=True, undated=True)
    since = {"mode": "since", "since": clock.at - 60_000_000}
    for _ in range(2):
        follow(hub, runs.start(hub, "acme", now=clock(), **since).run.id, clock)  # type: ignore[arg-type]
    assert rows(hub, "SELECT count(DISTINCT at) FROM consent") == [(1,)]


def test_what_is_listed_and_cannot_be_read_is_tried_for_ever(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.put("cus_03", unsubscribed=True, broken=True)
    run = runs.start(hub, "acme", now=clock()).run
    ring(hub, step(hub, run.id, now=clock), clock)
    for _ in range(ATTEMPTS + 2):
        clock.pass_seconds(3_700)
        apply(hub, waiting(hub), now=clock)
    run = follow(hub, run.id, clock)
    assert (run.state, run.failed) == ("failed", 1)
    assert "1 of 12 may hold an opt-out and cannot be read" in str(run.reason)
    assert inbox_states(hub) == {"done": 12, "new": 1}
    assert standing(hub) == ["opt_out:acme"]
    vendor.repaired = True
    clock.pass_seconds(3_700)
    apply(hub, waiting(hub), now=clock)
    assert (state(hub, "cus_03"), standing(hub)) == ("unsubscribed", [])


def test_a_thin_one_that_the_vendor_refuses_is_tried_for_ever(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    event = vendor.tell("cus_03", clock(), unsubscribed=True)
    vendor.events.clear()
    row = arrive(hub, event, clock, thin=True, lowering="may")
    for _ in range(2):
        ring(hub, fetch(hub, [row], now=clock), clock)
        assert (waiting(hub), standing(hub)) == ([row], ["opt_out:acme"])
        clock.pass_seconds(3_700)
    vendor.events.append(event)
    ring(hub, fetch(hub, [row], now=clock), clock)
    assert (state(hub, "cus_03"), standing(hub)) == ("unsubscribed", [])
    assert heads(hub)["cus_03"]["name"] == "P3"


def test_what_can_be_read_and_not_applied_is_in_force_declared_or_not(store: Store, tmp_path: Path) -> None:
    on: Stage = stage(store, tmp_path)
    on.tell("app", user("1", 1, "a@x.example"))
    misfit = Fact(record=RecordRef("customer", "cus_1"), owner=RecordRef("customer", "cus_2"), observed_at=at(2))
    row = on.say("shop", misfit, Consent(act="opt_out", address="a@x.example", at=at(2)))
    on.run("DELETE FROM consent")
    for _ in range(ATTEMPTS + 2):
        applied = on.apply(row)
        on.now += 3_700_000_000
        assert (applied.retried, applied.dead) == (1, 0)
    assert on.consent("1") == "unsubscribed"
    assert on.rows("SELECT key FROM alerts WHERE resolved_at IS NULL") == [("opt_out:shop",)]


def test_an_opt_out_of_a_connection_that_is_configured_no_more_waits_too(hub: Hub, clock: Clock) -> None:
    without = replace(hub, connections={})
    row = arrive(hub, {"id": "evt_1", "kind": "customer.updated"}, clock, lowering="may")
    for _ in range(ATTEMPTS + 2):
        apply(without, [row], now=clock)
        clock.pass_seconds(3_700)
    assert waiting(hub) == [row]
