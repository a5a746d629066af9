"""Reading one member: what a webhook points at, or a record the hub wants to see again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from upkept.contract import Context, Permanent, RawEvent, Retryable, Skipped
from upkept_mailchimp.client.api import ask
from upkept_mailchimp.client.audience import Audience, audience_of, is_there
from upkept_mailchimp.client.errors import NotFound
from upkept_mailchimp.client.hooks import tells_own_acts
from upkept_mailchimp.config import MailchimpConfig
from upkept_mailchimp.form import Unreadable, read_form
from upkept_mailchimp.member import MEMBER, hash_of, is_hash, parted
from upkept_mailchimp.normalize import MOVED
from upkept_mailchimp.payload import MOVE, Read, written
from upkept_mailchimp.webhook import OURS, READ

LEFT_OUT: Final = ["_links"]


def fetch(event: RawEvent, config: MailchimpConfig, ctx: Context) -> RawEvent:
    """Read the member a thin webhook is about, or the one that `event.id` (`<audience>/<hash>`) names."""
    if event.thin:
        return _pointed_at(event, config, ctx)
    named = parted(event.id) if event.kind == READ else None
    if named is None:
        raise Skipped(f"Mailchimp {event.kind} {event.id}: nothing of ours is read by that name")
    return enveloped(member(*named, config, ctx))


def member(audience: str, hash: str, config: MailchimpConfig, ctx: Context) -> Read:
    """A member as it is now; gone, if the audience is there and the member is not."""
    if audience not in config.audiences:
        raise Skipped("of an audience that `audiences` of this connection does not name")
    whole = audience_of(audience, config, ctx)
    try:
        found = ask(
            "members.get", config, ctx,
            lambda client: client.lists.get_list_member(audience, hash, exclude_fields=LEFT_OUT),
        )  # fmt: skip
    except NotFound:
        is_there(audience, config, ctx)
        return whole.gone(hash)
    if found.get("id") != hash:
        raise Retryable("Mailchimp members.get: the answer is not the member that was asked for; the hub asks again")
    return whole.read(found)


def enveloped(it: Read) -> RawEvent:
    """A read under an id of its own: the version (`last_changed`), and a digest, as tags may change without it."""
    body = written(it.said())
    version = "gone" if it.is_gone else str(it.member.get("last_changed", ""))[:40]
    digest = hashlib.sha256(body).hexdigest()[:16]
    return RawEvent(id=f"read:{MEMBER}:{it.audience}/{it.hash}:{version}:{digest}", kind=READ, body=body)


def listed(row: Any, audience: Audience) -> RawEvent | None:
    """A row of a list; None for a contact without an address, which is no member for mail."""
    if not isinstance(row, Mapping) or not is_hash(row.get("id")):
        raise Retryable("Mailchimp members.list: the answer is not a list of members; the hub asks again")
    return enveloped(audience.read(row)) if row.get("email_address") else None


def _pointed_at(event: RawEvent, config: MailchimpConfig, ctx: Context) -> RawEvent:
    try:
        form = read_form(event.body)
    except Unreadable as error:
        raise Permanent(f"Mailchimp {event.kind} {event.id}: {error}") from None
    data = form.get("data")
    data = data if isinstance(data, dict) else {}
    audience = str(data.get("list_id", ""))
    if form.get("type") == "upemail":
        return _moved(event, audience, str(data.get("old_email", "")), str(data.get("new_email", "")), config, ctx)
    address = str(data.get("email", ""))
    if "@" not in address:
        raise Permanent(f"Mailchimp {event.kind} {event.id}: names no member of an audience")
    found = member(audience, hash_of(address), config, ctx)
    if event.kind == "subscribe" and found.confirms and found.member.get("status") == "subscribed":
        ours = form.get(OURS)
        hook = str(ours.get("hook")) if isinstance(ours, dict) else ""
        if tells_own_acts(audience, hook, config, ctx):
            found = replace(found, told_at=str(form.get("fired_at"))[:40])
    return enveloped(found)


def _moved(event: RawEvent, audience: str, old: str, new: str, config: MailchimpConfig, ctx: Context) -> RawEvent:
    """A changed address, if Mailchimp confirms it: the new one is a member, the old one is not any more.

    If both are there, somebody took the old one up again, or the webhook is a lie; if the new one is not, it was
    changed once more, and that has a webhook of its own. Then all that is said is what was read.
    """
    if "@" not in old or "@" not in new:
        raise Permanent(f"Mailchimp {event.kind} {event.id}: names no two addresses")
    was, now = hash_of(old), hash_of(new)
    found = member(audience, now, config, ctx)
    if was == now:
        return enveloped(found)
    before = member(audience, was, config, ctx)
    if found.is_gone:
        return enveloped(before)
    if not before.is_gone:
        return enveloped(found)
    return RawEvent(
        id=f"{event.id}:confirmed", kind=MOVED, body=written({"object": MOVE, "old": was, "new": found.said()})
    )
