"""A stand-in for Marketo, and a context that keeps count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.connectors.ledgered import Ledgered

from upkept.contract import Context
from upkept.testing.fake_marketo import FakeMarketo
from upkept_marketo import MarketoConfig

SECRET = "planted4242secret"
MARGIN = 60.0


class Lent(Ledgered):
    """Keeps tokens as the hub does: until a minute before their end."""

    def token(self, name: str) -> str | None:
        value, ends = self.tokens.get(name, ("", 0.0))
        return value if self.now.timestamp() + MARGIN < ends else None

    def keep_token(self, name: str, value: str, *, seconds: float) -> None:
        self.tokens[name] = (value, self.now.timestamp() + seconds)


@pytest.fixture
def fake() -> Iterator[FakeMarketo]:
    """Its activity types have other numbers than the documented ones: only names may be relied on."""
    with FakeMarketo(secret=SECRET, shift=1000) as running:
        yield running


@pytest.fixture
def ctx() -> Lent:
    context = Lent()
    _: Context = context
    return context


@pytest.fixture
def config(fake: FakeMarketo) -> MarketoConfig:
    return configured(fake)


def configured(fake: FakeMarketo, **options: Any) -> MarketoConfig:
    return MarketoConfig(
        **{
            "client_id": "client",
            "client_secret": SECRET,
            "base_url": fake.url,
            "webhook_token": "hook-token",
            **options,
        }
    )
