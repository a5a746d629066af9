"""A stand-in for Salesforce that keeps state and misbehaves like Salesforce.

Run it as `python -m upkept.testing.fake_salesforce --port 8424 --hooks http://127.0.0.1:8080/hooks/salesforce/TOKEN`.

It speaks as much of the REST API as connectors use (login, SOQL, queryAll, describe, getDeleted, rows, upsert by
external id, collections, Bulk API 2.0 queries) over leads, contacts, accounts, campaigns and activity, and sends
outbound messages. Any client is good; the access token `session-of-a-test` always is.

Beside the API:

    POST   /_rows            {"object", "rows": […]}: make rows, as somebody of the sales team; answers their ids
    PATCH  /_rows            {"object", "id", "values"}
    POST   /_delete, /_undelete   {"object", "id"};  POST /_purge: empty the recycle bin
    POST   /_merge           {"object", "winner", "losers"};  POST /_convert {"id"}: answers the contact's
    POST   /_seed            {"leads"?, "contacts"?, "tasks"?}
    GET    /_rows?object=Lead     everything, deleted rows too
    POST   /_clock           {"frozen"} | {"offset"} | {"advance"}: seconds
    POST   /_hooks           {"url", "needs_ack"?}
    POST   /_faults, DELETE /_faults   see `faults.Faults`
    GET    /_stats           calls by endpoint, logins, notifications
    GET    /_requests        the last calls: method, path, headers of interest

In a test: `with FakeSalesforce() as org: ... org.url`.
"""

from __future__ import annotations

import argparse
import base64
import json
import secrets
import signal
import socket
import threading
import time
from contextlib import ExitStack
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from upkept.testing.fake_salesforce.api import Answered, Api, Asked
from upkept.testing.fake_salesforce.faults import Broken, Faults, Gate
from upkept.testing.fake_salesforce.hooks import Postman
from upkept.testing.fake_salesforce.org import INTEGRATION, ORGANIZATION, Org
from upkept.testing.fake_salesforce.shapes import ApiError, Row
from upkept.testing.stand_in import Server, StandIn

MAX_BODY: Final = 4 << 20
IDLE: Final = 30.0
"""Seconds a kept-alive connection may be silent."""
ALWAYS_GOOD: Final = "session-of-a-test"
OF_INTEREST: Final = ("sforce-call-options", "sforce-auto-assign", "sforce-duplicate-rule-header")


class FakeSalesforce(StandIn):
    """The server, in threads of this process. Port 0 takes a free one; `url` says which."""

    def __init__(self, *, port: int = 0, host: str = "127.0.0.1", hooks: str | None = None) -> None:
        self.faults = Faults()
        self.org = Org(self.faults)
        self.gate = Gate(self.faults, sessions={ALWAYS_GOOD})
        self.api = Api(self.org)
        self.postman = Postman(self.org, hooks)
        self.org.changed = self.postman.note
        self.lock = threading.RLock()
        super().__init__(_Server((host, port), self), self.postman)

    def make(self, table: str, *rows: Row) -> list[str]:
        with self.lock:
            return [self.org.create(table, row) for row in rows]

    def change(self, table: str, id: str, **values: Any) -> None:
        with self.lock:
            self.org.update(table, id, values)

    def rows(self, table: str) -> list[Row]:
        with self.lock:
            return [dict(row) for row in self.org.tables[table].values()]

    def set_faults(self, **said: Any) -> None:
        """Set faults by name (`faults.Faults`); none ends them all."""
        self.faults.set(said or vars(Faults()))

    def seed(self, *, leads: int = 0, contacts: int = 0, tasks: int = 0) -> list[str]:
        """Leads, contacts, and tasks about the leads in turn; the leads' ids."""
        made = self.make("Lead", *(
            {"LastName": f"Lead {n}", "Company": "Acme", "Email": f"lead{n}@example.com"} for n in range(leads)
        ))  # fmt: skip
        self.make("Contact", *({"LastName": f"Contact {n}", "Email": f"contact{n}@example.com"}
                               for n in range(contacts)))  # fmt: skip
        self.make("Task", *({"WhoId": made[n % leads], "Subject": f"Call {n}"} for n in range(tasks if leads else 0)))
        return made

    def login(self, said: dict[str, str]) -> Answered:
        """The token endpoint: both flows, and what it answers to a wrong client."""
        self.gate.logins += 1
        if self.faults.fail_next:
            how = self.faults.fail_next.pop(0)
            if not isinstance(how, int):
                raise Broken(str(how))
            return Answered(how, {"error": "unknown_error", "error_description": "retry your request"})
        flow = said.get("grant_type")
        known = flow == "client_credentials" and {"client_id", "client_secret"} <= said.keys()
        if flow == "urn:ietf:params:oauth:grant-type:jwt-bearer":
            known = self._asserted(said.get("assertion", ""))
        if self.faults.revoked or not known:
            return Answered(400, {"error": "invalid_grant", "error_description": "authentication failure"})
        token = f"{ORGANIZATION}!{secrets.token_hex(20)}"
        self.gate.sessions.add(token)
        who = f"https://login.salesforce.com/id/{ORGANIZATION}/{INTEGRATION}"
        body = {"access_token": token, "instance_url": "https://acme.my.salesforce.com", "id": who,
                "token_type": "Bearer", "issued_at": str(int(self.org.clock.now() * 1000))}  # fmt: skip
        return Answered(200, body)

    def _asserted(self, assertion: str) -> bool:
        part = assertion.split(".")[1] if assertion.count(".") == 2 else ""
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) or b"{}")
        return claims.keys() >= {"iss", "sub", "aud", "exp"} and float(claims["exp"]) > self.org.clock.now()

    def control(self, method: str, path: str, said: Row) -> Any:
        """What the `/_…` addresses do."""
        match method, path:
            case "POST", "/_rows":
                return {"ids": self.make(said["object"], *said["rows"])}
            case "PATCH", "/_rows":
                return self.change(said["object"], said["id"], **said["values"])
            case "GET", "/_rows":
                return self.rows(said["object"])
            case "POST", "/_delete":
                return self.org.delete(said["object"], said["id"])
            case "POST", "/_undelete":
                return self.org.undelete(said["object"], said["id"])
            case "POST", "/_purge":
                return self.org.purge()
            case "POST", "/_merge":
                return self.org.merge(said["object"], said["winner"], said["losers"])
            case "POST", "/_convert":
                return {"contact": self.org.convert(said["id"])}
            case "POST", "/_seed":
                return {"leads": self.seed(**said)}
            case "POST", "/_clock":
                self._set_clock(said)
                return {"now": self.org.clock.now()}
            case "POST", "/_hooks":
                self.postman.url, self.postman.needs_ack = said["url"], said.get("needs_ack", True)
                return None
            case "POST" | "DELETE", "/_faults":
                return self.set_faults(**said)
            case "GET", "/_stats":
                return {"calls": dict(self.gate.calls), "logins": self.gate.logins, "hooks": dict(self.postman.counts)}
            case "GET", "/_requests":
                return list(self.gate.requests)
        raise ApiError(404, "NOT_FOUND", f"no {method} {path}")

    def _set_clock(self, said: Row) -> None:
        clock = self.org.clock
        if "advance" in said:
            clock.frozen = clock.now() + said["advance"] if clock.frozen is not None else None
            clock.offset += said["advance"]
        else:
            clock.frozen, clock.offset = said.get("frozen"), said.get("offset", 0.0)


