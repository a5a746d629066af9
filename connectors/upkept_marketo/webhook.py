"""The webhook door: does the sender know the token, and which lead is to be looked at? No network.

A Marketo webhook is a call that an administrator words: address, headers and a payload of tokens such as
`{{lead.Id}}`. Nothing signs it, so all it proves is the token, in the path or in the header `X-Upkept-Token`. It is a
*hint*: the lead is read from the API and the answer counts. But an unsubscribe that it tells of counts at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from upkept.contract import RawEvent, Rejected, Request
from upkept.contract.signing import token_matches
from upkept_marketo.config import MarketoConfig, webhook_tokens
from upkept_marketo.payload import Unreadable, flag, lead_id, read_object, text, written

HEADER: Final = "x-upkept-token"
HINT: Final = "hint"
OPT_OUT: Final = "hint.unsubscribed"

MOST_FIELDS: Final = 100
_IDS: Final = ("lead_id", "id", "leadId")
_SAYS_SO: Final = frozenset({"unsubscribe", "unsubscribed", "unsubscribes"})


def verify(request: Request, config: MarketoConfig, /, *, now: datetime) -> None:
    """Raise `Rejected` (401) unless the request carries a webhook token, in its path or its header."""
    tokens = webhook_tokens(config)
    if not tokens:
        raise Rejected(
            "no webhook_token is configured; set it for this connection, and give it to the webhooks in Marketo"
        )
    given = request.headers.get(HEADER, "")
    if not given and not request.token:
        raise Rejected(f"no token: post to /hooks/<connection>/<webhook_token>, or set the header {HEADER.title()}")
    in_header, in_path = token_matches(given, tokens), token_matches(request.token, tokens)
    if not (in_header or in_path):
        raise Rejected("the token is not webhook_token of this connection")


def split(request: Request, config: MarketoConfig, /) -> tuple[RawEvent, ...]:
    """A thin hint for the lead that is named and, where the hint says so, its opt-out as an event of its own.

    Marketo gives a hint no id: two that say the same to the letter are one. A time in the template tells them apart;
    without one, the minute in which they came does.
    Raises `Rejected` (400) for what names no lead.
    """
    said = _said(request)
    id = next((found for name in _IDS if (found := lead_id(said.get(name)))), None)
    email = text(said.get("email"))
    if id is None and (email is None or "@" not in email):
        raise Rejected('the hint names no lead: the payload template needs "lead_id": {{lead.Id}}', status=400)
    named = {"lead_id": id, "email": email, "at": text(said.get("at")), "reason": text(said.get("reason"))}
    body = written({name: value for name, value in named.items() if value is not None})
    minute = "" if named["at"] or request.received_at is None else f"{request.received_at:%Y-%m-%dT%H:%M}"
    digest = hashlib.sha256(request.body + minute.encode()).hexdigest()[:32]
    hint = RawEvent(id=f"hint:{digest}", kind=HINT, body=body, thin=True)
    if not (flag(said.get("unsubscribed")) or str(said.get("event", "")).strip().lower() in _SAYS_SO):
        return (hint,)
    return (RawEvent(id=f"hint:{digest}:out", kind=OPT_OUT, body=body), hint)


def _said(request: Request) -> Mapping[str, Any]:
    """The fields of a payload in either encoding that Marketo offers."""
    body = request.body.strip()
    if body.startswith(b"{"):
        try:
            return read_object(body)
        except Unreadable as error:
            raise Rejected(
                f"{error}; in Marketo set Request Token Encoding to JSON, and put no quotes around tokens", status=400
            ) from None
    try:
        pairs = parse_qsl(body.decode("ascii"), max_num_fields=MOST_FIELDS, strict_parsing=True, errors="replace")
    except ValueError:
        raise Rejected("the body is neither a JSON object nor a form", status=400) from None
    return dict(pairs)
