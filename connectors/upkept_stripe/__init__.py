"""Stripe: billing context and billing events on the people of your customers.

Setting it up
=============
1. **A key.** Stripe Dashboard, *Developers > API keys > Create restricted key*: read access to Customers,
   Subscriptions, Invoices, Charges, Payment Methods, Events, and for thin events *Event Destinations*. Nothing is
   ever written.
2. **An endpoint.** *Developers > Webhooks > Add destination*: your hub's address followed by
   `/hooks/<connection name>`, and the events you need, at least:
   `customer.created`, `customer.updated`, `customer.deleted`, `customer.discount.*`, all of `customer.subscription.*`,
   `invoice.created`, `invoice.finalized`, `invoice.paid`, `invoice.payment_failed`, `invoice.voided`,
   `invoice.marked_uncollectible`, `charge.succeeded`, `charge.failed`, `charge.refunded`, `charge.dispute.*`,
   `payment_method.*`. Others do no harm. Any API version will do, snapshot and thin payloads alike; both at once too.
3. **The secret.** Copy the endpoint's *signing secret* (`whsec_…`).
4. In `upkept.toml`:

       [connections.stripe]
       connector = "stripe"
       api_key = "env:STRIPE_API_KEY"
       webhook_secret = "env:STRIPE_WEBHOOK_SECRET"

5. `upkept check`, then `upkept resync stripe --full` for what happened before.

To exchange the signing secret, *Roll secret* with an overlap, and until it is over write both:
`webhook_secret = ["env:OLD", "env:NEW"]`.
For one connected account of a Connect platform add `account = "acct_…"`; events of other accounts are skipped. Without
it, a Connect endpoint brings all accounts, their customers kept apart as `acct_…/cus_…`.
Live and test mode are two connections: an event of the other mode than the key's is skipped.

Matching people
===============
A customer is matched by the user id in its `metadata` (`user_id`, `userId`, `external_id`, `uid`, or your
`user_id_keys`), then by its email, whatever its case; else it stands alone until something links it.
"""

from typing import Final

from upkept.contract import Connector
from upkept_stripe import lazy
from upkept_stripe.combine import combine
from upkept_stripe.config import StripeConfig
from upkept_stripe.fields import FIELDS
from upkept_stripe.normalize import KINDS, normalize
from upkept_stripe.parts import CARD, CHARGE, DISCOUNT, INVOICE, LABELS, SUBSCRIPTION
from upkept_stripe.summarize import summarize
from upkept_stripe.webhook import split, verify

__all__ = ["StripeConfig", "connector"]

CALLS_PER_SECOND: Final = 20.0
"""Stripe allows 25 a second in a sandbox and for each single endpoint, which is what bounds a walk of one list
(https://docs.stripe.com/rate-limits); a fifth is left for the account's other programs."""

CALLS_AT_ONCE: Final = 5

connector: Final = Connector(
    name="stripe",
    config=StripeConfig,
    kinds=KINDS,
    parts=frozenset({SUBSCRIPTION, INVOICE, CHARGE, CARD, DISCOUNT}),
    labels=LABELS,
    fields=FIELDS,
    normalize=normalize,
    summarize=summarize,
    combine=combine,
    survives=frozenset({"stripe_id", "stripe_deleted", "stripe_lifetime_value"}),
    verify=verify,
    split=split,
    fetch=lazy.fetch,
    pull=lazy.pull,
    probe=lazy.probe,
    api_calls=CALLS_PER_SECOND,
    api_slots=CALLS_AT_ONCE,
)
