"""The door while the database is away, frozen or unfit: never a false 2xx, never a lost 2xx."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from tests.till.proxy import Proxy, proxied
from tests.till.site import Site, delivery, event, wait_for

from upkept.contract import Config
from upkept.doors.app import create_app
from upkept.store.engine import open_store


def keys(url: str) -> set[str]:
    store = open_store(url)
    with store.read() as connection:
        found = {row[0] for row in connection.exec_driver_sql("SELECT dedup_key FROM inbox")}
    store.close()
    return found


@pytest.fixture
def database(migrated_postgres: str, postgres_server: object) -> Iterator[str]:
    url = postgres_server.create(migrated_postgres)  # type: ignore[attr-defined]
    yield url
    postgres_server.drop(url)  # type: ignore[attr-defined]


@pytest.fixture
def behind(database: str) -> Iterator[Proxy]:
    address = urlsplit(database)
    with proxied(address.hostname or "127.0.0.1", address.port or 5432) as proxy:
        yield proxy


@pytest.fixture
def site(database: str, behind: Proxy, tmp_path: Path) -> Iterator[Site]:
    address = urlsplit(database)
    user = f"{address.username}@" if address.username else ""
    site = Site(tmp_path / "home", address._replace(netloc=f"{user}127.0.0.1:{behind.port}").geturl())
    yield site
    site.end()


def test_the_database_is_away_at_the_start_goes_and_freezes(site: Site, behind: Proxy, database: str) -> None:
    behind.become("cut")
    site.start("web")
    number = 0
    accepted: set[str] = set()

    def post() -> httpx.Response:
        nonlocal number
        number += 1
        answer = site.post(delivery(event(number)))
        if answer.status_code == 200:
            accepted.add(f"evt_customer.updated_{number}")
        else:
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
        return answer

    assert post().status_code == 503
    assert httpx.get(f"{site.url}/readyz").status_code == 503
    assert httpx.get(f"{site.url}/healthz").status_code == 200
    assert "upkept_database_up 0.0" in httpx.get(f"{site.url}/metrics", timeout=10).text

    behind.become("open")
    wait_for(lambda: post().status_code == 200, 30)

    behind.become("cut")
    assert [post().status_code for _ in range(5)] == [503] * 5
    behind.become("open")
    wait_for(lambda: post().status_code == 200, 30)

    behind.become("frozen")
    began = time.monotonic()
    assert post().status_code == 503
    assert time.monotonic() - began < 10
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status_code for answer in pool.map(lambda _: post(), range(16))} == {503}
    behind.become("open")
    wait_for(lambda: post().status_code == 200, 30)
    assert httpx.get(f"{site.url}/readyz").status_code == 200
    assert accepted <= keys(database)


def test_a_database_that_forgets_commits_is_refused(database: str, tmp_path: Path) -> None:
    store = open_store(database)
    with store.write() as connection:
        connection.exec_driver_sql(f'ALTER DATABASE "{urlsplit(database).path[1:]}" SET synchronous_commit = off')
    store.close()
    settings = replace(Site(tmp_path / "home", database).settings, connections={})
    with pytest.raises(Config, match=r"synchronous_commit=off.*UPKEPT_DATABASE_URL"):
        create_app(settings)
