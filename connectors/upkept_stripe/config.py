"""What an operator configures for one Stripe account."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from upkept.contract import secret

_MODE: Final = re.compile(r"(?:sk|rk)_(?:org_)?(live|test)_")


@dataclass(frozen=True, kw_only=True)
class StripeConfig:
    """The keys of `[connections.<name>]` for `connector = "stripe"`.

    `poll`, `fields` and `user_id_keys` are the hub's own keys and mean the same for every connector.
    """

    api_key: str = secret(help="a secret key, or better a restricted one that may only read")
    webhook_secret: str | tuple[str, ...] = secret(
        default=(), help="the endpoint's signing secret; a list while it is being rotated"
    )
    account: str | None = None
    """A connected account (`acct_…`), if this connection looks at one through a Connect platform's key."""
    base_url: str | None = None
    """Where the API is, if not at Stripe: a sandbox or a proxy."""


def webhook_secrets(config: StripeConfig) -> tuple[str, ...]:
    """The live signing secrets, none of them empty."""
    configured = config.webhook_secret
    return tuple(filter(None, (configured,) if isinstance(configured, str) else configured))


def is_live(config: StripeConfig) -> bool | None:
    """Whether the key is of live mode; None if its form does not tell."""
    mode = _MODE.match(config.api_key)
    return mode[1] == "live" if mode else None
