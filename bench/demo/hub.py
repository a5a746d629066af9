"""A hub of the demo's own: `upkept up` on the embedded defaults, in a temporary home, on a free port."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from bench.processes import Failed, Process, free_port, start

from upkept.settings import VARIABLES

READY_SECONDS: Final = 60.0
COMMAND_SECONDS: Final = 120.0
ACCEPTED: Final = re.compile(r'^upkept_requests_accepted_total\{connection="stripe"\} ([0-9.e+]+)$', re.M)


@dataclass(frozen=True, slots=True)
class Hub:
    """A running hub and the environment its commands need."""

    port: int
    env: Mapping[str, str]
    process: Process

    @property
    def hooks(self) -> str:
        """Where webhooks go, each to its connection."""
        return f"http://127.0.0.1:{self.port}/hooks"

    @property
    def hook(self) -> str:
        """Where Stripe's webhooks go."""
        return f"{self.hooks}/stripe"

    def command(self, *words: str) -> str:
        """What a command prints; `Failed` with its own message if it fails."""
        done = self._run(words, capture=True)
        if done.returncode:
            raise Failed(f"upkept {' '.join(words)} ended with status {done.returncode}:\n{done.stderr.strip()}")
        return str(done.stdout)

    def show(self, *words: str) -> None:
        """Run a command before the reader's eyes."""
        if status := self._run(words, capture=False).returncode:
            raise Failed(f"upkept {' '.join(words)} ended with status {status}; its message stands above")

    def explain(self, person: str) -> dict[str, Any]:
        """`upkept explain PERSON --json`."""
        found: dict[str, Any] = json.loads(self.command("explain", person, "--json"))
        return found

    def accepted(self) -> int:
        """How many deliveries were stored and answered 2xx since the start."""
        found = ACCEPTED.search(self._get("/metrics")[1].decode())
        return round(float(found[1])) if found else 0

    def ready(self) -> dict[str, Any]:
        """What `/readyz` answers; empty if nobody answers yet."""
        with suppress(OSError, HTTPException, ValueError):
            report: dict[str, Any] = json.loads(self._get("/readyz")[1])
            return report
        return {}

    def post(self, body: bytes, secret: str) -> int:
        """Deliver an event as Stripe does: the time and the bytes signed. The HTTP status."""
        at = b"%d" % int(time.time())
        signature = hmac.digest(secret.encode(), at + b"." + body, hashlib.sha256).hex()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/hooks/stripe", body, {"Stripe-Signature": f"t={at.decode()},v1={signature}"})
            return connection.getresponse().status
        finally:
            connection.close()

    def _get(self, path: str) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _run(self, words: Sequence[str], *, capture: bool) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [sys.executable, "-m", "upkept.cli", *words], env={**os.environ, **self.env}, text=True,
                timeout=COMMAND_SECONDS, check=False, capture_output=capture, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failed(f"upkept {' '.join(words)} did not end within {COMMAND_SECONDS:.0f} s") from None


@contextmanager
def running(folder: Path, config: str, secrets: Mapping[str, str]) -> Iterator[Hub]:
    """A hub with these settings, and the variables they point at; with the block it and all its processes end."""
    file = folder / "upkept.toml"
    file.write_text(config, encoding="utf-8")
    port = free_port()
    env = {
        **dict.fromkeys(VARIABLES, ""),  # nothing of the reader's own hub, least of all its database
        "UPKEPT_HOME": str(folder / "var"),
        "UPKEPT_CONFIG": str(file),
        "UPKEPT_PORT": str(port),
        **secrets,
    }
    process = start("upkept", [sys.executable, "-m", "upkept.cli", "up"], env, folder)
    seen: set[int] = set()
    try:
        hub = Hub(port, env, process)
        _await_ready(hub)
        yield hub
        seen = process.pids
    finally:
        process.stop()
    if left := sorted(pid for pid in seen if _runs(pid)):
        raise Failed(f"processes of the hub are left: {', '.join(map(str, left))}")


def _await_ready(hub: Hub) -> None:
    until = time.monotonic() + READY_SECONDS
    while not hub.ready().get("ready"):
        if hub.process.running.poll() is not None or time.monotonic() > until:
            raise Failed(f"the hub does not start:\n{hub.process.last_words()}")
        time.sleep(0.1)


def _runs(pid: int) -> bool:
    """Is that process there and not just waiting for its status to be read?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
