"""A stand-in for Marketo Engage that keeps state and misbehaves like Marketo.

Run it as `python -m upkept.testing.fake_marketo --port 8423`; `--hooks URL --token TOKEN` makes it call a webhook.

It speaks the identity service and enough of the REST and bulk APIs for leads and their activities. The client is
`client` with the secret `secret`, unless it is told otherwise. `upkept.testing.fake_marketo.world` says how its leads
behave. Beside the API:

    POST   /_webhooks                {"url", "token", "in_path"?, "form"?, "what"?}
    POST   /_seed                    {"leads", "days"?, "unsubscribed"?, "domain"?}
    POST   /_do                      {"what": create, change, unsubscribe, bounce, fill_out, delete or merge, "id"?, …}
    POST   /_clock                   {"frozen"} | {"offset"} | {"advance"}: seconds
    POST   /_expire                  the access token ends
    POST   /_faults, DELETE /_faults see `faults.Faults`
    DELETE /_data                    forget all leads
    GET    /_stats, GET /_requests   calls by path, refusals by code; the last calls

In a test: `with FakeMarketo() as marketo: ... marketo.url`.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import signal
import socket
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from upkept.testing.fake_marketo import bulk
from upkept.testing.fake_marketo.api import GETS, POSTS
from upkept.testing.fake_marketo.control import control
from upkept.testing.fake_marketo.faults import Answers, Fails, Object
from upkept.testing.fake_marketo.world import World
from upkept.testing.stand_in import Server, StandIn

SECRET: Final = "secret"  # noqa: S105  # of a stand-in
MAX_BODY: Final = 1_048_576
MAX_URI: Final = 8_192
IDLE: Final = 30.0
JSON: Final = "application/json;charset=utf-8"
CSV: Final = "text/csv;charset=UTF-8"
HTML: Final = "text/html"
BROKEN: Final = {
    "html": (502, HTML, b"<html><h1>502 Bad Gateway</h1></html>"),
    "login": (200, HTML, b"<html>Log in</html>"),
    "garbage": (200, JSON, b'{"requestId": "1#2", "success": true, "result": ['),
    "array": (200, JSON, b"[]"),
}
_EXPORT: Final = re.compile(r"/bulk/v1/(leads|activities)/export/([0-9a-f-]{36})/(enqueue|status|file)\.json")
_CREATE: Final = re.compile(r"/bulk/v1/(leads|activities)/export/create\.json")
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")


class FakeMarketo(StandIn):
    """The server, in threads of this process. Port 0 takes a free one; `url` says which."""

    def __init__(
        self, *, port: int = 0, host: str = "127.0.0.1", client: str = "client", secret: str = SECRET, shift: int = 0
    ) -> None:
        self.world = World(shift=shift)
        self.client, self.secret = client, secret
        super().__init__(_Server((host, port), self), self.world.postman)

    def control(self, method: str, path: str, **said: Any) -> Object:
        """What the `/_…` addresses do, without the way over HTTP."""
        with self.world.lock:
            return control(self.world, method, path, said)

    def faults(self, **said: Any) -> None:
        """Set faults by name (`faults.Faults`); none ends them all."""
        self.control("POST" if said else "DELETE", "/_faults", **said)

    def do(self, what: str, id: int = 0, **said: Any) -> int:
        """Let something happen to a lead (`POST /_do`); its id."""
        return int(self.control("POST", "/_do", what=what, id=id, **said)["id"])

    def seed(self, leads: int, **said: Any) -> list[int]:
        found: list[int] = self.control("POST", "/_seed", leads=leads, **said)["ids"]
        return found

    def lead(self, id: int) -> Object:
        with self.world.lock:
            return dict(self.world.leads[id])

    def webhook(self, url: str, token: str, **said: Any) -> None:
        self.control("POST", "/_webhooks", url=url, token=token, **said)

    def stats(self) -> Object:
        return self.control("GET", "/_stats")

    def requests(self) -> list[Object]:
        found: list[Object] = self.control("GET", "/_requests")["requests"]
        return found

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until no webhook is on its way."""
        return self.world.postman.drain(timeout)


