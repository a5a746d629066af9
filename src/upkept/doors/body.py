"""Reading a request body that nobody has vouched for yet: caps while reading, a deadline, bounded inflation."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Generator, MutableMapping
from types import coroutine
from typing import Any, Final

from upkept.contract import Rejected

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

LARGEST: Final = 1 << 20
"""Bytes of a body as sent."""
LARGEST_INFLATED: Final = 8 << 20
LARGEST_RATIO: Final = 100
SMALL: Final = 64 << 10
"""Up to so many bytes a body may inflate whatever the ratio: short JSON compresses well."""
DEADLINE: Final = 10.0
"""Seconds from the headers to the last byte."""
LINGER_BYTES: Final = 4 << 20
LINGER_SECONDS: Final = 2.0

_GZIP_OR_ZLIB: Final = 47
_RAW_DEFLATE: Final = -15


class ClientLeft(Exception):
    """The sender hung up before its body was complete; nobody waits for an answer."""


async def read(receive: Receive, declared: str | None) -> bytes:
    """The whole body. Raises `Rejected` 413 (over 1 MiB, announced or not) or 408 (too slow), and `ClientLeft`."""
    if declared is not None and declared.isdecimal() and int(declared) > LARGEST:
        raise _too_large()
    first = receive().__await__()
    try:
        awaited = next(first)
    except StopIteration as at_hand:  # most bodies came along with their headers and need no clock
        message: Message = at_hand.value
        body = _within(_chunk(message))
        if not message.get("more_body"):
            return body
        rest = _rest(receive, bytearray(body), receive())
    else:
        rest = _rest(receive, bytearray(), _going_on(first, awaited))
    try:
        async with asyncio.timeout(DEADLINE):
            return await rest
    except TimeoutError:
        raise Rejected(f"the body did not arrive within {DEADLINE:.0f} s", status=408) from None


@coroutine
def _going_on(begun: Generator[Any, Any, Message], awaited: Any) -> Generator[Any, Any, Message]:
    """Await what was begun by hand and now waits for `awaited`."""
    yield awaited
    return (yield from begun)


async def _rest(receive: Receive, body: bytearray, coming: Awaitable[Message]) -> bytes:
    while True:
        message = await coming
        body += _chunk(message)
        if len(body) > LARGEST:
            raise _too_large()
        if not message.get("more_body"):
            return bytes(body)
        coming = receive()


def _chunk(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientLeft
    chunk: bytes = message.get("body", b"")
    return chunk


def _within(body: bytes) -> bytes:
    if len(body) > LARGEST:
        raise _too_large()
    return body


def _too_large() -> Rejected:
    return Rejected(f"the body is larger than {LARGEST >> 20} MiB", status=413)


async def linger(receive: Receive) -> None:
    """Take in a bounded rest of a refused body: closing on unread bytes would reset the answer away."""
    taken = 0
    try:
        async with asyncio.timeout(LINGER_SECONDS):
            while taken < LINGER_BYTES:
                message = await receive()
                taken += len(message.get("body", b""))
                if not message.get("more_body"):
                    return
    except TimeoutError:
        return


def inflate(body: bytes, encoding: str) -> bytes:
    """A `Content-Encoding: gzip` or `deflate` undone.

    Raises `Rejected`: 413 beyond 8 MiB or a hundredfold, 400 for a broken stream, 415 for another encoding.
    """
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Rejected("send the body plain, or with one Content-Encoding of gzip or deflate", status=415)
    allowed = min(LARGEST_INFLATED, max(SMALL, len(body) * LARGEST_RATIO))
    try:
        return _inflated(body, _GZIP_OR_ZLIB, allowed)
    except zlib.error:
        pass
    try:
        return _inflated(body, _RAW_DEFLATE, allowed)
    except zlib.error:
        raise Rejected(f"the body is not valid {encoding}", status=400) from None


def _inflated(body: bytes, window: int, allowed: int) -> bytes:
    stream = zlib.decompressobj(window)
    inflated = stream.decompress(body, allowed + 1)
    if len(inflated) > allowed:
        raise Rejected("the compressed body inflates beyond 8 MiB or a hundredfold", status=413)
    if not stream.eof:
        raise zlib.error("truncated")
    return inflated
