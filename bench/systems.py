"""The systems under measurement: the hub, the afternoon's version, the bare endpoint."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from bench.afternoon.models import Base, Contact, StripeEvent, open_database
from bench.configuration import PATH, environment
from bench.databases import Database
from bench.events import SECRET, Run, customer_id, email
from bench.processes import Failed, Process, await_port, free_port, start
from sqlalchemy import insert

from bench import databases
from upkept import broker
from upkept.settings import load
from upkept.store.migrations import upgrade

STALLED_SECONDS: Final = 20.0
"""Without one more event applied for so long, a system is taken to be done."""


class System(Protocol):
    """What the measurements need of a system that accepts and applies events."""

    name: str
    port: int
    database: Database
    processes: dict[str, Process]

    def start_web(self) -> None: ...
    def start_workers(self) -> None: ...
    def stop(self, *names: str) -> None:
        """End these of its processes; all without a name."""

    def prepare(self, run: Run) -> int:
        """Bring the customers of a run into the store where that need not be measured; how many events came of it."""

    def open(self, accepted: int) -> int:
        """Of so many accepted events ever, how many are not applied yet."""

    def visible(self, ids: Sequence[str]) -> set[str]:
        """Which of these event ids are applied."""

    def counted(self) -> int:
        """How many events are applied, each once."""

    def values(self, run: Run, customers: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        """The attributes that stand for these customers."""


@dataclass(slots=True)
class Started:
    """Processes by name, and their end."""

    folder: Path
    processes: dict[str, Process] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> Process:
        process = self.processes[name] = start(name, command, env, self.folder)
        return process

    def stop(self, *names: str) -> None:
        for name in names or tuple(reversed(self.processes)):
            if name in self.processes:
                self.processes.pop(name).stop()


@dataclass(slots=True)
class Upkept(Started):
    """The hub with everything switched on: web, a worker of two children, the courier."""

    name: str = "upkept"
    port: int = field(default_factory=free_port)
    database: Database = field(init=False)
    env: dict[str, str] = field(init=False)

    def start_web(self) -> None:
        await_port(self.start("web", _ours("web"), self.env), self.port)

    def start_workers(self) -> None:
        self.start("worker", _ours("worker"), self.env)
        self.start("courier", _ours("worker", "--courier"), self.env)

    def prepare(self, run: Run) -> int:
        return 0

    def open(self, accepted: int) -> int:
        return int(self.database.rows("SELECT count(*) FROM inbox WHERE queue = 'open'")[0][0])

    def visible(self, ids: Sequence[str]) -> set[str]:
        statement = "SELECT dedup_key FROM inbox WHERE dedup_key IN (?) AND connection = 'stripe' AND state = 'done'"
        return {row[0] for row in self.database.rows(statement, ids)}

    def counted(self) -> int:
        return int(self.database.rows("SELECT count(*) FROM inbox WHERE state = 'done'")[0][0])

    def values(self, run: Run, customers: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        ids = {customer_id(run.name, customer): customer for customer in customers}
        rows = self.database.rows(
            "SELECT r.source_id, p.attributes FROM records r JOIN people p ON p.id = r.person "
            "WHERE r.connection = 'stripe' AND r.type = 'customer' AND r.source_id IN (?)",
            list(ids),
        )
        return {ids[row[0]]: databases.document(row[1]) for row in rows}


@dataclass(slots=True)
class Afternoon(Started):
    """The plain version: its web process and a Celery worker of two children."""

    name: str = "afternoon"
    port: int = field(default_factory=free_port)
    database: Database = field(init=False)
    env: dict[str, str] = field(init=False)

    def start_web(self) -> None:
        web = self.start("web", [sys.executable, "-m", "bench.afternoon.web", str(self.port)], self.env)
        await_port(web, self.port)

    def start_workers(self) -> None:
        celery = [sys.executable, "-m", "celery", "-A", "bench.afternoon.tasks", "worker"]
        self.start("worker", [*celery, "--concurrency", "2", "--loglevel", "WARNING"], self.env)

    def prepare(self, run: Run) -> int:
        engine = open_database(self.database.url)
        contacts = [
            {"id": n + 1, "stripe_id": customer_id(run.name, n), "email": email(run.name, n), "name": f"Customer {n}",
             "attributes": {}}
            for n in range(run.customers)
        ]  # fmt: skip
        events = [
            {"id": event.id, "contact_id": n + 1, "type": event.kind, "created": event.created}
            for n, event in ((n, run.event(n)) for n in range(run.customers))
        ]
        with engine.begin() as connection:
            connection.execute(insert(Contact), contacts)
            connection.execute(insert(StripeEvent), events)
        engine.dispose()
        return run.customers

    def open(self, accepted: int) -> int:
        return accepted - int(self.database.rows("SELECT count(*) FROM stripe_events")[0][0])

    def visible(self, ids: Sequence[str]) -> set[str]:
        return {row[0] for row in self.database.rows("SELECT id FROM stripe_events WHERE id IN (?)", ids)}

    def counted(self) -> int:
        return int(self.database.rows("SELECT count(*) FROM stripe_events")[0][0])

    def values(self, run: Run, customers: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        ids = {customer_id(run.name, customer): customer for customer in customers}
        rows = self.database.rows("SELECT stripe_id, attributes FROM contacts WHERE stripe_id IN (?)", list(ids))
        return {ids[row[0]]: databases.document(row[1]) for row in rows}


@contextmanager
def upkept(kind: str, folder: Path) -> Iterator[Upkept]:
    """The hub on a database of that kind, with an embedded broker; nothing of it is left afterwards."""
    folder.mkdir()
    system = Upkept(folder)
    with databases.empty(kind, "upkept", folder) as url:
        system.env = environment(folder, url, port=system.port)
        upgrade(url)
        with _running(system, url):
            yield system


@contextmanager
def afternoon(kind: str, folder: Path) -> Iterator[Afternoon]:
    """The afternoon's version on a database of that kind, with an embedded broker of its own."""
    folder.mkdir()
    system = Afternoon(folder)
    with databases.empty(kind, "afternoon", folder) as url:
        engine = open_database(url)
        Base.metadata.create_all(engine)
        engine.dispose()
        system.env = {"AFTERNOON_DATABASE_URL": url, "AFTERNOON_SECRET": SECRET, "UPKEPT_HOME": str(folder)}
        with _running(system, url):
            yield system


