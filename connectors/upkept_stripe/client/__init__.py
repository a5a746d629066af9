"""The side of the connector that talks to Stripe: `fetch`, `pull`, `probe`. Only this package uses Stripe's SDK.

Loaded on first use: the web process never needs it.
"""

from upkept_stripe.client.probe import probe
from upkept_stripe.client.pull import pull
from upkept_stripe.client.read import fetch

__all__ = ["fetch", "probe", "pull"]
