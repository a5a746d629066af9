"""A stand-in for Salesforce: `upkept.testing.fake_salesforce.server` tells what it does."""

from upkept.testing.fake_salesforce.server import ALWAYS_GOOD, FakeSalesforce

__all__ = ["ALWAYS_GOOD", "FakeSalesforce"]
