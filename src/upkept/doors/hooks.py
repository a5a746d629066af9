"""`POST /hooks/{connection}[/{token}]`: the hot path, raw ASGI. 2xx means committed.

    read the body -> verify and split -> wait for the shared commit -> answer

A sender who is at fault gets 4xx and one line that says why; when it is our turn, 503 with Retry-After, or 500
for a bug of ours. Vendors send again after both, so nothing is lost by saying so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

import structlog

from upkept import metrics
from upkept.contract import Config, Rejected, Request, Retryable
from upkept.doors import body
from upkept.doors.answers import ACCEPTED, Answer, Send, later, plain, refused
from upkept.doors.commits import Commits
from upkept.flow.hub import Hub
from upkept.flow.receive import Received, receive

log = structlog.get_logger(__name__)

PREFIX: Final = "/hooks/"
RETRY_AFTER: Final = 5.0
LARGE: Final = 128 << 10
"""Bodies above this are taken apart in a thread, so that they do not hold up the small ones."""
LARGE_AT_ONCE: Final = 2


class Hooks:
    """The webhook door of a hub."""

    def __init__(self, hub: Hub, commits: Commits) -> None:
        self._hub = hub
        self._commits = commits
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        receipts = {name: one.connector.receipt for name, one in hub.connections.items()}
        self._receipts = {name: plain(200, *receipt) for name, receipt in receipts.items() if receipt is not None}

    async def __call__(self, scope: dict[str, Any], receive_: body.Receive, send: Send) -> None:
        name, _, token = scope["path"][len(PREFIX) :].partition("/")
        method = scope["method"]
        if method == "POST":
            try:
                reply = await self._post(name, token, scope["headers"], receive_)
            except body.ClientLeft:
                return
        else:
            reply = self._probed(name, method)
        if not reply.closes:
            await reply.send(send)
            return
        await send(reply.start)
        await send({**reply.body, "more_body": True})
        await body.linger(receive_)
        await send({"type": "http.response.body", "body": b""})

    async def _post(self, name: str, token: str, raw: Sequence[tuple[bytes, bytes]], receive_: body.Receive) -> Answer:
        if name not in self._hub.connections:
            metrics.rejected("unknown", 404)
            return refused(404, f"no connection {name!r} receives webhooks here; see [connections] in upkept.toml")
        headers = header_table(raw)
        try:
            sent = await body.read(receive_, headers.get("content-length"))
        except Rejected as error:
            return self._rejected(name, error, closes=True)
        try:
            if "content-encoding" in headers or len(sent) > LARGE:
                received = await self._received_apart(name, token, headers, sent)
            else:
                received = self._verified(name, Request(body=sent, headers=headers, token=token))
            kept = await self._commits.put(received, len(sent))
        except Rejected as error:
            return self._rejected(name, error, closes=False)
        except Retryable as error:
            metrics.turned_away(name)
            return later(str(error), error.after or RETRY_AFTER)
        except Exception:
            metrics.turned_away(name)
            log.exception("receive_failed", connection=name, cure="a bug of ours: the vendor sends it again")
            return _BUG
        if kept.error is not None:
            return self._not_kept(name, kept.error)
        metrics.accepted(name)
        return self._receipts.get(name, ACCEPTED)

    async def _received_apart(self, name: str, token: str, headers: dict[str, str], sent: bytes) -> Received:
        encoding = headers.get("content-encoding", "").strip().lower()

        def apart() -> Received:
            plain = body.inflate(sent, encoding) if encoding not in ("", "identity") else sent
            return self._verified(name, Request(body=plain, headers=headers, token=token))

        async with self._large:
            return await asyncio.to_thread(apart)

    def _verified(self, name: str, request: Request) -> Received:
        return receive(self._hub, name, request, now=time.time_ns() // 1000)

    def _rejected(self, name: str, error: Rejected, *, closes: bool) -> Answer:
        metrics.rejected(name, error.status)
        log.info("rejected", connection=name, status=error.status, reason=str(error))
        return refused(error.status, str(error), closes=closes)

    def _not_kept(self, name: str, error: Exception) -> Answer:
        metrics.turned_away(name)
        if isinstance(error, Retryable):
            return later("the hub cannot store just now; send it again", error.after or RETRY_AFTER)
        if isinstance(error, Config):
            log.error("not_stored", connection=name, cure=str(error))
            return later("the hub is not set up to store; send it again", 60)
        log.error("not_stored", connection=name, exc_info=error, cure="a bug of ours: the vendor sends it again")
        return _BUG

    def _probed(self, name: str, method: str) -> Answer:
        if method not in ("GET", "HEAD"):
            return refused(405, "POST a webhook here")
        if name not in self._hub.connections:
            return refused(404, f"no connection {name!r} receives webhooks here; see [connections] in upkept.toml")
        return ACCEPTED


_BUG: Final = refused(500, "the hub failed on this request; nothing was stored, send it again")


def header_table(raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Header names in lower case; repeated ones joined as RFC 9110 has it."""
    table = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw}
    if len(table) != len(raw):
        table.clear()
        for name, value in raw:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            table[key] = f"{table[key]}, {text}" if key in table else text
    return table
