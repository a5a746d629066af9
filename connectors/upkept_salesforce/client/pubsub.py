"""The Pub/Sub API: changes as they are committed, over gRPC (`eventbus.v1.PubSub`), their bodies in Avro.

Four messages of it are needed, so they are read and written here instead of by generated code: protobuf is a list of
(number, value), a value being a number or bytes. `grpcio` and `fastavro` are an optional extra: who does not follow
changes does not need them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlsplit

from upkept.contract import Config, Context, Retryable
from upkept_salesforce.change import Schema, schema_of
from upkept_salesforce.client.login import Access, access
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.ids import full_id

try:
    import fastavro
    import grpc
except ImportError:  # the optional extra
    grpc = fastavro = None

TOPIC: Final = "/data/ChangeEvents"
"""The channel of every object that is chosen in Setup, Change Data Capture."""

SUBSCRIBE: Final = "/eventbus.v1.PubSub/Subscribe"
GET_SCHEMA: Final = "/eventbus.v1.PubSub/GetSchema"
EARLIEST, CUSTOM = 1, 2
MOST: Final = 100
"""Events of one subscription; the API's own limit of a request."""

WAIT: Final = 2.0
"""Seconds that are waited for a change."""
SCHEMA_TIMEOUT: Final = 10.0


class ReplayLost(Exception):
    """The replay id is older than what is kept (72 hours), or of another org."""


@dataclass(frozen=True, slots=True)
class Change:
    """One change event; `body` None if it could not be read. `replay` is where the next subscription goes on."""

    id: str
    body: Mapping[str, Any] | None
    schema: Schema
    replay: bytes


def changes(replay: bytes, config: SalesforceConfig, ctx: Context) -> list[Change]:
    """What was committed after `replay` (empty: the oldest that is kept), as soon as there is something, or nothing
    after `WAIT`.

    Raises `ReplayLost`, `Config` and `Retryable`.
    """
    if grpc is None:
        raise Config("`changes` needs two more packages: pip install 'upkept[salesforce-changes]'")
    organization = full_id(config.organization_id)
    if organization is None:
        raise Config("`changes` needs organization_id of this connection")
    using = access(config, ctx)
    try:
        return _subscribed(replay, using, organization, config, ctx)
    except _Over:
        pass
    using = access(config, ctx, instead_of=using)
    try:
        return _subscribed(replay, using, organization, config, ctx)
    except _Over:
        raise Config("Salesforce's Pub/Sub API refuses the session; see the credentials and organization_id") from None


class _Over(Exception):
    """The session is over."""


def _subscribed(
    replay: bytes, using: Access, organization: str, config: SalesforceConfig, ctx: Context
) -> list[Change]:
    channel = _channel(config.changes_url)
    metadata = (("accesstoken", using.token), ("instanceurl", using.instance), ("tenantid", organization))
    done = threading.Event()

    def wanted() -> Iterator[bytes]:
        preset = [(2, CUSTOM), (3, replay)] if replay else [(2, EARLIEST)]
        yield encoded([(1, TOPIC.encode()), *preset, (4, MOST)])
        done.wait(2 * WAIT)  # a stream that is closed on our side is ended on theirs

    ctx.permit()  # no slot: a subscription is no call of the API that the org counts
    call = channel.stream_stream(SUBSCRIBE)(wanted(), metadata=metadata, timeout=WAIT)
    try:
        for answer in call:
            events = [bytes(value) for number, value in decoded(answer) if number == 1]
            if events:
                return [_change(dict(decoded(event)), channel, metadata) for event in events]
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            raise _translated(error, replay) from None
    finally:
        done.set()
        call.cancel()
    return []


def _change(consumed: Mapping[int, Any], channel: Any, metadata: Any) -> Change:
    event = dict(decoded(consumed.get(1, b"")))
    id, replay = bytes(event.get(1, b"")).decode(), bytes(consumed.get(2, b""))
    parsed, schema = _schema(channel, metadata, bytes(event.get(2, b"")).decode())
    try:
        body: Any = fastavro.schemaless_reader(BytesIO(bytes(event.get(3, b""))), parsed, None)
    except (ValueError, TypeError, LookupError, EOFError, AttributeError):
        body = None
    return Change(id or replay.hex(), body if isinstance(body, dict) else None, schema, replay)


_schemas: dict[str, tuple[Any, Schema]] = {}


def _schema(channel: Any, metadata: Any, id: str) -> tuple[Any, Schema]:
    if id not in _schemas:
        ask = channel.unary_unary(GET_SCHEMA)
        try:
            answer = ask(encoded([(1, id.encode())]), metadata=metadata, timeout=SCHEMA_TIMEOUT)
        except grpc.RpcError as error:  # not the subscription's, where a deadline means that nothing was told
            raise _translated(error, b"", "Pub/Sub schema") from None
        try:
            avro = json.loads(bytes(dict(decoded(answer)).get(1, b"")))
            _schemas[id] = fastavro.parse_schema(avro), schema_of(avro)
        except (ValueError, TypeError, LookupError, AttributeError):
            raise Retryable("Salesforce Pub/Sub schema: the answer is not one; the hub asks again") from None
    return _schemas[id]


def _translated(error: Any, replay: bytes, what: str = "Pub/Sub") -> Exception:
    code, codes = error.code(), grpc.StatusCode
    if code is codes.UNAUTHENTICATED:
        return _Over()
    if code is codes.INVALID_ARGUMENT and replay:
        return ReplayLost()
    if code in (codes.PERMISSION_DENIED, codes.NOT_FOUND, codes.INVALID_ARGUMENT):
        return Config(f"Salesforce {what} ({code.name}): no changes to follow; choose Lead, Contact and activity "
                      "in Setup, Change Data Capture, and let the integration user view all of them")  # fmt: skip
    return Retryable(f"Salesforce {what} ({code.name}): the hub asks again")


@lru_cache(maxsize=8)
def _channel(url: str) -> Any:
    address = urlsplit(url)
    if address.scheme == "http":
        return grpc.insecure_channel(address.netloc)
    return grpc.secure_channel(address.netloc, grpc.ssl_channel_credentials())


def encoded(fields: list[tuple[int, int | bytes]]) -> bytes:
    """A protobuf message of these fields."""
    out = bytearray()
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return bytes(out)


def decoded(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message; raises `Retryable` for what is none."""
    at = 0
    while at < len(message):
        tag, at = _read(message, at)
        match tag & 7:
            case 0:
                number, at = _read(message, at)
                yield tag >> 3, number
            case 2:
                size, at = _read(message, at)
                yield tag >> 3, message[at : at + size]
                at += size
            case 1 | 5 as fixed:
                at += 8 if fixed == 1 else 4
            case _:
                raise Retryable("Salesforce Pub/Sub: the answer is not protobuf; the hub asks again")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise Retryable("Salesforce Pub/Sub: the answer is cut; the hub asks again")
