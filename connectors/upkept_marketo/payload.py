"""From bytes to JSON, safely, and the few shapes that Marketo's values come in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

Object = Mapping[str, Any]

MAX_DEPTH: Final = 32
"""What Marketo sends nests about five levels; beyond this a body was made to hurt."""

_INT64: Final = 1 << 63


class Unreadable(ValueError):
    """The body is not JSON that we read; the message says why, without quoting it."""


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object that `body` is; raises `Unreadable`."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = _read_slowly(body)
    if not isinstance(value, dict):
        raise Unreadable("the body is JSON but not an object")
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and not _shallow(value, MAX_DEPTH):
        raise Unreadable(f"the body is nested more than {MAX_DEPTH} levels deep")
    return value


def written(value: Any) -> bytes:
    """Compact JSON, keys sorted: the same value is the same bytes."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def flag(value: Any) -> bool | None:
    """A boolean of Marketo's: JSON in a read, text in a change, in an export and in a webhook."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return value == 1
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return None


def lead_id(value: Any) -> str | None:
    """The id of a lead as text; None for what is not one."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value) if len(value.strip()) < 20 else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _INT64 else None


def text(value: Any) -> str | None:
    """Trimmed text, None for an empty one and for anything else."""
    return value.strip() or None if isinstance(value, str) else None


def moment(value: Any) -> datetime | None:
    """A time of Marketo's (`…Z`, `…+0000`, `…-08:00`) as UTC; None for what is none, or names no zone."""
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
        return parsed.astimezone(UTC) if parsed is not None and parsed.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def attributes(activity: Object) -> dict[str, Any]:
    """An activity's secondary attributes: a list of names and values over REST, an object in an export."""
    said = activity.get("attributes")
    if isinstance(said, Mapping):
        return dict(said)
    if not isinstance(said, list):
        return {}
    return {
        one["name"]: one.get("value") for one in said if isinstance(one, Mapping) and isinstance(one.get("name"), str)
    }


_FLAGS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def _read_slowly(body: bytes) -> Any:
    """For the one thing `orjson` refuses and JSON allows: escaped lone surrogates."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Unreadable("the body is not UTF-8") from None
    except (ValueError, RecursionError):
        raise Unreadable("the body is not JSON") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _shallow(value: Any, levels: int) -> bool:
    """Whether `value` nests at most `levels` deep, level by level: recursion is what the limit guards against."""
    layer = [value]
    for _ in range(levels):
        layer = [
            child
            for item in layer
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not layer:
            return True
    return False
