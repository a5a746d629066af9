"""What a test lends a connector in place of the hub's context: it gives every permit, and keeps count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from upkept.contract import Log


@dataclass
class Kept:
    """A log that keeps what it is told."""

    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def info(self, event: str, /, **context: object) -> None:
        self.lines.append((event, context))

    warning = info


@dataclass
class Ledgered:
    """`at` freezes its clock at a unix second; `offset` seconds are how wrong the hub's clock is."""

    at: float | None = None
    offset: float = 0.0
    permits: int = 0
    open_slots: int = 0
    slots: int = 0
    tokens: dict[str, Any] = field(default_factory=dict)
    kept: Kept = field(default_factory=Kept)

    @property
    def now(self) -> datetime:
        seconds = datetime.now(UTC).timestamp() if self.at is None else self.at
        return datetime.fromtimestamp(seconds + self.offset, UTC)

    @property
    def log(self) -> Log:
        return self.kept

    def permit(self, n: int = 1) -> None:
        self.permits += n

    @contextmanager
    def slot(self) -> Iterator[None]:
        self.slots += 1
        self.open_slots += 1
        try:
            yield
        finally:
            self.open_slots -= 1

    def token(self, name: str) -> str | None:
        return self.tokens.get(name)

    def keep_token(self, name: str, value: str, *, seconds: float) -> None:
        assert seconds > 0
        self.tokens[name] = value
