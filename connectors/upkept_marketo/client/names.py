"""What this subscription calls things: activity types by name, and the lead fields it has. Cached for a day."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from upkept.contract import Context
from upkept_marketo.client.api import ask
from upkept_marketo.config import MarketoConfig
from upkept_marketo.fields import READ

DAY: Final = 86_400.0


def types(config: MarketoConfig, ctx: Context) -> Mapping[str, int]:
    """The numbers of all activity types, which differ between subscriptions, by name."""
    cached = _cached(ctx, "activity types")
    if isinstance(cached, dict):
        return cached
    found: Mapping[str, int] = {
        str(one["name"]): int(one["id"])
        for one in ask("/rest/v1/activities/types.json", config, ctx, endpoint="getAllActivityTypes").result
        if isinstance(one.get("id"), int) and isinstance(one.get("name"), str)
    }
    _keep(ctx, "activity types", found)
    return found


def wanted(config: MarketoConfig) -> tuple[str, ...]:
    """The lead fields this connection would like to read."""
    return tuple(dict.fromkeys((*READ, *config.lead_fields)))


def known_fields(config: MarketoConfig, ctx: Context) -> tuple[str, ...]:
    """Those of the wanted fields that the subscription has: one that it has not spoils the whole answer."""
    asked = wanted(config)
    name = f"lead fields {_digest(asked)}"
    cached = _cached(ctx, name)
    if isinstance(cached, list):
        return tuple(cached)
    there = set()
    for one in ask("/rest/v1/leads/describe.json", config, ctx, endpoint="describeLead").result:
        rest = one.get("rest")
        if isinstance(rest, Mapping):
            there.add(rest.get("name"))
    known = tuple(field for field in asked if field in there or field == "id")
    _keep(ctx, name, known)
    return known


def _cached(ctx: Context, name: str) -> Any:
    kept = ctx.token(name)
    return None if kept is None else json.loads(kept)


def _keep(ctx: Context, name: str, value: Any) -> None:
    ctx.keep_token(name, json.dumps(value), seconds=DAY)


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256(",".join(names).encode()).hexdigest()[:12]
