"""What an operator configures for one Mailchimp account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from upkept.contract import Config, secret
from upkept_mailchimp.member import is_audience

ALL: Final = "*"


@dataclass(frozen=True, kw_only=True)
class MailchimpConfig:
    """The keys of `[connections.<name>]` for `connector = "mailchimp"`.

    `poll` and `fields` are the hub's own keys and mean the same for every connector.
    """

    api_key: str = secret(help="an API key; it ends in the account's data centre, as in …-us6")
    audiences: tuple[str, ...]
    """The ids of the audiences (lists) that are kept in step; nothing of any other one is taken in."""
    webhook_token: str | tuple[str, ...] = secret(
        default=(), help="the long random last part of the webhook's address; a list while it is being exchanged"
    )
    topics: Mapping[str, str] = field(default_factory=dict)
    """Audience id -> topic: whoever leaves that audience opts out of the topic alone. Without it, of everything."""
    double_opt_in: tuple[str, ...] = ()
    """Audiences that ask for a confirmation: a subscription that a webhook of subscribers' acts alone tells of counts
    as the person's own act there."""
    tags: tuple[str, ...] = ()
    """The tags that are kept in step; without it, all of an audience."""
    base_url: str | None = None
    """Where the API is, if not at Mailchimp: a sandbox or a proxy, with its `/3.0` if it has that."""

    def __post_init__(self) -> None:
        """Ids go into paths, which the SDK does not escape. Raises `Config`."""
        for audience in self.audiences:
            if not is_audience(audience):
                raise Config(f"`audiences`: {audience!r} is no audience id, as in a6b5da1054")
        for key, named in (("topics", self.topics), ("double_opt_in", self.double_opt_in)):
            if strange := sorted(set(named) - set(self.audiences)):
                raise Config(f"`{key}` names {strange[0]!r}, which `audiences` does not")


def topic_of(config: MailchimpConfig, audience: str) -> str:
    """What a member of this audience is subscribed to; `*` is everything."""
    return config.topics.get(audience, ALL)


def webhook_tokens(config: MailchimpConfig) -> tuple[str, ...]:
    """The tokens that are good now, none of them empty."""
    configured = config.webhook_token
    return tuple(filter(None, (configured,) if isinstance(configured, str) else configured))
