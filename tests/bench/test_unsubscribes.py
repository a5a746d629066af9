"""A hundred unsubscribes under faults (`make unsubscribes` makes ten thousand), and planted bugs that are caught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bench.three import VARIABLES
from bench.unsubscribes.__main__ import Size, unsubscribes

SMALL = Size(people=80, others=10, steady=12, rate=3.0, seconds=6.0, poll=0.0, mischief=0.8, kills=0.0, walks=False,
             timeouts=False)  # fmt: skip
FEW = replace(SMALL, people=30, steady=6, seconds=4.0)
BELIEVING = """
from dataclasses import replace
from upkept.people import consent

admit, consent.SKEW = consent.admit_consent, 0

def believing(connection, said, **more):
    opt_in = said.act == "opt_in"
    return admit(connection, replace(said, qualified=True, evidence="an import") if opt_in else said, **more)

consent.admit_consent = believing
"""
LOSING = """
from upkept.store import outbox

write = outbox.write
outbox.write = lambda connection, wishes, **more: write(
    connection, [one for one in wishes if one.subject[-1] not in "0123"], **more
)
"""


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


def test_a_hundred_are_not_lost_nor_taken_back(tmp_path: Path) -> None:
    assert unsubscribes(tmp_path, SMALL, database="sqlite", seed=20_261_127) == []


@pytest.mark.parametrize(
    ("planted", "size", "caught"), [(BELIEVING, SMALL, "were taken back at hub"), (LOSING, FEW, "are lost at")],
    ids=["an import is believed", "what is owed is lost"],
)  # fmt: skip
def test_a_planted_bug_is_caught(tmp_path: Path, planted: str, size: Size, caught: str) -> None:
    wrong = unsubscribes(tmp_path, size, database="sqlite", seed=20_261_127, planted=planted)
    assert any(caught in line for line in wrong), wrong
