"""One call to Salesforce: the only place where the SDK is used.

Each call is made once. A session that is over is replaced once, and whatever comes then is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from requests import RequestException
from simple_salesforce.api import Salesforce
from simple_salesforce.exceptions import SalesforceError
from simple_salesforce.util import exception_handler

from upkept.contract import Context, Retryable
from upkept.contract.clocks import vendor_time
from upkept_salesforce.client.door import session
from upkept_salesforce.client.errors import Expired, translated
from upkept_salesforce.client.login import Access, access
from upkept_salesforce.config import SalesforceConfig

API_VERSION: Final = "62.0"
"""Of the REST API. The SDK's default is older; Salesforce serves a version for three years and more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What Salesforce answered, and whom (`user`, empty if unknown). `at` (Salesforce's clock, whole seconds) is never
    later than the state it shows."""

    body: Any
    at: datetime
    headers: Mapping[str, str]
    user: str = ""

    def rows(self, name: str, *, endpoint: str) -> list[Mapping[str, Any]]:
        """The list of objects under `name`; raises `Retryable` if the answer is something else."""
        found = self.body.get(name) if isinstance(self.body, Mapping) else None
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise Retryable(f"Salesforce {endpoint}: the answer is not a list of objects; the hub asks again")
        return found


Do = Callable[[Salesforce], Any]


def call(do: Do, config: SalesforceConfig, ctx: Context, *, endpoint: str) -> Answer:
    """`do` with a client of the SDK. `endpoint` names it in errors. Raises our errors only."""
    using = access(config, ctx)
    try:
        return _once(do, using, config, ctx, endpoint)
    except Expired:
        return _once(do, access(config, ctx, instead_of=using), config, ctx, endpoint)


def query(soql: str, config: SalesforceConfig, ctx: Context, *, endpoint: str) -> Answer:
    """The first page of a query, deleted and archived rows included."""
    return call(lambda org: org.query(soql, include_deleted=True), config, ctx, endpoint=endpoint)


def rest(
    method: str,
    path: str,
    config: SalesforceConfig,
    ctx: Context,
    *,
    endpoint: str,
    params: Mapping[str, Any] | None = None,
    json: Any = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A call below `/services/data/v…/`."""
    more: dict[str, Any] = {"headers": dict(headers or {})}
    if json is not None:
        more["json"] = json
    return call(
        lambda org: org.restful(path, params=dict(params or {}), method=method, **more), config, ctx, endpoint=endpoint
    )


def text(path: str, config: SalesforceConfig, ctx: Context, *, endpoint: str, params: Mapping[str, Any]) -> Answer:
    """A GET whose answer is CSV: the SDK's own would wait for a job for up to a day, and never logs in again."""

    def get(org: Salesforce) -> str:
        wanted = {**org.headers, "Accept": "text/csv"}
        response = org.session.get(org.base_url + path, params=params, headers=wanted)
        if response.status_code >= 300:
            exception_handler(response)
        return response.content.decode("utf-8")

    return call(get, config, ctx, endpoint=endpoint)


def _once(do: Do, using: Access, config: SalesforceConfig, ctx: Context, endpoint: str) -> Answer:
    made, door = session(config.base_url)
    org = Salesforce(
        session_id=using.token, instance_url=using.instance, session=made, version=API_VERSION, object_pairs_hook=dict
    )
    ctx.permit()
    with ctx.slot():
        sent = ctx.now
        try:
            body = do(org)
        except SalesforceError as error:
            raise translated(error, door.answered, endpoint=endpoint) from None
        except (RequestException, OSError) as error:
            what = type(error).__name__
            raise Retryable(f"Salesforce {endpoint}: no answer, or none that can be read ({what})") from None
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            # The SDK takes the shape of an answer for granted; a proxy's page is another.
            what = type(error).__name__
            raise Retryable(f"Salesforce {endpoint}: the answer is not Salesforce's ({what})") from None
        answered = ctx.now
    headers = dict(door.answered)
    at = datetime.fromtimestamp(vendor_time(sent, answered, headers.get("Date")), UTC)
    return Answer(body, at, headers, using.user)
