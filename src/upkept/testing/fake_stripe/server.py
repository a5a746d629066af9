"""A stand-in for Stripe that keeps state and misbehaves like Stripe.

Run it as `python -m upkept.testing.fake_stripe --port 8421`.

It speaks enough of the API for the official SDK (customers, products, prices, plans, payment methods, subscriptions,
invoices, charges, refunds, disputes, events; v2 thin events) in the shapes of the version asked for, before and after
"basil", and delivers signed webhooks. Any `sk_…` or `rk_…` key is good; `_live_` opens the live mode's own data.

Beside the API:

    POST   /_config/webhooks[/{id}]  {"url", "secret" (or several), "events"?, "thin"?, "connect"?}
    DELETE /_config/data             forget all objects
    POST   /_accounts                {"id"}: add a connected account
    POST   /_seed                    {"customers", "subscriptions"?, "invoices"?, "charges"?, "days"?, "events"?,
                                      "account"?, "live"?}
    POST   /_clock                   {"frozen"} | {"offset"} | {"advance"}: seconds; advancing lets billing happen
    POST   /_dispute                 {"charge", "reason"?}
    POST   /_faults, DELETE /_faults see `faults.Faults`
    GET    /_stats                   calls, refusals and peak calls per second of each endpoint, deliveries
    GET    /_requests                the last calls: endpoint, account, version, idempotency key

In a test: `with FakeStripe() as stripe: ... stripe.url`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import signal
import socket
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from upkept.testing.fake_stripe.api import Route, routed
from upkept.testing.fake_stripe.call import Call
from upkept.testing.fake_stripe.control import control
from upkept.testing.fake_stripe.faults import Broken
from upkept.testing.fake_stripe.forms import Params, parsed
from upkept.testing.fake_stripe.ledger import Cause, Ledger
from upkept.testing.fake_stripe.shapes import NEW_VERSION
from upkept.testing.fake_stripe.table import ApiError, Object
from upkept.testing.fake_stripe.world import World
from upkept.testing.stand_in import Server, StandIn

MAX_BODY: Final = 1_048_576
IDLE: Final = 30.0
"""Seconds a kept-alive connection may be silent."""

_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?")
BROKEN: Final = {
    "garbage": b'{"object": "list", "data": [',
    "array": b"[]",
    "empty": b'{"object": "list", "data": [], "has_more": true}',
}
Answer = tuple[int, dict[str, str], bytes]


class FakeStripe(StandIn):
    """The server, in threads of this process. Port 0 takes a free one; `url` says which."""

    def __init__(self, *, port: int = 0, host: str = "127.0.0.1", version: str = NEW_VERSION, seed: int = 0) -> None:
        self.world = World(version=version, seed=seed)
        super().__init__(_Server((host, port), self.world), self.world.postman)

    def control(self, method: str, path: str, **said: Any) -> Object:
        """What the `/_…` addresses do, without the way over HTTP: `control("POST", "/_faults", revoked=True)`."""
        with self.world.lock:
            return control(self.world, method, path, said)

    def faults(self, **said: Any) -> None:
        """Set faults by name (`faults.Faults`); none ends them all."""
        self.control("POST" if said else "DELETE", "/_faults", **said)

    def seed(self, **said: Any) -> Object:
        return self.control("POST", "/_seed", **said)

    def set_clock(self, when: float | None) -> None:
        """Freeze the clock at a unix second; None lets it run."""
        self.control("POST", "/_clock", frozen=when)

    def advance(self, seconds: float) -> None:
        """Move the clock, billing what falls due on the way."""
        self.control("POST", "/_clock", advance=seconds)

    def webhook(self, url: str, secret: str | list[str], **said: Any) -> None:
        self.control("POST", "/_config/webhooks", url=url, secret=secret, **said)

    def stats(self) -> Object:
        return self.control("GET", "/_stats")

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until no delivery is on its way."""
        return self.world.postman.drain(timeout)


