"""The side of the connector that talks to Salesforce. Only this package uses the SDK, `simple-salesforce`.

Loaded on first use: the web process never needs it.
"""

from upkept_salesforce.client.probe import probe
from upkept_salesforce.client.pull import pull
from upkept_salesforce.client.push import push, push_many
from upkept_salesforce.client.read import fetch

__all__ = ["fetch", "probe", "pull", "push", "push_many"]
