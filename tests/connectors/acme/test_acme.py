"""A connector that the core has never heard of is found, certified and run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.acme.acme_server import KEY, Acme, acme
from tests.connectors.acme.stranger import installed, package

from upkept.contract import Connector, Desired, RawEvent, RecordRef, Request
from upkept.registry import known_connectors, load_connections
from upkept.settings import load
from upkept.testing.conformance import LentContext, suite

UPKEPT_ACME = package()
CONFIG = UPKEPT_ACME.AcmeConfig(api_key=KEY, webhook_secret=("acme-secret-old", "acme-secret-new"))


def people() -> dict[str, dict[str, Any]]:
    return {
        f"p{n}": {"email": f"p{n}@example.com", "name": f"P{n}", "stage": "trial", "updated_at": "2026-09-04T00:00:00Z"}
        for n in range(1, 6)
    }


def sign(body: bytes, now: datetime) -> Request:
    return Request(body=body, headers={"x-acme-secret": "acme-secret-new"})


@contextmanager
def vendor() -> Iterator[Any]:
    with acme(**people()) as running:
        yield UPKEPT_ACME.AcmeConfig(api_key=KEY, base_url=running.url)


TestAcme = suite(
    UPKEPT_ACME.connector,
    fixtures=Path(__file__).with_name("fixtures"),
    config=CONFIG,
    sign=sign,
    covers=frozenset(),
    vendor=vendor,
)


def test_it_is_found_once_installed_and_configured_like_any_other(tmp_path: Path) -> None:
    assert "acme" not in known_connectors()
    (tmp_path / "upkept.toml").write_text(
        '[connections.crm]\nconnector = "acme"\napi_key = "env:K"\nwebhook_secret = ["env:OLD", "env:NEW"]\n'
        'base_url = "http://127.0.0.1:1"\n[connections.crm.fields]\n"person.stage" = "stage"\n'
    )
    with installed():
        assert "acme" in known_connectors()
        crm = load_connections(load({"K": "k-1", "OLD": "a", "NEW": "b"}, cwd=tmp_path))["crm"]
    assert isinstance(crm.connector, Connector)
    assert (crm.config.api_key, crm.config.webhook_secret) == ("k-1", ("a", "b"))
    assert "k-1" not in repr(crm)
    body = b'{"person": {"id": "p1", "stage": "trial"}}'
    (fact,) = crm.connector.normalize(RawEvent(id="n", kind="person.updated", body=body), crm.fields)
    assert fact.fields == {"stage": "trial"}  # type: ignore[union-attr]


@pytest.fixture
def running() -> Iterator[Acme]:
    with acme(**people()) as server:
        yield server


def test_a_push_by_the_same_key_writes_once(running: Acme) -> None:
    config = UPKEPT_ACME.AcmeConfig(api_key=KEY, base_url=running.url)
    gone = Desired(person="7f", record=RecordRef("person", "p1"), consent={"*": "opt_out"})
    for _ in range(2):
        UPKEPT_ACME.connector.push(gone, config, LentContext(), key="change-7")
    assert running.people["p1"]["unsubscribed"] is True
    assert running.writes == 1


def test_it_reads_one_person_back(running: Acme) -> None:
    config = UPKEPT_ACME.AcmeConfig(api_key=KEY, base_url=running.url)
    event = UPKEPT_ACME.connector.fetch(RawEvent(id="p3", kind="read.person", body=b""), config, LentContext())
    (fact,) = UPKEPT_ACME.connector.normalize(event, UPKEPT_ACME.connector.fields)
    assert fact.claims == {"email": "p3@example.com"}
