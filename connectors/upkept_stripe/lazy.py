"""The side that talks to Stripe, loaded on first use: the web process never imports the SDK (20 MB of it)."""

from __future__ import annotations

from collections.abc import Iterator

from upkept.contract import Context, Page, Probe, RawEvent
from upkept_stripe.config import StripeConfig


def fetch(event: RawEvent, config: StripeConfig, ctx: Context, /) -> RawEvent:
    """See `upkept_stripe.client.read`."""
    from upkept_stripe import client

    return client.fetch(event, config, ctx)


def pull(cursor: str | None, config: StripeConfig, ctx: Context, /) -> Iterator[Page]:
    """See `upkept_stripe.client.pull`."""
    from upkept_stripe import client

    return client.pull(cursor, config, ctx)


def probe(config: StripeConfig, ctx: Context, /) -> Probe:
    """See `upkept_stripe.client.probe`."""
    from upkept_stripe import client

    return client.probe(config, ctx)
