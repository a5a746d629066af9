"""The Pub/Sub API of the Salesforce stand-in: change events over gRPC, with bitmaps, gaps and overflows.

It needs `grpcio` and `fastavro`. As at Salesforce an update carries every field, the unchanged ones as null, and the
header's bitmaps say which ones count; events are kept for a while (`kept` of them), and a replay id from before is
refused.

In a test: `with FakeSalesforce() as org, FakePubSub(org) as bus: ... bus.url`.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from types import TracebackType
from typing import Any, Final

import fastavro
import grpc

from upkept.testing.fake_salesforce import FakeSalesforce
from upkept.testing.fake_salesforce.org import INTEGRATION, ORGANIZATION
from upkept.testing.fake_salesforce.shapes import SCHEMAS, Row, second_of

TOPIC: Final = "/data/ChangeEvents"
TOLD: Final = ("Lead", "Contact", "Task", "Event", "CampaignMember")
NAME: Final = ("FirstName", "LastName")
UNTOLD: Final = frozenset({"Id", "IsDeleted", "SystemModstamp", "Name", *NAME})
WRITTEN: Final = {"boolean": "boolean", "double": "double", "datetime": "long", "date": "long"}
OURS: Final = "com/salesforce/api/rest/62.0;client=upkept"
THEIRS: Final = "com/salesforce/api/soap/62.0;client=SfdcInternalAPI/"


@dataclass(frozen=True, slots=True)
class Told:
    """An event on the bus; its replay id is its number."""

    id: str
    table: str
    payload: bytes


class FakePubSub:
    """The bus and its server. `gaps`: the next so many events come without a body; `kept`: events that are kept;
    `slow_schemas`: seconds until a schema is given."""

    def __init__(self, fake: FakeSalesforce, *, port: int = 0, host: str = "127.0.0.1") -> None:
        self.fake, self.gaps, self.kept, self.slow_schemas = fake, 0, 10_000, 0.0
        self.events: list[Told] = []
        self.subscriptions = 0
        self._changed = threading.Condition()
        self._stopping = False
        self._schemas = {table: _schema(table) for table in TOLD}
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers = {
            "Subscribe": grpc.stream_stream_rpc_method_handler(self._subscribe),
            "GetSchema": grpc.unary_unary_rpc_method_handler(self._get_schema),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("eventbus.v1.PubSub", handlers),))
        self.url = f"http://{host}:{self._server.add_insecure_port(f'{host}:{port}')}"
        fake.org.committed = self.commit

    def __enter__(self) -> FakePubSub:
        self._server.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._server.stop(0.2).wait()

    def commit(self, table: str, type: str, ids: list[str], values: Row, by: str) -> None:
        """One change of one or more rows. `type` as in the header; GAP_OVERFLOW is about the whole object."""
        if table not in TOLD:
            return
        gap = self.gaps > 0
        self.gaps -= gap
        names = list(self._schemas[table]["names"])
        said = {} if gap or type.startswith(("GAP", "DELETE")) else values
        top = [names.index(name) for name in said if name in names]
        inner = [NAME.index(name) for name in said if name in NAME]
        changed = ([_bitmap(top)] if top else []) + ([f"{names.index('Name')}-{_bitmap(inner)}"] if inner else [])
        header = {
            "entityName": table,
            "recordIds": ids,
            "changeType": f"GAP_{type}" if gap else type,
            "changeOrigin": OURS if by == INTEGRATION else THEIRS,
            "transactionKey": str(uuid.uuid4()),
            "sequenceNumber": 1,
            "commitTimestamp": int(self.fake.org.clock.now() * 1000),
            "commitNumber": len(self.events),
            "commitUser": by,
            "nulledFields": [],
            "diffFields": [],
            "changedFields": changed if type == "UPDATE" else [],
        }
        body: Row = dict.fromkeys(names)
        body |= {name: _told(table, name, value) for name, value in said.items() if name in names}
        body |= {"ChangeEventHeader": header, "Name": {name: said.get(name) for name in NAME} if inner else None}
        out = BytesIO()
        fastavro.schemaless_writer(out, self._schemas[table]["parsed"], body)
        with self._changed:
            self.events.append(Told(str(uuid.uuid4()), table, out.getvalue()))
            self._changed.notify_all()

    def _subscribe(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        self._authentic(context)
        first = dict(_decoded(next(requests)))
        if first.get(1) != TOPIC.encode():
            context.abort(grpc.StatusCode.NOT_FOUND, "no such topic")
        self.subscriptions += 1
        at = max(0, len(self.events) - self.kept) if first.get(2) == 1 else len(self.events)
        if first.get(2) == 2:
            at = int(bytes(first.get(3, b"")).decode() or -1)
            if not len(self.events) - self.kept <= at <= len(self.events):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the replay id is not valid")
        left = int(first.get(4, 0))
        while context.is_active() and left:
            with self._changed:
                if len(self.events) <= at and not self._stopping:
                    self._changed.wait(0.1)
                some = self.events[at : at + left]
            if self._stopping:
                return
            if some:
                at, left = at + len(some), left - len(some)
                first_number = at - len(some) + 1
                events = [(1, _consumed(one, first_number + n)) for n, one in enumerate(some)]
                yield _encoded([*events, (2, str(at).encode()), (3, b"rpc"), (4, left)])

    def _get_schema(self, request: bytes, context: Any) -> bytes:
        time.sleep(self.slow_schemas)
        self._authentic(context)
        id = bytes(dict(_decoded(request))[1]).decode()
        return _encoded([(1, json.dumps(self._schemas[id]["avro"]).encode()), (2, id.encode()), (3, b"rpc")])

    def _authentic(self, context: Any) -> None:
        said = dict(context.invocation_metadata())
        if said.get("accesstoken") not in self.fake.gate.sessions or said.get("tenantid") != ORGANIZATION:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "sfdc.platform.eventbus.grpc.service.auth.error")


def _schema(table: str) -> Row:
    """The Avro schema of an object's change events, parsed, and its fields in order."""
    texts = ("entityName", "changeType", "changeOrigin", "transactionKey", "commitUser")
    lists = ("recordIds", "nulledFields", "diffFields", "changedFields")
    header = {
        "type": "record",
        "name": "ChangeEventHeader",
        "fields": [
            *({"name": name, "type": "string"} for name in texts),
            *({"name": name, "type": {"type": "array", "items": "string"}} for name in lists),
            {"name": "sequenceNumber", "type": "int"},
            *({"name": name, "type": "long"} for name in ("commitTimestamp", "commitNumber")),
        ],
    }
    name = {
        "type": "record",
        "name": "Switchable_PersonName",
        "fields": [{"name": part, "type": ["null", "string"], "default": None} for part in NAME],
    }
    fields: list[Row] = [{"name": "ChangeEventHeader", "type": header}, {"name": "Name", "type": ["null", name]}]
    for field, of in SCHEMAS[table].items():
        if field not in UNTOLD:
            fields.append({"name": field, "type": ["null", WRITTEN.get(of, "string")]})
    avro = {"type": "record", "name": f"{table}ChangeEvent", "fields": fields}
    return {"avro": avro, "parsed": fastavro.parse_schema(avro), "names": [field["name"] for field in fields]}


def _told(table: str, name: str, value: Any) -> Any:
    return second_of(value) * 1000 if value is not None and SCHEMAS[table][name] in ("datetime", "date") else value


def _bitmap(bits: list[int]) -> str:
    return f"0x{sum(1 << bit for bit in bits):X}"


def _consumed(one: Told, number: int) -> bytes:
    event = _encoded([(1, one.id.encode()), (2, one.table.encode()), (3, one.payload)])
    return _encoded([(1, event), (2, str(number).encode())])


def _encoded(fields: list[tuple[int, Any]]) -> bytes:
    """A protobuf message: varints and bytes by number."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return out


def _varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + _varint(value // 128)


def _decoded(message: bytes) -> Iterator[tuple[int, Any]]:
    stream = BytesIO(message)
    while stream.tell() < len(message):
        tag = _number(stream)
        size = _number(stream)
        yield tag >> 3, (stream.read(size) if tag & 7 == 2 else size)


def _number(stream: BytesIO) -> int:
    (byte,) = stream.read(1)
    return byte if byte < 128 else byte - 128 + 128 * _number(stream)
