"""Apply, and count what only the worker sees where the web process can show it."""

from __future__ import annotations

from collections.abc import Sequence

from upkept.flow.apply import apply
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.store import gauges
from upkept.worker.process import clock


def applied(hub: Hub, ids: Sequence[int]) -> tuple[Bell, ...]:
    """Apply a batch of inbox rows; what to ring next."""
    result = apply(hub, ids, now=clock)
    if result.clamped:
        with hub.store.write() as connection:
            gauges.count_clamped(connection, result.clamped)
    return result.bells
