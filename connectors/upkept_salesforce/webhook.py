"""The door for outbound messages: is it our org's, and what changed? No network, no SDK.

Salesforce signs nothing. Who posts must know the token in the path and the org's id, which is a proof of neither origin
nor content: so a message is a hint. What it names is read from the API before it counts (a *thin* event). Only an
opt-out counts at once, as it is told, beside the reading: a read-back must never delay one (SEMANTICS B).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from upkept.contract import RawEvent, Rejected, Request, Skipped
from upkept.contract.signing import token_matches
from upkept_salesforce.config import SalesforceConfig, webhook_tokens
from upkept_salesforce.ids import full_id, same_id
from upkept_salesforce.objects import BY_NAME, CHANGED, OPT_OUT, PEOPLE
from upkept_salesforce.soap import Message, NoMessage, Notification, read_message

OUTBOUND: Final = "outbound."
OPTED_OUT: Final = "outbound.opt_out"
SHOWN: Final = ("Id", "Email", OPT_OUT, CHANGED, "LastModifiedDate")
"""What of an opt-out is kept: whose, and when."""

TRUE: Final = frozenset({"true", "1"})
"""How XML writes it."""

_ID: Final = re.compile(r"[A-Za-z0-9]{1,64}", re.ASCII)


def verify(request: Request, config: SalesforceConfig, /, *, now: datetime) -> None:
    """Raise `Rejected` (401) unless the path ends in the connection's token."""
    tokens = webhook_tokens(config)
    if not tokens:
        raise Rejected("no webhook_token is configured; set it to a long random text, and write it at the end of the "
                       "endpoint URL of the outbound message")  # fmt: skip
    if not token_matches(request.token, tokens):
        raise Rejected("the end of the path is not webhook_token of this connection: compare it with the endpoint URL "
                       "of the outbound message")  # fmt: skip
    if full_id(config.organization_id) is None:
        raise Rejected("organization_id of this connection is not set, or is no org's id; Setup, Company Information, "
                       "shows it (00D…)")  # fmt: skip


def split(request: Request, config: SalesforceConfig, /) -> tuple[RawEvent, ...]:
    """What a message names, one thin event for each notification, and an event of its own for each opt-out.

    Ids are those of the notifications, which stay the same when a message is sent again. Raises `Rejected`, 400 for
    what is not a message and 401 for one of another org, and `Skipped` for one that names nothing of ours.
    """
    try:
        message = read_message(request.body)
    except NoMessage as error:
        raise Rejected(f"{error}; nothing is stored", status=400) from None
    if not same_id(message.organization, config.organization_id):
        raise Rejected("an outbound message of another org than organization_id of this connection names")
    events = tuple(_events(message))
    if not events:
        raise Skipped("names no lead, contact, task, event or campaign member", kind=f"{OUTBOUND}other")
    return events


def _events(message: Message) -> Iterator[RawEvent]:
    for one in message.notifications:
        kind, id = BY_NAME.get(one.type), full_id(one.fields.get("Id"))
        if kind is None or id is None:
            continue  # another object, or deleted while the message waited: the next pull reads that
        if not _ID.fullmatch(one.id):
            raise Rejected("a notification's id is not one of Salesforce's; nothing is stored", status=400)
        if kind.type in PEOPLE and one.fields.get(OPT_OUT) in TRUE:
            shown: dict[str, Any] = {name: one.fields[name] for name in SHOWN if name in one.fields}
            yield RawEvent(id=f"{one.id}:opt_out", kind=OPTED_OUT, body=_body(one, kind.type, shown))
        yield RawEvent(id=one.id, kind=OUTBOUND + kind.type, body=_body(one, kind.type, {"Id": id}), thin=True)


def _body(one: Notification, of: str, shown: dict[str, Any]) -> bytes:
    said = {"object": "upkept.outbound", "notification": one.id, "type": of, "row": shown}
    return json.dumps(said, separators=(",", ":")).encode()
