"""The broker frozen or stopped: 1,000 posts are answered 2xx all the same, and soon applied, whether it returns or not.

On SQLite with the embedded broker, and on PostgreSQL with Redis and with RabbitMQ. The RabbitMQ belongs to others too:
it is a proxy before it that freezes and refuses.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import pytest
from tests.till.proxy import Proxy, proxied
from tests.till.site import Site, delivery, event, free_port, listens, rabbitmq_alone, redis_command, wait_for

from upkept import broker
from upkept.store.engine import open_store

POSTS = 1_000
SENDERS = 8
P99 = 0.25
APPLIED_WITHIN = 60.0


class Broker(Protocol):
    """A broker that can be frozen, stopped, and mended after either."""

    def freeze(self) -> None: ...
    def stop(self) -> None: ...
    def mend(self) -> None: ...


@dataclass
class OfOurOwn:
    """A broker's process. What it held is gone when it is stopped, unless it writes it down."""

    command: Callable[[], list[str]]
    answers: Callable[[], bool]
    running: subprocess.Popen[bytes] | None = None

    def freeze(self) -> None:
        assert self.running is not None
        self.running.send_signal(signal.SIGSTOP)

    def stop(self) -> None:
        if self.running is not None:
            self.running.kill()
            self.running.wait(10)
            self.running = None

    def mend(self) -> None:
        if self.running is not None:
            self.running.send_signal(signal.SIGCONT)
            return
        self.running = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers)


@dataclass
class BehindAProxy:
    """A broker of others."""

    proxy: Proxy

    def freeze(self) -> None:
        self.proxy.become("frozen")

    def stop(self) -> None:
        self.proxy.become("cut")

    def mend(self) -> None:
        self.proxy.become("open")


@dataclass
class Hub:
    """A hub whose every process runs, and its broker."""

    site: Site
    broker: Broker
    posted: int = 0

    def post(self, count: int = 1) -> list[float]:
        """So many posts by several senders, each of them answered 200; the seconds each took, the longest last."""
        numbers = range(self.posted, self.posted + count)
        self.posted += count
        with ThreadPoolExecutor(SENDERS) as pool:
            return sorted(pool.map(self._timed, numbers))

    def _timed(self, number: int) -> float:
        body = delivery(event(number))
        began = time.monotonic()
        assert self.site.post(body).status_code == 200
        return time.monotonic() - began

    def await_applied(self, seconds: float) -> None:
        """Until all that was posted stands applied."""
        store = open_store(self.site.database_url)
        try:
            wait_for(lambda: self._applied(store) == self.posted, seconds)
        finally:
            store.close()

    def _applied(self, store: object) -> int:
        with store.read() as connection:  # type: ignore[attr-defined]
            return int(connection.exec_driver_sql("SELECT count(*) FROM inbox WHERE state = 'done'").scalar() or 0)


@pytest.fixture(params=["embedded", "redis", "rabbitmq"])
def hub(request: pytest.FixtureRequest, with_tables: Callable[[str], str], tmp_path: Path) -> Iterator[Hub]:
    """Web, worker and courier at work: a first delivery went all the way."""
    url = with_tables("sqlite" if request.param == "embedded" else "postgresql")
    with ExitStack() as stack:
        site, held = _with_broker(request, stack, tmp_path, url)
        stack.callback(site.end)
        held.mend()
        for name in ("worker", "courier", "web"):
            site.start(name)
        made = Hub(site, held)
        made.post()
        made.await_applied(60)
        yield made


def _with_broker(request: pytest.FixtureRequest, stack: ExitStack, folder: Path, url: str) -> tuple[Site, Broker]:
    if request.param == "rabbitmq":
        real = urlsplit(stack.enter_context(rabbitmq_alone(request.getfixturevalue("rabbitmq_url"))))
        proxy = stack.enter_context(proxied(real.hostname or "127.0.0.1", real.port or 5672))
        netloc = f"{real.netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}"
        return Site(folder / "home", url, real._replace(netloc=netloc).geturl()), BehindAProxy(proxy)
    if request.param == "redis":
        port = free_port()
        own = OfOurOwn(lambda: redis_command(folder, port), lambda: listens(port))
        site = Site(folder / "home", url, f"redis://127.0.0.1:{port}/0")
    else:
        site = Site(folder / "home", url, "")
        socket = site.settings.broker_socket
        own = OfOurOwn(lambda: broker.command(site.settings), lambda: broker.answers(socket))
    stack.callback(own.stop)
    return site, own


@pytest.mark.parametrize("outage", ["frozen", "stopped"])
def test_it_returns(hub: Hub, outage: str) -> None:
    hub.broker.freeze() if outage == "frozen" else hub.broker.stop()
    seconds = hub.post(POSTS)
    hub.broker.mend()
    hub.await_applied(APPLIED_WITHIN)
    assert seconds[POSTS * 99 // 100] <= P99


def test_it_returns_and_the_worker_has_died_with_it(hub: Hub) -> None:
    """Celery now and then does, when it loses a connection with a message in hand; here nobody starts it again."""
    hub.broker.stop()
    hub.site.kill("worker")
    hub.post(POSTS)
    hub.broker.mend()
    hub.await_applied(APPLIED_WITHIN)


@pytest.mark.parametrize("outage", ["frozen", "stopped"])
def test_it_does_not_return(hub: Hub, outage: str) -> None:
    hub.broker.freeze() if outage == "frozen" else hub.broker.stop()
    seconds = hub.post(POSTS)
    hub.await_applied(APPLIED_WITHIN)
    assert seconds[POSTS * 99 // 100] <= P99
