"""Mass deletions: what a walk misses beyond the connection's share waits for a person's word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.flow.small_vendor import Clock, Vendor, follow, hub_of

from upkept.flow import runs as flow_runs
from upkept.flow.hub import Hub
from upkept.store import alerts, readbacks
from upkept.store.engine import Store

KNOWN = 40


def walked_twice(store: Store, home: Path, share: float | None, gone: int) -> Hub:
    """A vendor of `KNOWN` customers was walked, `gone` vanished, and it was walked again."""
    vendor, clock = Vendor(), Clock()
    for number in range(KNOWN):
        vendor.put(f"cus_{number:02}", name=f"Customer {number}")
    connection = vendor.connection()
    hub = hub_of(store, home, connection if share is None else replace(connection, missing_share=share))
    for left in (KNOWN, KNOWN - gone):
        vendor.customers = dict(list(vendor.customers.items())[:left])
        run = follow(hub, flow_runs.start(hub, "acme", now=clock()).run.id, clock)
    assert (run.state, run.missing) == ("complete", gone)
    return hub


def taken_as_deleted(hub: Hub) -> int:
    with hub.store.read() as connection:
        return sum(count for _, count in readbacks.waiting(connection))


def asked(hub: Hub) -> list[str]:
    with hub.store.read() as connection:
        return [alert.cure for alert in alerts.unresolved(connection) if alert.key == "missing:acme"]


@pytest.mark.parametrize(("share", "gone"), [(None, 10), (0.3, 12), (0.5, 20), (1.0, KNOWN - 1), (0.0, 10)])
def test_up_to_the_share_it_is_read_back(store: Store, tmp_path: Path, share: float | None, gone: int) -> None:
    hub = walked_twice(store, tmp_path, share, gone)
    assert (taken_as_deleted(hub), asked(hub)) == (gone, [])


@pytest.mark.parametrize(("share", "gone"), [(None, 11), (0.3, 13), (0.5, 21), (0.0, 11)])
def test_above_the_share_a_person_is_asked(store: Store, tmp_path: Path, share: float | None, gone: int) -> None:
    hub = walked_twice(store, tmp_path, share, gone)
    assert taken_as_deleted(hub) == 0
    (cure,) = asked(hub)
    assert "upkept resync acme --full --allow-deletes" in cure
