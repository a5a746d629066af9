"""Stripe, certified by the conformance kit."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import httpx

from upkept.contract import Request
from upkept.testing.conformance import suite
from upkept.testing.fake_stripe import FakeStripe
from upkept_stripe import StripeConfig, connector, parts

FIXTURES = Path(__file__).with_name("fixtures")
CONFIG = StripeConfig(api_key="sk_conformance_4eC39HqLyjWD", webhook_secret=("whsec_retired_17", "whsec_current_42"))


def sign(body: bytes, now: datetime) -> Request:
    """As Stripe signs while a secret is being rotated: one signature for each live secret."""
    time = str(int(now.timestamp())).encode()
    signatures = (
        hmac.digest(key, time + b"." + body, "sha256").hex() for key in (b"whsec_other_0", b"whsec_current_42")
    )
    header = ",".join([f"t={time.decode()}", *(f"v1={signature}" for signature in signatures), "v0=6ffbb59b2300aae6"])
    return Request(body=body, headers={"stripe-signature": header, "content-type": "application/json"})


@contextmanager
def vendor() -> Iterator[StripeConfig]:
    with FakeStripe() as stripe:
        seed = {"customers": 130, "subscriptions": 1, "invoices": 1, "charges": 1}
        httpx.post(f"{stripe.url}/_seed", json=seed, timeout=30).raise_for_status()
        yield StripeConfig(api_key="sk_test_conformance", base_url=stripe.url)


TestStripe = suite(connector, fixtures=FIXTURES, config=CONFIG, sign=sign, vendor=vendor)


def test_every_word_that_a_part_keeps_has_a_name_for_people() -> None:
    kept = {word for word in vars(parts).values() if isinstance(word, str) and word.startswith("_")}
    assert kept == parts.LABELS.keys()
