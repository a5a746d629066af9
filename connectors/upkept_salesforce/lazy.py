"""The side that talks to Salesforce, loaded on first use: the web process never imports the SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from upkept.contract import Context, Desired, Page, Probe, Pushed, RawEvent, UpkeptError
from upkept_salesforce.config import SalesforceConfig


def fetch(event: RawEvent, config: SalesforceConfig, ctx: Context, /) -> RawEvent:
    """See `upkept_salesforce.client.read`."""
    from upkept_salesforce import client

    return client.fetch(event, config, ctx)


def pull(cursor: str | None, config: SalesforceConfig, ctx: Context, /) -> Iterator[Page]:
    """See `upkept_salesforce.client.pull`."""
    from upkept_salesforce import client

    return client.pull(cursor, config, ctx)


def push(state: Desired, config: SalesforceConfig, ctx: Context, /, *, key: str) -> Pushed:
    """See `upkept_salesforce.client.push`."""
    from upkept_salesforce import client

    return client.push(state, config, ctx, key=key)


def push_many(
    states: Mapping[str, Desired], config: SalesforceConfig, ctx: Context, /
) -> Iterator[tuple[str, Pushed | UpkeptError]]:
    """See `upkept_salesforce.client.push`."""
    from upkept_salesforce import client

    return client.push_many(states, config, ctx)


def probe(config: SalesforceConfig, ctx: Context, /) -> Probe:
    """See `upkept_salesforce.client.probe`."""
    from upkept_salesforce import client

    return client.probe(config, ctx)
