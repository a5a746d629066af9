"""The side of Acme's connector that calls Acme."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from typing import Any

import httpx

from upkept.contract import Config, Context, Desired, Page, Permanent, Probe, Pushed, RawEvent, Retryable, Skipped

from . import AcmeConfig


def fetch(event: RawEvent, config: AcmeConfig, ctx: Context, /) -> RawEvent:
    return _read(_ask(config, ctx, "GET", f"/people/{event.id}"))


def pull(cursor: str | None, config: AcmeConfig, ctx: Context, /) -> Iterator[Page]:
    after = cursor or ""
    if after.startswith("since:"):
        after = ""  # Acme knows no "changed since": every pull is a full walk
    while True:
        answer = _ask(config, ctx, "GET", "/people", params={"after": after})
        people = answer.get("people")
        if not isinstance(people, list) or "next" not in answer:
            raise Retryable("Acme people: the answer is not a page; the hub asks again")
        going = answer["next"]
        events = tuple(_read(person) for person in people)
        yield Page(events=events, cursor=going, total=answer.get("total"), resume=None if going else "since:always")
        if not going:
            return
        after = going


def push(state: Desired, config: AcmeConfig, ctx: Context, /, *, key: str) -> Pushed:
    if state.record is None:
        raise Skipped("Acme push: people begin at Acme; there is none of this person")
    wanted = {**state.fields, "unsubscribed": True} if "opt_out" in state.consent.values() else state.fields
    headers = {"Idempotency-Key": key}
    _ask(config, ctx, "PUT", f"/people/{state.record.id}", content=json.dumps(dict(wanted)), headers=headers)
    return Pushed(record=state.record, fields=state.fields)


def probe(config: AcmeConfig, ctx: Context, /) -> Probe:
    return Probe(account=str(_ask(config, ctx, "GET", "/account").get("id", "unnamed")))


def _ask(config: AcmeConfig, ctx: Context, method: str, path: str, **how: Any) -> dict[str, Any]:
    ctx.permit()
    headers = {"Authorization": f"Bearer {config.api_key}", **how.pop("headers", {})}
    try:
        with ctx.slot():
            answer = _http().request(method, config.base_url + path, headers=headers, **how)
        body = answer.json() if answer.status_code == 200 else {}
    except (httpx.HTTPError, ValueError) as error:
        raise Retryable(f"Acme {method} {path}: no answer that can be read; the hub asks again") from error
    if answer.status_code in (401, 403):
        raise Config("Acme refuses the key; set `api_key` of this connection")
    if answer.status_code == 404:
        raise Permanent(f"Acme {method} {path}: no such person")
    if answer.status_code != 200 or not isinstance(body, dict):
        raise Retryable(f"Acme {method} {path}: HTTP {answer.status_code}; the hub asks again")
    return body


@lru_cache(maxsize=1)
def _http() -> httpx.Client:
    return httpx.Client(timeout=10)


def _read(person: Any) -> RawEvent:
    if not isinstance(person, dict) or not isinstance(person.get("id"), str):
        raise Retryable("Acme people: the answer is not a person; the hub asks again")
    body = json.dumps({"person": person, "at": person.get("updated_at")}, sort_keys=True).encode()
    return RawEvent(id=f"read:{person['id']}:{sha256(body).hexdigest()[:16]}", kind="read.person", body=body)
