"""`upkept status`: how the hub stands, as one document and as a page for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.markup import escape

from upkept.cli.follow import as_json, clock, moment, worker_lives
from upkept.cli.output import print_table, shown_url
from upkept.flow import nightly
from upkept.flow.hub import Hub
from upkept.settings import RESERVED, Settings
from upkept.store import alerts, connections, inbox, outbox, pruning, readbacks, runs
from upkept.store.runs import Run

BROKER_SECONDS: Final = 2


def standing(hub: Hub) -> dict[str, Any]:
    """Everything `status` tells. Ages in seconds."""
    now = clock()
    with hub.store.read() as open_store:
        standings = connections.all_standings(open_store)
        counts = inbox.counts(open_store)
        waiting = dict(readbacks.waiting(open_store))
        unresolved = alerts.unresolved(open_store)
        under_way = [run for run in runs.listed(open_store, limit=20) if run.open]
        last = {name: runs.latest(open_store, name) for name in hub.connections}
        walks = {name: runs.latest_walk(open_store, name, state="complete") for name in hub.connections}
        pruned = pruning.counts(open_store)
        owed = outbox.standing(open_store)
    never_walked = nightly.never_walked(hub)
    oldest: dict[str, int] = {}
    for name, state, _, received_at in counts:
        if state != "dead":
            oldest[name] = min(received_at, oldest.get(name, received_at))
    found = []
    for name, connection in sorted(hub.connections.items()):
        at, run = standings.get(name), last[name]
        if name in RESERVED and name not in {row[0] for row in counts}:
            continue
        found.append({
            "name": name, "connector": connection.connector.name, "poll": connection.poll,
            "pulled_at": moment(at.pulled_at) if at and run else None,
            "walked_at": moment(at.walked_at) if at else None,
            "paused": at.paused_reason if at else None,
            "last_run": None if run is None else {"id": run.id, "state": run.state, "reason": run.reason},
            "lag_seconds": round((now - oldest[name]) / 1_000_000, 1) if name in oldest else 0.0,
            "waiting": sum(row[2] for row in counts if row[0] == name and row[1] != "dead"),
            "dead": sum(row[2] for row in counts if row[0] == name and row[1] == "dead"),
            "drift": _drift(walks[name]), "never_walked": name in never_walked,
            "read_backs": waiting.get(name, 0),
            "owed": owed.get((name, "new"), 0), "owed_dead": owed.get((name, "dead"), 0),
        })  # fmt: skip
    return {
        "connections": found,
        "waiting": sum(row[2] for row in counts if row[1] != "dead"),
        "dead": sum(row[2] for row in counts if row[1] == "dead"),
        "lag_seconds": round((now - min(oldest.values())) / 1_000_000, 1) if oldest else 0.0,
        "runs": [as_json(run) for run in under_way],
        "alerts": [
            {**asdict(one), "first_at": moment(one.first_at), "last_at": moment(one.last_at)} for one in unresolved
        ],
        "pruned": pruned,
        "broker": _broker(hub.settings),
        "worker": "alive" if worker_lives(hub) else "not heard of",
    }


def _drift(walk: Run | None) -> dict[str, Any] | None:
    """What the last comparison of everything found: how many objects, how many that differed, how many it put right."""
    if walk is None:
        return None
    differing = walk.changed + walk.failed + walk.missing
    return {"at": moment(walk.finished_at), "sampled": walk.scanned, "differing": differing, "repaired": walk.changed}


def show(report: dict[str, Any]) -> None:
    """The same for people."""
    columns = ("connection", "connector", "pulled", "walked", "waiting", "dead", "owed", "lag", "state")
    rows = [
        (
            one["name"], one["connector"], one["pulled_at"] or "never", one["walked_at"] or "never",
            f"{one['waiting']:,}", f"{one['dead']:,}", f"{one['owed']:,}", f"{one['lag_seconds']:,.0f} s",
            "paused" if one["paused"] else (one["last_run"] or {}).get("state", ""),
        )
        for one in report["connections"]
    ]  # fmt: skip
    print_table(columns, rows, empty="no connection yet; write one into upkept.toml")
    console = Console(soft_wrap=True, highlight=False)
    for one in report["connections"]:
        if drift := one["drift"]:
            found = "{sampled:,} compared, {differing:,} differed, {repaired:,} put right".format(**drift)
            console.print(f"{one['name']}: {found} ({drift['at']})")
        if one["never_walked"]:
            console.print(f"{one['name']}: {nightly.NEVER_WALKED}; {nightly.cure_of(one['name'])}")
    for run in report["runs"]:
        of = f" of about {run['total']:,}" if run["total"] else ""
        console.print(f"run {run['id']} ({run['connection']}) is {run['state']}: scanned {run['scanned']:,}{of}")
    console.print(f"worker: {report['worker']}; broker: {report['broker']['state']} ({report['broker']['url']})")
    if any(report["pruned"].values()):
        console.print("pruned so far: {deliveries:,} deliveries, {events:,} events".format(**report["pruned"]))
    if report["dead"]:
        console.print(f"{report['dead']:,} dead rows; see: upkept inbox --state dead")
    if refused := sum(one["owed_dead"] for one in report["connections"]):
        console.print(f"{refused:,} dead pushes; see: upkept outbox --state dead")
    for alert in report["alerts"]:
        console.print(f"[bold red]alert[/bold red] {escape(alert['connection'])}: {escape(alert['message'])}")
        console.print(f"      cure: {escape(alert['cure'])}")
    if not report["alerts"] and not any(one["never_walked"] for one in report["connections"]):
        console.print("nothing waits for you")


def _broker(settings: Settings) -> dict[str, str]:
    from upkept import broker

    if settings.broker_url is None:
        state = "answers" if broker.answers(settings.broker_socket) else "away"
        return {"url": "embedded", "state": state}
    from kombu import Connection

    with Connection(settings.broker_url, connect_timeout=BROKER_SECONDS) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
            state = "answers"
        except Exception:  # a broker's clients raise a dozen unrelated types
            state = "away"
    return {"url": shown_url(settings.broker_url), "state": state}
