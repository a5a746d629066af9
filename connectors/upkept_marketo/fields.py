"""Which attribute a lead's field feeds: the table an operator can override in `upkept.toml`.

Paths are the REST names of Marketo's lead fields (Admin, Field Management, Export Field Names). One more reads the
same everywhere: `fullName`, the first and last name.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final

from upkept.contract import FieldMap, Rule, Scalar
from upkept_marketo.payload import Object, flag, moment

LEAD: Final = "lead"
OWN: Final = "marketo_"
"""Begins the attributes that no other source states."""

FULL_NAME: Final = "fullName"
NAMES: Final = ("firstName", "lastName")
CONSENT: Final = ("unsubscribed", "unsubscribedReason", "emailInvalid", "emailInvalidCause", "blackListed")


def as_flag(value: Any, _around: Object) -> Scalar:
    """The converter `flag`: a boolean, also where an export or a change words it as text."""
    return flag(value)


def as_number(value: Any, _around: Object) -> Scalar:
    """The converter `number`: a number, also where an export or a change words it as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = value if isinstance(value, int | float) else _parsed(value)
    except ValueError:
        return None
    if isinstance(number, float) and number.is_integer():
        return int(number)
    return number if math.isfinite(number) else None


def _parsed(word: str) -> int | float:
    try:
        return int(word)
    except ValueError:
        return float(word)


def as_time(value: Any, _around: Object) -> Scalar:
    """The converter `time`: a time that names its zone."""
    return moment(value)


def as_wording(value: Any, _around: Object) -> Scalar:
    """The converter `wording`: text, trimmed; a number or a boolean as an export words it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        number = as_number(value, {})
        return str(number)
    return value.strip() or None if isinstance(value, str) else None


def _same(value: Scalar) -> Any:
    return value


def _iso(value: Scalar) -> Any:
    return value.isoformat(timespec="seconds") if isinstance(value, datetime) else value


_RULES: Final = (
    ("id", "marketo_id", "wording"),
    ("email", "email", "wording"),
    (FULL_NAME, "name", "wording"),
    ("phone", "phone", "wording"),
    ("company", "marketo_company", "wording"),
    ("title", "marketo_title", "wording"),
    ("leadSource", "marketo_lead_source", "wording"),
    ("leadStatus", "marketo_lead_status", "wording"),
    ("leadScore", "marketo_lead_score", "number"),
    ("createdAt", "marketo_created_at", "time"),
    ("unsubscribed", "marketo_unsubscribed", "flag"),
    ("unsubscribedReason", "marketo_unsubscribed_reason", "wording"),
    ("marketingSuspended", "marketo_marketing_suspended", "flag"),
    ("emailInvalid", "marketo_email_invalid", "flag"),
    ("emailInvalidCause", "marketo_email_invalid_cause", "wording"),
    ("blackListed", "marketo_blocklisted", "flag"),
    ("doNotCall", "marketo_do_not_call", "flag"),
)

FIELDS: Final = FieldMap(
    rules=tuple(Rule(of=LEAD, path=path, attribute=name, convert=convert) for path, name, convert in _RULES),
    converters={"flag": as_flag, "number": as_number, "time": as_time, "wording": as_wording},
    renderers={"flag": _same, "number": _same, "time": _iso, "wording": _same},
)

READ: Final = tuple(
    dict.fromkeys((*(path for path, _, _ in _RULES if path != FULL_NAME), *NAMES, *CONSENT, "updatedAt"))
)
"""The fields a read asks for; Marketo gives none that is not asked for."""
