"""Acme itself: a small stateful server with people in it, and a memory for idempotency keys."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 2
KEY = "acme-key-of-the-tests"


@dataclass
class Acme:
    """What Acme knows. `writes` counts those that changed something."""

    url: str = ""
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    writes: int = 0

    def answer(self, method: str, target: str, key: str | None, body: bytes) -> tuple[int, Any]:
        url = urlsplit(target)
        room, _, id = url.path.strip("/").partition("/")
        if room == "account":
            return 200, {"id": "acme-1"}
        if not id:
            return 200, self._page(parse_qs(url.query).get("after", [""])[0])
        if id not in self.people:
            return 404, {}
        if method == "PUT" and key not in self.keys:
            self.keys.add(key or "")
            self.writes += 1
            self.people[id] |= json.loads(body)
        return 200, self.people[id]

    def _page(self, after: str) -> dict[str, Any]:
        rest = [person for id, person in sorted(self.people.items()) if id > after]
        page = rest[:PAGE]
        return {"people": page, "next": page[-1]["id"] if len(rest) > PAGE else None, "total": len(self.people)}


@contextmanager
def acme(**people: dict[str, Any]) -> Iterator[Acme]:
    """A running Acme with these people."""
    state = Acme(people={id: {"id": id, **person} for id, person in people.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _handler(state: Acme) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status: int = 401
            said: Any = {}
            if self.headers.get("Authorization") == f"Bearer {KEY}":
                status, said = state.answer(self.command, self.path, self.headers.get("Idempotency-Key"), body)
            answer = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
