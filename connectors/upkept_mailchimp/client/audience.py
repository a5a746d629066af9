"""What a member's own object does not say of its audience: the titles of its interests, and the tags there are.

Both are asked for once and kept for ten minutes: they change when somebody edits the audience.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from upkept.contract import Config, Context, Retryable
from upkept_mailchimp.client.api import ask
from upkept_mailchimp.client.errors import NotFound, Refused
from upkept_mailchimp.config import ALL, MailchimpConfig, topic_of
from upkept_mailchimp.payload import Read

KEPT: Final = timedelta(minutes=10)
PAGE: Final = 1_000
MOST_TAGS: Final = 200
"""Of an audience with more, only those that `tags` names are kept in step."""

_known: dict[tuple[str, str | None, tuple[str, ...], str], Audience] = {}
_lock: Final = threading.Lock()


@dataclass(frozen=True, slots=True)
class Audience:
    """`titles` is interest id -> (group, name); `tags` are those kept in step, and (`open`) whatever a member bears."""

    id: str
    topic: str
    confirms: bool
    titles: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    open: bool = False
    at: datetime | None = None

    def read(self, member: Mapping[str, Any]) -> Read:
        """A member of this audience with what its object does not say."""
        listed = member.get("tags")
        has = {str(one.get("name")) for one in listed if isinstance(one, Mapping)} if isinstance(listed, list) else None
        chosen = member.get("interests")
        return Read(
            audience=self.id,
            topic=self.topic,
            confirms=self.confirms,
            titles={id: self.titles[id] for id in chosen if id in self.titles} if isinstance(chosen, Mapping) else {},
            tags={}
            if has is None
            else {name: name in has for name in sorted(self.tags | (has if self.open else set()))},
            member={name: value for name, value in member.items() if name not in ("_links", "tags")},
        )

    def gone(self, hash: str) -> Read:
        """A member that is not there."""
        return Read(self.id, self.topic, self.confirms, {}, {}, {"id": hash, "deleted": True})


def audience_of(id: str, config: MailchimpConfig, ctx: Context) -> Audience:
    """An audience as it was within the last ten minutes."""
    key = (config.api_key, config.base_url, config.tags, id)
    with _lock:
        found = _known.get(key)
    if found is None or found.at is None or not timedelta() <= ctx.now - found.at < KEPT:
        found = _asked(id, config, ctx)
        with _lock:
            _known[key] = found
    return replace(found, topic=topic_of(config, id), confirms=id in config.double_opt_in)


def is_there(audience: str, config: MailchimpConfig, ctx: Context) -> Mapping[str, Any]:
    """The id and name of an audience; raises `Config` if the account has none of this id.

    A key of another account finds no member either: that deletes nobody.
    """
    try:
        return ask("lists.get", config, ctx, lambda client: client.lists.get_list(audience, fields=["id", "name"]))
    except NotFound as error:
        raise Config(
            f"audience {audience} is not in this account; check `audiences` and `api_key` of this connection"
        ) from error


def forget() -> None:
    """Ask anew the next time."""
    with _lock:
        _known.clear()


def _asked(id: str, config: MailchimpConfig, ctx: Context) -> Audience:
    at = ctx.now
    tags = frozenset(config.tags) or _tags(id, config, ctx)
    return Audience(
        id, ALL, False, titles=dict(_titles(id, config, ctx)), tags=tags or frozenset(),
        open=tags is not None and not config.tags, at=at,
    )  # fmt: skip


def _titles(id: str, config: MailchimpConfig, ctx: Context) -> Iterator[tuple[str, tuple[str, str]]]:
    groups = ask(
        "interest groups", config, ctx, lambda client: client.lists.get_list_interest_categories(id, count=PAGE)
    )
    for group in _rows(groups, "categories", "interest groups"):
        of = str(group.get("id", ""))
        if not of.isalnum():
            continue
        found = ask("interests", config, ctx, partial(_interests, audience=id, group=of))
        for interest in _rows(found, "interests", "interests"):
            yield str(interest.get("id", "")), (str(group.get("title", "")), str(interest.get("name", "")))


def _interests(client: Any, *, audience: str, group: str) -> Any:
    return client.lists.list_interest_category_interests(audience, group, count=PAGE)


def _tags(id: str, config: MailchimpConfig, ctx: Context) -> frozenset[str] | None:
    """All tags of an audience; None if there are too many, or if they cannot be listed."""
    try:
        found = ask("tags", config, ctx, lambda client: client.lists.tag_search(id))
    except (NotFound, Refused):
        return None
    names = frozenset(str(one["name"]) for one in _rows(found, "tags", "tags") if one.get("name"))
    if len(names) > MOST_TAGS:
        ctx.log.warning("the audience has too many tags to keep all in step; name some in `tags`", tags=len(names))
        return None
    return names


def _rows(answer: Mapping[str, Any], name: str, endpoint: str) -> list[Mapping[str, Any]]:
    rows = answer.get(name)
    if not isinstance(rows, list):
        raise Retryable(f"Mailchimp {endpoint}: the answer is not a list; the hub asks again")
    return [row for row in rows if isinstance(row, Mapping)]
