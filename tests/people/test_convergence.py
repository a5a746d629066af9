"""The pure core against the reference model: random histories, any arrival, ties, duplicates, replays."""

from __future__ import annotations

from itertools import islice

import pytest
from tests.model.convergence import divergences
from tests.model.planted import BUGS
from tests.model.pure import Hub


def test_any_arrival_gives_what_the_model_gives() -> None:
    assert list(islice(divergences(range(700), permutations=4), 3)) == []


def test_the_same_where_unverified_claims_do_not_link() -> None:
    assert list(islice(divergences(range(5_000, 5_200), permutations=3, enforced=True), 3)) == []


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_wrong_design_is_caught(bug: type[Hub]) -> None:
    assert next(divergences(range(2_000), permutations=4, hub=bug), None) is not None
