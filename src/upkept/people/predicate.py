"""Predicates in the shape of Intercom's contact search, evaluated over a derived person (SEMANTICS R17).

    {"operator": "AND", "value": [
        {"field": "custom_attributes.stripe_plan", "operator": "=", "value": "Pro"},
        {"field": "last_seen_at", "operator": ">", "value": {"days_ago": 30}}]}

Dates match by calendar day in the workspace's time zone, as our users know it: `=` all of that day, `>` from the next
midnight, `<` before that day's midnight; a date is unix seconds. `{"days_ago": n}` is ours and means the instant
n x 24 hours before `now`; it makes a predicate time-based. Text compares without regard to case, except under `=`,
`!=`, `IN` and `NIN` on fields other than the email.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

from upkept.people.facts import DAY, from_us, to_us
from upkept.people.identifiers import email_key

LARGEST_GROUP: Final = 15
DEEPEST: Final = 2

Predicate = Mapping[str, Any]

_FIELDS = """id role name avatar owner_id email email_domain phone formatted_phone external_id created_at signed_up_at
    updated_at last_seen_at last_contacted_at last_replied_at last_email_opened_at last_email_clicked_at
    language_override browser browser_language os location.country location.region location.city
    unsubscribed_from_emails marked_email_as_spam has_hard_bounced segment_id tag_id company_id archived"""

FIELDS: Final = frozenset(_FIELDS.split())
"""Fields that can be searched by their own name, beside `ios_*`, `android_*` and `custom_attributes.NAME`."""

_CUSTOM: Final = "custom_attributes."
_SETS: Final = {"tag_id": "tags", "segment_id": "segments", "company_id": "companies"}
_OPERATORS: Final = frozenset(("=", "!=", "IN", "NIN", ">", "<", ">=", "<=", "~", "!~", "^", "$"))
_TEXT: Final = frozenset(("~", "!~", "^", "$"))
_ORDER: Final = frozenset((">", "<", ">=", "<="))


def check(predicate: Any, *, in_segment: bool = False) -> list[str]:
    """What is wrong with a predicate, one sentence each, naming the place; empty if nothing is.

    A segment's own predicate must not ask for segments.
    """
    return _check(predicate, "query", 1, in_segment)


def time_based(predicate: Predicate) -> bool:
    """Whether the answer can change without any change of the person, so that it must be asked again by schedule."""
    value = predicate.get("value")
    if "field" in predicate:
        return _is_relative(value)
    return any(time_based(part) for part in value or ())


def matches(predicate: Predicate, person: Mapping[str, Any], *, now: int, zone: tzinfo = UTC) -> bool:
    """Whether a person is meant: a `Person.doc()`, with `segments` and the email's `consent` state beside.

    `now` is in microseconds. The predicate must have passed `check`.
    """
    operator, value = predicate["operator"], predicate["value"]
    if "field" not in predicate:
        parts = (matches(part, person, now=now, zone=zone) for part in value)
        return all(parts) if operator == "AND" else any(parts)
    field = predicate["field"]
    held = field_value(person, field)
    if field in _SETS:
        return bool(value in held) is (operator == "=")
    if operator in ("!=", "NIN", "!~"):
        return not _one(field, held, _OPPOSITE[operator], value, now, zone)
    return _one(field, held, operator, value, now, zone)


def segments_of(
    person_doc: Mapping[str, Any], segments: Mapping[str, Predicate], now: int, *, zone: tzinfo = UTC
) -> list[str]:
    """The ids of the segments this person is in, sorted."""
    return sorted(name for name, predicate in segments.items() if matches(predicate, person_doc, now=now, zone=zone))


def field_value(person: Mapping[str, Any], field: str) -> Any:
    """What a person holds under a search field: a scalar, a time as encoded, None, or a list for a set."""
    if field in _SETS:
        return person.get(_SETS[field]) or []
    attributes = person.get("attributes", {})
    if field.startswith(_CUSTOM):
        return attributes.get(field[len(_CUSTOM) :])
    if field == "email_domain":
        return (email_key(person.get("email") or "") or "").rpartition("@")[2] or None
    if field == "unsubscribed_from_emails" and "consent" in person:
        return person["consent"] == "unsubscribed"
    held = person.get(field)
    return attributes.get(field) if held is None else held


_OPPOSITE: Final = {"!=": "=", "NIN": "IN", "!~": "~"}


def _one(field: str, held: Any, operator: str, value: Any, now: int, zone: tzinfo) -> bool:
    if operator == "IN":
        return any(_one(field, held, "=", each, now, zone) for each in value)
    if value is None:
        return operator == "=" and held is None
    if held is None:
        return False
    if operator in _TEXT:
        return _text(str(held).casefold(), operator, str(value).casefold())
    if _is_date(field, held):
        return _date(_instant(held), operator, value, now, zone)
    if operator == "=":
        return _equal(field, held, value)
    return _ordered(held, operator, value)


def _text(held: str, operator: str, value: str) -> bool:
    if operator == "^":
        return held.startswith(value)
    return held.endswith(value) if operator == "$" else value in held


def _equal(field: str, held: Any, value: Any) -> bool:
    if field == "email":
        return (email_key(str(held)) or held) == (email_key(str(value)) or value)
    if isinstance(held, bool) or isinstance(value, bool):
        return isinstance(held, bool) and held == _as_bool(value)
    if isinstance(held, str):
        return held == str(value)
    number = _as_number(value)
    return number is not None and bool(held == number)


def _ordered(held: Any, operator: str, value: Any) -> bool:
    a, b = _as_number(held), _as_number(value)
    if a is None or b is None:
        return False
    if operator == ">":
        return a > b
    if operator == "<":
        return a < b
    return a >= b if operator == ">=" else a <= b


def _date(held: float, operator: str, value: Any, now: int, zone: tzinfo) -> bool:
    if _is_relative(value):
        limit = now - int(value["days_ago"] * DAY)
        return held > limit if operator == ">" else held < limit
    seconds = _as_number(value)
    if seconds is None or not _representable(seconds):
        return False
    day = from_us(int(seconds * 1_000_000)).astimezone(zone).date()
    following = day + timedelta(days=1)
    start = _midnight(day.year, day.month, day.day, zone)
    end = _midnight(following.year, following.month, following.day, zone)
    if operator == "=":
        return start <= held < end
    if operator in (">", "<="):
        return (held >= end) == (operator == ">")
    return (held < start) == (operator == "<")


def _representable(seconds: float) -> bool:
    """Within what a calendar day can be found for: the years 70 to 5138."""
    return -60_000_000_000 < seconds < 100_000_000_000


def _midnight(year: int, month: int, day: int, zone: tzinfo) -> int:
    return to_us(datetime(year, month, day, tzinfo=zone))


def _is_date(field: str, held: Any) -> bool:
    if isinstance(held, dict):
        return True
    return field.endswith("_at") and isinstance(held, int | float) and not isinstance(held, bool)


def _instant(held: Any) -> float:
    instant: float = held["$t"] if isinstance(held, dict) else held * 1_000_000
    return instant


def _is_relative(value: Any) -> bool:
    return isinstance(value, Mapping) and "days_ago" in value


def _as_number(value: Any) -> float | int | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def _as_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return value if isinstance(value, bool) else None


def _check(predicate: Any, where: str, depth: int, in_segment: bool) -> list[str]:
    if not isinstance(predicate, Mapping):
        return [f"{where} must be an object"]
    if "field" in predicate:
        return _check_filter(predicate, where, in_segment)
    operator, parts = predicate.get("operator"), predicate.get("value")
    if operator not in ("AND", "OR"):
        return [f"{where} must have a field, or the operator AND or OR"]
    if not isinstance(parts, Sequence) or isinstance(parts, str) or not parts:
        return [f"{where}.value must be a list of filters"]
    if depth > DEEPEST:
        return [f"{where} is nested too deep: at most {DEEPEST} levels"]
    if len(parts) > LARGEST_GROUP:
        return [f"{where} has {len(parts)} filters: at most {LARGEST_GROUP}"]
    return [e for n, part in enumerate(parts) for e in _check(part, f"{where}.value[{n}]", depth + 1, in_segment)]


def _check_filter(predicate: Predicate, where: str, in_segment: bool) -> list[str]:
    field, operator = predicate["field"], predicate.get("operator")
    if not isinstance(field, str) or not _known(field):
        return [f"{where}.field is unknown; a custom attribute is written custom_attributes.NAME"]
    if not isinstance(operator, str) or operator not in _OPERATORS:
        return [f"{where}.operator must be one of {' '.join(sorted(_OPERATORS))}"]
    if "value" not in predicate:
        return [f"{where}.value is missing"]
    if in_segment and field == "segment_id":
        return [f"{where}: a segment cannot ask for segments"]
    problem = _misuse(field, operator, predicate["value"])
    return [] if problem is None else [f"{where}: {problem}"]


def _misuse(field: str, operator: str, value: Any) -> str | None:
    dated = field.endswith("_at")
    if field in _SETS and operator not in ("=", "!="):
        return f"{field} can only be compared by = and !="
    if operator in ("IN", "NIN"):
        if dated:
            return f"{operator} cannot be used with a date"
        if not isinstance(value, Sequence) or isinstance(value, str):
            return f"{operator} needs a list"
        return None if all(_scalar(each) for each in value) else f"{operator} needs a list of plain values"
    if _is_relative(value):
        amount = value["days_ago"]
        whole = isinstance(amount, int) and not isinstance(amount, bool) and 0 <= amount <= 36_500
        usable = operator in (">", "<") and whole
        return None if usable else "days_ago needs > or < and a whole number of days"
    if not _scalar(value):
        return "the value must be plain"
    if dated and value is not None:
        if operator not in ("=", ">", "<"):
            return f"{operator} cannot be used with a date"
        seconds = _as_number(value)
        if seconds is None or not _representable(seconds):
            return "a date is given in unix seconds"
    if operator in _ORDER and _as_number(value) is None:
        return f"{operator} needs a number or a date"
    if operator in _TEXT and not isinstance(value, str):
        return f"{operator} needs text"
    return None


def _scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _known(field: str) -> bool:
    return field in FIELDS or field.startswith(("ios_", "android_")) or field.removeprefix(_CUSTOM) not in (field, "")
