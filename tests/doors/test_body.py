"""Reading a body: caps hold while reading, the deadline ends it, a bomb does not go off."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Iterator

import pytest

from upkept.contract import Rejected
from upkept.doors import body


def sender(chunks: Iterator[bytes] | list[bytes], *, ends: bool = True) -> body.Receive:
    """What uvicorn gives: chunks, and nothing more, or a client that hangs up."""
    waiting = iter(chunks)

    async def receive() -> body.Message:
        await asyncio.sleep(0)
        chunk = next(waiting, None)
        if chunk is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        return {"type": "http.request", "body": b""} if ends else {"type": "http.disconnect"}

    return receive


def read(receive: body.Receive, declared: str | None = None) -> bytes:
    return asyncio.run(body.read(receive, declared))


def test_chunks_come_together() -> None:
    assert read(sender([b"ab", b"", b"c"])) == b"abc"


def test_exactly_one_mebibyte_is_taken_and_one_byte_more_is_not() -> None:
    assert len(read(sender([b"x" * body.LARGEST]))) == body.LARGEST
    with pytest.raises(Rejected) as refused:
        read(sender([b"x" * body.LARGEST, b"y"]))
    assert refused.value.status == 413


def test_endless_chunks_end_at_the_cap() -> None:
    given = 0

    def endless() -> Iterator[bytes]:
        nonlocal given
        while True:
            given += 65536
            yield b"x" * 65536

    with pytest.raises(Rejected):
        read(sender(endless()))
    assert given <= body.LARGEST + 2 * 65536


def test_an_announced_excess_is_refused_unread() -> None:
    with pytest.raises(Rejected) as refused:
        read(sender([]), declared=str(body.LARGEST + 1))
    assert refused.value.status == 413


def test_a_smaller_announcement_does_not_lift_the_cap() -> None:
    with pytest.raises(Rejected):
        read(sender([b"x" * (body.LARGEST + 1)]), declared="10")


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "DEADLINE", 0.05)

    async def never() -> body.Message:
        await asyncio.sleep(60)
        raise AssertionError

    with pytest.raises(Rejected) as refused:
        read(never)
    assert refused.value.status == 408


def test_a_client_that_leaves_gets_no_answer() -> None:
    with pytest.raises(body.ClientLeft):
        read(sender([b"half"], ends=False))


@pytest.mark.parametrize(
    ("encoding", "sent"),
    [
        ("gzip", gzip.compress(b'{"a": 1}', mtime=0)),
        ("x-gzip", gzip.compress(b'{"a": 1}', mtime=0)),
        ("deflate", zlib.compress(b'{"a": 1}')),
        ("deflate", zlib.compress(b'{"a": 1}')[2:-4]),
    ],
)
def test_gzip_and_both_kinds_of_deflate(encoding: str, sent: bytes) -> None:
    assert body.inflate(sent, encoding) == b'{"a": 1}'


@pytest.mark.parametrize("size", [9 << 20, 80 << 20])
def test_a_bomb_does_not_go_off(size: int) -> None:
    with pytest.raises(Rejected) as refused:
        body.inflate(gzip.compress(b"\0" * size), "gzip")
    assert refused.value.status == 413


def test_a_hundredfold_is_the_most() -> None:
    with pytest.raises(Rejected):
        body.inflate(gzip.compress(b"\0" * (4 << 20)), "gzip")
    assert len(body.inflate(gzip.compress(b"\0" * body.SMALL), "gzip")) == body.SMALL


@pytest.mark.parametrize(
    ("encoding", "sent", "status"),
    [
        ("gzip", b"not compressed", 400),
        ("gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9], 400),
        ("br", b"x", 415),
        ("gzip, gzip", gzip.compress(gzip.compress(b"x", mtime=0), mtime=0), 415),
    ],
)
def test_what_cannot_be_inflated_is_refused(encoding: str, sent: bytes, status: int) -> None:
    with pytest.raises(Rejected) as refused:
        body.inflate(sent, encoding)
    assert refused.value.status == status
