"""An erasure holds for ever, and lets a person come back only of themselves (R12)."""

from __future__ import annotations

from typing import Any

import pytest

from upkept.people.erasure import Tombstone, refused, tombstones
from upkept.people.values import RecordKey

ERASED = RecordKey("stripe", "customer", "cus_9")
CLAIMS = [("email", "ann@x.example"), ("user_id", "7"), ("phone", "+3531234567"), ("cookie", "c")]


def hashed(kind: str, value: str) -> str:
    return f"hash of {kind} {value}"


LAID = tombstones([ERASED], CLAIMS, at=100, subject=hashed)


def covered(key: RecordKey, *claims: tuple[str, str], first_party: bool = False, created_at: int | None = 200) -> bool:
    laid: dict[Any, int] = {(stone.kind, stone.subject): stone.at for stone in LAID}
    return refused(
        key,
        claims,
        first_party=first_party,
        created_at=created_at,
        lookup=lambda kind, subject: laid.get((kind, subject)),
        subject=hashed,
    )


def test_an_erasure_leaves_one_tombstone_for_each_key_and_identifier() -> None:
    assert [(stone.kind, stone.at) for stone in LAID] == [
        ("email", 100),
        ("phone", 100),
        ("record", 100),
        ("user_id", 100),
    ]
    assert Tombstone("record", hashed("record", "stripe\x1fcustomer\x1fcus_9"), 100) in LAID


def test_an_erased_record_is_refused_for_ever_whatever_it_states() -> None:
    assert covered(ERASED)
    assert covered(ERASED, first_party=True)


@pytest.mark.parametrize("claim", CLAIMS[:3])
def test_another_record_with_an_erased_identifier_is_covered(claim: tuple[str, str]) -> None:
    assert covered(RecordKey("mail", "member", "l/1"), claim)
    assert covered(RecordKey("mail", "member", "l/1"), ("email", "other@x.example"), claim)


@pytest.mark.parametrize("claim", [CLAIMS[0], CLAIMS[2]])
@pytest.mark.parametrize(("created_at", "stays_out"), [(101, False), (100, True), (99, True), (None, True)])
def test_an_address_yields_to_a_first_party_record_created_later(
    claim: tuple[str, str], created_at: int | None, stays_out: bool
) -> None:
    assert covered(RecordKey("app", "user", "8"), claim, first_party=True, created_at=created_at) is stays_out


def test_an_erased_user_id_never_yields() -> None:
    assert covered(RecordKey("app", "user", "7"), ("user_id", "7"), first_party=True, created_at=999)


def test_strangers_pass() -> None:
    assert not covered(RecordKey("mail", "member", "l/2"), ("email", "bob@x.example"), ("cookie", "c"))
