"""A stand-in for Mailchimp with one audience, and a context that keeps count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.connectors.ledgered import Ledgered

from upkept.contract import Context
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept_mailchimp.client import audience
from upkept_mailchimp.config import MailchimpConfig

KEY = "planted0123456789secret-us6"
LIST = "a6b5da1054"
OTHER = "b7c6eb2165"


@pytest.fixture
def fake() -> Iterator[FakeMailchimp]:
    audience.forget()
    with FakeMailchimp() as running:
        running.audience(LIST)
        yield running


@pytest.fixture
def ctx() -> Ledgered:
    context = Ledgered()
    _: Context = context
    return context


@pytest.fixture
def config(fake: FakeMailchimp) -> MailchimpConfig:
    return configured(fake)


def configured(fake: FakeMailchimp, **options: Any) -> MailchimpConfig:
    return MailchimpConfig(**{"api_key": KEY, "audiences": (LIST,), "base_url": fake.url, **options})
