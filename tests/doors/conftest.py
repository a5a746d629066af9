"""A hub with its web process running: one shared by the tests of a database, or one of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.till.site import Site

from upkept.store.engine import Store, open_store


@pytest.fixture
def site(store_url: str, tmp_path: Path) -> Iterator[Site]:
    """A migrated hub of the test's own, once on each database; nothing runs yet."""
    site = Site(tmp_path / "home", store_url)
    yield site
    site.end()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(
    request: pytest.FixtureRequest, made_with_tables: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A hub whose web process is up and whose broker is away; a module's tests share it."""
    home = tmp_path_factory.mktemp("running")
    with made_with_tables(request.param, home) as url:
        site = Site(home, url)
        site.start("web")
        yield site
        site.end()


@pytest.fixture
def web(running: Site) -> Site:
    """The shared hub, its inbox empty."""
    store = open_store(running.database_url)
    with store.write() as connection:
        for table in ("inbox", "consent", "connections"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608
    store.close()
    return running


@pytest.fixture
def store(web: Site) -> Iterator[Store]:
    """Its database, as a bystander sees it."""
    opened = open_store(web.database_url)
    yield opened
    opened.close()