class _Server(Server):
    def __init__(self, address: tuple[str, int], marketo: FakeMarketo) -> None:
        self.marketo = marketo
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE
    server: _Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self._send(413, HTML, b"<html>413</html>", {"Connection": "close"})
            return
        body = self.rfile.read(length)
        parts = urlsplit(self.path)
        try:
            if parts.path.startswith("/_"):
                self._send(200, JSON, self._control(parts.path, body))
            elif len(self.path) > MAX_URI:
                self._send(414, HTML, b"<html>414 Request-URI Too Long</html>")
            else:
                self._api(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), body)
        except Fails as error:
            self._json({"success": False, "errors": [{"code": error.code, "message": str(error)}]})
        except Answers as other:
            self._break(other)

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: `/_requests` tells what came."""

    def _control(self, path: str, body: bytes) -> bytes:
        with self.server.marketo.world.lock:
            said = json.loads(body) if body else {}
            return json.dumps(control(self.server.marketo.world, self.command, path, said)).encode()

    def _api(self, path: str, query: dict[str, str], body: bytes) -> None:
        world = self.server.marketo.world
        if path == "/identity/oauth/token":
            self._identity(query)
            return
        with world.lock:
            world.gate.open += 1
            world.gate.most_open = max(world.gate.most_open, world.gate.open)
        time.sleep(world.faults.slow)
        try:
            with world.lock:
                self._answer(world, path, query, body)
        finally:
            world.gate.open -= 1

    def _answer(self, world: World, path: str, query: dict[str, str], body: bytes) -> None:
        method = self.command
        if method == "POST" and query.get("_method") == "GET":
            method, query = "GET", dict(parse_qsl(body.decode(), keep_blank_values=True))
        said = json.loads(body) if method == "POST" and body else {}
        world.gate.requests.append({"method": self.command, "path": path, "query": query, "body": said,
                                    "type": self.headers.get("Content-Type", "")})  # fmt: skip
        world.gate.admit(path)
        self._authorize(world)
        if method == "GET" and path in GETS:
            self._json(GETS[path](world, query))
        elif method == "POST" and path in POSTS:
            self._json(POSTS[path](world, said))
        elif method == "POST" and (made := _CREATE.fullmatch(path)):
            self._json(bulk.create(world, made[1], said))
        elif job := _EXPORT.fullmatch(path):
            self._export(world, job[2], job[3])
        else:
            raise Fails("610")

    def _authorize(self, world: World) -> None:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        token, ends = world.token
        if scheme != "Bearer" or not token or given != token or world.faults.stubborn:
            raise Fails("601")
        if time.time() + world.clock.offset >= ends:
            raise Fails("602")

    def _identity(self, query: dict[str, str]) -> None:
        marketo = self.server.marketo
        world, now = marketo.world, time.time() + marketo.world.clock.offset
        good = query.get("client_id") == marketo.client and query.get("client_secret") == marketo.secret
        with world.lock:
            world.gate.calls["/identity/oauth/token"] += 1
            world.gate.requests.append({"method": self.command, "path": "/identity/oauth/token", "body": {}, "type": "",
                                        "query": {**query, "client_secret": "…"}})  # fmt: skip
            if not good or world.faults.revoked or query.get("grant_type") != "client_credentials":
                answer = {
                    "error": "unauthorized",
                    "error_description": f"No client with requested id: {query.get('client_id')}",
                }
                self._send(401, JSON, json.dumps(answer).encode())
                return
            if not world.token[0] or now >= world.token[1]:
                world.token = (f"{secrets.token_hex(16)}:int", now + world.token_seconds)
            token, ends = world.token
            given: Object = {
                "access_token": token,
                "token_type": "bearer",
                "expires_in": int(ends - now),
                "scope": "api@acme.example",
            }
            self._send(200, JSON, json.dumps(given).encode())

    def _export(self, world: World, id: str, what: str) -> None:
        if what != "file":
            self._json((bulk.enqueue if what == "enqueue" else bulk.status)(world, id))
            return
        found, asked = bulk.file(world, id), _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked is None or world.faults.no_range:
            self._send(200, CSV, found)
            return
        start, end = int(asked[1]), int(asked[2] or len(found))
        if start >= len(found):
            self._send(416, HTML, b"<html>416</html>")
            return
        piece = found[start : end + 1]
        self._send(206, CSV, piece, {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/{len(found)}"})

    def _break(self, how: Answers) -> None:
        if how.status:
            self._send(how.status, HTML, b"<html>an error</html>")
        elif how.how == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self._send(*BROKEN[how.how])

    def _json(self, answer: Object) -> None:
        self._send(
            200, JSON, json.dumps({"requestId": f"{secrets.token_hex(2)}#1", "success": True, **answer}).encode()
        )

    def _send(self, status: int, type: str, body: bytes, more: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        headers = {"Date": formatdate(self.server.marketo.world.clock.now(), usegmt=True), "Content-Type": type,
                   "Content-Length": str(len(body)), **(more or {})}  # fmt: skip
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m upkept.testing.fake_marketo", description="A stand-in for Marketo."
    )
    parser.add_argument("--port", type=int, default=8423)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--client-id", default="client")
    parser.add_argument("--client-secret", default=SECRET)
    parser.add_argument("--hooks", help="a webhook to call when leads change")
    parser.add_argument("--token", default="", help="the token that the webhook carries")
    said = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with FakeMarketo(port=said.port, host=said.host, client=said.client_id, secret=said.client_secret) as marketo:
        if said.hooks:
            marketo.webhook(said.hooks, said.token)
        print(f"fake Marketo listens on {marketo.url}", flush=True)
        ended.wait()
