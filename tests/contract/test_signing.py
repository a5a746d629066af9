"""Checking signatures and tokens."""

from __future__ import annotations

import hmac

import pytest

from upkept.contract.signing import hex_signed, token_matches

BODY = b'{"id": "evt_1"}'


def signed(secret: bytes, body: bytes = BODY) -> str:
    return hmac.digest(secret, body, "sha256").hex()


def test_any_given_signature_under_any_live_secret_will_do() -> None:
    assert hex_signed((BODY,), [signed(b"new")], ["old", "new"])
    assert hex_signed((BODY[:4], BODY[4:]), ["00", signed(b"old")], ["old", "new"])


@pytest.mark.parametrize(
    ("signatures", "secrets"),
    [
        ([signed(b"other")], ["old", "new"]),
        ([signed(b"old", BODY + b" ")], ["old"]),
        ([signed(b"old")[:-1]], ["old"]),
        ([signed(b"old").upper()], ["old"]),
        ([signed(b"")], [""]),
        ([signed(b"old")], []),
        ([], ["old"]),
        (["\u00e9\ud800" * 32], ["old"]),
    ],
)
def test_nothing_else_does(signatures: list[str], secrets: list[str]) -> None:
    assert not hex_signed((BODY,), signatures, secrets)


def test_a_token_is_one_of_the_live_ones() -> None:
    assert token_matches("b", ("a", "b"))
    assert not token_matches("c", ("a", "b"))
    assert not token_matches("", ("", "a"))
    assert not token_matches("\ud800", ("a",))
    assert token_matches("schlüssel", ("schlüssel",))
