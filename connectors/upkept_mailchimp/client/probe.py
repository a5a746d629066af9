"""Are the credentials good, and will Mailchimp tell us what happens?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from upkept.contract import Config, Context, Probe
from upkept_mailchimp.client.api import ask
from upkept_mailchimp.client.audience import is_there
from upkept_mailchimp.client.hooks import is_of_subscribers, is_on, webhooks
from upkept_mailchimp.config import MailchimpConfig, webhook_tokens
from upkept_mailchimp.webhook import TYPES

NEEDED: Final = TYPES - {"campaign"}


def probe(config: MailchimpConfig, ctx: Context) -> Probe:
    """Which account the key opens, with a warning for what an audience's webhook would not tell us.

    Raises `Config` if Mailchimp refuses the key or does not know an audience.
    """
    root = ask("root", config, ctx, lambda client: client.root.get_root(fields=["account_id", "account_name"]))
    if not root.get("account_id"):
        raise Config("Mailchimp does not say whose key this is; check `base_url` of this connection")
    warnings = (
        [] if config.audiences else ["`audiences` names none: nothing is read, and opt-outs are all that is taken in"]
    )
    if not webhook_tokens(config):
        warnings.append("no `webhook_token`: webhooks are refused, changes are seen at the next poll")
    for audience in config.audiences:
        warnings += _audience(audience, config, ctx)
    return Probe(account=f"{root.get('account_name') or 'unnamed'} ({root['account_id']})", warnings=tuple(warnings))


def _audience(audience: str, config: MailchimpConfig, ctx: Context) -> Iterator[str]:
    shown = is_there(audience, config, ctx)
    name = f"audience {audience} ({shown.get('name') or 'unnamed'})"
    ours = webhooks(audience, config, ctx)
    if ours is None:
        return
    if not ours:
        yield f"{name}: no webhook leads to /hooks/…; changes are seen at the next poll"
    for hook in ours:
        if silent := sorted(kind for kind in NEEDED if not is_on(hook, "events", kind)):
            yield f"{name}: its webhook does not tell of {', '.join(silent)}"
        if is_on(hook, "sources", "api"):
            yield f"{name}: its webhook tells what the hub itself writes; switch the source API off"
    if ours and not any(is_on(hook, "sources", "admin") for hook in ours):
        yield f"{name}: no webhook tells what an account admin does; an admin's opt-out is seen at the next poll"
    if audience in config.double_opt_in and not any(map(is_of_subscribers, ours)):
        yield (
            f"{name}: no webhook is of the source subscriber alone, so nobody who left can come back by a form; "
            "docs/mailchimp.md says how to make one"
        )
