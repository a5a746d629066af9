"""A stand-in for Mailchimp that keeps state and misbehaves like Mailchimp.

Run it as `python -m upkept.testing.fake_mailchimp --port 8422 --hooks http://127.0.0.1:8080/hooks/mailchimp/TOKEN`.

It speaks enough of the Marketing API 3.0 for the official SDK (audiences, members, tags, interest groups, webhooks,
batch operations) and posts unsigned webhooks. Any key of the form `…-us6` is good. With or without `/3.0` in front.

Beside the API:

    POST   /_audiences   {"id", "name"?, "merge_fields"?, "required"?, "groups"?}
                         groups: {id: {"title", "interests": {id: name}}}
    POST   /_seed        {"audience", "members", "statuses"?, "one_second"?, "prefix"?}
    POST   /_act         {"act", "audience", "email", "by"?, …}: subscribe, unsubscribe, profile, upemail (`to`),
                         clean, tag, untag (`tag`), archive, erase, campaign; `why`: manual or abuse
    POST   /_hooks       {"audience", "url", "user"?, "admin"?, "api"?}: a webhook for everything that subscribers
                         and admins do; `api`: what the API does, too
    POST   /_clock       {"frozen"} | {"offset"}: seconds
    POST   /_faults, DELETE /_faults   see `faults.Faults`
    GET    /_stats       deliveries, calls at once at the most
    GET    /_requests    the last calls: method, path, query, body and its type

In a test: `with FakeMailchimp() as mailchimp: ... mailchimp.url`.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from upkept.testing.fake_mailchimp import acts
from upkept.testing.fake_mailchimp.api import answer, archive_of
from upkept.testing.fake_mailchimp.faults import Broken, Problem
from upkept.testing.fake_mailchimp.hooks import Hook
from upkept.testing.fake_mailchimp.world import Object, World
from upkept.testing.stand_in import Server, StandIn

MAX_BODY: Final = 4 << 20
EVERYTHING: Final = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
BROKEN: Final[dict[str, tuple[int, str, bytes]]] = {
    "html": (502, "text/html", b"<html><h1>502 Bad Gateway</h1></html>"),
    "nothing": (502, "text/html", b""),
    "empty": (200, "application/json", b"{}"),
    "garbage": (200, "application/json", b'{"members": ['),
    "array": (200, "application/json", b'["unexpected"]'),
    "page": (200, "application/json", b'{"members": [], "total_items": 7}'),
    "stranger": (
        200,
        "application/json",
        b'{"id": "00000000000000000000000000000000", "email_address": "x@y.example"}',
    ),
}
_KEY: Final = re.compile(r"\S+-us6")
Answer = tuple[int, str, bytes]


class FakeMailchimp(StandIn):
    """The server, in threads of this process. Port 0 takes a free one; `url` says which."""

    def __init__(self, *, port: int = 0, host: str = "127.0.0.1", seed: int = 0) -> None:
        self.world = World(seed=seed)
        super().__init__(_Server((host, port), self.world), self.world.postman)
        self.world.address = self.url

    def control(self, method: str, path: str, **said: Any) -> Object:
        """What the `/_…` addresses do, without the way over HTTP."""
        with self.world.lock:
            return control(self.world, method, path, said)

    def audience(self, id: str, **said: Any) -> None:
        self.control("POST", "/_audiences", id=id, **said)

    def seed(self, **said: Any) -> None:
        self.control("POST", "/_seed", **said)

    def act(self, act: str, email: str = "", *, audience: str, **said: Any) -> Object:
        """What somebody does in Mailchimp's own pages."""
        return self.control("POST", "/_act", act=act, email=email, audience=audience, **said)

    def faults(self, **said: Any) -> None:
        """Set faults by name (`faults.Faults`); none ends them all."""
        self.control("POST" if said else "DELETE", "/_faults", **said)

    def set_clock(self, when: float | None) -> None:
        """Freeze the clock at a unix second; None lets it run."""
        self.control("POST", "/_clock", frozen=when)

    def requests(self) -> list[Object]:
        found: list[Object] = self.control("GET", "/_requests")["requests"]
        return found

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until no delivery is on its way."""
        return self.world.postman.drain(timeout)


def control(world: World, method: str, path: str, said: Object) -> Object:
    """The `/_…` addresses. The caller holds the world's lock."""
    match method, path:
        case "POST", "/_audiences":
            audience = world.add_audience(str(said["id"]), str(said.get("name", "")))
            audience.merge_fields |= said.get("merge_fields") or {}
            audience.required |= set(said.get("required") or ())
            audience.groups |= said.get("groups") or {}
        case "POST", "/_seed":
            return acts.seed(world, said)
        case "POST", "/_act":
            return acts.act(world, said)
        case "POST", "/_hooks":
            audience = world.audience(str(said["audience"]))
            sources = {by: bool(said.get(by, by != "api")) for by in ("user", "admin", "api")}
            hook = Hook(f"wh{len(audience.webhooks) + 1}", str(said["url"]), dict.fromkeys(EVERYTHING, True), sources)
            audience.webhooks[hook.id] = hook
        case "POST", "/_clock":
            world.offset = float(said.get("offset", world.offset))
            world.frozen = said.get("frozen", world.frozen)
        case "POST", "/_faults":
            world.faults.set(said)
        case "DELETE", "/_faults":
            world.faults.end()
        case "GET", "/_stats":
            return {"deliveries": {**world.postman.counts, "pending": world.postman.pending}, "peak": world.peak}
        case "GET", "/_requests":
            return {"requests": list(world.requests)}
        case _:
            raise Problem(404, "Resource Not Found", f"no such control: {method} {path}")
    return {}


