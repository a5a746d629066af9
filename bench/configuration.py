"""The hub's configuration of a run: one Stripe connection whose API nobody may reach."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bench.events import SECRET

CONNECTION: Final = "stripe"
PATH: Final = f"/hooks/{CONNECTION}"
_FILE: Final = """[connections.stripe]
connector = "stripe"
api_key = "env:BENCH_STRIPE_KEY"
webhook_secret = "env:BENCH_STRIPE_SECRET"
base_url = "http://127.0.0.1:9"
poll = 0
"""


def environment(home: Path, database_url: str, *, port: int = 8080, broker_url: str | None = None) -> dict[str, str]:
    """Write `upkept.toml` into the home; what the hub's processes need in their environment."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "upkept.toml"
    file.write_text(_FILE)
    env = {
        "UPKEPT_HOME": str(home),
        "UPKEPT_CONFIG": str(file),
        "UPKEPT_DATABASE_URL": database_url,
        "UPKEPT_PORT": str(port),
        "UPKEPT_LOG": "json",
        "BENCH_STRIPE_KEY": "sk_test_bench",
        "BENCH_STRIPE_SECRET": SECRET,
    }
    return env | ({"UPKEPT_BROKER_URL": broker_url} if broker_url else {})
