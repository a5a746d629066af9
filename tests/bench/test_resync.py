"""A sample of `make resync`: some hundred people in place of 100,000, three kills in place of 24."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from bench.resync.bugs import BUGS, SHORT_LEASES
from bench.resync.hub import running
from bench.resync.kills import Killer
from bench.resync.memory import is_flat, quarters
from bench.resync.sandboxes import Mailchimp
from bench.resync.story import Kills, divergences, play
from bench.resync.unchanged import resync

PEOPLE = 150
WAVES = (4, 12)


@pytest.mark.usefixtures("postgres_server")  # skips or fails where there is none
def test_an_unchanged_person_is_not_written_and_kills_change_nothing(tmp_path: Path) -> None:
    """The undisturbed run on one kind of database, the disturbed one on the other: they end alike all the same."""
    now = int(time.time())
    calm, shaken = Mailchimp(audiences=3), Mailchimp(audiences=3)
    with calm.fake, running(tmp_path / "calm", "sqlite", calm) as standing:
        undisturbed = play(standing, PEOPLE, now=now, waves=WAVES)
        assert resync(standing, PEOPLE, judge_memory=False).mistakes == []
        standing.plant(BUGS["unchanged-written"])
        assert any(line.startswith("inbox: ") for line in resync(standing, PEOPLE, judge_memory=False).mistakes)
    killer = Killer(random.Random(20_261_128))
    with shaken.fake, running(tmp_path / "shaken", "postgresql", shaken, code=SHORT_LEASES) as standing:
        kills = Kills(killer, walk=1, pushes=1, resync=1)
        disturbed = play(standing, PEOPLE, now=now, kills=kills, waves=WAVES)
    assert sum(killer.done.values()) == 3
    assert undisturbed.writes.total() == sum(WAVES)
    assert divergences(undisturbed, disturbed) == []


def test_memory_that_grows_is_not_flat() -> None:
    assert quarters([1, 3, 5, 5, 6, 6, 8, 8]) == [2, 5, 6, 8]
    assert is_flat([50, 90, 100, 100, 101, 102, 104, 105])
    assert not is_flat([50, 90, 100, 100, 103, 105, 106, 107])
    assert not is_flat([100 + n / 10 for n in range(400)])
