"""Acme: a stranger's connector, as small as one can be that still does everything.

Acme posts notes about its people, several at a time, with a shared secret in a header; it lets its people be listed and
written. This package knows `upkept.contract` only. The hub finds it by its entry point and runs it like its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from upkept.contract import (
    Connector,
    Consent,
    Context,
    Desired,
    Fact,
    FactKind,
    FieldMap,
    Page,
    Permanent,
    Probe,
    Pushed,
    RawEvent,
    RecordRef,
    Rejected,
    Request,
    Rule,
    Skipped,
    Statement,
    secret,
)
from upkept.contract.fields import iso_time
from upkept.contract.signing import token_matches

KINDS = frozenset({"person.created", "person.updated", "person.unsubscribed", "person.deleted", "read.person"})


@dataclass(frozen=True, kw_only=True)
class AcmeConfig:
    api_key: str = secret()
    webhook_secret: str | tuple[str, ...] = secret(default=())
    base_url: str = "https://api.acme.example"


def verify(request: Request, config: AcmeConfig, /, *, now: datetime) -> None:
    secrets = (config.webhook_secret,) if isinstance(config.webhook_secret, str) else config.webhook_secret
    if not token_matches(request.headers.get("x-acme-secret", ""), secrets):
        raise Rejected("the X-Acme-Secret header is not webhook_secret of this connection")


def split(request: Request, config: AcmeConfig, /) -> Iterator[RawEvent]:
    for note in _notes(request.body):
        yield RawEvent(id=note["id"], kind=note["kind"], body=json.dumps(note, sort_keys=True).encode())


def normalize(event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
    if event.kind not in KINDS:
        raise Skipped(f"Acme note {event.kind}: not about a person")
    note = _note(event)
    person = note["person"]
    record = RecordRef("person", person["id"])
    at = iso_time(note.get("at"), note)
    observed_at = at if isinstance(at, datetime) else None
    if event.kind == "person.unsubscribed":
        return [Consent(act="opt_out", record=record, address=person.get("email"), at=observed_at)]
    if event.kind == "person.deleted":
        return [Fact(record=record, observed_at=observed_at, sequence=2, deleted=True)]
    claims = {claim: person[field] for claim, field in (("email", "email"), ("user_id", "ref")) if field in person}
    return [
        Fact(
            record=record,
            fields=fields.apply("person", person),
            claims=claims,
            observed_at=observed_at,
            sequence=0 if event.kind == "person.created" else 1,
            kind=FactKind.READ_BACK if event.kind == "read.person" else FactKind.EVENT,
            snapshot=True,
            deleted=False,
        )
    ]


def fetch(event: RawEvent, config: AcmeConfig, ctx: Context, /) -> RawEvent:
    from . import client

    return client.fetch(event, config, ctx)


def pull(cursor: str | None, config: AcmeConfig, ctx: Context, /) -> Iterator[Page]:
    from . import client

    return client.pull(cursor, config, ctx)


def push(state: Desired, config: AcmeConfig, ctx: Context, /, *, key: str) -> Pushed:
    from . import client

    return client.push(state, config, ctx, key=key)


def probe(config: AcmeConfig, ctx: Context, /) -> Probe:
    from . import client

    return client.probe(config, ctx)


def _notes(body: bytes) -> list[dict[str, Any]]:
    try:
        notes = json.loads(body)["notes"]
        return [{"id": str(note["id"]), "kind": str(note["kind"]), **note} for note in notes]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Rejected('the body is not {"notes": [{"id", "kind", …}]}', status=400) from None


def _note(event: RawEvent) -> dict[str, Any]:
    try:
        note: dict[str, Any] = json.loads(event.body)
        if not isinstance(note["person"]["id"], str):
            raise TypeError
    except (ValueError, LookupError, TypeError, RecursionError):
        raise Permanent(f"Acme note {event.id}: it names no person") from None
    return note


connector = Connector(
    name="acme",
    config=AcmeConfig,
    kinds=KINDS,
    lowering=frozenset({"person.unsubscribed"}),
    fields=FieldMap(
        rules=(
            Rule(of="person", path="email", attribute="email", convert="text"),
            Rule(of="person", path="name", attribute="name", convert="text"),
            Rule(of="person", path="ref", attribute="external_id", convert="text"),
            Rule(of="person", path="stage", attribute="acme_stage", convert="text"),
        )
    ),
    normalize=normalize,
    verify=verify,
    split=split,
    fetch=fetch,
    pull=pull,
    push=push,
    probe=probe,
)
