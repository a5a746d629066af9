"""What the hub owes Marketo reaches it, once, and comes back as no news."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.door import next_second
from tests.connectors.marketo.hub import count, hub_of, pushed, resync, state, tell

from upkept.contract import Consent, Fact, RecordRef
from upkept.flow.digest import digest
from upkept.flow.erase import erase
from upkept.flow.hub import Hub
from upkept.store.engine import Store
from upkept.testing.fake_marketo import FakeMarketo

FIELDS = """
lead_fields = ["plan"]
[connections.marketo.fields]
"lead.plan" = { attribute = "plan", convert = "wording", direction = "out" }
"lead.company" = { attribute = "company", convert = "wording", direction = "both" }
"""


@pytest.fixture
def hub(store: Store, tmp_path: Path, fake: FakeMarketo) -> Hub:
    return hub_of(store, tmp_path, fake.url, FIELDS)


def user(email: str, **fields: Any) -> Fact:
    return Fact(record=RecordRef("user", "1"), fields=fields, claims={"user_id": "1", "email": email},
                observed_at=datetime.now(UTC), makes_user=True)  # fmt: skip


def out(email: str) -> Consent:
    return Consent(act="opt_out", address=email, at=datetime.now(UTC) - timedelta(seconds=1))


def writes(fake: FakeMarketo) -> list[Any]:
    return [one["body"]["input"] for one in fake.requests() if one["path"].endswith("/leads.json") and one["body"]]


def test_an_opt_out_elsewhere_reaches_marketo_once_and_comes_back_as_no_news(hub: Hub, fake: FakeMarketo) -> None:
    ann = fake.do("create", fields={"email": "ann@example.com"})
    resync(hub)
    assert pushed(hub) == 0
    assert writes(fake) == [], "what Marketo says itself is owed to nobody"
    tell(hub, "app", user("ann@example.com"), out("ann@example.com"))
    assert pushed(hub) == 0
    assert fake.lead(ann)["unsubscribed"] is True
    assert len(writes(fake)) == 1
    for _ in range(2):
        assert resync(hub, mode="incremental").state == "complete"
        assert pushed(hub) == 0
    assert len(writes(fake)) == 1, "the echo owes nothing"


def test_fields_go_out_by_their_direction_and_come_back_as_no_news(hub: Hub, fake: FakeMarketo) -> None:
    ann = fake.do("create", fields={"email": "ann@example.com", "company": "Old"})
    resync(hub)
    tell(hub, "app", user("ann@example.com", plan="gold", company="New", name="Ann"))
    assert pushed(hub) == 0
    lead = fake.lead(ann)
    assert (lead["plan"], lead["company"], lead["firstName"]) == ("gold", "New", None)
    for _ in range(2):
        resync(hub, mode="incremental")
        assert pushed(hub) == 0
    settled = digest(hub)
    resync(hub)
    assert (pushed(hub), digest(hub), len(writes(fake))) == (0, settled, 1)


def test_what_marketo_forgets_it_is_told_again(hub: Hub, fake: FakeMarketo) -> None:
    """Somebody moves the lead to a clean address: Marketo opts it in, and that is nobody's wish (R9)."""
    ann = fake.do("create", fields={"email": "old@example.com"})
    fake.do("unsubscribe", ann)
    resync(hub)
    assert (pushed(hub), writes(fake)) == (0, [])
    fake.control("POST", "/_clock", advance=2)
    fake.do("change", ann, fields={"email": "new@example.com"}, source="Flow action")
    assert fake.lead(ann)["unsubscribed"] is False
    resync(hub, mode="incremental")
    assert state(hub, f"marketo:{ann}") == "unsubscribed"
    fake.control("POST", "/_clock", advance=2)
    assert pushed(hub) == 0
    assert fake.lead(ann)["unsubscribed"] is True
    resync(hub, mode="incremental")
    assert (pushed(hub), len(writes(fake))) == (0, 1)


def test_an_import_that_takes_an_opt_out_back_is_overruled(hub: Hub, fake: FakeMarketo) -> None:
    """Whether it is seen as an activity or only by reading the lead."""
    ann = fake.do("create", fields={"email": "ann@example.com"})
    resync(hub)
    tell(hub, "app", user("ann@example.com"), out("ann@example.com"))
    for mode in ("incremental", "full"):
        assert pushed(hub) == 0
        assert fake.lead(ann)["unsubscribed"] is True
        next_second()
        fake.do("change", ann, fields={"unsubscribed": False}, source="List import")
        next_second()
        resync(hub, mode=mode)
    assert pushed(hub) == 0
    assert fake.lead(ann)["unsubscribed"] is True
    assert state(hub, "ann@example.com") == "unsubscribed"
    resync(hub, mode="full")
    assert (pushed(hub), len(writes(fake))) == (0, 3)


def test_a_new_lead_with_a_suppressed_address_is_opted_out_there_too(hub: Hub, fake: FakeMarketo) -> None:
    tell(hub, "app", user("ann@example.com"), out("ann@example.com"))
    assert (pushed(hub), fake.stats()["leads"]) == (0, 0), "nobody is created"
    ann = fake.do("create", fields={"email": "Ann@example.com"})
    resync(hub)
    assert (pushed(hub), fake.lead(ann)["unsubscribed"]) == (0, True)


def test_an_erased_person_is_erased_there(hub: Hub, fake: FakeMarketo) -> None:
    ids = [fake.do("create", fields={"email": f"{name}@example.com"}) for name in ("ann", "bo")]
    resync(hub)
    erase(hub, "ann@example.com", actor="test", now=int(datetime.now(UTC).timestamp() * 1_000_000))
    assert (pushed(hub), fake.stats()["leads"]) == (0, 1)
    assert fake.lead(ids[1])["email"] == "bo@example.com"


def test_a_quota_that_is_spent_loses_nothing(hub: Hub, fake: FakeMarketo) -> None:
    fake.do("create", fields={"email": "ann@example.com"})
    resync(hub)
    fake.faults(quota=True)
    tell(hub, "app", user("ann@example.com"), out("ann@example.com"))
    assert (pushed(hub), count(hub, "outbox")) == (1, 1)
