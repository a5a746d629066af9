"""Stand-ins for Mailchimp, Marketo and Salesforce beside one hub, and the connections that it has to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept.testing.fake_marketo import FakeMarketo
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept.testing.fake_salesforce.org import ORGANIZATION

AUDIENCE: Final = "a6b5da1054"
TOKEN: Final = "the-long-random-end-of-the-address"  # of a hub that lives for some minutes
VARIABLES: Final = {"MAILCHIMP_API_KEY": "0123456789abcdef0123456789abcdef-us6", "ROUND_SECRET": "secret",
                    "ROUND_TOKEN": TOKEN}  # fmt: skip
BEFORE: Final = 3_600
"""Seconds ago, when everybody came to the vendors."""

_CONFIG: Final = """
[connections.mailchimp]
connector = "mailchimp"
api_key = "env:MAILCHIMP_API_KEY"
webhook_token = "env:ROUND_TOKEN"
audiences = ["{audience}"]
base_url = "{mailchimp}"
poll = {poll}

[connections.marketo]
connector = "marketo"
client_id = "client"
client_secret = "env:ROUND_SECRET"
webhook_token = "env:ROUND_TOKEN"
base_url = "{marketo}"
poll = {poll}

[connections.salesforce]
connector = "salesforce"
client_id = "client"
client_secret = "env:ROUND_SECRET"
webhook_token = "env:ROUND_TOKEN"
organization_id = "{organization}"
base_url = "{salesforce}"
poll = {poll}
"""


def config(mailchimp: FakeMailchimp, marketo: FakeMarketo, salesforce: FakeSalesforce, *, poll: float) -> str:
    """The connections to these, for `upkept.toml`; their secrets are `VARIABLES`."""
    return _CONFIG.format(
        audience=AUDIENCE, mailchimp=mailchimp.url, marketo=marketo.url, salesforce=salesforce.url,
        organization=ORGANIZATION, poll=poll,
    )  # fmt: skip


@contextmanager
def before(mailchimp: FakeMailchimp, marketo: FakeMarketo, salesforce: FakeSalesforce) -> Iterator[None]:
    """What happens in the block happened there `BEFORE`."""
    for offset in (-BEFORE, 0):
        mailchimp.control("POST", "/_clock", offset=offset)
        marketo.control("POST", "/_clock", offset=offset)
        salesforce.control("POST", "/_clock", {"offset": offset})
        if offset:
            yield
