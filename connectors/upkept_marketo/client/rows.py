"""Rows of an export's file, read in pieces: only whole records, whatever their values hold."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from upkept.contract import Retryable

ACTIVITY: Final = (
    "marketoGUID", "leadId", "activityDate", "activityTypeId", "campaignId", "primaryAttributeValueId",
    "primaryAttributeValue", "attributes",
)  # fmt: skip
"""The columns of an activity export."""

EMPTY: Final = "null"
"""How an export words a field that holds nothing."""


def whole(piece: bytes, *, last: bool) -> bytes:
    """The records of `piece` that are complete. It begins at a record; `last` says that nothing follows it."""
    if last:
        return piece
    end = len(piece)
    while (end := piece.rfind(b"\n", 0, end)) >= 0:
        # A line break inside of quotes is part of a value; quotes inside of quotes are doubled, so parity tells.
        if piece.count(b'"', 0, end) % 2 == 0:
            return piece[: end + 1]
    return b""


def records(text: bytes) -> list[list[str]]:
    """The records of complete lines; raises `Retryable` for what is no such file."""
    try:
        return [row for row in csv.reader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Retryable("Marketo export: the file is not readable CSV; the hub asks again") from error


def named(row: Sequence[str], columns: Sequence[str]) -> dict[str, str | None]:
    """A record by column."""
    if len(row) != len(columns):
        raise Retryable("Marketo export: a record has another number of columns than the file; the hub asks again")
    return {name: None if value == EMPTY else value for name, value in zip(columns, row, strict=True)}


def activity(row: Mapping[str, str | None]) -> dict[str, Any]:
    """A record of an activity export in the shape that the REST API gives."""
    found: dict[str, Any] = {name: value for name, value in row.items() if value is not None}
    for name in ("leadId", "activityTypeId", "campaignId", "primaryAttributeValueId"):
        if str(found.get(name, "")).isdigit():
            found[name] = int(found[name])
    try:
        said = json.loads(found.get("attributes") or "{}")
    except ValueError:
        said = {}
    found["attributes"] = (
        [{"name": name, "value": value} for name, value in said.items()] if isinstance(said, Mapping) else []
    )
    return found
