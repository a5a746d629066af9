"""Marketo, certified by the conformance kit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from upkept.contract import Request
from upkept.testing.conformance import suite
from upkept.testing.fake_marketo import FakeMarketo
from upkept_marketo import MarketoConfig, connector

FIXTURES = Path(__file__).with_name("fixtures")
TOKENS = ("retired-token-17", "current-token-42")
CONFIG = MarketoConfig(
    client_id="conformance", client_secret="4eC39HqLyjWD-planted", webhook_token=TOKENS, base_url="http://127.0.0.1:9"
)


def sign(body: bytes, _now: datetime) -> Request:
    """As an administrator words the webhook: a token in a header, and nothing signed."""
    return Request(body=body, headers={"x-upkept-token": TOKENS[1], "content-type": "application/json"})


@contextmanager
def vendor() -> Iterator[MarketoConfig]:
    with FakeMarketo(shift=500) as marketo:
        ids = marketo.seed(130, days=100, unsubscribed=3)
        marketo.do("unsubscribe", ids[9])
        marketo.do("merge", ids[10], losers=ids[11:13])
        marketo.do("delete", ids[20])
        marketo.do("fill_out", ids[30], fields={"company": 'Acme "quoted"\nand broken'})
        yield MarketoConfig(client_id="client", client_secret="secret", base_url=marketo.url)


TestMarketo = suite(connector, fixtures=FIXTURES, config=CONFIG, sign=sign, covers=frozenset(), vendor=vendor)
