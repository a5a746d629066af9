"""Rows as Salesforce gives them, by REST or in bulk, to events of ours.

The body is an envelope: `{"object": "upkept.read", "read_at": ISO time, "settled": bool, "ours": bool,
"user_id_field": …, "row": {…}}`. The event's id holds the row's `SystemModstamp`: a row that did not change is the
same event at every read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from upkept.contract import RawEvent, Retryable
from upkept_salesforce.client.describe import Types
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import CHANGED, PEOPLE, Kind
from upkept_salesforce.payload import moment

SETTLED: Final = timedelta(seconds=2)
"""So long after its stamp a row cannot change again at the same stamp; the clock we compare with is cut to the
second."""

NUMBERS: Final = frozenset({"double", "currency", "percent"})


def event(
    kind: Kind, row: Mapping[str, Any], *, at: datetime, config: SalesforceConfig, user: str = "", mark: str = ""
) -> RawEvent:
    """`at` is when it was read, `user` who read it; `mark` tells apart what is known of one row from different
    lists."""
    id, changed = full_id(row.get("Id")), moment(row.get(CHANGED))
    if id is None:
        raise Retryable(f"Salesforce {kind.name}: a row without an id; the hub asks again")
    settled = changed is not None and at - changed >= SETTLED
    said = {
        "object": "upkept.read",
        "read_at": at.isoformat(),
        "settled": settled,
        "ours": full_id(row.get("LastModifiedById")) == user,
        "user_id_field": (config.external_id_field or None) if kind.type in PEOPLE else None,
        "row": {name: _plain(value) for name, value in row.items() if name != "attributes"},
    }
    stamp = (changed or at).strftime("%Y%m%dT%H%M%S")
    name = f"read:{kind.type}:{id}:{stamp}{'' if settled else '~'}{mark}"
    return RawEvent(id=name, kind=f"read.{kind.type}", body=json.dumps(said, separators=(",", ":")).encode())


def gone(kind: Kind, id: str, *, at: datetime, when: str | None, config: SalesforceConfig) -> RawEvent:
    """A row of which only its end is known."""
    row = {"Id": id, "IsDeleted": True, **({CHANGED: when} if when else {})}
    return event(kind, row, at=at, config=config, mark=":gone")


def in_csv(text: str, known: Types, *, endpoint: str) -> Iterator[Mapping[str, Any]]:
    """The rows of a CSV file of the Bulk API, typed as REST would have them."""
    try:
        for line in csv.DictReader(io.StringIO(text, newline=""), strict=True):
            if None in line or None in line.values():
                raise Retryable(f"Salesforce {endpoint}: a row of the file is cut; the hub asks again")
            yield _typed(line, known)
    except csv.Error as error:
        raise Retryable(f"Salesforce {endpoint}: the file is not CSV; the hub asks again") from error


def _typed(line: Mapping[str, str], known: Types) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in line.items():
        parent, _, leaf = name.rpartition(".")
        if parent:
            row[parent] = {leaf: value} if value else None
        else:
            row[name] = _value(value, known.get(name, "string"))
    return row


def _value(value: str, of: str) -> Any:
    if not value:
        return None
    try:
        if of == "boolean":
            return value == "true"
        if of in ("int", "long"):
            return int(value)
        if of in NUMBERS:
            return float(value)
    except ValueError:
        return None
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items() if name != "attributes"}
    return value
