"""What counts as a look at the world, and what does not."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from upkept.testing.purity import worldly_calls


@pytest.mark.parametrize(
    ("look", "name"),
    [
        (time.perf_counter, "time.perf_counter"),
        (lambda: datetime.now(UTC), "datetime.now"),
        (lambda: Path(__file__).open().close(), "io.open"),
    ],
)
def test_a_look_at_the_world_is_seen(look: Callable[[], object], name: str) -> None:
    with worldly_calls() as seen:
        look()
    assert any(name in call for call in seen), seen


@pytest.fixture
def _timed_collector() -> Iterator[None]:
    def timed(_phase: str, _info: dict[str, int]) -> None:
        time.perf_counter()

    gc.callbacks.append(timed)
    yield
    gc.callbacks.remove(timed)


@pytest.mark.usefixtures("_timed_collector")
def test_the_collector_is_not_the_function_watched() -> None:
    with worldly_calls() as seen:
        kept = [[number] for number in range(20_000)]
    assert len(kept) == 20_000
    assert seen == []
    assert gc.isenabled()
