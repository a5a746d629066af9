"""The addresses of the Mailchimp stand-in's API, each with what it does."""

from __future__ import annotations

import io
import json
import random
import re
import tarfile
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from upkept.testing.fake_mailchimp import acts
from upkept.testing.fake_mailchimp.faults import Problem
from upkept.testing.fake_mailchimp.hooks import Hook, answers_get
from upkept.testing.fake_mailchimp.world import MOST_PENDING, Object, World, hash_of

Query = dict[str, str]
Do = Callable[[World, list[str], Query, Object], Object | None]

_ROUTES: list[tuple[str, re.Pattern[str], Do]] = []


def route(method: str, pattern: str) -> Callable[[Do], Do]:
    compiled = re.compile(pattern.replace("{}", "([^/]+)"))

    def keep(do: Do) -> Do:
        _ROUTES.append((method, compiled, do))
        return do

    return keep


def answer(world: World, method: str, path: str, query: Query, body: Object) -> Object | None:
    """Do what was asked for; None is 204. Raises `Problem`."""
    known = False
    for verb, pattern, do in _ROUTES:
        if found := pattern.fullmatch(path):
            known = True
            if verb == method:
                return do(world, list(found.groups()), query, body)
    title = "Method Not Allowed" if known else "Resource Not Found"
    raise Problem(405 if known else 404, title, "The requested resource could not be found.")


@route("GET", "/")
def _root(world: World, _ids: list[str], _query: Query, _body: Object) -> Object:
    return {"account_id": "acc0123456789", "account_name": "Acme", "total_subscribers": 0, "_links": []}


@route("GET", "/lists/{}")
def _list(world: World, ids: list[str], _query: Query, _body: Object) -> Object:
    audience = world.audience(ids[0])
    return {"id": audience.id, "name": audience.name, "double_optin": False, "stats": {}, "_links": []}


@route("GET", "/lists/{}/members")
def _members(world: World, ids: list[str], query: Query, _body: Object) -> Object:
    audience = world.audience(ids[0])
    count, offset = int(query.get("count", 10)), int(query.get("offset", 0))
    if not 0 <= count <= 1_000:
        raise Problem(400, "Invalid Resource", "count must be at most 1000")
    status = query.get("status")
    rows = [
        one
        for one in audience.members.values()
        if (one["status"] == status if status else one["status"] != "archived")
        and _within(one["last_changed"], query.get("since_last_changed"), query.get("before_last_changed"))
    ]
    if query.get("sort_field") == "last_changed":
        if world.faults.unstable:
            random.shuffle(rows)
        rows.sort(key=lambda one: one["last_changed"], reverse=query.get("sort_dir") == "DESC")
    page = [world.shown(one) for one in rows[offset : offset + count]]
    return {"members": page, "list_id": audience.id, "total_items": len(rows), "_links": []}


@route("GET", "/lists/{}/members/{}")
def _member(world: World, ids: list[str], _query: Query, _body: Object) -> Object:
    return world.shown(world.member(world.audience(ids[0]), ids[1]))


@route("PATCH", "/lists/{}/members/{}")
def _patch(world: World, ids: list[str], query: Query, body: Object) -> Object:
    audience = world.audience(ids[0])
    member = world.member(audience, ids[1])
    return world.shown(acts.change(world, audience, member, body, by="api", valid=_valid(query)))


@route("PUT", "/lists/{}/members/{}")
def _put(world: World, ids: list[str], query: Query, body: Object) -> Object:
    audience = world.audience(ids[0])
    email = str(body.get("email_address", ""))
    if hash_of(email) != ids[1] and ids[1] not in audience.members:
        raise Problem(400, "Invalid Resource", "The hash is not of this address.")
    said = {name: value for name, value in body.items() if name != "status_if_new"}
    known = audience.members.get(ids[1])
    if known is not None and known["status"] != "archived":
        return world.shown(acts.change(world, audience, known, said, by="api", valid=_valid(query)))
    said.setdefault("status", body.get("status_if_new"))
    return world.shown(acts.add(world, audience, email, said, by="api", valid=_valid(query)))


@route("DELETE", "/lists/{}/members/{}")
def _archive(world: World, ids: list[str], _query: Query, _body: Object) -> None:
    audience = world.audience(ids[0])
    acts.archive(world, audience, world.member(audience, ids[1]), by="api")


@route("POST", "/lists/{}/members/{}/actions/delete-permanent")
def _erase(world: World, ids: list[str], _query: Query, _body: Object) -> None:
    audience = world.audience(ids[0])
    acts.erase(world, audience, world.member(audience, ids[1]))


@route("POST", "/lists/{}/members/{}/tags")
def _tags(world: World, ids: list[str], _query: Query, body: Object) -> None:
    audience = world.audience(ids[0])
    member = world.member(audience, ids[1])
    for one in body.get("tags") or ():
        world.tag(audience, member, str(one["name"]), on=one.get("status") == "active")


@route("GET", "/lists/{}/tag-search")
def _tag_search(world: World, ids: list[str], _query: Query, _body: Object) -> Object:
    tags = world.audience(ids[0]).tags
    return {"tags": [{"id": id, "name": name} for name, id in tags.items()], "total_items": len(tags)}


