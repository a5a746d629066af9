"""The webhook door: who knows the path, and what is a hint and what counts at once. No network, no SDK.

Mailchimp signs no audience webhook. So its address ends in a token that nobody can guess, the audience must be one of
ours, and a webhook is believed in one thing only: that somebody does not want mail. Whatever would raise consent,
change a profile or take something away is *thin*: the hub reads the member and believes Mailchimp's own answer.

    subscribe            thin: the member is read, and whether this webhook tells of subscribers' own acts alone
    profile              thin: the member is read
    unsubscribe          the opt-out at once, and beside it a thin read of the member
    cleaned              the bounce or complaint at once, and beside it a thin read
    upemail              thin: the new address is read, and that the old one is gone
    campaign             of no person; kept as skipped

An archived contact (`data[action]=archive`) is told of as `unsubscribe` too. Archiving is the operator's tidying, no
wish of the person, so that one is thin.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode

from upkept.contract import RawEvent, Rejected, Request, Skipped
from upkept.contract.signing import token_matches
from upkept_mailchimp.config import MailchimpConfig, topic_of, webhook_tokens
from upkept_mailchimp.form import Unreadable, read_form
from upkept_mailchimp.member import is_audience

THIN: Final = frozenset({"subscribe", "profile", "upemail"})
AT_ONCE: Final = frozenset({"unsubscribe", "cleaned"})
TYPES: Final = THIN | AT_ONCE | {"campaign"}

READ: Final = "read.member"
OURS: Final = "upkept"
"""The field under which the door writes what only the configuration knows, in front of the form as it came."""

_ADDRESSES: Final = ("email", "new_email", "old_email")


def verify(request: Request, config: MailchimpConfig, /, *, now: datetime) -> None:
    """Raise `Rejected` (401) unless the path ends in the token. Nothing else of a request proves where it is from."""
    tokens = webhook_tokens(config)
    if not tokens:
        raise Rejected("no webhook_token is configured for this connection; set a long random one, and end the "
                       "webhook's address in it")  # fmt: skip
    if not token_matches(request.token, tokens):
        raise Rejected("the address does not end in webhook_token of this connection: copy it to the webhook's "
                       "callback URL in Mailchimp")  # fmt: skip


def split(request: Request, config: MailchimpConfig, /) -> tuple[RawEvent, ...]:
    """The events of a request; see above. Mailchimp names no event, so the id is a digest of what was said.

    Two true changes in one second may look alike. Then one is taken for a repetition of the other, which says the same.
    Raises `Rejected` (400) for what is no webhook of Mailchimp, `Skipped` for another audience or an unknown type.
    """
    try:
        form = read_form(request.body)
    except Unreadable as error:
        raise Rejected(f"{error}; nothing is stored", status=400) from None
    kind, data = form.get("type"), form.get("data")
    if not isinstance(kind, str) or not kind or not isinstance(data, dict) or OURS in form:
        raise Rejected(
            "the body is not a webhook of Mailchimp: it has no type or no data; nothing is stored", status=400
        )
    audience = data.get("list_id")
    # Where `audiences` is empty nothing is set up yet, which `upkept check` says; an opt-out counts all the same.
    if (
        not isinstance(audience, str)
        or not is_audience(audience)
        or (config.audiences and audience not in config.audiences)
    ):
        raise Skipped("of an audience that `audiences` of this connection does not name", kind=kind[:64])
    if kind not in TYPES:
        raise Skipped(f"Mailchimp webhook {kind[:64]!r}: tells nothing about a member", kind=kind[:64])
    if kind != "campaign" and not _names_somebody(kind, data):
        raise Rejected(f"a webhook of type {kind} without the address it is about; nothing is stored", status=400)
    id = _id(form, kind, audience, data)
    body = _marked(request, topic_of(config, audience))
    told = RawEvent(id=id, kind=kind, body=body, thin=kind in THIN)
    if kind not in AT_ONCE:
        return (told,)
    look = RawEvent(id=f"{id}:read", kind=READ, body=request.body, thin=True)
    return (look,) if data.get("action") == "archive" else (told, look)


def _names_somebody(kind: str, data: dict[str, Any]) -> bool:
    needed = ("new_email", "old_email") if kind == "upemail" else ("email",)
    return all(isinstance(data.get(name), str) and "@" in data[name] for name in needed)


def _id(form: dict[str, Any], kind: str, audience: str, data: dict[str, Any]) -> str:
    """A digest of the fields in one order: a repetition may write them in another."""
    addresses = [str(data.get(name, "")).strip().lower() for name in _ADDRESSES]
    said = urlencode(sorted(_flat(form, "")))
    parts = "\x1f".join([audience, kind, *addresses, str(form.get("fired_at", "")), said])
    return f"{kind}:{hashlib.sha256(parts.encode('utf-8', 'replace')).hexdigest()}"


def _flat(value: Any, path: str) -> list[tuple[str, str]]:
    if not isinstance(value, dict):
        return [(path, value)]
    return [pair for name, inner in value.items() for pair in _flat(inner, f"{path}[{name}]")]


def hook_of(token: str) -> str:
    """Which webhook ends in this token, without saying the token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()[:16]


def _marked(request: Request, topic: str) -> bytes:
    return f"{OURS}[topic]={quote(topic, safe='')}&{OURS}[hook]={hook_of(request.token)}&".encode() + request.body