@contextmanager
def bare(folder: Path) -> Iterator[int]:
    """The bare endpoint; its port."""
    port, started = free_port(), Started(folder)
    try:
        await_port(started.start("bare", [sys.executable, "-m", "bench.bare", str(port)], {}), port)
        yield port
    finally:
        started.stop()


@contextmanager
def _running(system: Upkept | Afternoon, url: str) -> Iterator[None]:
    system.database = databases.connect(url)
    settings = load({"UPKEPT_HOME": system.env["UPKEPT_HOME"]})
    system.env["AFTERNOON_BROKER_URL"] = settings.effective_broker_url
    try:
        process = system.start("broker", broker.command(settings), {})
        until = time.monotonic() + broker.READY_SECONDS
        while not broker.answers(settings.broker_socket):
            if time.monotonic() > until:
                raise Failed(f"the broker does not start:\n{process.last_words()}")
            time.sleep(0.05)
        yield
    finally:
        system.stop()
        system.database.close()


def await_applied(system: System, accepted: int, *, patience: float = STALLED_SECONDS) -> tuple[int, int]:
    """Until all that was accepted is applied, or nothing moved for so many seconds; (when, how many are open)."""
    last, moved = -1, time.monotonic_ns()
    while True:
        left, now = system.open(accepted), time.monotonic_ns()
        if left <= 0:
            return now, 0
        if left != last:
            last, moved = left, now
        elif now - moved > patience * 1e9:
            return moved, left
        # Counting a backlog costs the machine under measurement: look often only when the end is near.
        time.sleep(min(0.5, max(0.02, left / 10_000)))


def _ours(*words: str) -> list[str]:
    return [sys.executable, "-m", "upkept.cli", *words]


__all__ = ["PATH", "Afternoon", "System", "Upkept", "afternoon", "await_applied", "bare", "upkept"]