@route("GET", "/lists/{}/interest-categories")
def _groups(world: World, ids: list[str], _query: Query, _body: Object) -> Object:
    groups = world.audience(ids[0]).groups
    shown = [{"list_id": ids[0], "id": id, "title": one["title"], "type": "checkboxes"} for id, one in groups.items()]
    return {"list_id": ids[0], "categories": shown, "total_items": len(shown)}


@route("GET", "/lists/{}/interest-categories/{}/interests")
def _interests(world: World, ids: list[str], _query: Query, _body: Object) -> Object:
    group = world.audience(ids[0]).groups.get(ids[1])
    if group is None:
        raise Problem(404, "Resource Not Found", "The requested resource could not be found.")
    shown = [{"category_id": ids[1], "id": id, "name": name} for id, name in group["interests"].items()]
    return {"interests": shown, "list_id": ids[0], "category_id": ids[1], "total_items": len(shown)}


@route("GET", "/lists/{}/webhooks")
def _webhooks(world: World, ids: list[str], _query: Query, _body: Object) -> Object:
    hooks = [hook.said(ids[0]) for hook in world.audience(ids[0]).webhooks.values()]
    return {"webhooks": hooks, "list_id": ids[0], "total_items": len(hooks)}


@route("POST", "/lists/{}/webhooks")
def _webhook(world: World, ids: list[str], _query: Query, body: Object) -> Object:
    """Saved only if the address answers a GET, as the real one does."""
    audience, url = world.audience(ids[0]), str(body.get("url", ""))
    if not answers_get(url):
        raise Problem(400, "Invalid Resource", "We could not reach the URL you provided.")
    hook = Hook(f"wh{len(audience.webhooks) + 1}", url, body.get("events") or {}, body.get("sources") or {})
    audience.webhooks[hook.id] = hook
    return hook.said(audience.id)


@route("POST", "/batches")
def _batch(world: World, _ids: list[str], _query: Query, body: Object) -> Object:
    waiting = sum(_state(world, one) != "finished" for one in world.batches.values())
    if waiting >= MOST_PENDING:
        raise Problem(429, "Too Many Requests", "You have more than 500 pending batches.")
    id = f"b{len(world.batches) + 1:09d}"
    operations = body.get("operations")
    if not isinstance(operations, list) or not operations:
        raise Problem(400, "Invalid Resource", "operations should not be blank")
    world.batches[id] = {"id": id, "operations": operations, "due": time.monotonic() + world.faults.batch_seconds}
    return _shown(world, world.batches[id])


@route("GET", "/batches/{}")
def _batch_status(world: World, ids: list[str], _query: Query, _body: Object) -> Object:
    if ids[0] not in world.batches:
        raise Problem(404, "Resource Not Found", "The requested resource could not be found.")
    return _shown(world, world.batches[ids[0]])


def archive_of(world: World, id: str) -> bytes:
    """The tar.gz of a batch's answers, which lies elsewhere and asks for no key."""
    if world.faults.batch_broken:
        return b"<Error><Code>AccessDenied</Code></Error>"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        folder = tarfile.TarInfo(f"{id}/")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        text = json.dumps(world.batches[id]["answers"]).encode()
        entry = tarfile.TarInfo(f"{id}/answers.json")
        entry.size = len(text)
        tar.addfile(entry, io.BytesIO(text))
    return packed.getvalue()


def _state(world: World, batch: Object) -> str:
    """A batch works when it is due, whenever it is next looked at."""
    if "answers" not in batch and time.monotonic() >= batch["due"]:
        batch["answers"] = [_done(world, one) for one in batch["operations"]]
    return "finished" if "answers" in batch else "started"


def _done(world: World, operation: Object) -> Object:
    body = json.loads(operation.get("body") or "{}")
    params = {name: str(value) for name, value in (operation.get("params") or {}).items()}
    try:
        said = answer(world, operation["method"], operation["path"], params, body)
        status, text = (204, "") if said is None else (200, json.dumps(said))
    except Problem as problem:
        status, text = problem.status, json.dumps(problem.said())
    return {"status_code": status, "operation_id": operation.get("operation_id"), "response": text}


def _shown(world: World, batch: Object) -> Object:
    status = _state(world, batch)
    answers = batch.get("answers", [])
    return {
        "id": batch["id"],
        "status": status,
        "total_operations": len(batch["operations"]),
        "finished_operations": len(answers),
        "errored_operations": sum(one["status_code"] >= 400 for one in answers),
        "response_body_url": f"{world.address}/_answers/{batch['id']}.tar.gz" if status == "finished" else "",
    }


def _valid(query: Query) -> bool:
    return query.get("skip_merge_validation", "").lower() != "true"


def _within(changed: str, since: Any, before: Any) -> bool:
    at = datetime.fromisoformat(changed)
    try:
        after = datetime.fromisoformat(since) if since else None
        until = datetime.fromisoformat(before) if before else None
        return (after is None or at > after) and (until is None or at < until)
    except (ValueError, TypeError):
        raise Problem(400, "Invalid Resource", "a time is not ISO 8601") from None
