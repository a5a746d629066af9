"""A hub of real processes between a vendor's stand-in and the service desk, and a look into its store."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

import httpx
from bench.crash.cluster import Hub as Cluster
from bench.databases import Database
from bench.processes import Failed, await_port
from bench.resync import desk
from bench.resync.sandboxes import Sandbox

from bench import databases
from upkept.cli.follow import worker_lives
from upkept.flow import runs as flow_runs
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.flow.opening import open_hub
from upkept.queue import Ringer
from upkept.settings import load
from upkept.store import runs
from upkept.store.runs import Run

SECRET_KEY: Final = "the keys of every hub of a run are the same, and so are its ids"
LOOK: Final = 0.1
READY: Final = 60.0
TEND: Final = 20.0
"""Seconds between two times that PostgreSQL's tables are vacuumed and analyzed, as its autovacuum does by itself. Where
tests run it may be off, and plans made for empty tables would stay."""
STALLED: Final = 300.0
"""Seconds without any progress after which a run is given up. What a killed process held is free well before."""
WAITING: Final = (
    ("deliveries", "SELECT count(*) FROM inbox WHERE queue = 'open'"),
    ("pushes", "SELECT count(*) FROM outbox WHERE state = 'new'"),
    ("read-backs", "SELECT count(*) FROM readbacks"),
    ("runs", "SELECT count(*) FROM runs WHERE finished_at IS NULL"),
)
BROKEN: Final = (
    ("deliveries are dead", "SELECT count(*) FROM inbox WHERE queue = 'dead'"),
    ("pushes are dead", "SELECT count(*) FROM outbox WHERE state = 'dead'"),
    ("runs did not complete", "SELECT count(*) FROM runs WHERE state IN ('failed', 'cancelled')"),
    ("alerts stand", "SELECT count(*) FROM alerts WHERE resolved_at IS NULL"),
)


@dataclass(slots=True)
class Standing:
    """A running hub. `cluster` are its processes, `hub` is its store, opened here."""

    cluster: Cluster
    hub: Hub
    database: Database
    sandbox: Sandbox

    def walk(self) -> int:
        """Begin a full resync; the run."""
        now = time.time_ns() // 1000
        run = flow_runs.start(self.hub, self.sandbox.name, now=now, afresh=True).run
        Ringer(self.hub.settings.effective_broker_url).ring([Bell("outbound", "run", (run.id,))])
        return run.id

    def await_end(self, run_id: int) -> Run:
        """Until the run is over, whoever is killed meanwhile."""
        last, moved = None, time.monotonic()
        tended = moved
        while True:
            if self.database.kind == "postgresql" and time.monotonic() - tended > TEND:
                self.database.analyze()
                tended = time.monotonic()
            with self.hub.store.read() as connection:
                run = runs.get(connection, run_id)
            assert run is not None
            if not run.open:
                return run
            if (stands := (run.moved_at, run.state, run.changed, run.unchanged, self._kills)) != last:
                last, moved = stands, time.monotonic()
            if time.monotonic() - moved > STALLED:
                raise Failed(f"run {run.id} is {run.state} and does not move on: {run.reason}")
            time.sleep(LOOK)

    def await_quiet(self) -> None:
        """Until nothing is left to be done."""
        last, moved = None, time.monotonic()
        while left := {what: n for what, query in WAITING if (n := self.count(query))}:
            if (stands := (left, self._kills)) != last:
                last, moved = stands, time.monotonic()
            if time.monotonic() - moved > STALLED:
                raise Failed(f"left and not done: {left}")
            time.sleep(LOOK)

    def await_workers(self) -> None:
        """Until the courier has sent a pulse and the worker has heard it."""
        until = time.monotonic() + READY
        while not worker_lives(self.hub):
            if time.monotonic() > until:
                raise Failed("the worker does not hear the courier; see their logs")
            time.sleep(LOOK)

    @property
    def _kills(self) -> int:
        """Whoever is killed again and again gets on once that is over."""
        return sum(self.cluster.kills.values())

    def count(self, query: str) -> int:
        return int(self.database.rows(query)[0][0])

    def broken(self) -> list[str]:
        """What ended badly, a line each."""
        return [f"{n} {what}" for what, query in BROKEN if (n := self.count(query))]

    def tell(self, *notes: bytes) -> None:
        """The desk delivers; the hub answers 2xx."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.cluster.port}", timeout=20) as client:
            for one in notes:
                client.post("/hooks/desk", content=one).raise_for_status()

    def plant(self, code: str) -> None:
        """From now on worker and courier begin with this code."""
        (self.cluster.site / "sitecustomize.py").write_text(code)
        for role in ("worker", "courier"):
            self.cluster.processes[role].stop()
            self.cluster.run(role)


@contextmanager
def running(folder: Path, kind: str, sandbox: Sandbox, *, code: str = "", failpoints: str = "") -> Iterator[Standing]:
    """The hub on a new database of that kind; `code` runs first in each of its processes."""
    folder.mkdir()
    with (
        databases.empty(kind, f"resync_{folder.name}", folder) as url,
        patch.dict(os.environ, {"UPKEPT_SECRET_KEY": SECRET_KEY, "VENDOR_SECRET": sandbox.secret}),
    ):
        config = f'{sandbox.config}\n[connections.desk]\nconnector = "desk"\n'
        cluster = Cluster(folder, url, config, failpoints=failpoints)
        desk.install(cluster.site)
        (cluster.site / "sitecustomize.py").write_text(code)
        sys.path.append(str(cluster.site))
        try:
            cluster.start()
            await_port(cluster.processes["web"], cluster.port)
            hub, database = open_hub(load({**os.environ, **cluster.env})), databases.connect(url)
            try:
                yield Standing(cluster, hub, database, sandbox)
            finally:
                database.close()
                hub.store.close()
        finally:
            sys.path.remove(str(cluster.site))
            cluster.stop()
