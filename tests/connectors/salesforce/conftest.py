"""A stand-in for Salesforce, and a context that keeps count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.connectors.ledgered import Ledgered

from upkept.contract import Context
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept_salesforce.client import describe
from upkept_salesforce.config import SalesforceConfig


@pytest.fixture(autouse=True)
def nothing_described() -> None:
    """Ports come again, and with them configurations that look the same."""
    describe._known.clear()


@pytest.fixture
def fake() -> Iterator[FakeSalesforce]:
    with FakeSalesforce() as running:
        yield running


@pytest.fixture
def ctx() -> Ledgered:
    context = Ledgered()
    _: Context = context
    return context


@pytest.fixture
def config(fake: FakeSalesforce) -> SalesforceConfig:
    return configured(fake)


def configured(fake: FakeSalesforce, **options: Any) -> SalesforceConfig:
    return SalesforceConfig(**{"client_id": "app", "client_secret": "secret42", "base_url": fake.url, **options})
