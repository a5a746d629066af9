"""The webhooks of an audience, as Mailchimp has them: where they lead, and what they tell of whose acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from upkept.contract import Context
from upkept_mailchimp.client.api import ask
from upkept_mailchimp.client.errors import NotFound, Refused
from upkept_mailchimp.config import MailchimpConfig
from upkept_mailchimp.webhook import hook_of


def webhooks(audience: str, config: MailchimpConfig, ctx: Context) -> list[Mapping[str, Any]] | None:
    """Those that lead to a hub; None if Mailchimp does not show them."""
    try:
        found = ask("webhooks", config, ctx, lambda client: client.lists.get_list_webhooks(audience)).get("webhooks")
    except (NotFound, Refused):
        return None
    rows = found if isinstance(found, list) else []
    return [hook for hook in rows if isinstance(hook, Mapping) and "/hooks/" in str(hook.get("url", ""))]


def tells_own_acts(audience: str, hook: str, config: MailchimpConfig, ctx: Context) -> bool:
    """Whether the webhook of this name (`hook_of` its token) tells of nothing but what subscribers do themselves.

    A webhook does not say who caused it. Mailchimp says which causes it is for, so nobody's ticks are taken on trust.
    """
    ours = [one for one in webhooks(audience, config, ctx) or () if _name(one) == hook]
    return bool(ours) and all(is_of_subscribers(one) for one in ours)


def is_of_subscribers(hook: Mapping[str, Any]) -> bool:
    """Whether it is for the acts of subscribers, and of nobody else."""
    return is_on(hook, "sources", "user") and not (is_on(hook, "sources", "admin") or is_on(hook, "sources", "api"))


def is_on(hook: Mapping[str, Any], group: str, name: str) -> bool:
    """Whether an event or a source of a webhook is ticked."""
    said = hook.get(group)
    return isinstance(said, Mapping) and said.get(name) is True


def _name(hook: Mapping[str, Any]) -> str:
    """As the door reads an address: behind `/hooks/` the connection's name, and behind that the token."""
    path = unquote(urlsplit(str(hook.get("url", ""))).path)
    return hook_of(path.partition("/hooks/")[2].partition("/")[2])
