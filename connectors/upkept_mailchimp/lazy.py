"""The side that talks to Mailchimp, loaded on first use: the web process never imports the SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from upkept.contract import Context, Desired, Page, Probe, Pushed, RawEvent, UpkeptError
from upkept_mailchimp.config import MailchimpConfig


def fetch(event: RawEvent, config: MailchimpConfig, ctx: Context, /) -> RawEvent:
    """See `upkept_mailchimp.client.read`."""
    from upkept_mailchimp import client

    return client.fetch(event, config, ctx)


def pull(cursor: str | None, config: MailchimpConfig, ctx: Context, /) -> Iterator[Page]:
    """See `upkept_mailchimp.client.pull`."""
    from upkept_mailchimp import client

    return client.pull(cursor, config, ctx)


def push(state: Desired, config: MailchimpConfig, ctx: Context, /, *, key: str) -> Pushed:
    """See `upkept_mailchimp.client.push`."""
    from upkept_mailchimp import client

    return client.push(state, config, ctx, key=key)


def push_many(
    states: Mapping[str, Desired], config: MailchimpConfig, ctx: Context, /
) -> Iterator[tuple[str, Pushed | UpkeptError]]:
    """See `upkept_mailchimp.client.batch`."""
    from upkept_mailchimp import client

    return client.push_many(states, config, ctx)


def probe(config: MailchimpConfig, ctx: Context, /) -> Probe:
    """See `upkept_mailchimp.client.probe`."""
    from upkept_mailchimp import client

    return client.probe(config, ctx)
