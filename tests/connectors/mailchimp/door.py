"""A hub with one Mailchimp connection, and a door that its webhooks are posted to over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.connectors.mailchimp.conftest import KEY, LIST, OTHER
from tests.flow.small_vendor import get, ring

from upkept.contract import Rejected, Request, Statement
from upkept.flow import opt_outs, runs
from upkept.flow.bells import Bell
from upkept.flow.explain import explain
from upkept.flow.hub import Hub
from upkept.flow.opening import policies
from upkept.flow.pull import step
from upkept.flow.push import push
from upkept.flow.receive import Received, keep, receive
from upkept.keys import Keys
from upkept.registry import load_connections
from upkept.settings import load
from upkept.sources import STATEMENTS
from upkept.sources.envelope import encode
from upkept.store.engine import Store
from upkept.store.inbox import Arrival
from upkept.store.row_key import row_key
from upkept.store.runs import Run
from upkept.testing.fake_mailchimp import FakeMailchimp

TOKEN = "f3c1-long-and-random"
ADMINS = "9a2b-another-one"
KEYS = Keys(public_id=b"p" * 32, tombstone=b"t" * 32, consent=b"c" * 32, secret=b"s" * 32)


def now() -> int:
    return time.time_ns() // 1000


@dataclass
class Door:
    """`held` bells are rung by `work`, so that a test can look at what is true at 2xx and before."""

    hub: Hub
    fake: FakeMailchimp
    held: list[Bell] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    def post(self, token: str, body: bytes) -> int:
        try:
            received = receive(self.hub, "mailchimp", Request(body=body, headers={}, token=token), now=now())
        except Rejected as error:
            return error.status
        (kept,) = keep(self.hub, [received], now=now())
        if kept.error is not None:
            raise kept.error
        self.held += kept.bells
        return 200

    def act(self, act: str, email: str = "", *, audience: str, **said: Any) -> None:
        """Something happens at Mailchimp, two seconds after the last: within one, nobody could tell the order."""
        self.fake.control("POST", "/_clock", offset=self.fake.world.offset + 2)
        self.fake.act(act, email, audience=audience, **said)

    def arrived(self) -> None:
        assert self.fake.drain()

    def work(self) -> None:
        """Everything that waits, read-backs included."""
        for _ in range(20):
            self.arrived()
            bells, self.held = tuple(self.held), []
            left = ring(self.hub, (*bells, Bell("outbound", "read_back", ())), now)  # type: ignore[arg-type]
            for bell in left:
                self.held += push(self.hub, bell.ids, now=now)
            self.arrived()
            if not self.held:
                return
        raise AssertionError(f"the hub and Mailchimp tell each other for ever: {self.held}")

    def tell(self, *said: Statement) -> None:
        """What our own application says, and all that follows from it."""
        key = f"said {now()}"
        arrival = Arrival(connection="app", dedup_key=key, kind=STATEMENTS, body=encode(said), received_at=now())
        facts = opt_outs.among(self.hub, "app", said, received_at=arrival.received_at)
        told = Received((arrival,), tuple((fact, row_key("app", key)) for fact in facts))
        (kept,) = keep(self.hub, [told], now=now())
        self.held += kept.bells
        self.work()

    def resync(self, **options: Any) -> Run:
        run = runs.start(self.hub, "mailchimp", now=now(), **options).run
        for _ in range(200):
            self.held += ring(self.hub, step(self.hub, run.id, now=now), now)  # type: ignore[arg-type]
            run = get(self.hub, run.id)
            if not run.open:
                return run
            time.sleep(0.01)
        raise AssertionError(run)

    def explain(self, person: str) -> dict[str, Any]:
        return explain(self.hub, person)

    def consent(self, person: str) -> str:
        return str(self.explain(person)["consent"].get("email", {}).get("state", "unknown"))

    def value(self, person: str, attribute: str) -> Any:
        return self.explain(person)["attributes"].get(attribute, {}).get("value")

    def count(self, table: str) -> int:
        with self.hub.store.read() as connection:
            return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())  # noqa: S608


@contextmanager
def door(
    store: Store, home: Path, fake: FakeMailchimp, *, api: bool = False, apart: bool = False, more: str = ""
) -> Iterator[Door]:
    """The hub, and webhooks of both audiences that lead to it; `api`: they tell what the API does, too; `apart`: what
    admins do is told by webhooks of another token.
    """
    (home / "upkept.toml").write_text(
        f'[connections.mailchimp]\nconnector = "mailchimp"\napi_key = "env:KEY"\n'
        f'webhook_token = ["env:TOKEN", "env:ADMINS"]\naudiences = ["{LIST}", "{OTHER}"]\n'
        f'base_url = "{fake.url}"\n{more}'
    )
    settings = load({"KEY": KEY, "TOKEN": TOKEN, "ADMINS": ADMINS}, cwd=home)
    connections = load_connections(settings)
    ranks = {name: one.rank for name, one in connections.items()}
    hub = Hub(
        store=store, connections=connections, keys=KEYS, policies=policies(settings, ranks=ranks), settings=settings
    )
    standing = Door(hub, fake)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(standing))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/hooks/mailchimp"
    fake.audience(OTHER)
    for audience in (LIST, OTHER):
        fake.control("POST", "/_hooks", audience=audience, url=f"{url}/{TOKEN}", admin=not apart, api=api)
        if apart:
            fake.control("POST", "/_hooks", audience=audience, url=f"{url}/{ADMINS}", user=False)
    try:
        yield standing
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _handler(standing: Door) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                status = standing.post(self.path.rpartition("/")[2], body)
                standing.answers.append(status)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
