"""Nightly: what was walked once is compared whole in the small hours, once a night."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flow.small_vendor import Clock, Vendor, follow, hub_of

from upkept.flow import nightly
from upkept.flow import runs as flow_runs
from upkept.flow.hub import Hub
from upkept.store import connections
from upkept.store.engine import Store
from upkept.store.tables import runs

HOUR = 3_600_000_000
DAY = 24 * HOUR


@pytest.fixture
def vendor() -> Vendor:
    vendor = Vendor()
    vendor.put("cus_1", name="Ann", plan="free", email="a@example.com")
    return vendor


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(store: Store, tmp_path: Path, vendor: Vendor) -> Hub:
    return hub_of(store, tmp_path, vendor.connection())


def at_three(clock: Clock) -> int:
    """Three o'clock (UTC) of the next night."""
    return (clock() // DAY + 1) * DAY + 3 * HOUR


def walked(hub: Hub, clock: Clock) -> None:
    follow(hub, flow_runs.start(hub, "acme", now=clock()).run.id, clock)


def test_nothing_is_walked_uninvited(hub: Hub, clock: Clock) -> None:
    assert nightly.due(hub, at_three(clock)) == ()


def test_what_was_walked_once_is_compared_each_night_once(hub: Hub, clock: Clock) -> None:
    walked(hub, clock)
    night = at_three(clock) + DAY
    assert nightly.due(hub, night + 9 * HOUR) == ()
    (bell,) = nightly.due(hub, night)
    assert (bell.queue, bell.task) == ("outbound", "run")
    assert nightly.due(hub, night + 1) == ()
    clock.at = night + 1
    run = follow(hub, bell.ids[0], clock)
    assert (run.params["mode"], run.state, run.scanned, run.changed) == ("full", "complete", 1, 0)
    assert nightly.due(hub, night + HOUR) == ()
    assert len(nightly.due(hub, night + DAY)) == 1


def test_one_that_failed_waits_for_the_next_night(hub: Hub, clock: Clock) -> None:
    walked(hub, clock)
    night = at_three(clock) + DAY
    assert len(nightly.due(hub, night)) == 1
    with hub.store.write() as connection:
        connection.execute(runs.update().values(state="failed", finished_at=night))
    assert nightly.due(hub, night + HOUR) == ()
    assert len(nightly.due(hub, night + DAY)) == 1


def test_a_paused_connection_is_left_alone(hub: Hub, clock: Clock) -> None:
    walked(hub, clock)
    with hub.store.write() as connection:
        connections.pause(connection, "acme", reason="the key is revoked", now=clock())
    assert nightly.due(hub, at_three(clock) + DAY) == ()