class _Server(Server):
    def __init__(self, address: tuple[str, int], world: World) -> None:
        self.world = world
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: `/_requests` tells what came."""

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY:
            self._send(413, {"Connection": "close"}, b"{}")
            return
        body = self.rfile.read(length)
        path, query = unquote(urlsplit(self.path).path), urlsplit(self.path).query
        try:
            status, headers, answer = (
                self._control(path, body) if path.startswith("/_") else self._api(path, query, body)
            )
        except ApiError as error:
            status, headers = error.status, error.headers
            answer = json.dumps({"error": error.details}).encode()
        except Broken as how:
            self._break(str(how))
            return
        self._send(status, headers, answer)

    def _control(self, path: str, body: bytes) -> Answer:
        said = json.loads(body) if body else {}
        with self.server.world.lock:
            return 200, {}, json.dumps(control(self.server.world, self.command, path, said)).encode()

    def _api(self, path: str, query: str, body: bytes) -> Answer:
        world = self.server.world
        route, id = routed(self.command, path)
        key = _key(self.headers.get("Authorization", ""))
        version = self.headers.get("Stripe-Version") or world.version
        account = (self.headers.get("Stripe-Account") or self.headers.get("Stripe-Context") or "").rpartition("/")[2]
        idempotency_key = self.headers.get("Idempotency-Key")
        time.sleep(world.faults.slow)
        with world.lock:
            seen = {"endpoint": route.name, "path": self.path, "account": account or None, "version": version}
            world.gate.requests.append({**seen, "idempotency_key": idempotency_key})
            world.gate.admit(route.name, key)
            if not _VERSION.fullmatch(version):
                raise ApiError(400, f"Invalid Stripe API version: {version}")
            ledger = world.ledger(account or None, live="_live_" in key, key=key)
            params = parsed(query if self.command != "POST" else body.decode())
            request_id = ledger.new_id("req")
            ledger.cause = Cause(request_id, idempotency_key)
            headers = {"Request-Id": request_id, "Stripe-Version": version}
            if self.command != "POST" or idempotency_key is None:
                return 200, headers, self._do(route, id, ledger, params, version)
            return self._once(idempotency_key, route, id, ledger, params, version, headers)

    def _once(
        self, key: str, route: Route, id: str, ledger: Ledger, params: Params, version: str, headers: dict[str, str]
    ) -> Answer:
        """An idempotent POST (https://docs.stripe.com/api/idempotent_requests): the first answer is kept."""
        mark = hashlib.sha256(repr((self.path, params)).encode()).hexdigest()
        saved = ledger.answers.get(key)
        if saved is not None and saved[0] != mark:
            message = (
                "Keys for idempotent requests can only be used with the same parameters they were first used with."
            )
            raise ApiError(400, message, type="idempotency_error")
        if saved is not None:
            status, first, body = saved[1]
            return status, {**first, "Idempotent-Replayed": "true", "Idempotency-Key": key}, body
        try:
            answer = 200, headers, self._do(route, id, ledger, params, version)
        except ApiError as error:
            if error.status != 402:  # refused before anything was done: not kept
                raise
            answer = error.status, headers, json.dumps({"error": error.details}).encode()
        ledger.answers[key] = (mark, answer)
        return answer

    def _do(self, route: Route, id: str, ledger: Ledger, params: Params, version: str) -> bytes:
        expand = params.pop("expand", [])
        try:
            shown = route.do(Call(ledger, id, params, version, tuple(expand if isinstance(expand, list) else [expand])))
        except ApiError as error:
            self._name_other_mode(error, ledger, id)
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ApiError(400, f"Invalid or missing parameter ({error}).") from error
        if route.list_name:
            shown = self.server.world.gate.page(route.list_name, shown)
        return json.dumps(shown, separators=(",", ":")).encode()

    def _name_other_mode(self, error: ApiError, ledger: Ledger, id: str) -> None:
        """Stripe says so if a missing object exists in the other mode."""
        other = self.server.world.ledger(ledger.account, live=not ledger.livemode)
        if error.status == 404 and any(id in table.rows for table in other.tables.values()):
            theirs, ours = ("live", "test") if other.livemode else ("test", "live")
            error.details["message"] += (
                f"; a similar object exists in {theirs} mode, but a {ours} mode key was used to make this request."
            )

    def _break(self, how: str) -> None:
        if how == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif how == "html":
            self._send(502, {"Content-Type": "text/html"}, b"<html><h1>502 Bad Gateway</h1></html>")
        else:
            self._send(200, {}, BROKEN[how])

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        defaults = {
            "Date": formatdate(self.server.world.clock.now(), usegmt=True),
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        for name, value in {**defaults, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _key(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "basic":
        return base64.b64decode(value).decode().partition(":")[0]
    return value


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m upkept.testing.fake_stripe", description="A stand-in for Stripe.")
    parser.add_argument("--port", type=int, default=8421)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--api-version", default=NEW_VERSION, help="the account's API version: 2017-08-15, …")
    said = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with FakeStripe(port=said.port, host=said.host, version=said.api_version) as stripe:
        print(f"fake Stripe listens on {stripe.url} (API version {said.api_version})", flush=True)
        ended.wait()
