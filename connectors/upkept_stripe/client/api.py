"""One GET to Stripe: the only place where the SDK is called.

`raw_request` is used on purpose. It returns the JSON as Stripe wrote it, so objects that are read look exactly like
those in webhooks; the typed services build a `StripeObject` for every nested object and turn decimals into
`Decimal`, which JSON cannot carry.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Protocol

import stripe

from upkept.contract import Context, Retryable
from upkept.contract.clocks import vendor_time
from upkept_stripe.client.errors import NotFound, header, translated

API_VERSION: Final = "2026-10-28.endive"
"""The version our reads are shaped by, whatever the account's default is. `normalize` reads older ones as well."""

CONNECT_TIMEOUT: Final = 5.0
READ_TIMEOUT: Final = 20.0
"""Seconds. The SDK's own default of 80 would outlive a worker's time limit."""

stripe.enable_telemetry = False


class Account(Protocol):
    """What of a connection's configuration a call needs. `base_url` None is Stripe itself."""

    @property
    def api_key(self) -> str: ...
    @property
    def account(self) -> str | None: ...
    @property
    def base_url(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What Stripe answered. `read_at` (unix seconds, Stripe's clock) is never later than the read itself."""

    body: Mapping[str, Any]
    read_at: int


def ask(
    path: str,
    config: Account,
    ctx: Context,
    *,
    endpoint: str,
    params: Mapping[str, Any] | None = None,
    account: str | None = None,
    context: str | None = None,
) -> Answer:
    """GET `path`, once. `endpoint` is Stripe's name of the operation, for what an error says.

    `account` (default: the connection's) is sent as Stripe-Account, `context` as Stripe-Context instead.
    Raises our errors only.
    """
    who = {"stripe_context": context} if context else {"stripe_account": account or config.account}
    client = _client(os.getpid(), config.api_key, config.base_url)
    ctx.permit()
    with ctx.slot():
        sent = ctx.now
        try:
            response = client.raw_request("get", path, **(params or {}), **who)
        except stripe.StripeError as error:
            ours = translated(error, endpoint=endpoint)
            if isinstance(ours, NotFound):
                ours.read_at = vendor_time(sent, ctx.now, header(error, "date"))
            raise ours from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # A proxy in between answers `{"error": "text"}`: SDK 16 takes the shape of Stripe's errors for granted.
            raise Retryable(f"Stripe {endpoint}: the answer is not Stripe's; the hub asks again") from error
        answered = ctx.now
    if not isinstance(response.data, Mapping):
        raise Retryable(f"Stripe {endpoint}: the answer is not an object; the hub asks again")
    return Answer(response.data, vendor_time(sent, answered, response.headers.get("date")))


@lru_cache(maxsize=16)
def _client(_pid: int, api_key: str, base_url: str | None) -> Any:
    """One client for each process and key: after a fork a pooled connection must not be shared.

    The SDK keeps a session per thread. It does not retry here: a retry inside it would bypass the quota.
    """
    logging.getLogger("stripe").setLevel(logging.WARNING)  # below that it logs requests and bodies
    addresses: dict[str, Any] = {"api": base_url.rstrip("/")} if base_url else {}
    return stripe.StripeClient(
        api_key,
        stripe_version=API_VERSION,
        base_addresses=addresses,  # type: ignore[arg-type]  # a TypedDict, built conditionally
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)),
    )
