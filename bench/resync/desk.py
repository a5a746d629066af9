"""A service desk: the system of the run that tells the hub what the vendor does not know, so that pushes are owed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.crash.letters import Nothing, verify

from upkept.contract import Connector, Consent, Fact, FieldMap, RawEvent, RecordRef, Request, Skipped, Statement

PHONE: Final = "phone"
OPT_OUT: Final = "opt_out"


def note(kind: str, number: int, address: str, at: int) -> bytes:
    """A delivery: who bears `address` has a new phone, or wants no mail any more."""
    return json.dumps({"id": f"{kind} {number}", "kind": kind, "address": address, "at": at, "number": number}).encode()


def phone(number: int) -> str:
    return f"+1555{number:07d}"


def split(request: Request, _config: Nothing, /) -> Iterator[RawEvent]:
    said = json.loads(request.body)
    yield RawEvent(id=said["id"], kind=said["kind"], body=request.body)


def normalize(event: RawEvent, _fields: FieldMap, /) -> Iterable[Statement]:
    said = json.loads(event.body)
    record, at = RecordRef("caller", said["address"]), datetime.fromtimestamp(said["at"], UTC)
    if event.kind == PHONE:
        fields = {"phone": phone(said["number"])}
        return [Fact(record=record, fields=fields, claims={"email": said["address"]}, observed_at=at)]
    if event.kind == OPT_OUT:
        return [Consent(act="opt_out", record=record, address=said["address"], at=at)]
    raise Skipped(f"unknown kind {event.kind}")


connector: Final = Connector(
    name="desk", config=Nothing, kinds=frozenset({PHONE, OPT_OUT}), lowering=frozenset({OPT_OUT}),
    fields=FieldMap(rules=()), normalize=normalize, verify=verify, split=split,
)  # fmt: skip


def install(folder: Path) -> None:
    """Let whoever has `folder` on its path find this connector as an installed one."""
    info = folder / "desk-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: desk\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[upkept.connectors]\ndesk = {__name__}:connector\n")
