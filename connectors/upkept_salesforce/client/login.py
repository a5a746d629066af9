"""A session of the integration user: an access token and where the org lives.

The SDK is never given the credentials. Given them it logs in by itself when a session is over, and on some paths
forgets how often it did: 971 logins in one call were measured. It gets a session, and we log in.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import jwt
from requests import RequestException, Response

from upkept.contract import Config, Context, Retryable
from upkept_salesforce.client.door import is_salesforce, session
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.ids import full_id

TOKEN: Final = "session"  # noqa: S105  # the name under which it is kept
KEPT: Final = 3_000.0
"""Seconds. Salesforce does not say how long a session lasts; one that ends earlier is renewed when it does."""

PATH: Final = "/services/oauth2/token"
JWT_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_REASON: Final = re.compile(r"[a-z_]{1,64}")
LATER: Final = frozenset({"rate_limit_exceeded", "temporarily_unavailable", "server_error", "unknown_error"})


@dataclass(frozen=True, slots=True)
class Access:
    """What a call needs; `user` is the id of who calls, empty if Salesforce did not say."""

    token: str
    instance: str
    user: str = ""

    def __repr__(self) -> str:
        return f"Access(instance={self.instance!r})"


def access(config: SalesforceConfig, ctx: Context, *, instead_of: Access | None = None) -> Access:
    """The session to use; `instead_of` one that is over: another worker's newer one, else a new one.

    Raises `Config` where a person must act, `Retryable` if Salesforce cannot answer.
    """
    if config.access_token:
        if instead_of is not None:
            raise Config("Salesforce refuses `access_token`: it has expired or is of another org; set a new one, or "
                         "better `client_id` and `client_secret`, which need no renewing")  # fmt: skip
        if config.base_url.rstrip("/").endswith("://login.salesforce.com"):
            raise Config("`access_token` alone does not say where the org lives; set base_url to your My Domain")
        return Access(config.access_token, config.base_url)
    kept = _kept(ctx.token(TOKEN))
    if kept is not None and kept != instead_of:
        return kept
    made = _login(config, ctx)
    ctx.keep_token(TOKEN, json.dumps([made.token, made.instance, made.user]), seconds=KEPT)
    return made


def _kept(value: str | None) -> Access | None:
    try:
        token, instance, user = json.loads(value or "")
    except (ValueError, TypeError):
        return None
    return Access(str(token), str(instance), str(user))


def _login(config: SalesforceConfig, ctx: Context) -> Access:
    made, _ = session(config.base_url)
    address = config.base_url.rstrip("/").replace("http://", "https://", 1) + PATH
    said = _credentials(config, ctx)
    ctx.permit()
    with ctx.slot():
        try:
            response = made.post(address, data=said)
        except (RequestException, OSError) as error:
            raise Retryable(f"Salesforce login: no answer ({type(error).__name__}); the hub asks again") from None
    body = _object(response)
    if response.status_code != 200:
        raise _refused(response, body)
    token, instance = body.get("access_token"), body.get("instance_url")
    if not isinstance(token, str) or not isinstance(instance, str) or not token:
        raise Retryable("Salesforce login: the answer holds no session; the hub asks again")
    where = instance if is_salesforce(config.base_url) else config.base_url
    return Access(token, where, full_id(str(body.get("id")).rpartition("/")[2]) or "")


def _credentials(config: SalesforceConfig, ctx: Context) -> dict[str, str]:
    if config.client_id and config.username and config.private_key:
        expires = int((ctx.now + timedelta(minutes=3)).timestamp())
        claims = {"iss": config.client_id, "sub": config.username, "aud": config.audience, "exp": expires}
        try:
            assertion = jwt.encode(claims, config.private_key, algorithm="RS256")
        except (ValueError, TypeError, jwt.PyJWTError):
            raise Config("`private_key` is not a PEM private key (RSA), or is locked by a password") from None
        return {"grant_type": JWT_GRANT, "assertion": assertion}
    if config.client_id and config.client_secret:
        return {
            "grant_type": "client_credentials",
            "client_id": config.client_id,
            "client_secret": config.client_secret,
        }
    raise Config("no credentials: set `client_id` and `client_secret` of a connected app, or `client_id`, `username` "
                 "and `private_key`, or for a try `access_token`")  # fmt: skip


def _object(response: Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _refused(response: Response, body: dict[str, Any]) -> Exception:
    status, said = response.status_code, body.get("error")
    reason = said if isinstance(said, str) and _REASON.fullmatch(said) else "no reason"
    if status in (408, 425, 429) or status >= 500 or reason in LATER or status < 400:
        return Retryable(f"Salesforce login (HTTP {status}): the hub asks again")
    return Config(
        f"Salesforce login (HTTP {status}, {reason}): the credentials are refused. The client credentials flow must be "
        "switched on in the connected app with a user to run as, and base_url must be your My Domain; for JWT the user "
        "must be admitted to the app, and `audience` be https://test.salesforce.com for a sandbox"
    )
