"""What an operator configures for one Salesforce org."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from upkept.contract import Config, secret

LOGIN: Final = "https://login.salesforce.com"
PUBSUB: Final = "https://api.pubsub.salesforce.com:7443"


@dataclass(frozen=True, kw_only=True)
class SalesforceConfig:
    """The keys of `[connections.<name>]` for `connector = "salesforce"`.

    `poll`, `create`, `fields` and `user_id_keys` are the hub's own keys and mean the same for every connector.
    """

    client_id: str = ""
    """The consumer key of the connected app, for all ways to log in but `access_token`."""
    client_secret: str = secret(default="", help="the connected app's consumer secret (client credentials flow)")
    username: str = ""
    """With `private_key`: the integration user (JWT bearer flow)."""
    private_key: str = secret(default="", help="the PEM key whose certificate the connected app has (JWT bearer flow)")
    audience: str = LOGIN
    """Who the JWT is for: https://test.salesforce.com for a sandbox."""
    access_token: str = secret(default="", help="a session id; for a try, because it expires")
    base_url: str = LOGIN
    """Where Salesforce is: your My Domain (https://acme.my.salesforce.com), a proxy or a stand-in."""
    organization_id: str = ""
    """The org's id (00D…), 15 or 18 characters: outbound messages of another org are refused."""
    webhook_token: str | tuple[str, ...] = secret(
        default=(), help="the last part of the outbound message's endpoint URL; a list while it is being exchanged"
    )
    external_id_field: str = ""
    """A custom field of leads and contacts, unique and marked External ID, that holds your user id."""
    custom_fields: tuple[str, ...] = ()
    """Further fields to read: "Lead.Tier__c". What feeds what is said under `fields`."""
    tasks: str | tuple[str, ...] = ()
    """Events of the timeline that become completed tasks: "charge failed"."""
    task_status: str = "Completed"
    """The status of those; one that your org counts as closed."""
    changes: bool = False
    """Follow Change Data Capture between two pulls; set a short `poll`, such as 5."""
    changes_url: str = PUBSUB
    """Where the Pub/Sub API is, if not at Salesforce; `http://` is without TLS."""


def webhook_tokens(config: SalesforceConfig) -> tuple[str, ...]:
    """The live path tokens, none of them empty."""
    configured = config.webhook_token
    return tuple(filter(None, (configured,) if isinstance(configured, str) else configured))


def told_events(config: SalesforceConfig) -> tuple[str, ...]:
    """The events that become tasks; raises `Config` for what names none."""
    names = (config.tasks,) if isinstance(config.tasks, str) else config.tasks
    for name in names:
        if not name.strip() or name != name.strip():
            raise Config(
                '"tasks" lists names of events of the timeline as `upkept explain` shows them, for example '
                f'tasks = ["charge failed"]; {name!r} is none'
            )
    if names and not config.task_status.strip():
        raise Config('"task_status" is empty; write a status that Salesforce counts as closed, or leave it out')
    return names


def custom_fields(config: SalesforceConfig, name: str) -> tuple[str, ...]:
    """The operator's further fields of an object, its external id included."""
    own = [field.partition(".")[2] for field in config.custom_fields if field.partition(".")[0] == name]
    if config.external_id_field and name in ("Lead", "Contact"):
        own.append(config.external_id_field)
    return tuple(dict.fromkeys(filter(None, own)))
