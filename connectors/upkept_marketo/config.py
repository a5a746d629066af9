"""What an operator configures for one Marketo subscription."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from upkept.contract import Config, secret


@dataclass(frozen=True, kw_only=True)
class MarketoConfig:
    """The keys of `[connections.<name>]` for `connector = "marketo"`.

    `poll`, `fields` and `user_id_keys` are the hub's own keys and mean the same for every connector.
    """

    client_id: str
    client_secret: str = secret(help="of the API-only user's custom service (Admin, LaunchPoint, View Details)")
    webhook_token: str | tuple[str, ...] = secret(
        default=(), help="what your Marketo webhooks carry; a list while it is being exchanged"
    )
    base_url: str
    """The subscription's own address, `https://<munchkin id>.mktorest.com` (Admin, Web Services)."""
    identity_url: str | None = None
    """Where tokens are given out, if not at `<base_url>/identity`."""
    lead_fields: tuple[str, ...] = ()
    """REST names of further lead fields to read, for your own lines in `fields` and for `user_id_keys`."""
    activities: tuple[str, ...] = ("Fill Out Form",)
    """Names of activity types that go on the timeline."""
    since: str | None = None
    """The day your leads begin (YYYY-MM-DD); else the hub looks for the oldest lead."""


def webhook_tokens(config: MarketoConfig) -> tuple[str, ...]:
    """The live tokens, none of them empty."""
    configured = config.webhook_token
    return tuple(filter(None, (configured,) if isinstance(configured, str) else configured))


def rest_url(config: MarketoConfig) -> str:
    """Where `/rest/v1` and `/bulk/v1` are; the Web Services page shows the address with `/rest` at its end."""
    return _address(config.base_url, "/rest", "base_url")


def identity_url(config: MarketoConfig) -> str:
    """Where `/oauth/token` is."""
    if config.identity_url:
        return _address(config.identity_url, "/oauth/token", "identity_url")
    return f"{rest_url(config)}/identity"


def first_day(config: MarketoConfig) -> datetime | None:
    """The beginning of the day that `since` names. Raises `Config` for what is no day."""
    if config.since is None:
        return None
    try:
        return datetime.fromisoformat(config.since).replace(tzinfo=UTC)
    except ValueError as error:
        raise Config("`since` of this connection must be a day, as in 2019-04-01") from error


def _address(url: str, end: str, key: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise Config(f"`{key}` must be an address, for example https://123-ABC-456.mktorest.com")
    return url.rstrip("/").removesuffix(end)
