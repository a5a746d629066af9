"""One call to Mailchimp: the only place where the SDK is called.

`mailchimp-marketing` 3.0.80 was measured, and what it does is caught here:

- It replaces the word `server` in the *whole* address by the data centre, so that a member asked for by its address
  `ann@server.com` is another one's. We tell it the host and no data centre, so it replaces nothing; and members are
  named by their hash alone.
- It escapes no `/` in a path: only ids and hashes that `member` knows go there.
- An answer without a body, a 502 too, does not raise but comes back as a `requests.Response`: type and status are
  looked at.
- An error's `text` is a dict, a text or an exception, its status may be None: `errors.translated` takes all of them.
- It would wait for two minutes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import mailchimp_marketing
from mailchimp_marketing.api_client import ApiClientError

from upkept.contract import Config, Context, Retryable
from upkept_mailchimp.client.errors import translated

TIMEOUT: Final = (5.0, 20.0)
"""Seconds to connect, and to wait for an answer."""

_DATA_CENTRE: Final = re.compile(r"[^-\s]+-([a-z]{2,5}[0-9]{1,4})", re.ASCII)


class Account(Protocol):
    """What of a connection's configuration a call needs. `base_url` None is Mailchimp itself."""

    @property
    def api_key(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...


Call = Callable[[Any], Any]
"""What to ask the SDK's client for."""


def ask(endpoint: str, config: Account, ctx: Context, call: Call) -> Mapping[str, Any]:
    """The object that Mailchimp answers. `endpoint` is for what an error says. Raises our errors only."""
    answer = _answered(endpoint, config, ctx, call)
    if not isinstance(answer, Mapping):
        status = getattr(answer, "status_code", None)
        if isinstance(status, int) and status >= 400:
            raise translated(status, None, endpoint=endpoint)
        raise Retryable(f"Mailchimp {endpoint}: the answer is not an object; the hub asks again")
    return answer


def tell(endpoint: str, config: Account, ctx: Context, call: Call) -> None:
    """The same for a call that Mailchimp answers with 204 and nothing."""
    answer = _answered(endpoint, config, ctx, call)
    status = getattr(answer, "status_code", None)
    if status == 204 or (isinstance(answer, Mapping) and answer):
        return
    if isinstance(status, int) and status >= 400:
        raise translated(status, None, endpoint=endpoint)
    raise Retryable(f"Mailchimp {endpoint}: the answer is not Mailchimp's; the hub asks again")


def host_of(config: Account) -> str:
    """Where the API of this account is. Raises `Config` for a key that does not tell."""
    if config.base_url:
        return config.base_url.rstrip("/")
    named = _DATA_CENTRE.fullmatch(config.api_key.strip())
    if named is None:
        raise Config(
            "`api_key` of this connection does not end in a data centre, as in …-us6: copy the whole key (Mailchimp, "
            "Profile, Extras, API keys)"
        )
    return f"https://{named[1]}.api.mailchimp.com/3.0"


def _answered(endpoint: str, config: Account, ctx: Context, call: Call) -> Any:
    client = mailchimp_marketing.Client({"api_key": config.api_key.strip(), "server": "", "timeout": TIMEOUT})
    client.api_client.host = host_of(config)
    ctx.permit()
    with ctx.slot():
        try:
            return call(client)
        except ApiClientError as error:
            raise translated(error.status_code, error.text, endpoint=endpoint) from None
