"""Marketo through the real door, inbox and store: what a support team reads in the end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.connectors.door import door, next_second
from tests.connectors.marketo.conftest import SECRET
from tests.connectors.marketo.hub import TOKEN, count, hub_of, now, resync, ring, shown, state, tell

from upkept.contract import Consent, Fact, RecordRef, Request
from upkept.flow.digest import digest
from upkept.flow.erase import erase
from upkept.flow.explain import explain
from upkept.flow.fetch import read_back
from upkept.flow.hub import Hub
from upkept.flow.rebuild import check
from upkept.flow.receive import keep, receive
from upkept.store import connections
from upkept.store.engine import Store
from upkept.testing.fake_marketo import FakeMarketo


@pytest.fixture
def hub(store: Store, tmp_path: Path, fake: FakeMarketo) -> Hub:
    return hub_of(store, tmp_path, fake.url)


@pytest.mark.parametrize("how", [{}, {"in_path": True}, {"form": True}])
def test_an_unsubscribe_is_in_force_when_marketo_has_its_answer(
    hub: Hub, fake: FakeMarketo, how: dict[str, Any]
) -> None:
    ann = fake.do("create", fields={"email": "ann@example.com", "firstName": "Ann", "lastName": "Lee"})
    assert resync(hub).state == "complete"
    assert state(hub, "ann@example.com") == "unknown"
    next_second()
    with door(hub) as (url, rung):
        fake.webhook(f"{url}/hooks/marketo", TOKEN, **how)
        fake.do("unsubscribe", ann)
        assert fake.drain()
        assert state(hub, "ann@example.com") == "unsubscribed", "no bell was rung, nothing was read"
        assert fake.stats()["webhooks"] == {"delivered": 1}, "an empty answer would be an error at Marketo"
        ring(hub, rung)
    assert shown(hub, f"marketo:{ann}")["marketo_unsubscribed"] is True
    assert state(hub, f"marketo:{ann}") == "unsubscribed"


def test_a_second_unsubscribe_by_a_template_without_a_time_counts(hub: Hub, fake: FakeMarketo) -> None:
    ann = fake.do("create", fields={"email": "ann@example.com"})
    resync(hub)
    body = json.dumps({"lead_id": ann, "email": "ann@example.com", "event": "unsubscribe"}).encode()

    def told(at: int) -> int:
        """How many rows of the inbox are new."""
        before = count(hub, "inbox")
        received = receive(hub, "marketo", Request(body=body, headers={"x-upkept-token": TOKEN}), now=at)
        (kept,) = keep(hub, [received], now=at)
        assert kept.error is None
        ring(hub, [bell for bell in kept.bells if bell.task == "apply"])
        return count(hub, "inbox") - before

    minute = now() // 60_000_000 * 60_000_000 - 3_600_000_000
    assert (told(minute), told(minute + 59_000_000)) == (2, 0)
    assert state(hub, "ann@example.com") == "unsubscribed"
    again = Consent(act="opt_in", address="ann@example.com", at=datetime.now(UTC), qualified=True, evidence="form 9")
    tell(hub, "app", again)
    assert state(hub, "ann@example.com") == "subscribed"
    assert told(now() + 61_000_000) == 2
    assert state(hub, "ann@example.com") == "unsubscribed"


def test_a_hint_of_anything_else_is_read_before_it_counts(hub: Hub, fake: FakeMarketo) -> None:
    with door(hub) as (url, rung):
        fake.webhook(f"{url}/hooks/marketo", TOKEN)
        ann = fake.do("create", fields={"email": "ann@example.com", "company": "Acme"})
        assert fake.drain()
        ring(hub, rung)
        assert (explain(hub, f"marketo:{ann}")["email"], shown(hub, f"marketo:{ann}")["marketo_company"]) == (
            "ann@example.com", "Acme")  # fmt: skip
        forged = {"lead_id": ann, "email": "victim@example.com", "company": "Forged", "at": "1"}
        headers = {"X-Upkept-Token": TOKEN}
        answer = httpx.post(f"{url}/hooks/marketo", json=forged, headers=headers)
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
        ring(hub, rung)
        for token in ("wrong", ""):
            refused = httpx.post(f"{url}/hooks/marketo", json=forged, headers={"X-Upkept-Token": token})
            assert refused.status_code == 401
        assert httpx.post(f"{url}/hooks/marketo/wrong", json=forged).status_code == 401
        assert httpx.post(f"{url}/hooks/marketo", content=b"<html>", headers=headers).status_code == 400
    assert explain(hub, f"marketo:{ann}")["email"] == "ann@example.com"
    assert count(hub, "people") == 1


def test_a_walk_and_a_poll_bring_everybody_and_a_second_walk_nothing(hub: Hub, fake: FakeMarketo) -> None:
    ids = fake.seed(60, days=40)
    run = resync(hub)
    assert (run.state, run.failed, count(hub, "people")) == ("complete", 0, 60)
    before, rows = digest(hub), count(hub, "inbox")
    again = resync(hub)
    assert (again.state, again.changed, count(hub, "inbox")) == ("complete", 0, rows)
    assert digest(hub) == before

    next_second()
    fake.do("change", ids[0], fields={"unsubscribed": True}, source="Salesforce.com")
    fake.do("change", ids[1], fields={"company": "Acme"}, source="Flow action")
    fake.do("merge", ids[2], losers=[ids[3]])
    fake.do("merge", ids[4], losers=[ids[2]])
    fake.do("delete", ids[5])
    polled = resync(hub, mode="incremental")
    assert (polled.state, polled.failed) == ("complete", 0)
    assert state(hub, f"marketo:{ids[0]}") == "unsubscribed"
    assert shown(hub, f"marketo:{ids[1]}")["marketo_company"] == "Acme"
    merged = {explain(hub, f"marketo:{ids[number]}")["id"] for number in (2, 3, 4)}
    assert len(merged) == 1, "through a chain of merges"
    assert {one["id"]: one["deleted"] for one in explain(hub, f"marketo:{ids[5]}")["records"]} == {str(ids[5]): True}
    settled = digest(hub)
    resync(hub, mode="incremental")
    assert digest(hub) == settled, "the overlap says nothing new"


def test_what_changes_in_the_second_of_a_walk_is_read_back(hub: Hub, fake: FakeMarketo) -> None:
    (ann,) = fake.seed(1, days=5)  # long there: the poll brings the change alone, and does not read the lead
    resync(hub)
    walked = explain(hub, f"marketo:{ann}")["attributes"]["marketo_company"]["at"]
    fake.control("POST", "/_clock", frozen=datetime.fromisoformat(walked).timestamp())
    fake.do("change", ann, fields={"company": "Acme"}, source="Flow action")
    fake.control("POST", "/_clock", frozen=None)
    resync(hub, mode="incremental")
    fake.control("POST", "/_clock", advance=3)
    ring(hub, read_back(hub, now=lambda: now() + 3_000_000))
    assert shown(hub, f"marketo:{ann}")["marketo_company"] == "Acme", "the walk's reading outranked the change for good"


def test_a_lead_that_vanished_unseen_is_found_by_a_walk(hub: Hub, fake: FakeMarketo) -> None:
    ids = fake.seed(10, days=5)
    resync(hub)
    with fake.world.lock:
        fake.world.delete(ids[0])
        fake.world.log.clear()
    run = resync(hub)
    for _ in range(3):
        ring(hub, read_back(hub, now=now))
    assert run.state == "complete"
    assert explain(hub, f"marketo:{ids[0]}")["records"][0]["deleted"] is True
    assert explain(hub, f"marketo:{ids[1]}")["records"][0]["deleted"] is False


def test_who_moves_to_a_clean_address_stays_opted_out_and_the_old_address_too(hub: Hub, fake: FakeMarketo) -> None:
    """The hole in durable unsubscribe (R9): at Marketo this opts the person in, silently."""
    ann = fake.do("create", fields={"email": "old@example.com"})
    fake.do("unsubscribe", ann)
    resync(hub)
    next_second()
    fake.do("change", ann, fields={"email": "new@example.com"}, source="Flow action")
    assert fake.lead(ann)["unsubscribed"] is False
    resync(hub, mode="incremental")
    person = explain(hub, f"marketo:{ann}")
    assert (person["email"], person["consent"]["email"]["state"]) == ("new@example.com", "unsubscribed")
    assert shown(hub, f"marketo:{ann}")["marketo_unsubscribed"] is False, (
        "what Marketo believes is seen, and not believed"
    )
    fake.world.durable.clear()
    other = fake.do("create", fields={"email": "OLD@example.com"})
    resync(hub, mode="incremental")
    assert state(hub, f"marketo:{other}") == "unsubscribed", "a new lead with that address is suppressed"


@pytest.mark.parametrize("signs_up_first", [False, True])
def test_an_opt_out_of_a_lead_that_is_gone_binds_the_address_it_had(
    hub: Hub, fake: FakeMarketo, signs_up_first: bool
) -> None:
    ann = fake.do("create", fields={"email": "ann@example.com"})
    resync(hub)
    next_second()
    fake.do("fill_out", ann, fields={"unsubscribed": True})
    fake.do("delete", ann)
    next_second()
    user = Fact(record=RecordRef("user", "1"), claims={"user_id": "1", "email": "Ann@example.com"}, makes_user=True)
    if signs_up_first:
        tell(hub, "app", user)
    assert resync(hub, mode="incremental").state == "complete"
    if not signs_up_first:
        tell(hub, "app", user)
    assert state(hub, "app:1") == state(hub, f"marketo:{ann}") == "unsubscribed"
    assert [page for page in check(hub, now=now) if page] == []
    erase(hub, f"marketo:{ann}", now=now(), actor="test")
    tell(hub, "app", Fact(record=RecordRef("user", "2"), claims={"user_id": "2", "email": "ann@example.com"}))
    assert state(hub, "app:2") == "unsubscribed", "the address is bound, not the lead alone"


def test_a_resubscribe_at_marketo_is_no_opt_in(hub: Hub, fake: FakeMarketo) -> None:
    ann = fake.do("create", fields={"email": "ann@example.com"})
    fake.do("unsubscribe", ann)
    resync(hub)
    fake.do("fill_out", ann, fields={"unsubscribed": False})
    resync(hub, mode="incremental")
    told = explain(hub, f"marketo:{ann}")["consent"]["email"]
    assert told["state"] == "unsubscribed"
    assert json.dumps(told["ledger"]).count("opt_in") == 1


def test_who_acts_when_marketo_says_no(hub: Hub, fake: FakeMarketo) -> None:
    fake.seed(3, days=1)
    fake.faults(revoked=True)
    stopped = resync(hub)
    assert "client_id and client_secret" in str(stopped.reason)
    assert SECRET not in str(stopped.reason)
    with hub.store.read() as connection:
        assert connections.standing(connection, "marketo").paused_at is not None
    fake.faults()
    fake.faults(quota=True)
    waits = resync(hub, afresh=True)
    assert (waits.state, "Central time" in str(waits.reason)) == ("pulling", True)
