"""A stranger's connector: a till that signs what it sends, and that any test can drive.

Only `upkept.contract` is known here, as for anybody's package. A delivery is
`{"events": [{"id", "kind", "customer", "email", "plan", "at"}]}`, signed with HMAC-SHA256 in `X-Till-Signature`.
The kind `boom` makes `split` fail with a bug; `customer.thin` is fetched before it is normalized.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from upkept.contract import (
    Connector,
    Consent,
    Context,
    Fact,
    FieldMap,
    RawEvent,
    RecordRef,
    Rejected,
    Request,
    Rule,
    Skipped,
    Statement,
    secret,
)

KINDS = frozenset({"customer.updated", "customer.thin", "customer.unsubscribed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TillConfig:
    """`webhook_secret` signs; nothing else is needed."""

    webhook_secret: str = secret()


def signature(body: bytes, key: str) -> str:
    """What the till writes into `X-Till-Signature`."""
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def verify(request: Request, config: TillConfig, /, *, now: datetime) -> None:
    given = request.headers.get("x-till-signature", "")
    if not hmac.compare_digest(given, signature(request.body, config.webhook_secret)):
        raise Rejected("the signature does not match webhook_secret")


def split(request: Request, config: TillConfig, /) -> Iterable[RawEvent]:
    try:
        events = json.loads(request.body)["events"]
    except (ValueError, KeyError, TypeError):
        raise Rejected('the body is not {"events": […]}', status=400) from None
    for event in events:
        if event["kind"] == "boom":
            raise RuntimeError("a bug in the connector")
        body = json.dumps(event).encode()
        yield RawEvent(id=event["id"], kind=event["kind"], body=body, thin=event["kind"] == "customer.thin")


def normalize(event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
    if event.kind not in KINDS:
        raise Skipped(f"the till does not know {event.kind!r}")
    said = json.loads(event.body)
    record = RecordRef("customer", said["customer"])
    at = datetime.fromtimestamp(said["at"], UTC)
    if event.kind == "customer.unsubscribed":
        return [Consent(act="opt_out", record=record, address=said["email"], at=at)]
    claims = {"email": said["email"]} if "email" in said else {}
    return [Fact(record=record, fields=fields.apply("customer", said), claims=claims, observed_at=at)]


def fetch(event: RawEvent, config: TillConfig, ctx: Context, /) -> RawEvent:
    if event.kind.startswith("read."):
        raise Skipped("the till has no way to be asked for a customer")
    said = json.loads(event.body)
    full = {**said, "plan": "fetched"}
    return RawEvent(id=event.id, kind="customer.updated", body=json.dumps(full).encode())


connector = Connector(
    name="till",
    config=TillConfig,
    kinds=KINDS,
    lowering=frozenset({"customer.unsubscribed"}),
    fields=FieldMap(rules=(Rule(of="customer", path="plan", attribute="plan"),)),
    verify=verify,
    split=split,
    normalize=normalize,
    fetch=fetch,
)
