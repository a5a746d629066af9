"""A real org of the stand-in's and a real hub: outbound message to person, walk, conversion, merge, opt-out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.connectors.door import door

from upkept.contract import Request
from upkept.flow import fetch, pull, push, runs
from upkept.flow.apply import apply
from upkept.flow.bells import Bell
from upkept.flow.digest import digest
from upkept.flow.explain import explain
from upkept.flow.hub import Hub
from upkept.flow.opening import policies
from upkept.flow.receive import keep, receive
from upkept.keys import Keys
from upkept.people.facts import from_us
from upkept.registry import load_connections
from upkept.settings import load
from upkept.store import outbox
from upkept.store import runs as stored_runs
from upkept.store.connections import standing
from upkept.store.engine import Store
from upkept.store.runs import Run
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept.testing.fake_salesforce.hooks import message
from upkept.testing.fake_salesforce.org import ORGANIZATION
from upkept.testing.fake_salesforce.pubsub import FakePubSub
from upkept.testing.fake_salesforce.shapes import made_id
from upkept.worker.beat import OF_THE_COURIER, TICK

KEYS = Keys(public_id=b"p" * 32, tombstone=b"t" * 32, consent=b"c" * 32, secret=b"s" * 32)
TOKEN = "a_long_random_text"
CONFIG = f"""
[connections.crm]
connector = "salesforce"
base_url = "env:URL"
client_id = "app"
client_secret = "env:SECRET"
organization_id = "{ORGANIZATION}"
webhook_token = "env:TOKEN"
external_id_field = "User_Id__c"
custom_fields = ["Lead.Tier__c"]

[connections.crm.fields]
"lead.Tier__c" = "tier"
"""


class Office:
    """A hub with its org, and the workers' part played by hand."""

    def __init__(self, hub: Hub, org: FakeSalesforce, name: str = "crm") -> None:
        self.hub, self.org, self.name, self.sent = hub, org, name, 0

    def now(self) -> int:
        return int(self.org.org.clock.now() * 1_000_000)

    def tells(self, table: str, *ids: str, work: bool = True) -> None:
        """Salesforce sends what these rows are now."""
        changes = []
        for id in ids:
            self.sent += 1
            row = self.org.org.tables[table].get(id)
            changes.append((made_id("04l", self.sent), table, None if row is None or row["IsDeleted"] else row))
        request = Request(body=message(changes), headers={}, token=TOKEN)
        kept = keep(self.hub, [receive(self.hub, "crm", request, now=self.now())], now=self.now())
        assert [one.error for one in kept] == [None]
        if work:
            self.work([bell for one in kept for bell in one.bells])

    def walks(self) -> Run:
        """A full walk, to its end."""
        run = runs.start(self.hub, self.name, now=self.now(), afresh=True).run
        self.work([Bell("outbound", "run", (run.id,))])
        with self.hub.store.read() as connection:
            done = stored_runs.get(connection, run.id)
        assert done is not None
        assert done.state == "complete", done.reason
        return done

    def work(self, bells: list[Bell]) -> None:
        while bells:
            bell = bells.pop(0)
            match bell.task:
                case "apply":
                    apply(self.hub, bell.ids, now=self.now)
                case "fetch":
                    bells += fetch.fetch(self.hub, bell.ids, now=self.now)
                case "run":
                    bells += [again for id in bell.ids for again in pull.step(self.hub, id, now=self.now)]

    def pushes(self) -> None:
        """What is due at Salesforce goes there."""
        with self.hub.store.read() as connection:
            rows = [row for name, row in outbox.due(connection, now=self.now()) if name == self.name]
        self.work(list(push.push(self.hub, rows, now=self.now)))

    def work_once(self, run: int) -> None:
        """A step of a run, and what it rang but itself."""
        self.work([bell for bell in pull.step(self.hub, run, now=self.now) if bell.task != "run"])

    def shows(self, person: str) -> dict[str, Any]:
        return explain(self.hub, person)

    def value(self, person: str, name: str) -> Any:
        return self.shows(person)["attributes"][name]["value"]


