"""Every proof of the conformance kit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from upkept.contract import Request
from upkept.testing.conformance import suite
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept_salesforce import SalesforceConfig, connector

FIXTURES = Path(__file__).with_name("fixtures")
CONFIG = SalesforceConfig(
    client_id="3MVG9_conformance",
    client_secret="secret_of_the_app",
    organization_id="00D000000000001",
    webhook_token=("token_that_is_retired", "token_that_is_current"),
)


def sign(body: bytes, now: datetime) -> Request:
    """Salesforce signs nothing: the token in the path is all there is."""
    return Request(body=body, headers={"content-type": "text/xml; charset=utf-8"}, token="token_that_is_current")


@contextmanager
def vendor() -> Iterator[SalesforceConfig]:
    with FakeSalesforce() as org:
        leads = org.seed(leads=30, contacts=20, tasks=10)
        org.faults.page = 12
        org.change("Lead", leads[3], HasOptedOutOfEmail=True)
        org.org.convert(leads[5])
        org.org.merge("Lead", leads[6], [leads[7]])
        yield SalesforceConfig(
            client_id="app", client_secret="secret", base_url=org.url, external_id_field="User_Id__c"
        )


TestSalesforce = suite(connector, fixtures=FIXTURES, config=CONFIG, sign=sign, covers=frozenset(), vendor=vendor)
