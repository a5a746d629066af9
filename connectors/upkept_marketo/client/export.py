"""Bulk extracts: leads and activities in stretches of at most 31 days, one job after the other.

https://experienceleague.adobe.com/en/docs/marketo-developer/marketo/rest/bulk-extract/bulk-extract

A job is made, queued, asked for until it is complete, and its file read in pieces. Each of these is a step of the pull
with a cursor of its own, so a kill at any of them costs nothing but that step; a job whose file is gone (they are kept
for a week) is made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from upkept.contract import Context, Permanent, Retryable
from upkept_marketo.client.api import ask, read_file
from upkept_marketo.client.errors import NoData, Refused
from upkept_marketo.client.place import Place
from upkept_marketo.client.rows import named, records, whole
from upkept_marketo.config import MarketoConfig
from upkept_marketo.payload import moment

DAY: Final = 86_400
LONGEST: Final = 31 * DAY
PIECE: Final = 128 << 10
"""Bytes of a file that are read at once: some hundreds of leads, which one transaction takes in quickly."""

LARGEST: Final = 32 << 20
"""A record that does not end within so many bytes is none."""

CREATED, QUEUED, COMPLETE = "created", "queued", "complete"
MOST_JOBS: Final = 3
"""Jobs for one stretch that may fail."""


def step(place: Place, filter: Mapping[str, Any], fields: tuple[str, ...], config: MarketoConfig, ctx: Context
         ) -> tuple[list[dict[str, str | None]], Place, bool]:  # fmt: skip
    """One call for the export of `place`: the rows it brought, where it stands then, and whether to come back later.

    When the stretch is done, the place it gives has no job and begins at the next stretch.
    """
    match place.state:
        case None:
            return [], _create(place, filter, fields, config, ctx), False
        case "created":
            with suppress(Refused):  # it is queued already if a step was cut short here; its status tells
                _call(place, "enqueue", config, ctx)
            return [], replace(place, state=QUEUED), False
        case "queued":
            return _poll(place, config, ctx)
        case "complete":
            return _read(place, config, ctx)
    raise Permanent("the pull's cursor names an unknown state; begin again with `upkept resync --full`")


def end_of(place: Place) -> int:
    """Where the stretch ends: at the beginning of the pull, or after 31 days."""
    return min((place.slice or 0) + LONGEST, place.begun or 0)


def _what(place: Place) -> str:
    return "leads" if place.stage == "leads" else "activities"


def _create(
    place: Place, filter: Mapping[str, Any], fields: tuple[str, ...], config: MarketoConfig, ctx: Context
) -> Place:
    span = {"startAt": _iso(place.slice or 0), "endAt": _iso(end_of(place))}
    request = {"format": "CSV", "fields": list(fields), "filter": {"createdAt": span, **filter}}
    what = _what(place)
    answer = ask(f"/bulk/v1/{what}/export/create.json", config, ctx, endpoint=f"create export of {what}", json=request)
    job = answer.result[0].get("exportId") if answer.result else None
    if not isinstance(job, str) or not job.isascii() or "/" in job:
        raise Retryable(f"Marketo create export of {what}: the answer names no job; the hub asks again")
    return replace(place, job=job, state=CREATED, read_at=answer.read_at)


def _poll(place: Place, config: MarketoConfig, ctx: Context) -> tuple[list[dict[str, str | None]], Place, bool]:
    answer = _call(place, "status", config, ctx)
    found = answer.get("status")
    if found == "Completed":
        # The file shows what was there when the job began, or later; a read must never be stamped later than it shows.
        begun = moment(answer.get("startedAt")) or moment(answer.get("queuedAt"))
        read_at = place.read_at if begun is None else int(begun.timestamp())
        size = answer.get("fileSize")
        return [], replace(place, state=COMPLETE, read_at=read_at, size=size if isinstance(size, int) else 0), False
    if found in ("Failed", "Canceled"):
        if place.pages + 1 >= MOST_JOBS:
            raise Permanent(
                f"Marketo export of {_what(place)}: {MOST_JOBS} jobs in a row failed; ask Marketo's support"
            )
        return [], replace(place.without_job(), pages=place.pages + 1), True
    state = CREATED if found == "Created" else QUEUED
    return [], replace(place, state=state, polls=place.polls + 1), True


def _read(place: Place, config: MarketoConfig, ctx: Context) -> tuple[list[dict[str, str | None]], Place, bool]:
    what, size = _what(place), PIECE
    while True:
        try:
            piece = read_file(
                f"/bulk/v1/{what}/export/{place.job}/file.json", config, ctx, endpoint=f"file of {what}",
                start=place.offset, size=size,
            )  # fmt: skip
        except (Refused, NoData) as error:
            if place.offset == 0 and isinstance(error, NoData):
                return [], _done(place), False
            # At the end of the file a range has nothing (416); anything else is a job that Marketo forgot.
            if isinstance(error, Refused) and error.code == "416":
                return [], _done(place), False
            ctx.log.info("a marketo export is gone; it is made again", what=what)
            return [], replace(place.without_job(), pages=place.pages + 1), place.pages + 1 >= MOST_JOBS
        last = place.offset + len(piece) >= place.size if place.size else len(piece) < size
        if not piece and not last:
            raise Retryable(f"Marketo file of {what}: it ends before its end; the hub asks again")
        complete = whole(piece, last=last)
        if complete or last:
            break
        if size >= LARGEST:
            raise Permanent(f"Marketo export of {what}: a record of more than {LARGEST >> 20} MB; report it")
        size *= 4
    found = records(complete)
    columns = place.columns
    if not columns and found:
        columns, found = tuple(found[0]), found[1:]
    rows = [named(row, columns) for row in found]
    if last:
        return rows, _done(place), False
    return rows, replace(place, offset=place.offset + len(complete), columns=columns), False


def _done(place: Place) -> Place:
    return replace(place.without_job(), slice=end_of(place), pages=0)


def _call(place: Place, what: str, config: MarketoConfig, ctx: Context) -> Mapping[str, Any]:
    path = f"/bulk/v1/{_what(place)}/export/{place.job}/{what}.json"
    endpoint = f"{what} export of {_what(place)}"
    answer = ask(path, config, ctx, endpoint=endpoint, **({"json": {}} if what == "enqueue" else {}))
    return answer.result[0] if answer.result else {}


def _iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
