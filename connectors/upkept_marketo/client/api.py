"""One call to Marketo: the only place where httpx is used.

Every call is made once. A token that has expired meanwhile is renewed once; whatever else fails is for the hub to try
again, under its quota.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlencode

import httpx

from upkept.contract import Config, Context, Retryable
from upkept.contract.clocks import vendor_time
from upkept_marketo.client.errors import Unauthorized, of_response, of_status
from upkept_marketo.config import MarketoConfig, identity_url, rest_url
from upkept_marketo.payload import Unreadable, read_object

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 20.0
LONGEST_CALL: Final = 20.0
"""Seconds an answer may take to come in, however often a piece of it arrives."""

LONGEST_URI: Final = 7_000
"""Bytes of a query; Marketo refuses an address of more than 8 KB."""

MOST_BYTES: Final = 32 << 20
"""Of an answer: one that is longer is not Marketo's."""

TOKEN: Final = "access"  # noqa: S105  # the name it is cached under


@dataclass(frozen=True, slots=True)
class Answer:
    """What Marketo answered. `read_at` (unix seconds, Marketo's clock) is never later than the read itself."""

    body: Mapping[str, Any]
    read_at: int

    @property
    def result(self) -> list[Mapping[str, Any]]:
        """The records; a page without any has no key for them."""
        found = self.body.get("result") or []
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise Retryable("Marketo: the answer does not list records; the hub asks again")
        return found


def ask(
    path: str,
    config: MarketoConfig,
    ctx: Context,
    *,
    endpoint: str,
    params: Mapping[str, str] | None = None,
    json: Any = None,
) -> Answer:
    """GET `path`, or POST it with `json`. `endpoint` is the operation's name, for what an error says.

    A query too long for an address goes as a form, which Marketo takes for a GET. Raises our errors only.
    """
    query = urlencode(params or {})
    if json is not None:
        call: dict[str, Any] = {"method": "POST", "url": path, "params": params, "json": json}
    elif len(query) > LONGEST_URI:
        call = {"method": "POST", "url": f"{path}?_method=GET", "data": params}
    else:
        call = {"method": "GET", "url": path, "params": params}
    with _answered(call, config, ctx, endpoint) as (response, body, sent):
        if body is None:
            raise Retryable(f"Marketo {endpoint}: the answer is not JSON; the hub asks again")
        read_at = vendor_time(sent, ctx.now, response.headers.get("date"))
    if body.get("success") is not True:
        raise of_response(body.get("errors"), endpoint=endpoint, now=ctx.now)
    return Answer(body, read_at)


def read_file(path: str, config: MarketoConfig, ctx: Context, *, endpoint: str, start: int, size: int) -> bytes:
    """Up to `size` bytes of an export's file from `start` on, whether or not the server knows of ranges."""
    call = {"method": "GET", "url": path, "headers": {"Range": f"bytes={start}-{start + size - 1}"}}
    with _answered(call, config, ctx, endpoint) as (response, body, _):
        if body is not None:
            raise of_response(body.get("errors"), endpoint=endpoint, now=ctx.now)
        skip = 0 if response.status_code == httpx.codes.PARTIAL_CONTENT else start
        read = bytearray()
        for piece in _pieces(response, endpoint):
            read += piece[skip:]
            skip = max(skip - len(piece), 0)
            if len(read) >= size:
                break
    return bytes(read[:size])


