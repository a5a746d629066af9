"""Salesforce: leads and contacts, and what your sales team does with them.

Setting it up
=============
1. **An integration user** with its own profile: read access to Leads, Contacts, Tasks, Events, Campaigns, with *View
   All*, and edit access to what Upkept shall write (*Email Opt Out* at least; Tasks, if `tasks` is set).
2. **A connected app** (*Setup > App Manager*) with OAuth, the scope `api`, and *Client Credentials Flow* running as
   that user. Copy the consumer key and secret.
3. In `upkept.toml`:

       [connections.salesforce]
       connector = "salesforce"
       base_url = "https://acme.my.salesforce.com"       # your My Domain
       organization_id = "00D…"                          # Setup > Company Information
       client_id = "env:SALESFORCE_CLIENT_ID"
       client_secret = "env:SALESFORCE_CLIENT_SECRET"
       webhook_token = "env:SALESFORCE_WEBHOOK_TOKEN"    # a long random text of yours

4. `upkept check`, then `upkept resync salesforce --full` for what is there already.
5. **Outbound messages**, if changes shall arrive at once: *Setup > Outbound Messages*, one for Lead and one for
   Contact, with the fields Id, Email, HasOptedOutOfEmail, SystemModstamp and the endpoint
   `https://hub/hooks/salesforce/<webhook_token>`, sent by a record-triggered flow.

Matching people
===============
A lead or contact is matched by the user id in `external_id_field`, then by its email; a converted lead is its contact,
the loser of a merge its winner.
"""

from typing import Final

from upkept.contract import Connector
from upkept_salesforce import lazy, soap
from upkept_salesforce.combine import combine
from upkept_salesforce.config import SalesforceConfig, told_events
from upkept_salesforce.fields import FIELDS
from upkept_salesforce.normalize import KINDS, LOWERING, normalize
from upkept_salesforce.objects import CONTACT, LEAD, PARTS
from upkept_salesforce.parts import LABELS
from upkept_salesforce.summarize import summarize
from upkept_salesforce.webhook import split, verify

__all__ = ["SalesforceConfig", "connector"]

CALLS_PER_SECOND: Final = 10.0
"""Salesforce counts calls per day, 100,000 and more for an org, not per second; this keeps a walk polite."""

CALLS_AT_ONCE: Final = 4
"""Of the 25 calls longer than 20 seconds an org may run at once, 5 in a Developer Edition."""

MOST_AT_ONCE: Final = 200
"""Records of one call to the collections API."""

connector: Final = Connector(
    name="salesforce",
    config=SalesforceConfig,
    kinds=KINDS,
    lowering=LOWERING,
    parts=PARTS,
    labels=LABELS,
    fields=FIELDS,
    normalize=normalize,
    summarize=summarize,
    combine=combine,
    survives=frozenset({"salesforce_id", "salesforce_deleted"}),
    verify=verify,
    split=split,
    receipt=(soap.ACK_TYPE, soap.ACK),
    fetch=lazy.fetch,
    pull=lazy.pull,
    push=lazy.push,
    push_many=lazy.push_many,
    probe=lazy.probe,
    api_calls=CALLS_PER_SECOND,
    api_slots=CALLS_AT_ONCE,
    most_at_once=MOST_AT_ONCE,
    creates=LEAD,
    tells=told_events,
    told_on=(CONTACT, LEAD),
)
