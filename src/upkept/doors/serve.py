"""Running the web process: uvicorn with bounds it does not have by itself."""

from __future__ import annotations

import ctypes
import signal
from asyncio import TimerHandle, Transport
from socket import socket
from typing import Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from upkept.collector import collect_seldom
from upkept.doors.app import App, create_app
from upkept.settings import Settings

HEAD_SECONDS: Final = 10.0
"""How long a client may take from its connection, or its first byte, to the end of its headers."""
CONNECTIONS: Final = 4_000
COLLECT_AFTER: Final = 3_000
"""Objects more than before: a burst of requests makes some hundreds. Ten thousand cost 1.5 MB of memory more."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn closes idle connections, but waits for ever for headers that trickle in or never come."""

    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is None or self.cycle.response_complete:
            # No request is under way: what came is the beginning of a head.
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)
        else:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def configuration(app: App, settings: Settings) -> uvicorn.Config:
    """How the web process listens: no access log, no server header, bounded everywhere."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=BoundedProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=20,
        limit_concurrency=CONNECTIONS,
        backlog=1024,
    )


class Server(uvicorn.Server):
    """Once everything is loaded, the memory of starting up is given back: 14 MB of 113; what is under way is looked
    at seldom: a burst of requests is no garbage, and looking was a twentieth of the process time."""

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        collect_seldom(COLLECT_AFTER)
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _ended(*_: object) -> None:
    raise SystemExit(0)


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; what was accepted by then is committed. The exit status.

    Raises `Config` before it listens.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again once it has ended; an end that was asked for is no failure.
        signal.signal(number, _ended)
    server = Server(configuration(create_app(settings), settings))
    server.run()
    return 0 if server.started else 3
