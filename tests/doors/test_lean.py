"""The web process stays lean: no vendor SDK, no Celery on the way of a request, within its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.till.site import Site, delivery, event, install

LOOK = """
import json, sys, time
from upkept import settings
from upkept.doors import serve
from upkept.doors.app import create_app
import os
app = create_app(settings.load(os.environ))
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
FORBIDDEN = {"stripe", "celery", "kombu", "redis", "alembic", "fastapi", "requests", "httpx", "pandas"}
MEMORY = 110 * 1024
"""KiB, resident."""


def test_no_vendor_sdk_and_no_celery_is_loaded_for_the_doors(migrated_sqlite: Path, tmp_path: Path) -> None:
    site = Site(tmp_path / "home", f"sqlite:///{migrated_sqlite}")
    install(site.home / "site", stripe="upkept_stripe:connector")
    with (site.home / "upkept.toml").open("a") as configuration:
        configuration.write('[connections.stripe]\nconnector = "stripe"\napi_key = "env:A"\nwebhook_secret = "env:B"\n')
    keys = {"A": "sk_test_0123456789", "B": "whsec_0123456789"}
    found = subprocess.run([sys.executable, "-c", LOOK], env={**site.env, **keys}, capture_output=True, timeout=60)
    assert found.returncode == 0, found.stderr.decode()
    loaded = set(json.loads(found.stdout))
    assert "upkept_stripe" in loaded
    assert not loaded & FORBIDDEN


def test_memory_of_the_web_process(web: Site) -> None:
    for number in range(200):
        web.post(delivery(*(event(number * 10 + n, pad="x" * 2000) for n in range(10))))
    status = Path(f"/proc/{web.started['web'].pid}/status").read_text()
    resident = int(status.partition("VmRSS:")[2].split()[0])
    assert resident < MEMORY