@contextmanager
def opened(store: Store, tmp_path: Path, *, changes: bool = False, more: str = "") -> Iterator[Office]:
    with FakeSalesforce() as org, FakePubSub(org) as bus:
        followed = f'changes = true\nchanges_url = "{bus.url}"\n' if changes else ""
        (tmp_path / "upkept.toml").write_text(CONFIG.replace("organization_id", f"{followed}{more}organization_id"))
        settings = load({"URL": org.url, "SECRET": "secret42", "TOKEN": TOKEN}, cwd=tmp_path)
        connections = load_connections(settings)
        ranks = {name: one.rank for name, one in connections.items()}
        hub = Hub(store=store, connections=connections, keys=KEYS, policies=policies(settings, ranks=ranks),
                  settings=settings)  # fmt: skip
        yield Office(hub, org)


@pytest.fixture
def office(store: Store, tmp_path: Path) -> Iterator[Office]:
    with opened(store, tmp_path) as made:
        yield made


def test_an_outbound_message_becomes_a_person(office: Office) -> None:
    (id,) = office.org.make("Lead", {"LastName": "Byron", "FirstName": "Ada", "Company": "x", "Tier__c": "gold",
                                     "Email": "ada@example.com", "User_Id__c": "42"})  # fmt: skip
    office.tells("Lead", id)
    ada = office.shows("42")
    assert (ada["name"], ada["email"], ada["external_id"]) == ("Ada Byron", "ada@example.com", "42")
    assert office.value("42", "tier") == "gold"
    assert [(one["type"], one["id"]) for one in ada["records"]] == [("lead", id)]
    assert ada["consent"]["email"]["state"] == "unknown", "a box nobody ticked says nothing"


def test_a_message_is_acknowledged_in_words_that_salesforce_reads(office: Office) -> None:
    """Else it sends the message again, for a day."""
    (id,) = office.org.seed(leads=1)
    body = message([(made_id("04l", 1), "Lead", dict(office.org.org.tables["Lead"][id]))])
    with door(office.hub) as (url, _):
        taken = httpx.post(f"{url}/hooks/crm/{TOKEN}", content=body)
        refused = httpx.post(f"{url}/hooks/crm/another", content=body)
        probed = httpx.get(f"{url}/hooks/crm")
    assert (taken.status_code, taken.headers["content-type"]) == (200, "text/xml; charset=utf-8")
    assert b"<Ack>true</Ack>" in taken.content
    assert (refused.status_code, b"Ack" in refused.content) == (401, False)
    assert (probed.status_code, probed.json()) == (200, {"ok": True})


def test_an_opt_out_is_in_force_before_anything_is_read(office: Office) -> None:
    (id,) = office.org.seed(leads=1)
    office.tells("Lead", id)
    office.org.change("Lead", id, HasOptedOutOfEmail=True)
    office.org.set_faults(fail_next=[503] * 20)
    office.tells("Lead", id, work=False)
    assert office.shows(f"crm:{id}")["consent"]["email"]["state"] == "unsubscribed"


def test_a_message_that_lies_changes_no_profile_and_raises_nothing(office: Office) -> None:
    (id,) = office.org.seed(leads=1)
    office.org.change("Lead", id, HasOptedOutOfEmail=True, Title="true")
    office.tells("Lead", id)
    lie = dict(office.org.org.tables["Lead"][id]) | {"HasOptedOutOfEmail": False, "LastName": "Liar"}
    body = message([(made_id("04l", 99), "Lead", lie)])
    kept = keep(office.hub, [receive(office.hub, "crm", Request(body=body, headers={}, token=TOKEN),
                                     now=office.now())], now=office.now())  # fmt: skip
    office.work([bell for one in kept for bell in one.bells])
    person = office.shows(f"crm:{id}")
    assert person["name"] == "Lead 0"
    assert person["consent"]["email"]["state"] == "unsubscribed"


