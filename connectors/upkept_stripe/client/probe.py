"""Are the credentials good?"""

from __future__ import annotations

from typing import Final

from upkept.contract import Config, Context, Probe
from upkept_stripe.client.api import Account, ask
from upkept_stripe.client.errors import Forbidden, NotFound, Refused

UNNAMED: Final = "the key's own account"
NEEDED: Final = ("customers", "subscriptions", "invoices", "charges", "events")


def probe(config: Account, ctx: Context) -> Probe:
    """Which account the key opens, with a warning for each list it may not read.

    Raises `Config` if Stripe refuses the key, or lets it read none of the lists.
    """
    account = _account(config, ctx)
    closed = tuple(name for name in NEEDED if not _opens(name, config, ctx))
    if len(closed) == len(NEEDED):
        raise Config(
            "`api_key` may read nothing this connection needs: give the restricted key read access to Customers, "
            "Subscriptions, Invoices, Charges, Payment Methods and Events, and check `account` if it is set"
        )
    return Probe(account=account, warnings=tuple(f"`api_key` may not read {name}" for name in closed))


def _account(config: Account, ctx: Context) -> str:
    """The account's id, or in words whose it is where a restricted key may not read it."""
    try:
        return str(ask("/v1/account", config, ctx, endpoint="accounts.retrieve").body.get("id", UNNAMED))
    except (Forbidden, NotFound, Refused):
        return config.account or UNNAMED


def _opens(name: str, config: Account, ctx: Context) -> bool:
    try:
        ask(f"/v1/{name}", config, ctx, endpoint=f"{name}.list", params={"limit": 1})
    except Forbidden:
        return False
    return True
