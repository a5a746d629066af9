"""Mailchimp: who may be mailed, and what an audience knows of its members; both ways.

Setting it up
=============
1. **A key.** Mailchimp, *Profile > Extras > API keys > Create A Key*. Its last part (`-us6`) names the data centre.
2. **The audiences.** *Audience > Settings > Audience name and defaults* shows each one's *Audience ID* (`a6b5da1054`).
3. **A token.** Something long and random, for example from `openssl rand -hex 32`: Mailchimp signs nothing, so it is
all
   that keeps strangers out.
4. In `upkept.toml`:

       [connections.mailchimp]
       connector = "mailchimp"
       api_key = "env:MAILCHIMP_API_KEY"
       audiences = ["a6b5da1054"]
       webhook_token = "env:MAILCHIMP_WEBHOOK_TOKEN"

5. **A webhook for each audience.** *Audience > Settings > Webhooks > Create New Webhook*: your hub's address followed
by
   `/hooks/<connection name>/<the token>`, all types of events, and of the sources *by a subscriber* and *by an account
   admin*, not *via the API*. For `double_opt_in` make one of each source (`docs/mailchimp.md`, *Coming back*).
6. `upkept check`, then `upkept resync mailchimp --full` for who is there already.

Matching people
===============
A member is matched by its email, whatever its case; a changed address at Mailchimp (`upemail`) stays the same person.
"""

from typing import Final

from upkept.contract import Connector
from upkept_mailchimp import lazy
from upkept_mailchimp.combine import combine
from upkept_mailchimp.config import MailchimpConfig
from upkept_mailchimp.fields import FIELDS
from upkept_mailchimp.member import MEMBER
from upkept_mailchimp.normalize import KINDS, LOWERING, normalize
from upkept_mailchimp.webhook import split, verify

__all__ = ["MailchimpConfig", "connector"]

CALLS_PER_SECOND: Final = 10.0
CALLS_AT_ONCE: Final = 5
"""Mailchimp allows 10 connections at once and names no rate
(https://mailchimp.com/developer/marketing/docs/fundamentals/#api-limits); half are left for other programs."""

MOST_AT_ONCE: Final = 500

connector: Final = Connector(
    name="mailchimp",
    config=MailchimpConfig,
    kinds=KINDS,
    lowering=LOWERING,
    fields=FIELDS,
    normalize=normalize,
    combine=combine,
    verify=verify,
    split=split,
    fetch=lazy.fetch,
    pull=lazy.pull,
    push=lazy.push,
    push_many=lazy.push_many,
    probe=lazy.probe,
    api_calls=CALLS_PER_SECOND,
    api_slots=CALLS_AT_ONCE,
    most_at_once=MOST_AT_ONCE,
    creates=MEMBER,
)
