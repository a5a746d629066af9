"""Making a lead of a person whom the connection's rule wants in Salesforce.

A lead that is there already gets what the rules write and nothing else: what stands in for a name that nobody knows
must not replace one that somebody typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from simple_salesforce.format import format_external_id, format_soql

from upkept.contract import Context, Desired, Permanent, Pushed, RecordRef, Retryable, Skipped
from upkept_salesforce.client.api import query, rest
from upkept_salesforce.client.errors import Refused
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import LEAD

UNKNOWN: Final = "[not provided]"
"""What stands in a field that Salesforce requires and nobody knows; its own web forms write the same."""

QUIET: Final = {"Sforce-Auto-Assign": "FALSE", "Sforce-Duplicate-Rule-Header": "allowSave=true"}
"""An update of ours must not hand a lead to another owner, which is the default, nor fail for a likeness to others."""

CONVERTED: Final = "CANNOT_UPDATE_CONVERTED_LEAD"
DUPLICATE: Final = "DUPLICATES_DETECTED"


def created(state: Desired, said: Mapping[str, Any], config: SalesforceConfig, ctx: Context) -> Pushed:
    """The lead of this person, made or found.

    Raises `Skipped` where nothing tells whom, `Permanent` where Salesforce will not.
    """
    if state.erased:
        raise Skipped("Salesforce has no record of this person")
    key = config.external_id_field
    if key and state.user_id:
        found = _found(key, state.user_id, state, said, config, ctx)
        return found or _upserted(key, state.user_id, state, said, config, ctx)
    if not state.email:
        raise Skipped("a person without an address, and without `external_id_field` or a user id to be found by")
    found = _found("Email", state.email, state, said, config, ctx)
    return found or _made("POST", "sobjects/Lead", state, said, config, ctx)


def _upserted(
    key: str, user_id: str, state: Desired, said: Mapping[str, Any], config: SalesforceConfig, ctx: Context
) -> Pushed:
    """By the user id, so that two of us who do this at once make one."""
    said = {name: value for name, value in said.items() if name != key}  # it stands in the address
    try:
        return _made("PATCH", f"sobjects/Lead/{format_external_id(key, user_id)}", state, said, config, ctx)
    except Refused as error:
        if DUPLICATE not in error.codes or not state.email:
            raise
        found = _found("Email", state.email, state, {**said, key: user_id}, config, ctx)
        if found is None:
            raise
        return found


def _found(
    name: str, value: str, state: Desired, said: Mapping[str, Any], config: SalesforceConfig, ctx: Context
) -> Pushed | None:
    """The one lead of which the field `name` says `value`, brought to what is wanted; None if there is none.

    Raises `Permanent` if it is not the only one, or is another user's.
    """
    key = config.external_id_field
    columns = f"Id, {key}" if key else "Id"
    soql = format_soql(f"SELECT {columns} FROM Lead WHERE {name} = {{}} AND IsDeleted = false LIMIT 2", value)  # noqa: S608
    rows = query(soql, config, ctx, endpoint="Lead query").rows("records", endpoint="Lead query")
    if len(rows) > 1:
        raise Permanent(f"several leads of Salesforce's bear this person's {name}; merge them there")
    id = full_id(rows[0].get("Id")) if rows else None
    if id is None:
        return None
    if key and rows[0].get(key) and str(rows[0][key]) != state.user_id:
        raise Permanent("the lead that bears this person's address is another user's; put one of the two right")
    values = {name: value for name, value in said.items() if value is not None}
    if values:
        try:
            rest("PATCH", f"sobjects/Lead/{id}", config, ctx, endpoint="Lead update", json=values, headers=QUIET)
        except Refused as error:
            if CONVERTED not in error.codes:
                raise
            raise Skipped("a converted lead can no longer be changed: its contact is what counts") from None
    return Pushed(record=RecordRef(LEAD, id), fields=values)


def _made(
    method: str, path: str, state: Desired, said: Mapping[str, Any], config: SalesforceConfig, ctx: Context
) -> Pushed:
    """A new one, with what Salesforce requires: a last name and a company."""
    values = {name: value for name, value in said.items() if value is not None}
    if state.email:
        values.setdefault("Email", state.email)
    values = {"LastName": UNKNOWN, "Company": UNKNOWN, **values}
    answer = rest(method, path, config, ctx, endpoint="Lead create", json=values)
    id = full_id(answer.body.get("id")) if isinstance(answer.body, Mapping) else None
    if id is None:
        raise Retryable("Salesforce Lead create: the answer names no record; the hub asks again")
    return Pushed(record=RecordRef(LEAD, id), fields=values)
