"""Reading a form as PHP writes it: `data[merges][ADDRESS][city]=Cork` is an object in an object.

Mailchimp nests what it sends (merge fields, groups) as deep as the audience has it, so paths are read whatever they
are.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

MOST_FIELDS: Final = 1_000
DEEPEST: Final = 8

_PATH: Final = re.compile(r"[^\[\]]+(?:\[[^\[\]]*\])*")
_STEP: Final = re.compile(r"[^\[\]]+|(?<=\[)(?=\])")


class Unreadable(ValueError):
    """The body is not such a form; the message says why, without quoting it."""


def read_form(body: bytes) -> dict[str, Any]:
    """The object that a form describes; values are strings. An empty step (`[]`) counts up from 0.

    Raises `Unreadable`: for broken brackets, and for a field that is there twice or is a value and an object at once.
    """
    try:
        fields = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS, separator="&"
        )
    except UnicodeDecodeError:
        raise Unreadable("the form is not UTF-8") from None
    except ValueError:
        raise Unreadable(f"the form has more than {MOST_FIELDS} fields") from None
    form: dict[str, Any] = {}
    for name, value in fields:
        if not _PATH.fullmatch(name):
            raise Unreadable("a field's name has brackets that do not match")
        _put(form, _STEP.findall(name), value)
    return form


def _put(form: dict[str, Any], path: list[str], value: str) -> None:
    if len(path) > DEEPEST:
        raise Unreadable(f"a field is nested more than {DEEPEST} levels deep")
    at = form
    for step in path[:-1]:
        at = at.setdefault(step or str(len(at)), {})
        if not isinstance(at, dict):
            raise Unreadable("a field is a value and an object at once")
    last = path[-1] or str(len(at))
    if last in at:
        raise Unreadable("a field is there twice")
    at[last] = value
