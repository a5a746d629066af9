"""A stand-in for Stripe, and a context that keeps count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.connectors.ledgered import Ledgered

from upkept.contract import Context
from upkept.testing.fake_stripe import FakeStripe
from upkept_stripe.config import StripeConfig

KEY = "sk_test_planted4242secret"


class Tokenless(Ledgered):
    def keep_token(self, name: str, value: str, *, seconds: float) -> None:
        raise AssertionError("Stripe has no tokens to keep")


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with FakeStripe() as running:
        yield running


@pytest.fixture
def ctx() -> Ledgered:
    context = Tokenless()
    _: Context = context
    return context


@pytest.fixture
def config(fake: FakeStripe) -> StripeConfig:
    return configured(fake)


def configured(fake: FakeStripe, **options: Any) -> StripeConfig:
    return StripeConfig(**{"api_key": KEY, "base_url": fake.url, **options})
