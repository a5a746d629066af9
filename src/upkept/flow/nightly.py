"""Nightly: what was walked once is compared whole in the small hours, so that no drift lives longer than a day."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

from upkept.flow import runs as flow_runs
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.people.facts import from_us
from upkept.store import connections, runs

SMALL_HOURS: Final = range(2, 5)
"""Of the workspace's clock."""
ONCE: Final = 20 * 3_600_000_000
"""A connection that was walked, or whose walk was begun, so few microseconds ago has had its turn."""


NEVER_WALKED: Final = "never walked: what the vendor had before is not here, and no night compares it"


def never_walked(hub: Hub) -> tuple[str, ...]:
    """The connections that could be compared and are not, for nobody had them walked once."""
    with hub.store.read() as open_store:
        standings = connections.all_standings(open_store)
    walked = {name for name, standing in standings.items() if standing.walked_at is not None}
    return tuple(name for name, one in sorted(hub.connections.items()) if one.connector.pull and name not in walked)


def cure_of(name: str) -> str:
    """What to do about a connection that was never walked."""
    return f"run upkept resync {name} once"


def due(hub: Hub, now: int) -> tuple[Bell, ...]:
    """Begin the comparisons that are due; call it from any beat, as often as you like.

    A connection is never walked uninvited: only what a person had walked once is compared, and only where `poll` is on.
    """
    zone = ZoneInfo(hub.settings.workspace.timezone)
    if from_us(now).astimezone(zone).hour not in SMALL_HOURS:
        return ()
    wanted = []
    with hub.store.read() as open_store:
        standings = connections.all_standings(open_store)
        for name, connection in sorted(hub.connections.items()):
            standing = standings.get(name)
            if not connection.poll or standing is None or standing.walked_at is None or standing.paused_at is not None:
                continue
            last = runs.latest_walk(open_store, name)
            if now - max(standing.walked_at, last.started_at if last else 0) > ONCE:
                wanted.append(name)
    started = [flow_runs.start(hub, name, now=now, scheduled=True) for name in wanted]
    return tuple(Bell("outbound", "run", (one.run.id,)) for one in started if not one.joined)