class _Server(Server):
    def __init__(self, address: tuple[str, int], world: World) -> None:
        self.world = world
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30.0
    server: _Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self._send(413, "application/json", b"{}")
            return
        sent = self.rfile.read(length)
        world = self.server.world
        path = unquote(urlsplit(self.path).path)
        try:
            if path.startswith("/_answers/"):
                with world.lock:
                    found = archive_of(world, path.removeprefix("/_answers/").partition(".")[0])
                self._send(200, "application/x-gzip", found)
            elif path.startswith("/_"):
                with world.lock:
                    said = control(world, self.command, path, json.loads(sent) if sent else {})
                self._send(200, "application/json", json.dumps(said).encode())
            else:
                self._send(*self._api(path, sent))
        except Problem as problem:
            self._send(problem.status, "application/problem+json; charset=utf-8", json.dumps(problem.said()).encode())
        except Broken as how:
            self._break(str(how))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: `/_requests` tells what came."""

    def _api(self, path: str, sent: bytes) -> Answer:
        world = self.server.world
        path = path.removeprefix("/3.0") or "/"
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            body = json.loads(sent) if sent else {}
        except ValueError:
            raise Problem(400, "JSON Parse Error", "We encountered an unspecified JSON parsing error.") from None
        with world.lock:
            world.busy += 1
            world.peak = max(world.peak, world.busy)
            crowded = world.busy > world.faults.at_once
            world.requests.append({"method": self.command, "path": path, "query": query, "body": body,
                                   "type": self.headers.get("Content-Type", "")})  # fmt: skip
        try:
            time.sleep(world.faults.slow)
            with world.lock:
                world.faults.due()
                if crowded:
                    raise Problem(
                        429, "Too Many Requests", "You have exceeded the limit of 10 simultaneous connections."
                    )
                if world.faults.revoked or not _KEY.fullmatch(_key(self.headers.get("Authorization", ""))):
                    raise Problem(401, "API Key Invalid", "Your API key may be invalid.")
                said = answer(world, self.command, path, query, body if isinstance(body, dict) else {})
        finally:
            with world.lock:
                world.busy -= 1
        if said is None:
            return 204, "application/json", b""
        return 200, "application/json; charset=utf-8", json.dumps(said, separators=(",", ":")).encode()

    def _break(self, how: str) -> None:
        if how == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self._send(*BROKEN[how])

    def _send(self, status: int, type: str, body: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Content-Type", type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _key(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic":
        return base64.b64decode(value).decode().partition(":")[2]
    return value


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m upkept.testing.fake_mailchimp", description="A stand-in for Mailchimp."
    )
    parser.add_argument("--port", type=int, default=8422)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--audience", action="append", help="an audience's id; may be given several times")
    parser.add_argument("--members", type=int, default=0, help="so many members in each audience")
    parser.add_argument("--hooks", help="where webhooks go: …/hooks/<connection>/<token>")
    said = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with FakeMailchimp(port=said.port, host=said.host) as mailchimp:
        for audience in said.audience or ["a6b5da1054"]:
            mailchimp.audience(audience)
            mailchimp.seed(audience=audience, members=said.members)
            if said.hooks:
                mailchimp.control("POST", "/_hooks", audience=audience, url=said.hooks)
        print(f"fake Mailchimp listens on {mailchimp.url}", flush=True)
        ended.wait()
