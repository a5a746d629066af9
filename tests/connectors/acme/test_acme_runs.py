"""The hub runs the stranger's package: its webhooks, opt-outs in force at 2xx, its pulls."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.connectors.acme.acme_server import KEY, acme
from tests.connectors.acme.stranger import installed, package

from upkept.contract import Request
from upkept.flow.apply import apply
from upkept.flow.explain import explain
from upkept.flow.hub import Hub
from upkept.flow.opening import policies
from upkept.flow.receive import keep, receive
from upkept.keys import Keys
from upkept.registry import load_connections
from upkept.settings import load
from upkept.store.engine import Store
from upkept.testing.conformance import LentContext

NOW = 1_795_000_000_000_000
KEYS = Keys(public_id=b"p" * 32, tombstone=b"t" * 32, consent=b"c" * 32, secret=b"s" * 32)
FIXTURES = Path(__file__).with_name("fixtures") / "webhook"


@pytest.fixture
def hub(store: Store, tmp_path: Path) -> Hub:
    package()
    (tmp_path / "upkept.toml").write_text(
        '[connections.crm]\nconnector = "acme"\napi_key = "env:K"\nwebhook_secret = "env:S"\n'
    )
    settings = load({"K": KEY, "S": "acme-secret"}, cwd=tmp_path)
    with installed():
        connections = load_connections(settings)
    ranks = {name: one.rank for name, one in connections.items()}
    return Hub(
        store=store,
        connections=connections,
        keys=KEYS,
        policies=policies(settings, ranks=ranks),
        settings=settings,
    )


def post(hub: Hub, fixture: str) -> list[int]:
    """Deliver a fixture; the inbox rows it made, not yet applied."""
    request = Request(body=(FIXTURES / f"{fixture}.json").read_bytes(), headers={"x-acme-secret": "acme-secret"})
    (kept,) = keep(hub, [receive(hub, "crm", request, now=NOW)], now=NOW)
    assert kept.error is None
    return [id_ for bell in kept.bells for id_ in bell.ids]


def test_its_people_arrive_and_its_opt_out_is_in_force_at_2xx(hub: Hub) -> None:
    rows = post(hub, "person.created__two_notes")
    assert len(rows) == 2
    apply(hub, rows, now=lambda: NOW)
    ann = explain(hub, "42")
    assert (ann["email"], ann["attributes"]["acme_stage"]["value"]) == ("ann@example.com", "trial")
    assert explain(hub, "crm:p2")["name"] == "Bo"
    assert ann["consent"]["email"]["state"] != "unsubscribed"

    waiting = post(hub, "person.unsubscribed__by_link")
    assert explain(hub, "42")["consent"]["email"]["state"] == "unsubscribed"
    apply(hub, waiting, now=lambda: NOW)
    assert explain(hub, "42")["consent"]["email"]["state"] == "unsubscribed"


def test_a_delivery_twice_is_one(hub: Hub) -> None:
    apply(hub, post(hub, "person.created__two_notes"), now=lambda: NOW)
    assert post(hub, "person.created__two_notes") == []


def test_its_server_is_asked_with_its_own_key(hub: Hub) -> None:
    crm = hub.connections["crm"]
    with acme(p9={"email": "zoe@example.com"}) as running:
        config = type(crm.config)(api_key=crm.config.api_key, base_url=running.url)
        assert crm.connector.probe is not None
        assert crm.connector.probe(config, LentContext()).account == "acme-1"
