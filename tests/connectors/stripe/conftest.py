"""A stand-in for Stripe, and a context that keeps count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from upkept.contract import Context, Log
from upkept.testing.fake_stripe import FakeStripe
from upkept_stripe.config import StripeConfig

KEY = "sk_test_planted4242secret"


@dataclass
class Kept:
    """A log that keeps what it is told."""

    lines: list[tuple[str, dict[str, object]]] = field(default_factory=list)

    def info(self, event: str, /, **context: object) -> None:
        self.lines.append((event, context))

    warning = info


@dataclass
class Ledgered:
    """A context that gives every permit and keeps count; `offset` seconds are how wrong the hub's clock is."""

    offset: float = 0.0
    at: float | None = None
    permits: int = 0
    open_slots: int = 0
    slots: int = 0
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
        return None

    def keep_token(self, name: str, value: str, *, seconds: float) -> None:
        raise AssertionError("Stripe has no tokens to keep")


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with FakeStripe() as running:
        yield running


@pytest.fixture
def ctx() -> Ledgered:
    context = Ledgered()
    _: Context = context
    return context


@pytest.fixture
def config(fake: FakeStripe) -> StripeConfig:
    return configured(fake)


def configured(fake: FakeStripe, **options: Any) -> StripeConfig:
    return StripeConfig(**{"api_key": KEY, "base_url": fake.url, **options})
