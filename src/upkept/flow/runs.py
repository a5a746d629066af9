"""Starting and ending runs: what a person asks for, what is due by schedule, and the report at the end."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from upkept.contract import Config
from upkept.flow import alarm
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.people.facts import from_us
from upkept.registry import MISSING_SHARE, Connection
from upkept.store import alerts, connections, readbacks, runs, walked
from upkept.store.connections import Standing
from upkept.store.runs import Run
from upkept.store.walked import Missing

Mode = Literal["full", "since", "incremental"]

SECOND: Final = 1_000_000
OUTAGE: Final = 1_800 * SECOND
"""After so long a silence of the hub every connection is pulled at once, whatever its `poll`."""
PAUSED_TRY: Final = 3_600 * SECOND
"""How often a paused connection is tried all the same: its cure may not have been reported to us."""
REOPENABLE: Final = 86_400 * SECOND
"""How long a run stopped by a wrong setting may wait for its cure and then go on where it stood."""
SETTLE_AGAIN: Final = 2 * SECOND

MISSING_FEW: Final = 10
MISSING_READ: Final = 5_000
"""A walk that misses more than a few records, and more than the `missing_share` of its connection, is not believed:
it looks like another account. At most so many are read back after one walk."""


@dataclass(frozen=True, slots=True)
class Started:
    """A run, and whether it was under way already (`joined`) or goes on after its cause of failure (`resumed`)."""

    run: Run
    joined: bool = False
    resumed: bool = False


def start(
    hub: Hub,
    name: str,
    *,
    now: int,
    mode: Mode = "full",
    since: int | None = None,
    allow_deletes: bool = False,
    afresh: bool = False,
    scheduled: bool = False,
) -> Started:
    """Begin a resync of connection `name`, or join the one under way. Raises `Config` if it cannot be pulled.

    `afresh` cancels what is under way. A person's asking says that a paused connection was put right.
    """
    connection = pullable(hub, name)
    with hub.store.write() as open_store:
        under_way = runs.open_resync(open_store, name) if afresh else None
        if under_way:
            runs.cancel(open_store, under_way.id, now=now, reason="begun again with --full")
        if not scheduled and connections.resume(open_store, name):
            alerts.resolve(open_store, alarm.paused_key(name), now)
        standing = connections.standing(open_store, name)
        if mode == "incremental" and standing.cursor is None:
            mode = "full"
        params = _params(mode, since, allow_deletes)
        resumed = None if afresh else _resumable(runs.latest(open_store, name), params, now)
        if resumed and (run := runs.reopen(open_store, resumed.id, now=now)):
            return Started(run, resumed=True)
        walk = runs.latest_walk(open_store, name, state="complete") if mode == "full" else None
        total = walk.scanned if walk else None
        cursor = beginning(standing, mode, since)
        run, new = runs.start(open_store, "resync", connection.name, params, now, cursor=cursor, total=total)
        if new:
            runs.give_up(open_store, name)
        return Started(run, joined=not new)


def pullable(hub: Hub, name: str) -> Connection:
    """The connection `name`; `Config` names the cure if there is none or it cannot be pulled."""
    connection = hub.connections.get(name)
    if connection is None:
        offered = ", ".join(sorted(other for other, one in hub.connections.items() if one.connector.pull)) or "none"
        raise Config(f"there is no connection {name!r}; those that can be pulled: {offered}. See upkept.toml")
    if connection.connector.pull is None:
        raise Config(f"connection {name!r} cannot be pulled: its connector {connection.connector.name!r} only receives")
    return connection


def beginning(standing: Standing, mode: Mode, since: int | None) -> str | None:
    """The cursor a pull begins at: None walks over everything."""
    if mode == "since" and since is not None:
        return f"since:{from_us(since).isoformat()}"
    return standing.cursor if mode == "incremental" else None


def due(hub: Hub, now: int) -> tuple[Bell, ...]:
    """Start the incremental pulls that are due; call it from any beat, as often as you like.

    A connection is never walked uninvited: its first scheduled pull reads what happened since it was configured.
    """
    polled = {name: one for name, one in hub.connections.items() if one.connector.pull and one.poll > 0}
    with hub.store.read() as open_store:
        standings = connections.all_standings(open_store)
        latest = {name: runs.latest(open_store, name) for name in polled}
        alive = runs.hub_was_alive(open_store)
    fresh = [name for name in polled if name not in standings or standings[name].pulled_at is None]
    after_outage = alive is not None and now - alive > OUTAGE
    if fresh or alive is None or now - alive > 60 * SECOND:
        with hub.store.write() as open_store:
            connections.first_seen(open_store, fresh, cursor=f"since:{from_us(now).isoformat()}", now=now)
            runs.hub_is_alive(open_store, now=now)
    wanted = [
        name
        for name, connection in sorted(polled.items())
        if name not in fresh and _is_due(connection, standings[name], latest[name], now, after_outage)
    ]
    started = [start(hub, name, now=now, mode="incremental", scheduled=True) for name in wanted]
    return tuple(Bell("outbound", "run", (one.run.id,)) for one in started if not one.joined)


def holder() -> str:
    """This process, as the holder of a lease."""
    return f"{socket.gethostname()}:{os.getpid()}"


def claim(hub: Hub, run_id: int, *, now: int) -> Run | None:
    """Lease a run; one that a killed process of this machine held is free at once."""
    with hub.store.write() as open_store:
        run = runs.get(open_store, run_id)
        if run is None or not run.open:
            return None
        gone = run.holder if run.holder and is_gone(run.holder) else None
        return runs.claim(open_store, run_id, holder=holder(), now=now, gone=gone)


def settle(hub: Hub, run: Run, *, now: Callable[[], int]) -> tuple[Bell, ...]:
    """End a run whose rows are all settled; one with any failure is never complete."""
    with hub.store.read() as open_store:
        waiting = runs.unsettled(open_store, run.id)
        dead = 0 if waiting else runs.dead_rows(open_store, run.id)
        unread = 0 if waiting else runs.unread_rows(open_store, run.id)
        vanished = _missing(open_store, run) if not (waiting or dead or unread) and is_full(run) else None
    if waiting:
        with hub.store.write() as open_store:
            runs.release(open_store, run, next_attempt_at=now() + SETTLE_AGAIN)
        return ()
    moment = now()
    believed = vanished is not None and _believed(hub, vanished, run)
    reason = _failures(run, dead, unread) or _reason(run, vanished, believed)
    with hub.store.write() as open_store:
        if vanished and believed:
            wishes = [(run.connection, *one, "not in the walk", moment) for one in vanished.records]
            readbacks.wish(open_store, wishes)
        state: runs.State = "failed" if dead or unread else "complete"
        count = vanished.count if vanished else 0
        if not runs.close(open_store, run, state, now=moment, reason=reason, failed=dead + unread, missing=count):
            return ()
    if state == "complete" and is_full(run):
        # It showed every record, or wishes to read it back, as it was after the walk began.
        alarm.settle(hub, alarm.read_back_key(run.connection), now=moment, before=run.started_at)
    _report(hub, run, vanished, believed, moment)
    forget_walks(hub)
    return ()


def forget_walks(hub: Hub) -> None:
    """Remove what full walks noted and nobody needs any more, a little at a time."""
    with hub.store.read() as open_store:
        over = walked.stale(open_store)
    removed = 1
    while over and removed:
        with hub.store.write() as open_store:
            removed = walked.forget_some(open_store, over)


def is_full(run: Run) -> bool:
    """Does this run show everything there is?"""
    return run.kind == "resync" and run.params.get("mode") == "full"


def pull_key(connection: str) -> str:
    """The key of the alert about a connection whose pulls do not get on."""
    return f"pull:{connection}"


def fail(hub: Hub, run: Run, reason: str, *, now: int, keep_cursor: bool = False) -> None:
    """End a run that cannot go on; with its cursor kept it can be taken up again."""
    with hub.store.write() as open_store:
        runs.close(open_store, run, "failed", now=now, reason=reason, keep_cursor=keep_cursor)


def _params(mode: Mode, since: int | None, allow_deletes: bool) -> dict[str, Any]:
    params: dict[str, Any] = {"mode": mode}
    if mode == "since":
        params["since"] = since
    if allow_deletes:
        params["allow_deletes"] = True
    return params


def _resumable(latest: Run | None, params: dict[str, Any], now: int) -> Run | None:
    if latest is None or latest.state != "failed" or latest.cursor is None or latest.finished_at is None:
        return None
    same = orjson.dumps(dict(latest.params), option=orjson.OPT_SORT_KEYS) == orjson.dumps(
        params, option=orjson.OPT_SORT_KEYS
    )
    return latest if same and now - latest.finished_at < REOPENABLE else None


def _is_due(connection: Connection, standing: Standing, latest: Run | None, now: int, after_outage: bool) -> bool:
    last_try = max(standing.pulled_at or 0, latest.started_at if latest else 0)
    if standing.paused_at is not None:
        return now - max(last_try, standing.paused_at) >= PAUSED_TRY
    return after_outage or now - last_try >= int(connection.poll * SECOND)


def is_gone(who: str) -> bool:
    """Was that holder of a lease a process of this machine that is no more?"""
    host, _, pid = who.rpartition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _missing(open_store: Any, run: Run) -> Missing:
    return walked.missing(open_store, run.id, run.connection, before=run.started_at, limit=MISSING_READ)


def _believed(hub: Hub, vanished: Missing, run: Run) -> bool:
    if vanished.count <= MISSING_FEW or run.params.get("allow_deletes"):
        return True
    connection = hub.connections.get(run.connection)
    share = connection.missing_share if connection else MISSING_SHARE
    return vanished.count / vanished.known <= share


def _failures(run: Run, dead: int, unread: int) -> str | None:
    said = []
    if dead:
        said.append(
            f"{dead} of {run.scanned} failed; see: upkept inbox --state dead --connection {run.connection}; "
            f"after a fix: upkept replay --state dead --connection {run.connection}"
        )
    if unread:
        said.append(
            f"{unread} of {run.scanned} may hold an opt-out and cannot be read; they are tried every hour, for ever; "
            f"see: upkept inbox --state new --connection {run.connection}"
        )
    return "; ".join(said) or None


def _reason(run: Run, vanished: Missing | None, believed: bool) -> str | None:
    if run.scanned == 0 and run.params.get("mode") == "since":
        return "the vendor told of nothing in that time"
    if run.scanned == 0 and is_full(run):
        return f"the vendor listed nothing; see that the credentials of {run.connection} belong to the account you mean"
    if vanished and vanished.count:
        if not believed:
            return _disbelief(run, vanished)
        were = "1 record was" if vanished.count == 1 else f"{vanished.count} records were"
        return f"{were} not listed any more; read back, to see what became of them"
    return None


def _disbelief(run: Run, vanished: Missing) -> str:
    return (
        f"of {vanished.known} records {vanished.count} are not listed any more; that looks like another account, so "
        f"none is taken as deleted. If they are: upkept resync {run.connection} --full --allow-deletes"
    )


def _report(hub: Hub, run: Run, vanished: Missing | None, believed: bool, now: int) -> None:
    alarm.settle(hub, pull_key(run.connection), now=now)
    key = f"missing:{run.connection}"
    if vanished is not None and not believed:
        message, _, cure = _disbelief(run, vanished).partition(". ")
        alarm.sound(hub, key, run.connection, message, cure, now=now)
    elif vanished is not None:
        alarm.settle(hub, key, now=now)
