"""Salesforce's ids: 15 characters where the case counts, or the same with 3 more that say the case again.

SOAP, REST and change events give 18 characters, reports, links and people give 15. Ours are always 18.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
"""Each stands for five bits: which of five characters are capitals."""

_ID: Final = re.compile(r"[A-Za-z0-9]{15}(?:[A-Z0-5]{3})?", re.ASCII)


def full_id(id: Any) -> str | None:
    """The 18 characters of an id; None for what cannot be one.

    Of an id that some program folded to one case its last three characters restore the case.
    """
    return _full(id) if isinstance(id, str) and len(id) in (15, 18) else None


def same_id(one: Any, other: Any) -> bool:
    """Whether both name the same thing, however many characters they have."""
    first = full_id(one)
    return first is not None and first == full_id(other)


def checksum(id: str) -> str:
    """The three characters that say which of the first fifteen are capitals."""
    bits = 0
    for letter in id[14::-1]:
        bits = bits << 1 | ("A" <= letter <= "Z")
    return LETTERS[bits & 31] + LETTERS[bits >> 5 & 31] + LETTERS[bits >> 10]


@lru_cache(maxsize=4096)
def _full(id: str) -> str | None:
    if not _ID.fullmatch(id) and not _ID.fullmatch(id.upper()):
        return None
    if len(id) == 18 and id[15:] == checksum(id):
        return id
    known = _restored(id) if len(id) == 18 else id
    return known[:15] + checksum(known) if _ID.fullmatch(known) else None


def _restored(id: str) -> str:
    tail = id[15:].upper()
    if any(letter not in LETTERS for letter in tail):
        return id
    capital = [LETTERS.index(letter) >> n & 1 for letter in tail for n in range(5)]
    head = "".join(c.upper() if up else c.lower() for c, up in zip(id[:15], capital, strict=True))
    return head + tail
