"""A vendor on a bad day: whatever it is asked, it answers in one wrong way."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final


@dataclass(frozen=True, slots=True)
class Sickness:
    """One wrong way to answer. `status` 0 hangs up without a word, None is not there at all."""

    name: str
    status: int | None
    body: bytes = b""
    type: str = "application/json"
    retry_after: str = ""


SICKNESSES: Final = (
    Sickness("server error, in HTML", 500, b"<html><h1>Oops</h1></html>", "text/html"),
    Sickness("bad gateway, empty", 502),
    Sickness("maintenance", 503, b'{"error":"maintenance"}', retry_after="1"),
    Sickness("key refused", 401, b'{"error":{"type":"invalid_request_error","message":"Invalid API Key"}}'),
    Sickness("not allowed", 403, b'{"error":{"type":"invalid_request_error","message":"No"}}'),
    Sickness("not found, in HTML", 404, b"<html>404</html>", "text/html"),
    Sickness("too fast", 429, b'{"error":{"message":"Too many requests"}}', retry_after="1"),
    Sickness("too fast, a date", 429, b"{}", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    Sickness("success that is no JSON", 200, b"<html>Login</html>", "text/html"),
    Sickness("success of another shape", 200, b'["unexpected"]'),
    Sickness("success that is empty", 200, b"{}"),
    Sickness("redirect to nowhere", 302, b""),
    Sickness("hangs up", 0),
    Sickness("refuses the connection", None),
)


@contextmanager
def sick_vendor(sickness: Sickness) -> Iterator[str]:
    """The base URL of a vendor that has it."""
    if sickness.status is None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{closed.getsockname()[1]}"
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(sickness))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _handler(sickness: Sickness) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            if sickness.status == 0:
                self.connection.recv(65536)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                return
            super().handle_one_request()

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(sickness.status or 500)
            self.send_header("Content-Type", sickness.type)
            self.send_header("Content-Length", str(len(sickness.body)))
            self.send_header("Connection", "close")
            if sickness.retry_after:
                self.send_header("Retry-After", sickness.retry_after)
            if sickness.status == 302:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(sickness.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Answer