def test_a_walk_brings_people_activity_conversion_and_merges(office: Office) -> None:
    org = office.org
    ada, bo, bob, _ = org.seed(leads=4)
    (task,) = org.make("Task", {"WhoId": ada, "Subject": "Call"})
    contact = org.org.convert(ada)
    org.change("Task", task, Status="Completed")
    org.org.merge("Lead", bo, [bob])
    office.walks()
    person = office.shows(f"crm:{ada}")
    assert {(one["type"], one["id"]) for one in person["records"]} == {("lead", ada), ("contact", contact)}
    assert office.shows(f"crm:{contact}")["id"] == person["id"]
    assert office.value(f"crm:{ada}", "salesforce_id") == contact
    assert office.value(f"crm:{ada}", "salesforce_open_tasks_count") == 0
    assert office.value(f"crm:{ada}", "salesforce_last_activity_at") is not None
    assert office.shows(f"crm:{bob}")["id"] == office.shows(f"crm:{bo}")["id"]


def test_a_second_walk_changes_nothing(office: Office) -> None:
    office.org.seed(leads=6, contacts=3, tasks=4)
    office.org.org.clock.offset += 10  # all rows are settled
    office.walks()
    before = digest(office.hub)
    office.org.org.clock.offset += 60
    again = office.walks()
    assert digest(office.hub) == before
    assert (again.scanned, again.admitted) == (13, 0)


def test_messages_and_walks_in_either_order_end_in_the_same_store(store: Store, tmp_path: Path) -> None:
    with opened(store, tmp_path) as office:
        leads = office.org.seed(leads=3)
        office.org.change("Lead", leads[0], HasOptedOutOfEmail=True)
        office.org.org.clock.offset += 10
        office.tells("Lead", *leads)
        office.walks()
        first = digest(office.hub)
        office.tells("Lead", *reversed(leads))
        assert digest(office.hub) == first


def test_a_delete_at_salesforce_archives_and_keeps_the_id(office: Office) -> None:
    (id,) = office.org.seed(leads=1)
    office.walks()
    office.org.org.clock.offset += 10
    office.org.org.delete("Lead", id)
    office.walks()
    person = office.shows(f"crm:{id}")
    assert person["records"][0]["deleted"] is True
    assert office.value(f"crm:{id}", "salesforce_deleted") is True
    assert office.value(f"crm:{id}", "salesforce_id") == id


def test_times_are_the_orgs(office: Office) -> None:
    (id,) = office.org.seed(leads=1)
    office.org.org.clock.offset += 100
    office.walks()
    at = office.shows(f"crm:{id}")["attributes"]["salesforce_company"]["at"]
    assert at < from_us(office.now() - 90_000_000).isoformat()


def test_an_opt_out_of_the_contact_reaches_the_lead_once_and_its_echo_is_no_news(office: Office) -> None:
    org = office.org
    (lead,) = org.make("Lead", {"LastName": "Doe", "Company": "x", "Email": "doe@example.com"})
    (contact,) = org.make("Contact", {"LastName": "Doe", "Email": "Doe@example.com"})
    org.org.clock.offset += 10
    office.walks()
    org.change("Contact", contact, HasOptedOutOfEmail=True)
    office.tells("Contact", contact)
    office.pushes()
    (row,) = org.rows("Lead")
    assert row["HasOptedOutOfEmail"] is True
    written = org.gate.calls["PATCH composite/sobjects"]
    for _ in range(3):
        org.org.clock.offset += 10
        office.tells("Lead", lead)
        office.pushes()
    assert org.gate.calls["PATCH composite/sobjects"] == written == 1


