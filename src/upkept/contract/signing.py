"""Checking that a request was sent by who knows the secret.

Shared by every connector that verifies a signature or a token, so that comparing in constant time, secret rotation
and speed are solved once. All secrets and all given signatures are always tried: how long a check takes says
nothing about which of them nearly matched.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from functools import lru_cache


def hex_signed(parts: Iterable[bytes], signatures: Iterable[str], secrets: Iterable[str]) -> bool:
    """Whether one of `signatures` is the hexadecimal HMAC-SHA256 of the joined `parts` under one of `secrets`.

    Several secrets are a rotation in progress; several signatures are a sender that signs with both. No secret, or
    an empty one, signs nothing.
    """
    given = [_bytes(signature) for signature in signatures]
    body = tuple(parts)
    found = False
    for secret in secrets:
        if not secret:
            continue
        mac = _prepared(secret).copy()
        for part in body:
            mac.update(part)
        wanted = mac.hexdigest().encode()
        for signature in given:
            found |= hmac.compare_digest(wanted, signature)
    return found


def token_matches(given: str, secrets: Iterable[str]) -> bool:
    """Whether `given` is one of `secrets`, compared in constant time. An empty secret matches nothing."""
    sent = _bytes(given)
    found = False
    for secret in secrets:
        found |= hmac.compare_digest(_bytes(secret), sent) and bool(secret)
    return found


@lru_cache(maxsize=64)
def _prepared(secret: str) -> hmac.HMAC:
    """The key schedule, done once per secret: copying it costs a third of starting over for a short body."""
    return hmac.new(_bytes(secret), digestmod="sha256")


def _bytes(text: str) -> bytes:
    """Any text, as headers may hold anything: comparing as text would raise on what is not ASCII."""
    return text.encode("utf-8", "surrogatepass")
