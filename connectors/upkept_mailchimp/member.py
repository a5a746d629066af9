"""How a member of an audience is named: `<audience id>/<md5 of the address>`.

Mailchimp names a member by the MD5 of its address in lower case. The hash is all that ever goes into the path of a
call: an address there was measured to end at another person (see `client.api`).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from upkept.contract import RecordRef

MEMBER: Final = "member"

_ID: Final = re.compile(r"([0-9A-Za-z_-]{1,64})/([0-9a-f]{32})", re.ASCII)
_AUDIENCE: Final = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
_HASH: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


def hash_of(address: str) -> str:
    """What Mailchimp calls the `subscriber_hash` of an address."""
    return hashlib.md5(address.strip().lower().encode("utf-8", "replace"), usedforsecurity=False).hexdigest()


def ref(audience: str, subscriber_hash: str) -> RecordRef:
    return RecordRef(MEMBER, f"{audience}/{subscriber_hash}")


def parted(id: str) -> tuple[str, str] | None:
    """Audience and hash of a record's id; None for what is not one."""
    found = _ID.fullmatch(id)
    return (found[1], found[2]) if found else None


def is_audience(value: object) -> bool:
    return isinstance(value, str) and _AUDIENCE.fullmatch(value) is not None


def is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None
