"""What every stand-in for a vendor is: a server in threads of this process, and a postman who sends its webhooks."""

from __future__ import annotations

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self


class Postman(Protocol):
    """Who delivers webhooks, from threads of its own."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Server(ThreadingHTTPServer):
    """Knows its open connections, so that it can end them; a vendor's own adds what its handler asks."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        for connection in list(self._connections):
            self.shutdown_request(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; any other error is printed as a traceback."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class StandIn:
    """A server and its postman, from `start` to `stop` or for a `with` block. `url` says where it is."""

    def __init__(self, server: Server, postman: Postman) -> None:
        self._server, self._postman = server, postman
        self._thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        host, port = server.server_address[:2]
        self.url = f"http://{host!s}:{port}"

    def start(self) -> Self:
        self._postman.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and delivering; open connections are closed."""
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._server.server_close()
        self._postman.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.stop()
