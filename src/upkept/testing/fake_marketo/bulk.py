"""Bulk extracts of the Marketo stand-in: jobs that are made, queued, complete after a while, and leave a file."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
import uuid
from datetime import datetime
from typing import Any, Final

from upkept.testing.fake_marketo.api import shown
from upkept.testing.fake_marketo.faults import Fails, Object
from upkept.testing.fake_marketo.world import DAY, FIELDS, STAMPS, World, iso

QUEUE: Final = 10
COLUMNS: Final = (
    "marketoGUID", "leadId", "activityDate", "activityTypeId", "campaignId", "primaryAttributeValueId",
    "primaryAttributeValue", "attributes",
)  # fmt: skip


def create(world: World, what: str, said: Object) -> Object:
    if world.faults.export_quota:
        raise Fails("1029", "Export daily quota 500MB exceeded")
    span = (said.get("filter") or {}).get("createdAt") or {}
    try:
        start, end = (datetime.fromisoformat(span[name]).timestamp() for name in ("startAt", "endAt"))
    except (KeyError, ValueError, TypeError):
        raise Fails("1003", "filter.createdAt needs startAt and endAt") from None
    if not 0 <= end - start <= 31 * DAY:
        raise Fails("1003", "Date range must be 31 days or fewer")
    names = said.get("fields")
    there = {*FIELDS, *STAMPS} if what == "leads" else {*COLUMNS}
    if not names or set(names) - there:
        raise Fails("1006", "Field not found")
    id = str(uuid.uuid4())
    types = set((said["filter"]).get("activityTypeIds") or ())
    world.jobs[id] = {"what": what, "status": "Created", "created": world.clock.now(), "start": start, "end": end,
                      "fields": names, "types": types}  # fmt: skip
    return {"result": [_said(world, id)]}


def enqueue(world: World, id: str) -> Object:
    job = _job(world, id)
    if world.faults.export_quota:
        raise Fails("1029", "Export daily quota 500MB exceeded")
    if (
        world.faults.queue_full
        or sum(one["status"] in ("Queued", "Processing") for one in world.jobs.values()) >= QUEUE
    ):
        raise Fails("1029", "Too many jobs (10) in queue")
    if job["status"] != "Created":
        raise Fails("1003", f"Job is {job['status']}")
    job |= {"status": "Queued", "queued": world.clock.now(), "ready": time.monotonic() + world.faults.export_seconds}
    return {"result": [_said(world, id)]}


def status(world: World, id: str) -> Object:
    job = _job(world, id)
    if job["status"] == "Queued" and time.monotonic() >= job["ready"]:
        if world.faults.fail_exports > 0:
            world.faults.fail_exports -= 1
            job["status"] = "Failed"
        else:
            job |= {"status": "Completed", "started": job["queued"], "finished": world.clock.now()}
            job["file"] = _file(world, job)
    return {"result": [_said(world, id)]}


def file(world: World, id: str) -> bytes:
    job = _job(world, id)
    if world.faults.lost_files or "file" not in job:
        raise Fails("1003", "Export file is not there")
    found: bytes = job["file"]
    return found


def _job(world: World, id: str) -> Object:
    if id not in world.jobs:
        raise Fails("1003", "Export job not found")
    return world.jobs[id]


def _said(world: World, id: str) -> Object:
    job = world.jobs[id]
    said: Object = {"exportId": id, "status": job["status"], "createdAt": iso(job["created"]), "format": "CSV"}
    for name, key in (("queuedAt", "queued"), ("startedAt", "started"), ("finishedAt", "finished")):
        if key in job:
            said[name] = iso(job[key])
    if "file" in job:
        digest = hashlib.sha256(job["file"]).hexdigest()
        said |= {"fileSize": len(job["file"]), "fileChecksum": f"sha256:{digest}"}
    return said


def _file(world: World, job: Object) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(job["fields"])
    if job["what"] == "leads":
        chosen = [one for one in world.leads.values() if job["start"] <= one["createdAt"] <= job["end"]]
        writer.writerows([_worded(name, lead[name]) for name in job["fields"]] for lead in chosen)
    else:
        writer.writerows(
            _activity(world, one, job["fields"])
            for one in world.log
            if job["start"] <= one["at"] <= job["end"]
            and one["type"] != "Delete Lead"
            and (not job["types"] or world.type_id(one["type"]) in job["types"])
        )
    return text.getvalue().encode()


def _activity(world: World, one: Object, names: list[str]) -> list[str]:
    said = {**shown(world, one, "Z"), "attributes": json.dumps(one["attributes"])}
    return [_worded(name, said.get(name)) for name in names]


def _worded(name: str, value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return iso(value) if name in ("createdAt", "updatedAt") else str(value)
