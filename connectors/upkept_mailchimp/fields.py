"""Which attribute a field of a member feeds: the table an operator can override in `upkept.toml`.

Paths are those of Mailchimp's API reference (`merge_fields.FNAME`, `interests.9143cf3bd1`, `status`). Three things
are named by themselves, as nobody can list them here: tags (`tag:VIP`), and interests by the titles of their group
and their own (`mailchimp_topics_cats`), unless a rule names the interest.

What Mailchimp can be told has a renderer. Nothing writes a status, an opt-in time or a rating, so that a mapping can
never raise consent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from upkept.contract import WITHDRAWN, FieldMap, Rule, Said, Scalar
from upkept.contract.fields import NOTE, iso_time, plain, text
from upkept_mailchimp.member import MEMBER
from upkept_mailchimp.payload import Read

OWN: Final = "mailchimp_"
TAG: Final = "tag:"
MERGE: Final = "merge_fields."
INTEREST: Final = "interests."


def told(value: Any, around: Mapping[str, Any]) -> Scalar:
    """The converter `told`: a text that Mailchimp alone decides about."""
    return text(value, around)


def told_time(value: Any, around: Mapping[str, Any]) -> Scalar:
    """The converter `told_time`: a time that Mailchimp alone decides about."""
    return iso_time(value, around) if value else None


def number(value: Any, around: Mapping[str, Any]) -> Scalar:
    """The converter `number`: merge fields hold numbers as text, too."""
    if isinstance(value, str):
        try:
            return int(value) if re.fullmatch(r"[+-]?\d{1,18}", value.strip()) else float(value)
        except ValueError:
            return None
    return None if isinstance(value, bool) else plain(value, around)


def _as_it_is(value: Scalar) -> Any:
    return value


FIELDS: Final = FieldMap(
    rules=tuple(
        Rule(of=MEMBER, path=path, attribute=attribute, convert=convert)
        for path, attribute, convert in (
            ("email_address", "email", "text"),
            ("full_name", "name", "told"),
            ("merge_fields.FNAME", "first_name", "text"),
            ("merge_fields.LNAME", "last_name", "text"),
            ("merge_fields.PHONE", "phone", "text"),
            ("status", "mailchimp_status", "told"),
            ("list_id", "mailchimp_audience", "told"),
            ("email_type", "mailchimp_email_type", "text"),
            ("language", "mailchimp_language", "text"),
            ("vip", "mailchimp_vip", "boolean"),
            ("source", "mailchimp_source", "told"),
            ("timestamp_opt", "mailchimp_opted_in_at", "told_time"),
            ("unsubscribe_reason", "mailchimp_unsubscribe_reason", "told"),
        )
    ),
    converters={"told": told, "told_time": told_time, "number": number},
    renderers={"number": _as_it_is},
)

VERSIONLESS: Final = ("tags.", "tags_count", "member_rating", "stats.", "location.", "email_client", "last_note")
"""What may change without `last_changed`, as it is not the member's own profile."""


def mapped(it: Read, fields: FieldMap, *, versionless: bool) -> dict[str, Said]:
    """What a member says through the field map: what its `last_changed` dates, or (`versionless`) the rest.

    An empty value of an attribute that we share with others (`first_name`) withdraws what Mailchimp said; it does not
    say that the person has none. The same for a merge field that the audience no longer has.
    """
    shown = {**it.member, "tags": it.tags}
    merge = it.member.get("merge_fields")
    applied = fields.apply(MEMBER, shown)
    said: dict[str, Said] = {}
    for rule in fields.for_type(MEMBER):
        name = rule.holds
        if rule.path.startswith(VERSIONLESS) is not versionless:
            continue
        if name in applied:
            empty = applied[name] is None and not name.startswith((OWN, NOTE))
            said[name] = WITHDRAWN if empty else applied[name]
        elif rule.path.startswith(MERGE) and isinstance(merge, dict):
            said[name] = WITHDRAWN
    if versionless:
        said.update((TAG + name, on) for name, on in it.tags.items())
    else:
        said.update(_interests(it, fields))
    return said


def interest_attribute(group: str, name: str) -> str:
    """`Topics`, `Cats & Dogs` -> `mailchimp_topics_cats_dogs`."""
    return OWN + "_".join(re.findall(r"[^\W_]+", f"{group} {name}".lower()))


def _interests(it: Read, fields: FieldMap) -> dict[str, Said]:
    """Interests by their titles; of two with one name, either."""
    chosen = it.member.get("interests")
    ruled = {rule.path for rule in fields.for_type(MEMBER)}
    said: dict[str, Said] = {}
    for id, on in sorted(chosen.items()) if isinstance(chosen, dict) else ():
        if isinstance(on, bool) and id in it.titles and INTEREST + id not in ruled:
            name = interest_attribute(*it.titles[id])
            said[name] = on or said.get(name) is True
    return said
