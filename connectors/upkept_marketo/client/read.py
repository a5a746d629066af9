"""Reading leads: what a hint points at, a record that the hub wants to see again, and the leads of a page.

A read is an envelope, `{"read_at": seconds, "leads": [lead…], "gone": [id…]}`; what Marketo no longer knows is gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from upkept.contract import Context, Permanent, RawEvent, Retryable, Skipped
from upkept_marketo.client.api import ask
from upkept_marketo.client.names import known_fields
from upkept_marketo.config import MarketoConfig
from upkept_marketo.normalize import READ
from upkept_marketo.payload import Unreadable, lead_id, read_object, text, written

AT_ONCE: Final = 300
"""Leads that one call gives, and values it may ask for."""

MOST_PAGES: Final = 20


def fetch(event: RawEvent, config: MarketoConfig, ctx: Context) -> RawEvent:
    """The lead that a hint names, or the one that `event.kind` `read.lead` and `event.id` name."""
    if event.kind == READ:
        id = lead_id(event.id)
        if id is None:
            raise Skipped("no lead of Marketo bears such an id")
        return _by_id(id, config, ctx)
    try:
        said = read_object(event.body)
    except Unreadable as error:
        raise Permanent(f"Marketo {event.kind}: {error}") from None
    id, email = lead_id(said.get("lead_id")), text(said.get("email"))
    if id is not None:
        return _by_id(id, config, ctx)
    if email is None or not is_plain(email):
        raise Skipped("the hint names no lead that Marketo could have")
    found, read_at = leads("email", [email], config, ctx)
    if not found:
        raise Skipped("Marketo has no lead with the address of the hint")
    return envelope(found, read_at=read_at)


def fetch_many(events: Sequence[RawEvent], config: MarketoConfig, ctx: Context) -> Iterator[tuple[RawEvent, RawEvent]]:
    """The leads that hints name by their id, 300 in a call. A hint of an address alone is for `fetch`."""
    named = {event.id: id for event in events if (id := _hinted(event)) is not None}
    ids = list(dict.fromkeys(named.values()))
    for start in range(0, len(ids), AT_ONCE):
        asked = ids[start : start + AT_ONCE]
        found, read_at = leads("id", asked, config, ctx)
        known = {str(lead["id"]): lead for lead in found}
        for event in events:
            if (id := named.get(event.id)) in asked:
                lead = known.get(id)
                yield event, envelope([lead] if lead else [], read_at=read_at, gone=() if lead else (id,))


def _hinted(event: RawEvent) -> str | None:
    try:
        return lead_id(read_object(event.body).get("lead_id"))
    except Unreadable:
        return None


def is_plain(email: str) -> bool:
    """Whether Marketo can look for this address: it knows ASCII only, and a comma would make two of one."""
    return email.isascii() and email.isprintable() and "," not in email and " " not in email


def leads(
    by: str, values: Sequence[str], config: MarketoConfig, ctx: Context, *, fields: Iterable[str] | None = None
) -> tuple[list[Mapping[str, Any]], int]:
    """The leads whose field `by` has one of up to 300 values, and when they were read."""
    names = known_fields(config, ctx) if fields is None else fields
    params = {"filterType": by, "filterValues": ",".join(values), "fields": ",".join(names), "batchSize": str(AT_ONCE)}
    found: dict[str, Mapping[str, Any]] = {}
    read_at: int | None = None
    for _ in range(MOST_PAGES):
        answer = ask("/rest/v1/leads.json", config, ctx, endpoint="getLeadsByFilter", params=params)
        read_at = answer.read_at if read_at is None else min(read_at, answer.read_at)
        for one in answer.result:
            id = lead_id(one.get("id"))
            if id is None:
                raise Retryable("Marketo getLeadsByFilter: a lead without an id; the hub asks again")
            found[id] = one
        following = answer.body.get("nextPageToken")
        if not following or not answer.result:
            return list(found.values()), read_at
        params = {**params, "nextPageToken": str(following)}
    raise Retryable("Marketo getLeadsByFilter: the list does not end; the hub asks again")


def envelope(found: Sequence[Mapping[str, Any]], *, read_at: int, gone: Sequence[str] = ()) -> RawEvent:
    """A read. Its id holds a digest: two reads within one second may show different states."""
    body = written({"read_at": read_at, "leads": list(found), "gone": list(gone)})
    name = "+".join([*(str(one.get("id")) for one in found[:3]), *gone[:3]])
    return RawEvent(id=f"read:lead:{name}:{read_at}:{hashlib.sha256(body).hexdigest()[:12]}", kind=READ, body=body)


def _by_id(id: str, config: MarketoConfig, ctx: Context) -> RawEvent:
    found, read_at = leads("id", [id], config, ctx)
    return envelope(found, read_at=read_at, gone=() if found else (id,))
