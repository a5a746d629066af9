"""Marketo Engage: leads and their consent, in both directions.

Setting it up
=============
1. **A role and a user.** *Admin > Users & Roles > Roles > New Role* with, under *Access API*: Read-Only Activity,
   Read-Only Activity Metadata, Read-Write Person (Lead). Then an *API Only* user with that role.
2. **A service.** *Admin > LaunchPoint > New > New Service*, *Custom*, with that user. *View Details* shows the client
   id and the client secret.
3. **The address.** *Admin > Web Services*: the REST endpoint without `/rest`, `https://123-ABC-456.mktorest.com`.
4. In `upkept.toml`:

       [connections.marketo]
       connector = "marketo"
       client_id = "env:MARKETO_CLIENT_ID"
       client_secret = "env:MARKETO_CLIENT_SECRET"
       webhook_token = "env:MARKETO_WEBHOOK_TOKEN"
       base_url = "https://123-ABC-456.mktorest.com"

5. `upkept check`, then `upkept resync marketo --full` for what happened before.
6. **Webhooks**, if a change should be here within seconds instead of at the next poll: *Admin > Webhooks > New
   Webhook*, POST to your hub's `/hooks/<connection>`, Request Token Encoding JSON, the header `X-Upkept-Token`, and the
   template

       {"lead_id": {{lead.Id}}, "at": {{system.dateTime}}}

   Call it from trigger campaigns. For one that starts with *Unsubscribes from Email* add `"event": "unsubscribe"` and
   `"email": {{lead.Email Address}}`: the opt-out is then in force as soon as Marketo has our answer.

Matching people
===============
A lead is matched by its email, whatever its case; by your own user id where a field carries it (`lead_fields` and
`user_id_keys`); and a lead that was merged into another by that merge.
"""

from typing import Final

from upkept.contract import Connector
from upkept_marketo import lazy
from upkept_marketo.combine import combine
from upkept_marketo.config import MarketoConfig
from upkept_marketo.fields import FIELDS, LEAD
from upkept_marketo.normalize import KINDS, LOWERING, normalize
from upkept_marketo.webhook import split, verify

__all__ = ["MarketoConfig", "connector"]

CALLS_PER_SECOND: Final = 2.5
"""Marketo allows 100 calls in 20 seconds for all programs of a subscription together; half of it is for them."""

CALLS_AT_ONCE: Final = 5
"""Of the ten that a subscription may make."""

MOST_AT_ONCE: Final = 300

connector: Final = Connector(
    name="marketo",
    config=MarketoConfig,
    kinds=KINDS,
    lowering=LOWERING,
    fields=FIELDS,
    normalize=normalize,
    combine=combine,
    survives=frozenset({"marketo_id"}),
    verify=verify,
    split=split,
    fetch=lazy.fetch,
    fetch_many=lazy.fetch_many,
    pull=lazy.pull,
    push=lazy.push,
    push_many=lazy.push_many,
    probe=lazy.probe,
    api_calls=CALLS_PER_SECOND,
    api_slots=CALLS_AT_ONCE,
    pushers=1,
    most_at_once=MOST_AT_ONCE,
    creates=LEAD,
)
