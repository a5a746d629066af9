"""A hub on its own home, with one connection to the till; its processes are real and end with the test."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from kombu import Connection
from tests.till.upkept_till import signature

from upkept.queue import QUEUES
from upkept.settings import Settings, load

ROOT = Path(__file__).parents[2]
SECRET = "till_0123456789abcdef"
CONFIGURATION = '[connections.till]\nconnector = "till"\nwebhook_secret = "env:TILL_SECRET"\n'
SET_UP = "import os, sys; from upkept import log, settings; s = settings.load(os.environ); log.setup(s)"
RUN = {
    "web": "from upkept.doors.serve import run; sys.exit(run(s))",
    "worker": "from upkept.worker.main import run; sys.exit(run(courier=False, settings=s))",
    "courier": "from upkept.worker.main import run; sys.exit(run(courier=True, settings=s))",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def install(folder: Path, **entry_points: str) -> Path:
    """A folder that makes Python believe packages with these connectors are installed."""
    for name, value in entry_points.items():
        info = folder / f"a_{name}-1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: a-{name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[upkept.connectors]\n{name} = {value}\n")
    return folder


def event(number: int, *, kind: str = "customer.updated", **said: Any) -> dict[str, Any]:
    """One event of the till; every number is another customer and another id."""
    return {
        "id": f"evt_{kind}_{number}",
        "kind": kind,
        "customer": f"cus_{number}",
        "email": f"person{number}@example.com",
        "plan": "gold",
        "at": 1_790_000_000 + number,
        **said,
    }


def delivery(*events: dict[str, Any]) -> bytes:
    return json.dumps({"events": events}).encode()


@dataclass
class Site:
    """A configured home. `start` runs one of its processes, armed with `failpoints`."""

    home: Path
    database_url: str
    broker_url: str = "redis://127.0.0.1:1/0"
    port: int = field(default_factory=free_port)
    failpoints: str = ""
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=20), repr=False)

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "upkept.toml").write_text(CONFIGURATION)
        install(self.home / "site", till="upkept_till:connector")

    @property
    def env(self) -> dict[str, str]:
        folders = [ROOT / "src", ROOT / "connectors", ROOT / "tests" / "till", self.home / "site"]
        ours = {
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "UPKEPT_HOME": str(self.home / "var"),
            "UPKEPT_CONFIG": str(self.home / "upkept.toml"),
            "UPKEPT_DATABASE_URL": self.database_url,
            "UPKEPT_BROKER_URL": self.broker_url,
            "UPKEPT_PORT": str(self.port),
            "TILL_SECRET": SECRET,
            "UPKEPT_FAILPOINTS": self.failpoints,
        }
        return {**os.environ, **{name: value for name, value in ours.items() if value}}

    @property
    def settings(self) -> Settings:
        return load(self.env)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def start(self, name: str) -> subprocess.Popen[bytes]:
        code = f"{SET_UP}; {RUN[name]}"
        with (self.home / f"{name}.log").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-c", code], env=self.env, stdout=log, stderr=log, start_new_session=True
            )
        self.started[name] = child
        if name == "web":
            wait_for(self._is_up, 40)
        return child

    def _is_up(self) -> bool:
        if self.started["web"].poll() is not None:
            raise AssertionError(self.log("web"))
        with suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz", timeout=2).status_code == 200
        return False

    def post(self, body: bytes, *, path: str = "/hooks/till", headers: dict[str, str] | None = None) -> httpx.Response:
        """Post a signed delivery."""
        signed = {"x-till-signature": signature(body, SECRET)}
        return self.client.post(f"{self.url}{path}", content=body, headers={**signed, **(headers or {})})

    def stop(self, name: str, seconds: float = 30) -> int:
        """SIGTERM and wait; the exit status."""
        child = self.started.pop(name)
        child.send_signal(signal.SIGTERM)
        return child.wait(seconds)

    def kill(self, name: str) -> None:
        """SIGKILL to a process and its children."""
        child = self.started.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(10)

    def end(self) -> None:
        """Whatever still runs, with its children, is gone afterwards."""
        for name in list(self.started):
            self.kill(name)
        self.client.close()


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"waited {seconds} s in vain")
        time.sleep(0.05)


@contextmanager
def process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone, stopped or not, at the end of the block."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield child
    finally:
        child.kill()
        child.wait(10)


def redis_command(folder: Path, port: int) -> list[str]:
    """A Redis that writes nothing down."""
    return ["redis-server", "--port", str(port), "--dir", str(folder), "--save", "", "--appendonly", "no"]


@contextmanager
def redis_server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A Redis of the test's own, to be stopped and frozen."""
    with process(redis_command(folder, port)) as child:
        wait_for(lambda: listens(port))
        yield child


def listens(port: int) -> bool:
    """Does somebody take connections there?"""
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False


@contextmanager
def rabbitmq_alone(url: str) -> Iterator[str]:
    """Our queues' names are fixed, so one test at a time has them, empty, on the whole machine."""
    with Path(tempfile.gettempdir(), "upkept-test-rabbitmq.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        _remove_queues(url)
        yield url
        _remove_queues(url)


def _remove_queues(url: str) -> None:
    with Connection(url) as connection:
        for name in QUEUES:
            connection.default_channel.queue_delete(name)
