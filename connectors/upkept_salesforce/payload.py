"""From bytes to JSON, and from Salesforce's words for times to ours. Nothing here raises on a value of the wrong
type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 32
"""A row nests three levels; beyond this a body was made to hurt."""

Row = Mapping[str, Any]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = 253_402_300_799_999
"""Milliseconds of the year 9999, where `datetime` ends."""


class Unreadable(ValueError):
    """The body is not JSON that we read; the message says why, without quoting it."""


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is; raises `Unreadable`."""
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _deep(body):
        raise Unreadable(f"the body is nested more than {MAX_DEPTH} levels deep")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(body)  # reads the lone surrogates that orjson refuses
        except ValueError:
            raise Unreadable("the body is not JSON") from None
    if not isinstance(value, dict):
        raise Unreadable("the body is JSON but not an object")
    return value


def _deep(body: bytes) -> bool:
    """Whether brackets open more than `MAX_DEPTH` deep; those in strings count too, which only errs by refusing."""
    depth = 0
    for letter in body:
        if letter in b"{[":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif letter in b"}]":
            depth -= 1
    return False


def text(value: Any) -> str | None:
    """A non-empty string, trimmed."""
    return (value.strip() or None) if isinstance(value, str) else None


def moment(value: Any) -> datetime | None:
    """A time or date of the REST, Bulk and SOAP APIs (ISO 8601), or of a change event (milliseconds)."""
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError:
            return None
        try:
            return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
        except OverflowError:
            return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LATEST:
        return _EPOCH + timedelta(milliseconds=value)
    return None


def seconds(value: Any) -> int | None:
    """The same as unix seconds."""
    known = moment(value)
    return int(known.timestamp()) if known else None
