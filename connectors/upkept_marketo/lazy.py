"""The side that talks to Marketo, loaded on first use: the web process never needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from upkept.contract import Context, Desired, Page, Probe, Pushed, RawEvent, UpkeptError
from upkept_marketo.config import MarketoConfig


def fetch(event: RawEvent, config: MarketoConfig, ctx: Context, /) -> RawEvent:
    """See `upkept_marketo.client.read`."""
    from upkept_marketo import client

    return client.fetch(event, config, ctx)


def fetch_many(
    events: Sequence[RawEvent], config: MarketoConfig, ctx: Context, /
) -> Iterator[tuple[RawEvent, RawEvent]]:
    """See `upkept_marketo.client.read`."""
    from upkept_marketo import client

    return client.fetch_many(events, config, ctx)


def pull(cursor: str | None, config: MarketoConfig, ctx: Context, /) -> Iterator[Page]:
    """See `upkept_marketo.client.pull`."""
    from upkept_marketo import client

    return client.pull(cursor, config, ctx)


def push(state: Desired, config: MarketoConfig, ctx: Context, /, *, key: str) -> Pushed:
    """See `upkept_marketo.client.push`."""
    from upkept_marketo import client

    return client.push(state, config, ctx, key=key)


def push_many(
    states: Mapping[str, Desired], config: MarketoConfig, ctx: Context, /
) -> Iterator[tuple[str, Pushed | UpkeptError]]:
    """See `upkept_marketo.client.push`."""
    from upkept_marketo import client

    return client.push_many(states, config, ctx)


def probe(config: MarketoConfig, ctx: Context, /) -> Probe:
    """See `upkept_marketo.client.probe`."""
    from upkept_marketo import client

    return client.probe(config, ctx)
