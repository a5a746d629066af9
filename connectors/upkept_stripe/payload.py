"""From bytes to JSON, safely.

`orjson` reads what well-formed senders send, an order of magnitude faster than the standard library, which reads the
one thing `orjson` refuses and JSON allows: escaped lone surrogates (the hub replaces them when it builds a fact).
"""

from __future__ import annotations

import json
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 64
"""Stripe's deepest objects nest about a dozen levels; beyond this a body was made to hurt."""


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
    # Two counts at the speed of memory spare the walk for all but bodies with very many objects.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and not _shallow(value, MAX_DEPTH):
        raise Unreadable(f"the body is nested more than {MAX_DEPTH} levels deep")
    return value


def _read_slowly(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Unreadable("the body is not UTF-8") from None
    except RecursionError:
        raise Unreadable(f"the body is nested more than {MAX_DEPTH} levels deep") from None
    except ValueError:
        raise Unreadable("the body is not JSON") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _shallow(value: Any, levels: int) -> bool:
    """Whether `value` nests at most `levels` deep. Level by level: recursion is what the limit guards against."""
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