class _Server(Server):
    def __init__(self, address: tuple[str, int], fake: FakeSalesforce) -> None:
        self.fake = fake
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = IDLE
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: `/_requests` tells what came."""

    def _answer(self) -> None:
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MAX_BODY))
        address = urlsplit(self.path)
        params = dict(parse_qsl(address.query, keep_blank_values=True))
        fake = self.server.fake
        try:
            if address.path == "/services/oauth2/token":
                self._note("login", address.path)
                done = fake.login(dict(parse_qsl(body.decode())))
            elif address.path.startswith("/_"):
                said = json.loads(body) if body else params
                with fake.lock:
                    done = Answered(200, fake.control(self.command, address.path, said))
            else:
                done = self._api(address.path, params, body)
        except ApiError as error:
            done = Answered(error.status, [error.shown()])
        except Broken as how:
            self._break(str(how))
            return
        self._send(done)

    def _api(self, path: str, params: dict[str, str], body: bytes) -> Answered:
        fake = self.server.fake
        version, steps = path.split("/")[3:4], tuple(filter(None, path.split("/")[4:]))
        time.sleep(fake.faults.slow)
        with fake.lock:
            endpoint = f"{self.command} {'/'.join(steps[:2])}"
            self._note(endpoint, path)
            fake.gate.admit(endpoint, self.headers.get("Authorization", "").removeprefix("Bearer "))
            if not path.startswith("/services/data/v") or not version:
                raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
            headers = {name.lower(): value for name, value in self.headers.items()}
            done = fake.api.answer(Asked(self.command, steps, params, json.loads(body) if body else None, headers))
            if self.command != "GET" and fake.faults.lose_next > 0:
                fake.faults.lose_next -= 1
                raise Broken("reset")
            return done

    def _note(self, endpoint: str, path: str) -> None:
        seen = {name: self.headers[name] for name in OF_INTEREST if name in self.headers}
        self.server.fake.gate.requests.append({"endpoint": endpoint, "method": self.command, "path": path, **seen})

    def _break(self, how: str) -> None:
        if how == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, kind, body = {
            "html": (502, "text/html", b"<html><h1>502 Bad Gateway</h1></html>"),
            "garbage": (200, "application/json", b'{"totalSize": 1, "records": ['),
            "array": (200, "application/json", b'["unexpected"]'),
        }[how]
        self._send(Answered(status, body, {"Content-Type": kind}))

    def _send(self, done: Answered) -> None:
        body = done.body if isinstance(done.body, bytes) else json.dumps(done.body).encode()
        if done.status == 204:
            body = b""
        self.send_response_only(done.status)
        headers = {
            "Date": formatdate(self.server.fake.org.clock.now(), usegmt=True),
            "Content-Type": "application/json;charset=UTF-8",
            "Sforce-Limit-Info": f"api-usage={self.server.fake.gate.used}/100000",
            **({} if done.status == 204 else {"Content-Length": str(len(body))}),
            **done.headers,
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until Ctrl-C or SIGTERM."""
    about = "A stand-in for Salesforce."
    parser = argparse.ArgumentParser(prog="python -m upkept.testing.fake_salesforce", description=about)
    parser.add_argument("--port", type=int, default=8424)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--hooks", help="where outbound messages go: …/hooks/<connection>/<webhook_token>")
    parser.add_argument("--changes", type=int, help="a port for the Pub/Sub API (needs grpcio and fastavro)")
    said = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with FakeSalesforce(port=said.port, host=said.host, hooks=said.hooks) as fake, ExitStack() as more:
        if said.changes is not None:
            from upkept.testing.fake_salesforce.pubsub import FakePubSub

            bus = more.enter_context(FakePubSub(fake, port=said.changes, host=said.host))
            print(f"its Pub/Sub API listens on {bus.url}", flush=True)
        print(f"fake Salesforce listens on {fake.url} (organization {ORGANIZATION})", flush=True)
        ended.wait()