def test_a_box_that_somebody_unticks_is_ticked_again(office: Office) -> None:
    org = office.org
    (lead,) = org.make("Lead", {"LastName": "Doe", "Company": "x", "Email": "doe@example.com"})
    (contact,) = org.make("Contact", {"LastName": "Doe", "Email": "doe@example.com"})
    org.org.clock.offset += 10
    office.walks()
    org.change("Contact", contact, HasOptedOutOfEmail=True)
    office.tells("Contact", contact)
    office.pushes()
    for id in (lead, lead, contact):
        org.org.clock.offset += 2
        org.change("Lead" if id == lead else "Contact", id, HasOptedOutOfEmail=False)
        org.org.clock.offset += 2
        office.walks()
        office.pushes()
        assert [row["HasOptedOutOfEmail"] for row in (*org.rows("Lead"), *org.rows("Contact"))] == [True, True]
    assert office.shows(f"crm:{lead}")["consent"]["email"]["state"] == "unsubscribed"
    assert org.gate.calls["PATCH composite/sobjects"] == 4


def test_a_box_that_is_unticked_before_anybody_read_it_is_ticked_again(office: Office) -> None:
    """A message told of the tick. All that a walk sees is the box as it always was."""
    (id,) = office.org.seed(leads=1)
    office.walks()
    office.org.org.clock.offset += 60
    office.org.change("Lead", id, HasOptedOutOfEmail=True)
    office.tells("Lead", id, work=False)
    office.org.org.clock.offset += 60
    office.org.change("Lead", id, HasOptedOutOfEmail=False)
    office.org.org.clock.offset += 60
    assert office.walks().changed == 1
    office.pushes()
    assert office.org.org.tables["Lead"][id]["HasOptedOutOfEmail"] is True
    office.org.org.clock.offset += 60
    office.walks()
    office.org.org.clock.offset += 60
    assert office.walks().changed == 0, "what was answered once is no news again"


def test_a_change_is_on_the_person_within_seconds(store: Store, tmp_path: Path) -> None:
    with opened(store, tmp_path, changes=True) as office:
        (id,) = office.org.seed(leads=1)
        office.walks()
        run = runs.start(office.hub, "crm", now=office.now(), mode="incremental", scheduled=True).run
        began = time.monotonic()
        with Changes(office, id) as changed:
            while office.shows(f"crm:{id}")["attributes"].get("salesforce_title", {}).get("value") != "second":
                office.work_once(run.id)
                assert time.monotonic() - began < 20
        assert time.monotonic() - changed.at < 5


def test_by_polling_a_change_is_on_the_person_within_a_minute(store: Store, tmp_path: Path) -> None:
    """At the worst: just missed by one pull, and a look of the scheduler comes just before the next is due."""
    (every,) = [job.every for job in OF_THE_COURIER if job.name == "pulls"]
    with opened(store, tmp_path, more="poll = 45\n") as office:
        (id,) = office.org.seed(leads=1)
        office.walks()
        office.org.org.clock.offset += 46
        (due,) = runs.due(office.hub, office.now())
        office.work([due])
        changed = office.now()
        office.org.change("Lead", id, Title="second")
        with office.hub.store.read() as connection:
            pulled_at = standing(connection, "crm").pulled_at or 0
        assert runs.due(office.hub, pulled_at + 45_000_000 - 1) == ()
        office.org.org.clock.offset += (pulled_at - office.now()) / 1_000_000 + 45 + every + TICK
        (due,) = runs.due(office.hub, office.now())
        office.work([due])
        assert office.value(f"crm:{id}", "salesforce_title") == "second"
        assert office.now() - changed < 60_000_000


class Changes:
    """Salesforce's own people go on working meanwhile."""

    def __init__(self, office: Office, id: str) -> None:
        self.at = 0.0
        self._thread = threading.Timer(0.5, self._change, (office, id))

    def _change(self, office: Office, id: str) -> None:
        self.at = time.monotonic()
        office.org.change("Lead", id, Title="second")

    def __enter__(self) -> Changes:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.join()
