"""15 and 18 characters."""

from __future__ import annotations

import pytest

from upkept_salesforce.ids import full_id, same_id
from upkept_salesforce.objects import person

PUBLISHED = [
    "00Q5f000005bwLFEAY",
    "0035f00002EztxDAAR",
    "0015f00002JUX1JAAX",
    "005ZM000000Q6ipYAC",
    "001ZM000001n4n5YAA",
]
"""Ids of Salesforce's own documentation."""


@pytest.mark.parametrize("id", PUBLISHED)
def test_the_three_last_characters_are_those_salesforce_computes(id: str) -> None:
    assert full_id(id[:15]) == full_id(id) == id
    assert same_id(id, id[:15])


@pytest.mark.parametrize("id", PUBLISHED)
def test_a_spreadsheet_that_folded_the_case_loses_nothing(id: str) -> None:
    assert full_id(id.lower()) == full_id(id.upper()) == id


def test_ids_of_15_characters_that_differ_in_case_are_two() -> None:
    assert full_id("00Q5f000005bwLF") != full_id("00Q5f000005bwlf")


NONE = ["", "00Q", "00Q5f000005bwLFE", "00Q5f000005bwL'", "00Q5f000005bwLFE9Y", None, 7, "é" * 15]


@pytest.mark.parametrize("id", NONE)
def test_what_cannot_be_an_id_is_none(id: object) -> None:
    assert full_id(id) is None
    assert not same_id(id, id)


def test_the_prefix_says_lead_or_contact() -> None:
    assert person("00Q5f000005bwLF") == ("lead", "00Q5f000005bwLFEAY")
    assert person("0035f00002EztxDAAR") == ("contact", "0035f00002EztxDAAR")
    assert person("0015f00002JUX1JAAX") is None
