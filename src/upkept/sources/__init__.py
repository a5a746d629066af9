"""Our own five doors, as connectors like any other (SEMANTICS C).

What they put into the inbox is an envelope of statements (`envelope.encode`), so their `normalize` only reads
it back and holds each door to the records it may speak of. `rules` is no first party: it fills only what is
empty, and no deletion yields to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from upkept.contract import (
    AnyConnector,
    Connector,
    Consent,
    Fact,
    FieldMap,
    Link,
    Permanent,
    RawEvent,
    RecordRef,
    Skipped,
    Statement,
)
from upkept.contract.connector import Normalize
from upkept.sources.envelope import decode

STATEMENTS: Final = "statements"
"""The one event kind of our own doors."""

ANSWERED: Final = "hub.answered"
"""The kind of what a vendor answered to a push: the hub writes it under the vendor's connection, as statements."""

RANKS: Final[Mapping[str, int]] = MappingProxyType({"console": 50, "api": 40, "app": 30, "csv": 10, "rules": 0})
VENDOR_RANK: Final = 20
"""Of two facts of one moment, kind and sequence the higher rank wins (R3): a teammate above an API call, our own
app above a vendor, a file below both, rules last. `[ranks]` in `upkept.toml` overrides them."""

TYPES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "api": frozenset({"contact", "company"}),
        "app": frozenset({"user", "email", "anonymous", "company"}),
        "console": frozenset({"contact", "company"}),
        "csv": frozenset({"row", "company"}),
        "rules": frozenset({"contact"}),
    }
)


@dataclass(frozen=True, slots=True)
class Nothing:
    """Our own doors have nothing to configure."""


def _normalize(name: str) -> Normalize:
    def normalize(event: RawEvent, _fields: FieldMap, /) -> Iterable[Statement]:
        if event.kind != STATEMENTS:
            raise Skipped(f"{name} knows events of kind {STATEMENTS!r} only")
        statements = decode(event.body)
        for statement in statements:
            for record in named_by(statement):
                if record.type not in TYPES[name]:
                    raise Permanent(f"{name} has no records of type {record.type!r}")
        return statements

    return normalize


def named_by(statement: Statement) -> Iterable[RecordRef]:
    """The records that a statement speaks of."""
    match statement:
        case Fact():
            return (statement.record, statement.owner) if statement.owner else (statement.record,)
        case Link():
            return (statement.a, statement.b)
        case Consent():
            return (statement.record,) if statement.record else ()
        case _:
            return (statement.record,)


def _source(name: str) -> AnyConnector:
    return Connector(
        name=name,
        config=Nothing,
        kinds=frozenset({STATEMENTS}),
        lowering=frozenset({STATEMENTS}),
        fields=FieldMap(rules=()),
        normalize=_normalize(name),
        first_party=name != "rules",
    )


SOURCES: Final[Mapping[str, AnyConnector]] = MappingProxyType({name: _source(name) for name in TYPES})
"""The five by name: api, app, console, csv, rules."""
