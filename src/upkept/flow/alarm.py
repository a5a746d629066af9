"""Alerts: what waits for a person is stored, counted in `/metrics`, and logged once with its cure."""

from __future__ import annotations

import structlog

from upkept.flow.hub import Hub
from upkept.store import alerts, connections

log = structlog.get_logger(__name__)


def sound(hub: Hub, key: str, connection: str, message: str, cure: str, *, now: int) -> None:
    """Raise the alert `key`; its log line is written when it is new, not at every repetition."""
    with hub.store.write() as open_store:
        new = alerts.raise_(open_store, key, connection, message, cure, now)
    if new:
        log.error("alert", alert=key, connection=connection, message=message, cure=cure)


def settle(hub: Hub, key: str, *, now: int) -> None:
    """The alert `key` is over, if it stood."""
    with hub.store.write() as open_store:
        over = alerts.resolve(open_store, key, now)
    if over:
        log.info("alert is over", alert=key)


def pause(hub: Hub, connection: str, reason: str, *, now: int) -> str:
    """A person must act before this connection is read from again; the cure, in words."""
    cure = f"put it right, restart the hub if upkept.toml changed, then run: upkept resync {connection}"
    with hub.store.write() as open_store:
        connections.pause(open_store, connection, reason=reason, now=now)
    sound(hub, paused_key(connection), connection, reason, cure, now=now)
    return cure


def unpause(hub: Hub, connection: str, *, now: int) -> None:
    """Its vendor answered, or a person says it is put right."""
    with hub.store.write() as open_store:
        was_paused = connections.resume(open_store, connection)
        alerts.resolve(open_store, paused_key(connection), now)
    if was_paused:
        log.info("connection goes on", connection=connection)


def paused_key(connection: str) -> str:
    """The key of the alert about a connection that waits for a person."""
    return f"paused:{connection}"
