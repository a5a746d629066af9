"""A newsletter that tells of those who unsubscribe: the vendor of the run whose deliveries carry opt-outs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from upkept.contract import (
    Connector,
    Consent,
    FieldMap,
    RawEvent,
    RecordRef,
    Rejected,
    Request,
    Skipped,
    Statement,
)

UNSUBSCRIBED: Final = "unsubscribed"


@dataclass(frozen=True, slots=True)
class Nothing:
    """No configuration."""


def unsubscription(number: int, address: str, at: int) -> bytes:
    """A delivery: `address` unsubscribed at that second."""
    return json.dumps({"id": event_id(number), "address": address, "at": at}).encode()


def event_id(number: int) -> str:
    return f"letter {number}"


def verify(request: Request, _config: Nothing, /, *, now: datetime) -> None:
    """Nobody but the run can reach us."""
    if not request.body:
        raise Rejected("an empty letter")


def split(request: Request, _config: Nothing, /) -> Iterator[RawEvent]:
    yield RawEvent(id=json.loads(request.body)["id"], kind=UNSUBSCRIBED, body=request.body)


def normalize(event: RawEvent, _fields: FieldMap, /) -> Iterable[Statement]:
    if event.kind != UNSUBSCRIBED:
        raise Skipped(f"unknown kind {event.kind}")
    said = json.loads(event.body)
    record, at = RecordRef("reader", said["address"]), datetime.fromtimestamp(said["at"], UTC)
    return [Consent(act="opt_out", record=record, address=said["address"], at=at)]


connector: Final = Connector(
    name="letters", config=Nothing, kinds=frozenset({UNSUBSCRIBED}), lowering=frozenset({UNSUBSCRIBED}),
    fields=FieldMap(rules=()), normalize=normalize, verify=verify, split=split,
)  # fmt: skip


def install(folder: Path) -> None:
    """Let whoever has `folder` on its path find this connector as an installed one."""
    info = folder / "letters-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: letters\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[upkept.connectors]\nletters = {__name__}:connector\n")
