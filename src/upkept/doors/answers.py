"""Answers as raw ASGI messages: one line of JSON, made once where it can be."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import orjson

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, its headers and a body. `closes`: the connection ends with it."""

    start: Message
    body: Message
    closes: bool = False

    async def send(self, send: Send) -> None:
        await send(self.start)
        await send(self.body)


def answer(status: int, document: object, *, closes: bool = False, retry_after: float | None = None) -> Answer:
    """One line of JSON; `retry_after` in seconds, rounded up."""
    made = plain(status, "application/json", orjson.dumps(document))
    headers = made.start["headers"]
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % max(1, ceil(retry_after))))
    if closes:
        headers.append((b"connection", b"close"))
    return Answer(made.start, made.body, closes)


def plain(status: int, content_type: str, body: bytes) -> Answer:
    """These bytes."""
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    return Answer(start, {"type": "http.response.body", "body": body})


ACCEPTED = answer(200, {"ok": True})
"""Everything of the request is committed. GET and HEAD get it too: vendors probe a URL before they post to it."""


def refused(status: int, message: str, *, closes: bool = False) -> Answer:
    """The sender's turn."""
    return answer(status, {"ok": False, "error": message}, closes=closes)


def later(message: str, seconds: float) -> Answer:
    """Our turn: nothing is stored, the sender is asked to send it again."""
    return answer(503, {"ok": False, "error": message}, retry_after=seconds)
