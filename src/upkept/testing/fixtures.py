"""Fixtures: what a vendor sent, and beside it what the connector makes of it.

    fixtures/webhook/<kind>__<variant>.json            the body of a request, as it came (`.form`, `.xml`, … too)
    fixtures/webhook/<kind>__<variant>.expected.json   the statements
    fixtures/read/read.<type>__<variant>.json          the body of an event that `fetch` or `pull` would bring

A webhook fixture goes through `split` first, so one request may hold several events. An event's expected entry is a
statement, `{"skipped": reason}`, or `{"thin": kind}` for one that waits for `fetch`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from upkept.contract import WITHDRAWN, AnyConnector, RawEvent, RecordRef, Request, Skipped, Statement

EXPECTED: Final = ".expected.json"
FOLDERS: Final = ("webhook", "read")


@dataclass(frozen=True, slots=True)
class Fixture:
    """One recorded body. `kind` is what its file name says it shows."""

    path: Path
    kind: str
    body: bytes

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def expected(self) -> Path:
        return self.path.with_name(self.name + EXPECTED)

    @property
    def is_webhook(self) -> bool:
        return self.path.parent.name == "webhook"

    def events(self, connector: AnyConnector, config: Any) -> tuple[RawEvent, ...]:
        """The events in it."""
        if self.is_webhook and connector.split is not None:
            return tuple(connector.split(Request(body=self.body, headers={}), config))
        return (RawEvent(id=f"fixture:{self.name}", kind=self.kind, body=self.body),)


def load(folder: Path) -> tuple[Fixture, ...]:
    """All fixtures below `folder`, by name."""
    files = [path for name in FOLDERS for path in sorted((folder / name).glob("*__*")) if path.is_file()]
    return tuple(
        Fixture(path, path.name.partition("__")[0], path.read_bytes())
        for path in files
        if not path.name.endswith(EXPECTED)
    )


def said(connector: AnyConnector, events: Iterable[RawEvent]) -> list[Any]:
    """What the connector makes of these events, as it is written in an expected file."""
    entries: list[Any] = []
    for event in events:
        if event.thin:
            entries.append({"thin": event.kind})
            continue
        try:
            entries.extend(plain(statement) for statement in connector.normalize(event, connector.fields))
        except Skipped as reason:
            entries.append({"skipped": str(reason)})
    return entries


def plain(statement: Statement) -> dict[str, Any]:
    """A statement as JSON, without what it leaves at its default."""
    body = {
        spec.name: _json(value)
        for spec in fields(statement)
        if (value := getattr(statement, spec.name)) != spec.default and value != {}
    }
    return {type(statement).__name__: body}


def written(entries: list[Any]) -> str:
    """The text of an expected file."""
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"


def _json(value: Any) -> Any:
    if value is WITHDRAWN:
        return {"withdrawn": True}
    if isinstance(value, RecordRef):
        return f"{value.type} {value.id}"
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, Mapping):
        return {name: _json(item) for name, item in value.items()}
    if is_dataclass(value):
        raise TypeError(f"a statement holds a {type(value).__name__}, which no statement should")
    return value
