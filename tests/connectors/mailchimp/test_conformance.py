"""Mailchimp, certified by the conformance kit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from upkept.contract import Request
from upkept.testing.conformance import suite
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept_mailchimp import MailchimpConfig, connector

FIXTURES = Path(__file__).with_name("fixtures")
LIST, OTHER = "a6b5da1054", "b7c6eb2165"
CONFIG = MailchimpConfig(
    api_key="conformance4eC39HqLyjWD-us6",
    audiences=(LIST, OTHER),
    webhook_token=("token-retired-17", "token-current-42"),
    topics={OTHER: "product news"},
)


def sign(body: bytes, now: datetime) -> Request:
    """As Mailchimp does: nothing but the address says who it is."""
    return Request(body=body, headers={"content-type": "application/x-www-form-urlencoded"}, token="token-current-42")


@contextmanager
def vendor() -> Iterator[MailchimpConfig]:
    with FakeMailchimp() as mailchimp:
        for audience, members in ((LIST, 1_130), (OTHER, 20)):
            mailchimp.audience(audience)
            mailchimp.seed(
                audience=audience, members=members, statuses={"unsubscribed": 9, "archived": 7, "cleaned": 2}
            )
        yield MailchimpConfig(api_key="conformance-us6", audiences=(LIST, OTHER), base_url=mailchimp.url)


TestMailchimp = suite(connector, fixtures=FIXTURES, config=CONFIG, sign=sign, covers=frozenset(), vendor=vendor)
