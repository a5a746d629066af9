"""Time-based segments: asked again by schedule, a bounded step at a time (R17)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flow.stage import Stage, at, stage, us, user

from upkept.flow import segments
from upkept.flow.segments import due
from upkept.store.engine import Store

ACTIVE = {"field": "last_seen_at", "operator": ">", "value": {"days_ago": 1}}
NAMED = {"field": "name", "operator": "=", "value": "Ann"}
DAY = 86_400


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    made = stage(store, tmp_path, segments={"active": ACTIVE, "named": NAMED})
    made.now = us(DAY)
    for number in range(5):
        made.tell("app", user(f"u{number}", 1, name="Ann", last_seen_at=at(number * DAY / 5 + 1)), received=us(DAY))
    return made


def held(on: Stage) -> list[list[str]]:
    return [on.explain(f"u{number}")["segments"] for number in range(5)]


def test_membership_follows_the_time_alone(on: Stage) -> None:
    assert held(on) == [["active", "named"]] * 5
    on.now = us(DAY * 1.5)
    assert due(on.hub, on.now) == 3
    assert held(on) == [["named"]] * 3 + [["active", "named"]] * 2
    assert due(on.hub, on.now) == 0


def test_a_step_is_bounded_and_the_next_one_goes_on(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "STEP", 2)
    on.now = us(DAY * 3)
    assert [due(on.hub, on.now) for _ in range(4)] == [2, 2, 1, 0]
    assert held(on) == [["named"]] * 5


def test_where_no_segment_asks_for_the_time_nothing_is_read(store: Store, tmp_path: Path) -> None:
    on = stage(store, tmp_path, segments={"named": NAMED})
    on.tell("app", user("1", 1, name="Ann"))
    on.run("UPDATE people SET segments = '[]'")
    assert due(on.hub, on.now) == 0
    assert on.explain("1")["segments"] == []
