"""What the proofs are about, and what they are proved with."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

from upkept.contract import AnyConnector, RawEvent, Request
from upkept.testing.fixtures import Fixture, load

T = TypeVar("T")

Sign = Callable[[bytes, datetime], Request]
"""An authentic request with this body, sent at this time, as the vendor would make it for `config`."""

Vendor = Callable[[], AbstractContextManager[Any]]
"""Starts a healthy vendor with some data in it and gives the configuration that points at it."""

SHORTEST_SECRET: Final = 6


class Disproved(AssertionError):
    """A proof failed; the message is for the author of the connector and says what to do."""


def given(value: T | None) -> T:
    """An argument or ability without which a proof is not begun."""
    if value is None:
        raise Disproved("this proof needs an ability that the connector lacks, or an argument that was not given")
    return value


@dataclass(frozen=True, kw_only=True)
class Kit:
    """A connector, its fixtures and what is needed to knock on its doors.

    `covers` says what a request's proof of origin covers: most schemes sign the `body`, good ones the `time` too; a
    shared token covers neither.
    """

    connector: AnyConnector
    fixtures: Path
    config: Any
    sign: Sign | None = None
    covers: frozenset[str] = frozenset({"body", "time"})
    vendor: Vendor | None = None
    connection: str = "conformance"

    @cached_property
    def loaded(self) -> tuple[Fixture, ...]:
        return load(self.fixtures)

    @cached_property
    def events(self) -> tuple[RawEvent, ...]:
        """Every event of every fixture that can be normalized at once."""
        found = (event for one in self.loaded for event in one.events(self.connector, self.config))
        return tuple(event for event in found if not event.thin)

    def secrets(self) -> tuple[str, ...]:
        """The configured secrets, long enough to be recognised in a text."""
        found: list[str] = []
        for spec in fields(self.config):
            value = getattr(self.config, spec.name)
            if spec.metadata.get("secret"):
                found += [value] if isinstance(value, str) else [str(item) for item in value or ()]
        return tuple(secret for secret in found if len(secret) >= SHORTEST_SECRET)


def placeholders(config: type[Any]) -> Any:
    """A configuration with something in every key that has no default, and in every secret."""
    made: dict[str, Any] = {}
    for spec in fields(config):
        required = spec.default is MISSING and spec.default_factory is MISSING
        if required or spec.metadata.get("secret"):
            made[spec.name] = _placeholder(spec.name, str(spec.type))
    return config(**made)


def _placeholder(name: str, type: str) -> Any:
    for kind, value in (("str", f"placeholder-of-{name}"), ("int", 1), ("float", 1.0), ("bool", False)):
        if kind in type.partition("[")[0]:
            return value
    return ()


@dataclass
class LentContext:
    """A `Context` that grants everything and remembers what was logged."""

    lines: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def log(self) -> LentContext:
        return self

    def info(self, event: str, /, **context: object) -> None:
        self.lines.append(f"{event} {context}")

    def warning(self, event: str, /, **context: object) -> None:
        self.lines.append(f"{event} {context}")

    def permit(self, n: int = 1) -> None:
        pass

    def slot(self) -> AbstractContextManager[None]:
        return nullcontext()

    def token(self, name: str) -> str | None:
        return self.tokens.get(name)

    def keep_token(self, name: str, value: str, *, seconds: float) -> None:
        self.tokens[name] = value


class Listener(logging.Handler):
    """Takes down every log record of the process, as it would be printed, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name} {record.getMessage()} {_others(vars(record))}")
        if record.exc_info:
            self.lines.append("".join(traceback.format_exception(*record.exc_info)))


@contextmanager
def listening() -> Iterator[Listener]:
    """Everything that anybody logs meanwhile, at any level."""
    listener, root = Listener(), logging.getLogger()
    before = root.level
    root.addHandler(listener)
    root.setLevel(logging.DEBUG)
    try:
        yield listener
    finally:
        root.setLevel(before)
        root.removeHandler(listener)


_OWN: Final = frozenset(vars(logging.makeLogRecord({})))


def _others(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in _OWN}
