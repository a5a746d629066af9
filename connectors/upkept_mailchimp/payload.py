"""What `fetch` and `pull` bring of a member: one JSON object, written by `client` and read by `normalize`.

    {"object": "upkept.member", "audience": "a6b5da1054", "topic": "*", "confirms": false, "told_at": "",
     "titles": {"9143cf3bd1": ["Topics", "Cats"]}, "tags": {"VIP": true}, "member": {…}}

`topic`, `confirms` (does a form of this audience ask for a confirmation?), the titles of interests and the tags that
the member lacks are not in Mailchimp's member; `normalize` is pure and could not ask. `member` is Mailchimp's object
as it came, or `{"id": <hash>, "deleted": true}`. `told_at` is the `fired_at` of a webhook that told of the subscription
and tells of subscribers' own acts alone; every other read leaves it empty. A *move* holds two: `{"object":
"upkept.move", "old": <hash>, "new": {…}}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from upkept.contract import Permanent, RawEvent
from upkept_mailchimp.member import is_audience, is_hash

MEMBER_READ: Final = "upkept.member"
MOVE: Final = "upkept.move"
DEEPEST: Final = 64


@dataclass(frozen=True, slots=True)
class Read:
    """A member as it was read."""

    audience: str
    topic: str
    confirms: bool
    titles: Mapping[str, tuple[str, str]]
    tags: Mapping[str, bool]
    member: Mapping[str, Any]
    told_at: str = ""

    @property
    def hash(self) -> str:
        return str(self.member["id"])

    @property
    def is_gone(self) -> bool:
        return self.member.get("deleted") is True

    def said(self) -> dict[str, Any]:
        return {
            "object": MEMBER_READ,
            "audience": self.audience,
            "topic": self.topic,
            "confirms": self.confirms,
            "told_at": self.told_at,
            "titles": {id: list(title) for id, title in self.titles.items()},
            "tags": dict(self.tags),
            "member": dict(self.member),
        }


def written(said: Mapping[str, Any]) -> bytes:
    """One text for equal reads: their digest is their name."""
    return json.dumps(said, separators=(",", ":"), sort_keys=True).encode()


def opened(event: RawEvent) -> dict[str, Any]:
    """The object in a body of ours; raises `Permanent`."""
    try:
        body = orjson.loads(event.body)
    except orjson.JSONDecodeError:
        body = _read_slowly(event)
    if not isinstance(body, dict):
        raise Permanent(f"Mailchimp {event.kind} {event.id}: the body is not an object")
    return body


def read(event: RawEvent, body: Mapping[str, Any]) -> Read:
    """The member in it; raises `Permanent` for what `client` did not write."""
    member, titles, tags = body.get("member"), body.get("titles"), body.get("tags")
    if (
        not is_audience(body.get("audience"))
        or not isinstance(member, dict)
        or not is_hash(member.get("id"))
        or not isinstance(titles, dict)
        or not isinstance(tags, dict)
    ):
        raise Permanent(f"Mailchimp {event.kind} {event.id}: the body shows no member of an audience")
    return Read(
        audience=str(body["audience"]),
        topic=str(body.get("topic") or "*"),
        confirms=body.get("confirms") is True,
        titles={
            id: (str(two[0]), str(two[1])) for id, two in titles.items() if isinstance(two, list) and len(two) == 2
        },
        tags={name: on for name, on in tags.items() if isinstance(on, bool)},
        member=member,
        told_at=str(body.get("told_at") or ""),
    )


def _read_slowly(event: RawEvent) -> Any:
    """`orjson` refuses escaped lone surrogates, which JSON allows."""
    try:
        return json.loads(event.body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Permanent(f"Mailchimp {event.kind} {event.id}: the body is not JSON") from None
