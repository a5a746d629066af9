"""The sandbox: localstripe as a process of its own, in an environment of its own. It is GPL and never imported.

What to know of it: it listens on all addresses of the machine (`::`), takes any key that begins with `sk_`, signs
what it delivers, delivers once, about a second after the change, and keeps its state in one fixed file among the
temporary ones, whatever port it listens on. It sends no `customer.subscription.updated`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from bench.demo.aside import kept
from bench.processes import Failed, await_port, free_port, start

ROOT: Final = Path(__file__).resolve().parents[2]
PROGRAM: Final = ROOT / ".venv-sandbox" / "bin" / "localstripe"
STATE: Final = Path("/tmp/localstripe.pickle")
KEY: Final = "sk_test_demo"
PAGE: Final = 100


class Sandbox:
    """A running localstripe at `port` of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def tell(self, hook: str, secret: str) -> None:
        """Have every event delivered to `hook`, signed with `secret`."""
        status, answer = self._call("POST", "/_config/webhooks/demo", {"url": hook, "secret": secret})
        if status != 200:
            raise Failed(f"the sandbox did not take the webhook's address: HTTP {status} {answer[:200]!r}")

    def events(self) -> list[dict[str, Any]]:
        """All events so far, oldest first."""
        found: list[dict[str, Any]] = []
        more = True
        while more:
            after = f"&starting_after={found[-1]['id']}" if found else ""
            status, answer = self._call("GET", f"/v1/events?limit={PAGE}{after}")
            if status != 200:
                raise Failed(f"the sandbox does not list its events: HTTP {status} {answer[:200]!r}")
            page = json.loads(answer)
            found += page["data"]
            more = page["has_more"]
        return found[::-1]

    def _call(self, method: str, path: str, said: Mapping[str, Any] | None = None) -> tuple[int, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
            connection.request(method, path, None if said is None else json.dumps(said), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def running(folder: Path, *, program: Path = PROGRAM, state: Path = STATE) -> Iterator[Sandbox]:
    """An empty sandbox on a free port, ended with the block; its output is in `folder`."""
    if not program.exists():
        raise Failed(f"{program.name} is not installed; run: make sandbox")
    port = free_port()
    with kept(state):
        process = start("localstripe", [str(program), "--port", str(port), "--from-scratch"], {}, folder)
        try:
            await_port(process, port)
            yield Sandbox(port)
        finally:
            process.stop()


def in_use(state: Path = STATE) -> bool:
    """Has another localstripe left its state on this machine, or does one run?"""
    return state.exists()
