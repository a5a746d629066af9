"""Identifiers in the form they are compared in, those that identify nobody, and public ids (R13, R15)."""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Set
from functools import lru_cache
from typing import Final

from upkept.people.values import RecordKey


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


EMAIL: Final = "email"
USER_ID: Final = "user_id"
PHONE: Final = "phone"

MAILBOXES_OF_NOBODY: Final = _words(
    """noreply no-reply no_reply donotreply do-not-reply do_not_reply mailer-daemon bounce bounces nobody none null
    nil undefined unknown invalid noemail no-email no_email noone na n/a"""
)
"""Local parts that many records share and no person reads, in any domain."""

DOMAINS_OF_NOBODY: Final = _words("localhost none null none.com noemail.com noreply.com test.test invalid")

ADDRESSES_OF_NOBODY: Final = _words(
    """test@example.com test@test.com a@a.com aa@aa.com abc@abc.com asdf@asdf.com email@email.com
    x@x.com admin@admin.com"""
)
"""What people type to get past a form."""

USER_IDS_OF_NOBODY: Final = _words(
    """0 -1 anonymous anon guest null nil none nan undefined true false id user_id userid distinct_id email
    unknown not_authenticated n/a"""
) | {"[object object]"}
"""What a program sends when it has no user id."""

_UNFIT: Final = re.compile(r"[\s\x00-\x1f\x7f,;:<>()\[\]\\\"\ufffd]")
_PHONE_PUNCTUATION: Final = re.compile(r"[\s().\-/\u2010-\u2015]")
_PHONE: Final = re.compile(r"\+?[0-9]{5,15}")


def email_key(address: str) -> str | None:
    """The address as it is compared: trimmed, NFC, lower case, the domain in its ASCII form.

    None if it is not an address. Dots and plus tags stay: only the mailbox's own server knows what they mean.
    """
    text = address.strip()
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    text = text.lower()
    local, at, domain = text.rpartition("@")
    if not at or not local or not domain or "@" in local or len(text) > 320 or _UNFIT.search(text):
        return None
    if not text.isascii():
        local = unicodedata.normalize("NFC", local)
        domain = _ascii_domain(domain)
    domain = domain.rstrip(".")
    if not domain or domain.startswith(".") or ".." in domain:
        return None
    return f"{local}@{domain}"


def identifier_key(kind: str, value: str) -> str | None:
    """An identifier as it is compared; None if it is none. A user id is the customer's own: only trimmed.

    What a program sends when it has no user id ("undefined") is no user id.
    """
    if kind == EMAIL:
        return email_key(value)
    if kind == PHONE:
        return _phone_key(value)
    text = value.strip()
    return None if kind == USER_ID and text.casefold() in USER_IDS_OF_NOBODY else text or None


def blocklisted(kind: str, key: str, also: Set[str] = frozenset()) -> bool:
    """Whether this identifier, in its key form, identifies nobody, so that no link may come of it.

    `also` adds whole keys (`billing@reseller.example`), or `@domain` for all of a domain.
    """
    if key in also:
        return True
    if kind == USER_ID:
        return key.casefold() in USER_IDS_OF_NOBODY
    if kind != EMAIL:
        return False
    local, _, domain = key.rpartition("@")
    return (
        key in ADDRESSES_OF_NOBODY
        or local in MAILBOXES_OF_NOBODY
        or domain in DOMAINS_OF_NOBODY
        or f"@{domain}" in also
    )


def public_id(key: RecordKey, secret: bytes) -> str:
    """The 24 hexadecimal digits a record is known by outside (R15): its HMAC. A REST-created record's id is its own.

    Nothing is kept in memory: a record key may be an address, and an erasure could not reach it there.
    """
    if key.connection == "api" and key.type == "contact":
        return key.id
    begun = _hmac(secret).copy()
    begun.update("\x1f".join(key).encode())
    return begun.hexdigest()[:24]


@lru_cache(maxsize=8)
def _hmac(secret: bytes) -> hmac.HMAC:
    """The key schedule, done once: to copy it takes two thirds of the time of an HMAC from the beginning."""
    return hmac.new(secret, digestmod="sha256")


def _ascii_domain(domain: str) -> str:
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return domain


def _phone_key(value: str) -> str | None:
    text = _PHONE_PUNCTUATION.sub("", value)
    if text.startswith("00"):
        text = "+" + text[2:]
    return text if _PHONE.fullmatch(text) else None
