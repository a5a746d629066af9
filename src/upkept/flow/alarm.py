"""Alerts: what waits for a person is stored, counted in `/metrics`, and logged once with its cure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import structlog

from upkept.flow.hub import Hub
from upkept.people.identity import OLDEST_OF_AN_ADDRESS
from upkept.store import alerts, claims, connections, inbox, outbox
from upkept.store.inbox import Claimed, Outcome

log = structlog.get_logger(__name__)

SHARED_ADDRESS: Final = "shared_address"
"""The key of the alert about addresses that too many claim."""


def sound(hub: Hub, key: str, connection: str, message: str, cure: str, *, now: int) -> None:
    """Raise the alert `key`; its log line is written when it is new, not at every repetition."""
    with hub.store.write() as open_store:
        new = alerts.raise_(open_store, key, connection, message, cure, now)
    if new:
        log.error("alert", alert=key, connection=connection, message=message, cure=cure)


def settle(hub: Hub, key: str, *, now: int, before: int | None = None) -> None:
    """The alert `key` is over, if it stood; with `before`, only if its cause was last seen earlier than that."""
    with hub.store.write() as open_store:
        over = alerts.resolve(open_store, key, now, before=before)
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


def rows_in_trouble(hub: Hub, ended: Iterable[Outcome], *, now: int) -> None:
    """Dead rows, and opt-outs that cannot be read: both wait for a person."""
    for outcome in ended:
        name = outcome.row.connection
        if outcome.state == "dead":
            cure = f"see upkept inbox --state dead; after a fix: upkept replay --state dead --connection {name}"
            sound(hub, dead_key(name), name, f"a delivery cannot be applied: {outcome.reason}", cure, now=now)
        elif outcome.state == "new" and outcome.row.lowering != "no":
            cure = (
                "fix the connector; the delivery is kept and tried again every hour, for ever; if nobody will ever "
                f"read it: upkept give-up {outcome.row.id} --reason WHY"
            )
            sound(hub, opt_out_key(name), name, f"an opt-out cannot be read: {outcome.reason}", cure, now=now)


def opt_outs_read(hub: Hub, done: Iterable[Claimed], *, now: int) -> None:
    """Opt-outs that once failed are applied now: their alert is over when none is left."""
    settle_opt_outs(hub, {row.connection for row in done if row.lowering != "no" and row.attempts}, now=now)


def settle_opt_outs(hub: Hub, names: Iterable[str], *, now: int) -> None:
    """The alert about a connection's unread opt-outs is over when none is left."""
    for name in sorted(set(names)):
        with hub.store.read() as open_store:
            left = inbox.unread(open_store, name)
        if not left:
            settle(hub, opt_out_key(name), now=now)


def shared_addresses(hub: Hub, *, now: int) -> None:
    """An address that so many claim that later ones stay apart; it is told by a record, never shown (R14)."""
    with hub.store.read() as open_store:
        apart = claims.any_crowded_out(open_store)
    if apart is None:
        settle(hub, SHARED_ADDRESS, now=now)
        return
    message = f"more than {OLDEST_OF_AN_ADDRESS} records claim one address; later ones stay apart, such as {apart}"
    cure = f"see upkept explain {apart}: is it shared? put it under blocked_addresses, restart, then: upkept rebuild"
    sound(hub, SHARED_ADDRESS, "", message, cure, now=now)


def refused_pushes(hub: Hub, *, now: int) -> None:
    """The alert about what a destination refused is over when none of it is dead any more."""
    with hub.store.read() as open_store:
        standing = [one.connection for one in alerts.unresolved(open_store) if one.key == push_key(one.connection)]
        refused = {name for name, state in outbox.standing(open_store) if state == "dead"} if standing else set()
    for name in standing:
        if name not in refused:
            settle(hub, push_key(name), now=now, before=now)


def dead_key(connection: str) -> str:
    """The key of the alert about deliveries that can never be applied as they are."""
    return f"dead:{connection}"


def push_key(connection: str) -> str:
    """The key of the alert about what a destination refused."""
    return f"push:{connection}"


def read_back_key(connection: str) -> str:
    """The key of the alert about records that could not be read back."""
    return f"read_back:{connection}"


def opt_out_key(connection: str) -> str:
    """The key of the alert about opt-outs that cannot be read."""
    return f"opt_out:{connection}"


def paused_key(connection: str) -> str:
    """The key of the alert about a connection that waits for a person."""
    return f"paused:{connection}"
