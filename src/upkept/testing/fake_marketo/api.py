"""The REST calls that the Marketo stand-in answers, in Marketo's shapes and with its quirks.

Errors are HTTP 200 with `success` false; a record that is not taken is `skipped` inside of a success; a page of
activities may be short, or have no `result` at all, and promise more.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from upkept.testing.fake_marketo.faults import Fails, Object
from upkept.testing.fake_marketo.world import DAY, FIELDS, STAMPS, TYPES, World, iso

MOST: Final = 300
DELETES_KEPT: Final = 14 * DAY
USUAL: Final = ("id", "email", "firstName", "lastName", "createdAt", "updatedAt")
LOOKUPS: Final = ("id", "email", "appUserId")
WRITABLE: Final = frozenset(FIELDS) - {"blackListedCause"}

Query = Mapping[str, str]


def activity_types(world: World, _query: Query) -> Object:
    return {
        "result": [
            {"id": number + world.shift, "name": name, "description": name, "attributes": [],
             "primaryAttribute": {"name": "Asset", "dataType": "string"}}
            for name, number in TYPES.items()
        ]
    }  # fmt: skip


def describe(_world: World, _query: Query) -> Object:
    return {
        "result": [
            {
                "id": number,
                "displayName": name,
                "dataType": "string",
                "rest": {"name": name, "readOnly": name in STAMPS},
            }
            for number, name in enumerate((*STAMPS, *FIELDS), 2)
        ]
    }


def paging_token(world: World, query: Query) -> Object:
    try:
        since = datetime.fromisoformat(query["sinceDatetime"]).timestamp()
    except (KeyError, ValueError):
        raise Fails("1003", "Invalid sinceDatetime") from None
    place = next((place for place, one in enumerate(world.log) if one["at"] >= since), len(world.log))
    return {"nextPageToken": _token(place)}


def activities(world: World, query: Query) -> Object:
    ids = {int(one) for one in query.get("activityTypeIds", "").split(",") if one.isdigit()}
    if not 1 <= len(ids) <= 10:
        raise Fails("1003", "activityTypeIds must be 1 to 10")
    known = {name for name, number in TYPES.items() if number + world.shift in ids}
    return _page(world, query, lambda one: one["type"] in known, lambda one: shown(world, one, "Z"))


def lead_changes(world: World, query: Query) -> Object:
    asked = set(filter(None, query.get("fields", "").split(",")))
    if not asked:
        raise Fails("1002", "Missing value for required parameter 'fields'")
    if unknown := asked - FIELDS.keys() - set(STAMPS):
        raise Fails("1006", f"Field '{sorted(unknown)[0]}' not found")

    def wanted(one: Object) -> bool:
        named = {field["name"] for field in one["fields"] or ()}
        return one["type"] == "New Lead" or (one["type"] == "Change Data Value" and bool(named & asked))

    def said(one: Object) -> Object:
        fields = [field for field in one["fields"] or () if field["name"] in asked]
        return {**shown(world, one, "+0000"), "fields": fields}

    return _page(world, query, wanted, said)


def deleted_leads(world: World, query: Query) -> Object:
    since = world.clock.now() - DELETES_KEPT

    def wanted(one: Object) -> bool:
        return one["type"] == "Delete Lead" and int(one["at"]) >= since

    return _page(world, query, wanted, lambda one: shown(world, one, "+0000"))


def shown(world: World, one: Object, zone: str) -> Object:
    """An activity as the API words it; attributes that are empty are left out."""
    found = {
        "id": one["number"], "marketoGUID": str(one["number"]), "leadId": one["lead"],
        "activityDate": iso(one["at"], zone), "activityTypeId": world.type_id(one["type"]),
        "attributes": [{"name": name, "value": said} for name, said in one["attributes"].items() if said is not None],
    }  # fmt: skip
    if one["about"] is not None:
        found |= {"primaryAttributeValueId": one["number"] % 100, "primaryAttributeValue": one["about"]}
    return found


def leads(world: World, query: Query) -> Object:
    """Leads by one of the fields that can be looked for."""
    by, values = query.get("filterType", ""), [one for one in query.get("filterValues", "").split(",") if one]
    if by not in LOOKUPS:
        raise Fails("1011", f"Field '{by}' not supported")
    if not 1 <= len(values) <= MOST:
        raise Fails("1003", "filterValues must be 1 to 300")
    names = [one for one in query.get("fields", "").split(",") if one] or list(USUAL)
    if unknown := [name for name in names if name not in FIELDS and name not in STAMPS]:
        raise Fails("1006", f"Field '{unknown[0]}' not found")
    if by == "id":
        found = [world.leads[int(one)] for one in values if one.isdigit() and int(one) in world.leads]
    elif by == "email":
        found = [world.leads[id] for one in values for id in world.of_address(one)]
    else:
        found = [lead for lead in world.leads.values() if str(lead[by]) in values]
    start, size = _place(query.get("nextPageToken") or _token(0)), int(query.get("batchSize", MOST))
    page = found[start : start + size]
    answer: Object = {"result": [view(lead, ("id", *names)) for lead in page]}
    if start + size < len(found):
        answer["nextPageToken"] = _token(start + size)
    return answer


def view(lead: Object, names: tuple[str, ...]) -> Object:
    return {
        name: iso(lead[name]) if name in ("createdAt", "updatedAt") else lead[name] for name in dict.fromkeys(names)
    }


def sync(world: World, said: Object) -> Object:
    action, by, rows = said.get("action", "createOrUpdate"), said.get("lookupField", "email"), said.get("input")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST:
        raise Fails("1003", "input must be 1 to 300 leads")
    if action not in ("createOnly", "updateOnly", "createOrUpdate", "createDuplicate") or by not in LOOKUPS:
        raise Fails("1003", "Invalid action or lookupField")
    if by == "id" and action != "updateOnly":
        raise Fails("1003", "id is for updateOnly")
    return {"result": [_sync_one(world, action, by, row) for row in rows]}


def _sync_one(world: World, action: str, by: str, row: Object) -> Object:
    fields = {name: value for name, value in row.items() if name != "id"}
    if unknown := fields.keys() - WRITABLE:
        return _skipped("1006", f"Field '{sorted(unknown)[0]}' not found")
    email = fields.get("email")
    if isinstance(email, str) and not email.isascii():
        return _skipped("1003", "Invalid email")
    found = _found(world, by, row.get(by))
    if len(found) > 1 and action != "createDuplicate":
        return _skipped("1007", "Multiple leads match the lookup criteria")
    if action == "createOnly" and found:
        return _skipped("1005", "Lead already exists")
    if action == "updateOnly" and not found:
        return _skipped("1004", "Lead not found")
    if found and action != "createDuplicate":
        world.change(found[0], fields)
        return {"id": found[0], "status": "updated"}
    if world.faults.race:
        world.lock.release()
        time.sleep(world.faults.race)
        world.lock.acquire()
    return {"id": world.create(fields, source="Web service API"), "status": "created"}


def _found(world: World, by: str, value: Any) -> list[int]:
    if by == "id":
        return [value] if isinstance(value, int) and value in world.leads else []
    if by == "email":
        return world.of_address(str(value)) if value else []
    return [id for id, lead in world.leads.items() if lead[by] == value]


def delete(world: World, said: Object) -> Object:
    rows = said.get("input")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST:
        raise Fails("1003", "input must be 1 to 300 leads")
    answers = []
    for row in rows:
        if row.get("id") in world.leads:
            world.delete(row["id"])
            answers.append({"id": row["id"], "status": "deleted"})
        else:
            answers.append({"id": row.get("id"), **_skipped("1004", "Lead not found")})
    return {"result": answers}


def _skipped(code: str, message: str) -> Object:
    return {"status": "skipped", "reasons": [{"code": code, "message": message}]}


def _page(world: World, query: Query, wanted: Callable[[Object], bool], said: Callable[[Object], Object]) -> Object:
    """One look at the log, which is of all types: what of it is wanted may be nothing."""
    place, listed = _place(query.get("nextPageToken", "")), world.clock.now() - world.faults.lag
    known = sum(1 for one in world.log if one["at"] <= listed) if world.faults.lag else len(world.log)
    end = min(place + world.faults.scan, known)
    found = [said(one) for one in world.log[place:end] if wanted(one)][: int(query.get("batchSize", MOST))]
    answer: Object = {"nextPageToken": _token(max(end, place)), "moreResult": end < known}
    if world.faults.circle:
        answer = {"nextPageToken": _token(place), "moreResult": True}
    return {**answer, "result": found} if found else answer


def _token(place: int) -> str:
    return base64.b32encode(f"place {place:09d}".encode()).decode()


def _place(token: str) -> int:
    try:
        return int(base64.b32decode(token).decode().removeprefix("place "))
    except (binascii.Error, ValueError):
        raise Fails("1003", "Invalid nextPageToken") from None


GETS: Final[Mapping[str, Callable[[World, Query], Object]]] = {
    "/rest/v1/activities/types.json": activity_types,
    "/rest/v1/activities/pagingtoken.json": paging_token,
    "/rest/v1/activities.json": activities,
    "/rest/v1/activities/leadchanges.json": lead_changes,
    "/rest/v1/activities/deletedleads.json": deleted_leads,
    "/rest/v1/leads/describe.json": describe,
    "/rest/v1/leads.json": leads,
}
POSTS: Final[Mapping[str, Callable[[World, Object], Object]]] = {
    "/rest/v1/leads.json": sync,
    "/rest/v1/leads/delete.json": delete,
}
