"""Identifiers compare as people mean them, and those of nobody are known (R13)."""

from __future__ import annotations

import gc
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upkept.people.identifiers import blocklisted, email_key, identifier_key, public_id
from upkept.people.values import RecordKey


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("  Ann@Example.COM ", "ann@example.com"),
        ("ann+stripe@example.com", "ann+stripe@example.com"),
        ("a.n.n@example.com.", "a.n.n@example.com"),
        ("jose\u0301@example.com", "jos\u00e9@example.com"),
        ("ann@B\u00dcCHER.example", "ann@xn--bcher-kva.example"),
        ("ann@xn--bcher-kva.example", "ann@xn--bcher-kva.example"),
        ("ann@localhost", "ann@localhost"),
        ("o'brien@example.com", "o'brien@example.com"),
        ("", None),
        ("n/a", None),
        ("@example.com", None),
        ("ann@", None),
        ("ann@@example.com", None),
        ("ann@a..b", None),
        ("ann smith@example.com", None),
        ("Ann <ann@example.com>", None),
        ("a@x.example, b@x.example", None),
        ("a\0@x.example", None),
        ("a" * 320 + "@x.example", None),
    ],
)
def test_addresses(address: str, key: str | None) -> None:
    assert email_key(address) == key


@given(st.text(max_size=30).map(lambda text: text + "@x.example") | st.emails())
def test_a_key_is_its_own_key(address: str) -> None:
    key = email_key(address)
    assert key is None or email_key(key) == key


@pytest.mark.parametrize(
    ("kind", "value", "key"),
    [
        ("phone", "+353 (1) 234-5678", "+35312345678"),
        ("phone", "00353 1 234 5678", "+35312345678"),
        ("phone", "call me", None),
        ("phone", "123", None),
        ("user_id", " 42 ", "42"),
        ("user_id", "Ann", "Ann"),
        ("user_id", "  ", None),
        ("user_id", "[object Object]", None),
        ("user_id", "NULL", None),
        ("email", "Ann@X.example", "ann@x.example"),
    ],
)
def test_other_identifiers(kind: str, value: str, key: str | None) -> None:
    assert identifier_key(kind, value) == key


@pytest.mark.parametrize(
    ("kind", "key", "nobody"),
    [
        ("email", "noreply@acme.example", True),
        ("email", "none@acme.example", True),
        ("email", "test@example.com", True),
        ("email", "ann@localhost", True),
        ("email", "ann@example.com", False),
        ("email", "info@acme.example", False),
        ("user_id", "undefined", True),
        ("user_id", "42", False),
        ("phone", "+35312345678", False),
    ],
)
def test_identifiers_of_nobody(kind: str, key: str, nobody: bool) -> None:
    assert blocklisted(kind, key) is nobody


def test_a_workspace_adds_addresses_and_domains() -> None:
    also = frozenset({"billing@reseller.example", "@shared.example"})
    assert blocklisted("email", "billing@reseller.example", also)
    assert blocklisted("email", "anyone@shared.example", also)
    assert not blocklisted("email", "ann@reseller.example", also)


def test_public_ids_are_stable_secret_and_the_api_shows_its_own() -> None:
    key = RecordKey("stripe", "customer", "cus_9")
    shown = public_id(key, b"secret")
    assert shown == public_id(key, b"secret")
    assert shown == hmac.digest(b"secret", b"stripe\x1fcustomer\x1fcus_9", "sha256").hex()[:24]
    assert shown != public_id(key, b"another secret")
    assert public_id(RecordKey("api", "contact", "65a1b2c3d4e5f60718293a4b"), b"s") == "65a1b2c3d4e5f60718293a4b"


def test_no_key_stays_in_memory() -> None:
    """It may be an address, and an erasure must not leave it in a process that lives on."""
    public_id(RecordKey("csv", "row", "email:erased@x.example"), b"secret")
    assert [one for one in gc.get_objects() if type(one) is RecordKey and "erased@" in one.id] == []
