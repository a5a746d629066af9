"""Are the credentials good?"""

from __future__ import annotations

from collections.abc import Iterator

from upkept.contract import Config, Context, Probe
from upkept_salesforce.client.api import query, rest
from upkept_salesforce.client.describe import missing, types
from upkept_salesforce.client.errors import Forbidden, NotFound
from upkept_salesforce.config import SalesforceConfig, told_events
from upkept_salesforce.ids import full_id, same_id
from upkept_salesforce.objects import KINDS, OPT_OUT, PEOPLE
from upkept_salesforce.telling import WRITTEN


def probe(config: SalesforceConfig, ctx: Context) -> Probe:
    """Which org the credentials open, with a warning for each object or field the integration user may not see.

    Raises `Config` if Salesforce refuses them, if they open another org than `organization_id`, or no leads.
    """
    answer = query("SELECT Id, Name FROM Organization", config, ctx, endpoint="Organization query")
    rows = answer.rows("records", endpoint="Organization query")
    org = rows[0] if rows else {}
    id = full_id(org.get("Id"))
    if config.organization_id and id and not same_id(id, config.organization_id):
        raise Config(f"the credentials open the org {id}, which is not organization_id of this connection")
    return Probe(account=f"{org.get('Name') or 'an org'} ({id or 'no id'})", warnings=tuple(_warnings(config, ctx)))


def _warnings(config: SalesforceConfig, ctx: Context) -> Iterator[str]:
    for kind in KINDS:
        known = types(kind, config, ctx)
        if known is None and kind.type in PEOPLE:
            raise Config(f"the integration user may not see {kind.name}s: give it read access, then `upkept check`")
        if known is None:
            yield f"the integration user may not see {kind.name}s: they are left out"
            continue
        hidden = missing(kind, config, known)
        if OPT_OUT in hidden:
            yield f"{kind.name}.{OPT_OUT} is hidden from the integration user: no opt-out of a {kind.type} is seen"
        if rest := [name for name in hidden if name != OPT_OUT]:
            yield f"{kind.name}: not to be seen are {', '.join(rest)}"
    if told_events(config):
        yield from _tasks(config, ctx)
    if not config.organization_id:
        yield "organization_id is not set: outbound messages are refused"


def _tasks(config: SalesforceConfig, ctx: Context) -> Iterator[str]:
    endpoint = "Task describe"
    try:
        answer = rest("GET", "sobjects/Task/describe", config, ctx, endpoint=endpoint)
    except (NotFound, Forbidden):
        yield "tasks cannot be written: the integration user may not see Tasks"
        return
    seen = {str(row.get("name")) for row in answer.rows("fields", endpoint=endpoint)}
    if isinstance(answer.body, dict) and answer.body.get("createable") is False:
        yield "tasks cannot be written: the integration user may not make Tasks; give it create and Edit Tasks"
    if hidden := [name for name in WRITTEN if name not in seen]:
        yield f"tasks cannot be written: hidden from the integration user are {', '.join(hidden)}"