def token(config: MarketoConfig, ctx: Context, *, fresh: bool = False) -> str:
    """The access token, shared by all processes; `fresh` asks for another, as this one is not accepted.

    Marketo gives out one token at a time: who asks early gets the same with what is left of its hour.
    """
    cached = None if fresh else ctx.token(TOKEN)
    if cached is not None:
        return cached
    asked = {"grant_type": "client_credentials", "client_id": config.client_id, "client_secret": config.client_secret}
    with _translated("identity"):
        response = _client(os.getpid()).get(f"{identity_url(config)}/oauth/token", params=asked)
    if response.status_code in (400, 401, 403):
        raise Config(
            f"Marketo identity (HTTP {response.status_code}): client_id and client_secret are refused; copy them from "
            "Admin, LaunchPoint, View Details, and check that the API-only user is active; then `upkept check`"
        )
    if error := of_status(response, endpoint="identity"):
        raise error
    body = _json(response.content, "identity")
    given, seconds = body.get("access_token"), body.get("expires_in")
    if not isinstance(given, str) or not given or not given.isascii() or not isinstance(seconds, int | float):
        raise Retryable("Marketo identity: the answer holds no token; the hub asks again")
    ctx.keep_token(TOKEN, given, seconds=float(seconds))
    return given


@contextmanager
def _answered(
    call: Mapping[str, Any], config: MarketoConfig, ctx: Context, endpoint: str
) -> Iterator[tuple[httpx.Response, Mapping[str, Any] | None, datetime]]:
    """An answer, its body where that is JSON (else it is unread), and the moment it was asked for.

    Never one about the token: that is renewed, once.
    """
    url = f"{rest_url(config)}{call['url']}"
    for renewed in (False, True):
        bearer = token(config, ctx, fresh=renewed)
        headers = {**call.get("headers", {}), "Authorization": f"Bearer {bearer}"}
        ctx.permit()
        with ctx.slot(), _translated(endpoint):
            sent = ctx.now
            with _client(os.getpid()).stream(**{**call, "url": url, "headers": headers}) as response:
                error = of_status(response, endpoint=endpoint)
                body = _body(response, endpoint) if error is None else None
                if error is None and not _is_stale(body):
                    yield response, body, sent
                    return
        if error is not None and not isinstance(error, Unauthorized):
            raise error
    raise Retryable(
        f"Marketo {endpoint}: a fresh token is not accepted; check that `base_url` and `identity_url` are of one "
        "subscription if this goes on"
    )


def _is_stale(body: Mapping[str, Any] | None) -> bool:
    """Whether the answer is that the token is invalid or has expired: codes 601 and 602, in HTTP 200."""
    errors = body.get("errors") if body is not None and body.get("success") is False else None
    first = errors[0] if isinstance(errors, list) and errors else None
    return isinstance(first, Mapping) and str(first.get("code")) in ("601", "602")


def _body(response: httpx.Response, endpoint: str) -> Mapping[str, Any] | None:
    if "json" not in response.headers.get("content-type", ""):
        return None
    read = bytearray()
    for piece in _pieces(response, endpoint):
        read += piece
        if len(read) > MOST_BYTES:
            raise Retryable(f"Marketo {endpoint}: the answer is too long to be Marketo's; the hub asks again")
    return _json(bytes(read), endpoint)


def _pieces(response: httpx.Response, endpoint: str) -> Iterator[bytes]:
    """The body as it comes, for as long as a call may take."""
    until = time.monotonic() + LONGEST_CALL
    for piece in response.iter_bytes():
        yield piece
        if time.monotonic() > until:
            raise Retryable(f"Marketo {endpoint}: the answer does not end; the hub asks again")


def _json(body: bytes, endpoint: str) -> Mapping[str, Any]:
    try:
        return read_object(body)
    except Unreadable as error:
        raise Retryable(f"Marketo {endpoint}: the answer is not Marketo's ({error}); the hub asks again") from None


@contextmanager
def _translated(endpoint: str) -> Iterator[None]:
    try:
        yield
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise Config("`base_url` or `identity_url` of this connection is not an address") from error
    except (httpx.HTTPError, OSError) as error:
        raise Retryable(f"Marketo {endpoint}: no answer ({type(error).__name__}); the hub asks again") from error


@lru_cache(maxsize=4)
def _client(_pid: int) -> httpx.Client:
    """One pool for each process: after a fork a pooled connection must not be shared."""
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)  # below that they log addresses and headers, secrets in them
    return httpx.Client(timeout=httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT), follow_redirects=False)
