"""Are the credentials good?"""

from __future__ import annotations

from urllib.parse import urlsplit

from upkept.contract import Config, Context, Probe
from upkept_marketo.client.api import ask
from upkept_marketo.client.errors import Refused
from upkept_marketo.client.names import known_fields, types, wanted
from upkept_marketo.config import MarketoConfig, first_day, rest_url
from upkept_marketo.normalize import TYPES


def probe(config: MarketoConfig, ctx: Context) -> Probe:
    """Which subscription the client opens, with a warning for what it lacks. Raises `Config` if Marketo refuses it."""
    first_day(config)
    params = {"filterType": "id", "filterValues": "1", "fields": "id"}
    try:
        ask("/rest/v1/leads.json", config, ctx, endpoint="getLeadsByFilter", params=params)
    except Refused as error:
        raise Config(f"{error}; check `base_url` of this connection (Admin, Web Services, without /rest)") from error
    warnings = [*_activities(config, ctx), *_fields(config, ctx)]
    return Probe(account=urlsplit(rest_url(config)).hostname or "?", warnings=tuple(warnings))


def _activities(config: MarketoConfig, ctx: Context) -> list[str]:
    try:
        there = types(config, ctx)
    except Config:
        return ["the API user may not read activities, so that polls bring nothing: give its role Read-Only Activity "
                "and Read-Only Activity Metadata"]  # fmt: skip
    missing = [f'no activity type is called "{name}"' for name in TYPES if name not in there]
    return missing + [f'`activities` names "{name}", which no activity type is called' for name in config.activities
                      if name not in there]  # fmt: skip


def _fields(config: MarketoConfig, ctx: Context) -> list[str]:
    there = set(known_fields(config, ctx))
    return [f'`lead_fields` names "{name}", which leads do not have (write the REST name)' for name in wanted(config)
            if name in config.lead_fields and name not in there]  # fmt: skip
