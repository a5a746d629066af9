"""The side of the connector that talks to Mailchimp. Only this package uses Mailchimp's SDK.

Loaded on first use: the web process never needs it.
"""

from upkept_mailchimp.client.batch import push_many
from upkept_mailchimp.client.probe import probe
from upkept_mailchimp.client.pull import pull
from upkept_mailchimp.client.push import push
from upkept_mailchimp.client.read import fetch

__all__ = ["fetch", "probe", "pull", "push", "push_many"]
