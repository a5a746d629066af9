"""Stripe's form encoding, read: `items[0][price]=p` and `types[]=a` become nested dicts and lists."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

Params = dict[str, Any]


def parsed(encoded: str) -> Params:
    """The nested parameters of a query or form body. Leaves are strings."""
    tree: Params = {}
    for key, value in parse_qsl(encoded, keep_blank_values=True):
        head, *steps = re.findall(r"[^\[\]]+|\[\]", key) or [key]
        _put(tree, [head, *steps], value)
    return {key: _listed(value) for key, value in tree.items()}


def _put(tree: Params, steps: list[str], value: str) -> None:
    step = str(len(tree)) if steps[0] == "[]" else steps[0]
    if len(steps) == 1:
        tree[step] = value
        return
    below = tree.setdefault(step, {})
    if isinstance(below, dict):
        _put(below, steps[1:], value)


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    below = {key: _listed(child) for key, child in value.items()}
    if below and all(key.isdigit() for key in below):
        return [below[key] for key in sorted(below, key=int)]
    return below


def integer(value: Any, default: int | None = None) -> int | None:
    return default if value in (None, "") else int(value)


def boolean(value: Any) -> bool:
    return str(value).lower() == "true"
