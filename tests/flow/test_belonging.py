"""A database belongs to the keys it was made with: other keys are refused, never taken silently."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.flow.stage import Stage, stage

from upkept.contract import Config
from upkept.doors.app import App
from upkept.flow.belonging import check_keys
from upkept.flow.receive import Received
from upkept.keys import ensure_keys
from upkept.store.engine import Store
from upkept.store.inbox import Arrival


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


def test_the_first_keys_claim_a_database_and_go_on_with_it(on: Stage) -> None:
    check_keys(on.hub)
    check_keys(on.hub)
    assert on.count_of("meta") == 3
    held = on.rows("SELECT value FROM meta")
    assert not any(key.hex() in value for (value,) in held for key in (on.hub.keys.consent, on.hub.keys.tombstone))


def test_another_secret_key_is_refused_and_named(on: Stage, tmp_path: Path) -> None:
    """It would change the hash under which every opt-out stands."""
    check_keys(replace(on.hub, keys=ensure_keys(tmp_path, "the first secret")))
    with pytest.raises(Config, match=r"keys consent, public_id are not those.*UPKEPT_SECRET_KEY") as refused:
        check_keys(replace(on.hub, keys=ensure_keys(tmp_path, "the second secret")))
    assert "the second" not in str(refused.value)
    with pytest.raises(Config, match="keys consent, public_id, tombstone are not those"):
        check_keys(replace(on.hub, keys=ensure_keys(tmp_path / "another home")))


def test_a_door_that_found_the_database_late_stores_nothing_under_other_keys(on: Stage, tmp_path: Path) -> None:
    check_keys(on.hub)
    now = time.time_ns() // 1000
    app = App(replace(on.hub, keys=ensure_keys(tmp_path)))
    arrival = Arrival(connection="shop", dedup_key="1", kind="x", body=b"{}", received_at=now)
    with pytest.raises(Config, match="not those this database was made with"):
        app._keep([Received((arrival,))])
    assert on.count_of("inbox") == 0
