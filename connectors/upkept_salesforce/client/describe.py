"""Which fields of an object the integration user may see, and of which type they are.

A query that names one field too many fails as a whole, and which fields are too many is decided in Salesforce's
setup, by profile and by edition. So we ask, once in ten minutes for each process.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from upkept.contract import Context
from upkept_salesforce.client.api import rest
from upkept_salesforce.client.errors import Forbidden, NotFound
from upkept_salesforce.config import SalesforceConfig, custom_fields
from upkept_salesforce.objects import Kind

GOOD_FOR: Final = timedelta(minutes=10)
MOST_KEPT: Final = 64

Types = Mapping[str, str]
"""Salesforce's word for the type of each field, by name."""

_known: dict[tuple[SalesforceConfig, str], tuple[datetime, Types | None]] = {}


def types(kind: Kind, config: SalesforceConfig, ctx: Context) -> Types | None:
    """The fields of an object by name; None if the user may not see the object at all."""
    key = (config, kind.name)
    if key in _known and _known[key][0] > ctx.now:
        return _known[key][1]
    endpoint = f"{kind.name} describe"
    try:
        answer = rest("GET", f"sobjects/{kind.name}/describe", config, ctx, endpoint=endpoint)
    except (NotFound, Forbidden) as error:
        if isinstance(error, Forbidden) and "INSUFFICIENT_ACCESS" not in str(error):
            raise
        found: Types | None = None
    else:
        rows = answer.rows("fields", endpoint=endpoint)
        found = {str(row.get("name")): str(row.get("type")) for row in rows}
    if len(_known) >= MOST_KEPT:
        _known.clear()
    _known[key] = (ctx.now + GOOD_FOR, found)
    return found


def forget(config: SalesforceConfig) -> None:
    """Ask again at the next call: what was known has proved wrong."""
    for key in [key for key in _known if key[0] == config]:
        _known.pop(key, None)


def columns(kind: Kind, config: SalesforceConfig, known: Types) -> tuple[str, ...]:
    """What to select: our fields and the operator's, as far as they can be seen."""
    wanted = dict.fromkeys((*kind.fields, *custom_fields(config, kind.name)))
    return tuple(name for name in wanted if _owner(name) in known)


def missing(kind: Kind, config: SalesforceConfig, known: Types) -> tuple[str, ...]:
    """What of that cannot be seen."""
    wanted = dict.fromkeys((*kind.fields, *custom_fields(config, kind.name)))
    return tuple(name for name in wanted if _owner(name) not in known)


def _owner(name: str) -> str:
    """`Campaign.Name` can be read where `CampaignId` can be seen."""
    parent, _, leaf = name.rpartition(".")
    return f"{parent}Id" if parent else leaf
