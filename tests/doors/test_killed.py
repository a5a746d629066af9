"""A web process killed in the middle of a commit with an opt-out: no 2xx, and the redelivery is in force once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import pytest
from tests.till.site import Site, delivery, event

from upkept.flow.apply import apply
from upkept.flow.explain import explain
from upkept.flow.opening import open_hub
from upkept.store.engine import open_store

TILL = Path(__file__).parents[1] / "till"
CONSENT = "SELECT subject_kind, act FROM consent ORDER BY subject_kind"
BODY = delivery(event(1), event(2, kind="customer.unsubscribed", customer="cus_1", email="person1@example.com"))


def rows(site: Site, statement: str) -> list[tuple[object, ...]]:
    store = open_store(site.database_url)
    with store.read() as connection:
        found = [tuple(row) for row in connection.exec_driver_sql(statement)]
    store.close()
    return found


@pytest.fixture(autouse=True)
def _installed(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The till is installed for this process too."""
    monkeypatch.syspath_prepend(TILL)
    monkeypatch.syspath_prepend(site.home / "site")


@pytest.mark.parametrize("place", ["receive.before_commit", "receive.opt_out_inserted"])
def test_before_the_commit_nothing_was_said(site: Site, place: str) -> None:
    killed_at(site, place)
    assert rows(site, CONSENT) + rows(site, "SELECT id FROM inbox") == []
    redelivered(site)


def test_behind_the_commit_it_is_in_force_though_nobody_was_told(site: Site) -> None:
    killed_at(site, "receive.after_commit")
    assert rows(site, CONSENT) == [("address", "opt_out"), ("record", "opt_out")]
    assert len(rows(site, "SELECT id FROM inbox")) == 2
    redelivered(site)


def killed_at(site: Site, place: str) -> None:
    """Post to a process that dies at `place`: the sender is told nothing."""
    site.failpoints = place
    site.start("web")
    with pytest.raises(httpx.TransportError):
        site.post(BODY)
    assert site.started.pop("web").wait(10) == -signal.SIGKILL


def redelivered(site: Site) -> None:
    """The vendor posts again, twice as it happens, to the process that was started anew."""
    site.failpoints = ""
    site.start("web")
    assert [site.post(BODY).status_code for _ in range(2)] == [200, 200]
    assert rows(site, CONSENT) == [("address", "opt_out"), ("record", "opt_out")]
    hub = open_hub(site.settings)
    ids = [int(str(id_)) for (id_,) in rows(site, "SELECT id FROM inbox ORDER BY id")]
    assert len(ids) == 2
    apply(hub, ids, now=lambda: time.time_ns() // 1000)
    assert explain(hub, "till:cus_1")["consent"]["email"]["state"] == "unsubscribed"
    hub.store.close()
    assert len(rows(site, CONSENT)) == 2
