"""A query of the Bulk API 2.0: a job, looked at until it is done, then its file in parts.

Nothing here waits for long: each look is a page without rows, so that the hub can be stopped at any moment and goes
on with the same job. A job that Salesforce no longer knows is begun again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from upkept.contract import Context, Permanent, RawEvent, Retryable
from upkept_salesforce.client.api import rest, text
from upkept_salesforce.client.describe import types
from upkept_salesforce.client.errors import NotFound
from upkept_salesforce.client.place import Place
from upkept_salesforce.client.read import select
from upkept_salesforce.client.rows import event, in_csv
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.objects import Kind

FROM: Final = 20_000
"""Rows from which on a job is quicker than pages of REST, and spends fewer of the org's calls."""

PART: Final = 5_000
"""Rows of a part of the file."""

PATIENCE: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
"""Seconds before each further look at a job."""

FAILED: Final = frozenset({"Aborted", "Failed"})


@dataclass(frozen=True, slots=True)
class Step:
    """What a look at a job brought, and where to go on; None when its file is read."""

    events: tuple[RawEvent, ...]
    place: Place | None


def step(place: Place, kind: Kind, config: SalesforceConfig, ctx: Context) -> Step:
    """Begin the job, look at it, or read the next part of its file."""
    if not place.job:
        return Step((), replace(place, job=_begun(kind, config, ctx), asked=0, locator=""))
    try:
        if place.locator or _is_done(place, kind, config, ctx):
            return _part(place, kind, config, ctx)
    except NotFound:
        return Step((), replace(place, job="", asked=place.asked + 1, locator=""))
    return Step((), replace(place, asked=place.asked + 1))


def _begun(kind: Kind, config: SalesforceConfig, ctx: Context) -> str:
    said = {"operation": "queryAll", "query": select(kind, config, ctx)}
    answer = rest("POST", "jobs/query", config, ctx, endpoint="bulk query", json=said)
    id = answer.body.get("id") if isinstance(answer.body, Mapping) else None
    if not isinstance(id, str) or not id.isalnum():
        raise Retryable("Salesforce bulk query: the answer names no job; the hub asks again")
    return id


def _is_done(place: Place, kind: Kind, config: SalesforceConfig, ctx: Context) -> bool:
    if place.asked:
        time.sleep(PATIENCE[min(place.asked, len(PATIENCE)) - 1])
    answer = rest("GET", f"jobs/query/{place.job}", config, ctx, endpoint="bulk job")
    state = answer.body.get("state") if isinstance(answer.body, Mapping) else None
    if state in FAILED:
        raise Permanent(f"Salesforce bulk query of {kind.name}s: the job ended as {state}; see Setup, Bulk Data Load "
                        "Jobs, then `upkept resync` again")  # fmt: skip
    if not isinstance(state, str):
        raise Retryable("Salesforce bulk job: the answer is not a job; the hub asks again")
    return state == "JobComplete"


def _part(place: Place, kind: Kind, config: SalesforceConfig, ctx: Context) -> Step:
    wanted = {"maxRecords": PART, **({"locator": place.locator} if place.locator else {})}
    answer = text(f"jobs/query/{place.job}/results", config, ctx, endpoint="bulk results", params=wanted)
    known = types(kind, config, ctx) or {}
    rows = in_csv(answer.body, known, endpoint="bulk results")
    events = tuple(event(kind, row, at=answer.at, config=config, user=answer.user) for row in rows)
    locator = answer.headers.get("Sforce-Locator", "null")
    if locator in ("", "null"):
        return Step(events, None)
    if locator == place.locator:
        raise Retryable("Salesforce bulk results: the file does not advance; the hub asks again")
    return Step(events, replace(place, locator=locator, seen=place.seen + len(events)))
