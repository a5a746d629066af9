"""A dozen kills (`make crash` makes a hundred and more): nothing answered 2xx is lost, nothing happens twice."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from bench.crash.__main__ import crash
from bench.events import SECRET


def test_a_dozen_kills_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRIPE_API_KEY", "sk_test_crash")
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRET", SECRET)
    # Not tmp_path: PostgreSQL runs as another user and must be able to reach its folder.
    with tempfile.TemporaryDirectory(prefix="upkept-crash-") as folder:
        Path(folder).chmod(0o755)
        assert crash(Path(folder), kills=12, rate=60, seed=20_261_124) == []
