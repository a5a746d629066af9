"""Statements as JSON: the body of an inbox row that one of our own doors writes.

    {"statements": [{"fact": {"record": ["contact", "6f…"], "fields": {"plan": "gold"}}}]}

Every statement is an object with one key, its kind; inside, names are those of `upkept.contract` and a value
that equals its default is left out. A time is `{"$t": microseconds since 1970 UTC}`, WITHDRAWN is `{"$w": 1}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from upkept.contract import (
    WITHDRAWN,
    Consent,
    Fact,
    FactKind,
    Link,
    Permanent,
    RecordRef,
    Statement,
    TimelineEvent,
)

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
KINDS: Final[Mapping[str, type[Statement]]] = {"fact": Fact, "consent": Consent, "link": Link, "event": TimelineEvent}
NAMES: Final = {cls: name for name, cls in KINDS.items()}
RECORDS: Final = frozenset({"record", "owner", "a", "b"})
TIMES: Final = frozenset({"at", "observed_at"})
VALUES: Final = frozenset({"fields", "claims", "mails", "metadata"})


def encode(statements: Iterable[Statement]) -> bytes:
    """The body that `decode` reads back into equal statements."""
    said = [{NAMES[type(statement)]: dict(_told(statement))} for statement in statements]
    return orjson.dumps({"statements": said}, option=orjson.OPT_SORT_KEYS)


def decode(body: bytes) -> tuple[Statement, ...]:
    """The statements of a body; raises `Permanent` if it is not one of ours."""
    try:
        document = orjson.loads(body)
        return tuple(_statement(said) for said in document["statements"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise Permanent(f"the body is not an envelope of statements ({type(error).__name__})") from None


def _told(statement: Statement) -> Iterator[tuple[str, Any]]:
    for spec in fields(statement):
        value = getattr(statement, spec.name)
        default = spec.default_factory() if spec.default_factory is not MISSING else spec.default
        if default is MISSING or value != default:
            yield spec.name, _plain(value)


def _plain(value: Any) -> Any:
    match value:
        case datetime():
            return {"$t": (value - EPOCH) // timedelta(microseconds=1)}
        case RecordRef():
            return [value.type, value.id]
        case FactKind():
            return int(value)
        case Mapping():
            return {name: _plain(item) for name, item in value.items()}
        case _:
            return {"$w": 1} if value is WITHDRAWN else value


def _statement(said: Mapping[str, Mapping[str, Any]]) -> Statement:
    ((kind, told),) = said.items()
    return KINDS[kind](**{name: _read(name)(value) for name, value in told.items()})


def _read(name: str) -> Callable[[Any], Any]:
    if name in RECORDS:
        return _record
    if name in TIMES:
        return _value
    if name in VALUES:
        return lambda table: {key: _value(value) for key, value in table.items()}
    return FactKind if name == "kind" else _same


def _same(value: Any) -> Any:
    return value


def _record(value: Any) -> RecordRef:
    of, name = value
    if not isinstance(of, str) or not isinstance(name, str):
        raise TypeError("a record is named by two strings")
    return RecordRef(of, name)


def _value(value: Any) -> Any:
    match value:
        case {"$t": int(microseconds)}:
            return EPOCH + timedelta(microseconds=microseconds)
        case {"$w": 1}:
            return WITHDRAWN
        case None | bool() | int() | float() | str():
            return value
        case _:
            raise TypeError("a value is a scalar, a time or WITHDRAWN")
