"""Reading one row: what a thin event names, or a record the hub wants to see again.

Deleted rows are read as well: only there stands which record a merged one became. One that is not there at all is gone
for ever, or hidden from the integration user, which comes to the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from simple_salesforce.format import format_soql

from upkept.contract import Config, Context, Permanent, RawEvent, Skipped
from upkept_salesforce.client.api import Answer, query
from upkept_salesforce.client.describe import columns, forget, types
from upkept_salesforce.client.errors import Refused
from upkept_salesforce.client.rows import event, gone
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import BY_TYPE, Kind


def fetch(wanted: RawEvent, config: SalesforceConfig, ctx: Context) -> RawEvent:
    """Read the row that a thin event or `read.<type>` and its id name."""
    kind = BY_TYPE.get(wanted.kind.rpartition(".")[2])
    id = full_id(_named(wanted) if wanted.thin else wanted.id)
    if kind is None or id is None or not id.startswith(kind.prefix):
        raise Skipped("Salesforce has no such object among those that are read")
    answer = _row(kind, id, config, ctx)
    found = answer.rows("records", endpoint=f"{kind.name} query")
    if not found:
        return gone(kind, id, at=answer.at, when=None, config=config)
    return event(kind, found[0], at=answer.at, config=config, user=answer.user)


def select(kind: Kind, config: SalesforceConfig, ctx: Context) -> str:
    """`SELECT … FROM …` with all that can be seen; raises `Config` where nothing can."""
    known = types(kind, config, ctx)
    if known is None:
        raise Config(f"the integration user may not see {kind.name}s: give it read access, then `upkept check`")
    return f"SELECT {', '.join(columns(kind, config, known))} FROM {kind.name}"  # noqa: S608  # our own names


def _row(kind: Kind, id: str, config: SalesforceConfig, ctx: Context) -> Answer:
    where = format_soql(" WHERE Id = {}", id)
    try:
        return query(select(kind, config, ctx) + where, config, ctx, endpoint=f"{kind.name} query")
    except Refused as error:
        if "INVALID_FIELD" not in error.codes:
            raise
        forget(config)  # a field was hidden or removed since we asked
    return query(select(kind, config, ctx) + where, config, ctx, endpoint=f"{kind.name} query")


def _named(wanted: RawEvent) -> str | None:
    try:
        said = json.loads(wanted.body)
    except ValueError:
        raise Permanent(f"Salesforce event {wanted.id}: the body is not JSON") from None
    row: Any = said.get("row") if isinstance(said, Mapping) else None
    return row.get("Id") if isinstance(row, Mapping) else None
