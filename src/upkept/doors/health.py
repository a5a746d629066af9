"""`/healthz`, `/readyz`, `/metrics` and the page at `/`. Asked by machines every few seconds: cheap and bounded."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy.exc import DBAPIError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from upkept import metrics
from upkept.contract import Config, Retryable
from upkept.flow.hub import Hub
from upkept.store import gauges as store_gauges
from upkept.store import schema
from upkept.store.gauges import Gauges

PATIENCE: Final = 3.0
"""Seconds the database gets to answer a look at its health."""
DEAF_SECONDS: Final = 60
GAUGES: Final = {
    "inbox_rows": ("Inbox rows that are not done.", ("connection", "state")),
    "outbox_rows": ("Outbox rows by state.", ("destination", "state")),
    "alerts": ("Alerts that wait for a person.", ("connection",)),
}


def application(hub: Hub, broker_sick_seconds: Callable[[], float]) -> Starlette:
    """Everything of the web process that is not hot."""

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        found = await _bounded(lambda: readiness(hub, broker_sick_seconds()))
        report = found or {"ready": False, "database": f"no answer within {PATIENCE:.0f} s"}
        return JSONResponse(report, 200 if report["ready"] else 503)

    async def numbers(_: Request) -> Response:
        found = await _bounded(lambda: _looked(hub))
        text = generate_latest(metrics.registry) + _exposition(found, broker_sick_seconds())
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def front(_: Request) -> Response:
        lines = (f"Upkept: {hub.settings.workspace.name}", "", "Webhooks: POST /hooks/{connection}",
                 "Health: /healthz /readyz /metrics", "Who is in the store: upkept explain PERSON", "")  # fmt: skip
        return PlainTextResponse("\n".join(lines))

    routes = {"/": front, "/healthz": healthz, "/readyz": readyz, "/metrics": numbers}
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])


def readiness(hub: Hub, broker_sick_seconds: float) -> dict[str, Any]:
    """Ready to store what arrives: database there and migrated. A sick broker or worker is told, not fatal."""
    now = time.time_ns() // 1000
    broker = "ok" if broker_sick_seconds == 0 and _reachable(hub.settings.effective_broker_url) else "away"
    report: dict[str, Any] = {"ready": False, "database": "ok", "migrations": "ok", "broker": broker}
    try:
        with hub.store.read() as connection:
            if not schema.is_newest(connection):
                return {**report, "migrations": "behind: run `upkept migrate`"}
            found = store_gauges.gauges(connection)
    except (Retryable, Config) as error:
        return {**report, "database": str(error)}
    deaf = {name: (now - since) / 1e6 for name, since in found.deaf_since.items() if since is not None}
    workers = {name: f"deaf for {s:.0f} s" for name, s in deaf.items() if s > DEAF_SECONDS}
    waiting = sum(rows for (*_, state), rows in found.inbox.items() if state != "dead")
    return {
        **report, "ready": True, "workers": workers or "ok", "lag_seconds": _lag(found, now), "waiting_rows": waiting,
        "dead_rows": sum(rows for (*_, state), rows in found.inbox.items() if state == "dead"),
        "alerts": sum(found.alerts.values()),
    }  # fmt: skip


def _looked(hub: Hub) -> Gauges | None:
    try:
        with hub.store.read() as connection:
            return store_gauges.gauges(connection)
    except (Retryable, Config, DBAPIError):
        return None


async def _bounded(look: Callable[[], Any]) -> Any:
    """Run a blocking look in a thread; None if it takes too long."""
    try:
        return await asyncio.wait_for(asyncio.to_thread(look), PATIENCE)
    except TimeoutError:
        return None


def _reachable(url: str) -> bool:
    parts = urlsplit(url)
    try:
        if parts.scheme == "redis+socket":
            with socket.socket(socket.AF_UNIX) as unix:
                unix.settimeout(0.5)
                unix.connect(parts.path)
            return True
        default = 5672 if parts.scheme.startswith("amqp") else 6379
        with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or default), timeout=0.5):
            return True
    except OSError:
        return False


def _lag(found: Gauges, now: int) -> float:
    return 0.0 if found.oldest is None else round(max(0, now - found.oldest) / 1e6, 3)


def _exposition(found: Gauges | None, broker_sick_seconds: float) -> bytes:
    class Looked:
        def collect(self) -> Iterator[Metric]:
            yield _single("database_up", "Does the database answer.", float(found is not None))
            yield _single("broker_sick_seconds", "For how long no bell could be rung.", broker_sick_seconds)
            if found is not None:
                yield from _families(found)

    return generate_latest(Looked())


def _families(found: Gauges) -> Iterator[Metric]:
    now = time.time_ns() // 1000
    counts = {"inbox_rows": found.inbox, "outbox_rows": found.outbox, "alerts": found.alerts}
    for name, (text, labels) in GAUGES.items():
        family = GaugeMetricFamily(f"upkept_{name}", text, labels=labels)
        for key, rows in sorted(counts[name].items()):
            family.add_metric(list(key), rows)
        yield family
    yield _single("inbox_lag_seconds", "Age of the oldest inbox row that is not done.", _lag(found, now))
    clamped = CounterMetricFamily("upkept_clock_clamped", "Facts whose vendor's clock was more than 5 min ahead.")
    clamped.add_metric([], found.clock_clamped)
    yield clamped
    pruned = CounterMetricFamily("upkept_pruned_rows", "Deliveries and events of long ago that went.", labels=["what"])
    for what, rows in found.pruned.items():
        pruned.add_metric([what], rows)
    yield pruned
    deaf = GaugeMetricFamily("upkept_worker_deaf_seconds", "Since when a worker has not heard.", labels=["worker"])
    for name, since in found.deaf_since.items():
        deaf.add_metric([name], 0.0 if since is None else (now - since) / 1e6)
    yield deaf


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"upkept_{name}", text, value=value)
