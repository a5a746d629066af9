"""Tasks of a real hub's in real orgs of the stand-in's: made once, read back as no news, never in a circle."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.connectors.salesforce.test_through_the_hub import KEYS, Office
from tests.flow.stage import Reading, Stage

from upkept.contract import Consent, Fact, RecordRef, TimelineEvent
from upkept.flow import runs
from upkept.flow.erase import erase
from upkept.flow.hub import Hub
from upkept.flow.opening import policies
from upkept.people.facts import from_us
from upkept.registry import load_connections
from upkept.settings import load
from upkept.store import outbox
from upkept.store.engine import Store
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept.testing.fake_salesforce.org import ORGANIZATION
from upkept.testing.fake_salesforce.pubsub import FakePubSub
from upkept_salesforce import activity

SECTION = """
[connections.{name}]
connector = "salesforce"
base_url = "{url}"
client_id = "app"
client_secret = "env:SECRET"
organization_id = "{organization}"
tasks = ["charge failed", "task completed"]
changes = true
changes_url = "{bus}"
"""


@contextmanager
def opened(store: Store, tmp_path: Path, *names: str) -> Iterator[list[Office]]:
    with ExitStack() as stack:
        orgs = {name: stack.enter_context(FakeSalesforce()) for name in names}
        buses = {name: stack.enter_context(FakePubSub(org)) for name, org in orgs.items()}
        (tmp_path / "upkept.toml").write_text("".join(
            SECTION.format(name=name, url=org.url, organization=ORGANIZATION, bus=buses[name].url)
            for name, org in orgs.items()
        ))  # fmt: skip
        settings = load({"SECRET": "secret42"}, cwd=tmp_path)
        connections = load_connections(settings)
        ranks = {name: one.rank for name, one in connections.items()}
        hub = Hub(store=store, connections=connections, keys=KEYS, policies=policies(settings, ranks=ranks),
                  settings=settings)  # fmt: skip
        yield [Office(hub, org, name) for name, org in orgs.items()]


@pytest.fixture
def office(store: Store, tmp_path: Path) -> Iterator[Office]:
    with opened(store, tmp_path, "crm") as (made,):
        yield made


def says(office: Office, *said: Fact | TimelineEvent | Consent) -> None:
    """Our own application does."""
    Stage(office.hub, Reading(), now=office.now()).tell("app", *said, key=str(said))


def ada(office: Office) -> Fact:
    return Fact(record=RecordRef("user", "1"), claims={"user_id": "1", "email": "ada@example.com"}, makes_user=True,
                observed_at=from_us(office.now()))  # fmt: skip


def failed(office: Office, id: str = "ch_1") -> TimelineEvent:
    return TimelineEvent(record=RecordRef("user", "1"), name="charge failed", id=id, at=from_us(office.now()),
                         metadata={"amount": 49})  # fmt: skip


def a_lead(office: Office) -> str:
    (id,) = office.org.make("Lead", {"LastName": "Byron", "Company": "x", "Email": "ada@example.com"})
    office.walks()
    return id


def later(office: Office, seconds: float = 60) -> None:
    office.org.org.clock.offset += seconds


def subjects(office: Office) -> list[str]:
    return [one["Subject"] for one in office.org.rows("Task")]


def of_timeline(office: Office) -> dict[str, int]:
    with office.hub.store.read() as connection:
        rows = connection.exec_driver_sql("SELECT name, count(*) FROM timeline GROUP BY name").fetchall()
    return {row[0]: row[1] for row in rows}


def waiting(office: Office) -> list[tuple[str, str]]:
    with office.hub.store.read() as connection:
        rows = outbox.listed(connection, state=None, destination=None, limit=9)
    return [(row.state, row.reason) for row in rows]


def test_what_happened_is_a_task_and_its_echo_no_news(office: Office) -> None:
    id = a_lead(office)
    says(office, ada(office), failed(office))
    office.pushes()
    for _ in range(3):
        later(office)
        office.walks()
        office.pushes()
    assert subjects(office) == ["charge failed (Upkept)"]
    assert of_timeline(office) == {"charge failed": 1}
    assert office.value(f"crm:{id}", "salesforce_last_activity_at"), "it is activity all the same"
    assert waiting(office) == []


def test_the_echo_of_the_change_stream_is_no_news_either(office: Office) -> None:
    id = a_lead(office)
    says(office, ada(office), failed(office))
    office.pushes()
    later(office)
    run = runs.start(office.hub, "crm", now=office.now(), mode="incremental", scheduled=True).run
    began = time.monotonic()
    while "salesforce_last_activity_at" not in office.shows(f"crm:{id}")["attributes"]:
        office.work_once(run.id)
        assert time.monotonic() - began < 20
    assert of_timeline(office) == {"charge failed": 1}


def in_a_circle(store: Store, tmp_path: Path, rounds: int) -> int:
    """Two orgs that are told of each other's completed tasks; how many there are in the end."""
    with opened(store, tmp_path, "east", "west") as both:
        east = both[0]
        for office in both:
            id = a_lead(office)
        (task,) = east.org.make("Task", {"WhoId": east.org.rows("Lead")[0]["Id"], "Subject": "Call"})
        east.org.change("Task", task, Status="Completed")
        assert id
        for _ in range(rounds):
            for office in both:
                later(office)
                office.walks()
            for office in both:
                office.pushes()
        return sum(len(subjects(office)) for office in both)


def test_two_orgs_that_tell_each_other_come_to_rest(store: Store, tmp_path: Path) -> None:
    assert in_a_circle(store, tmp_path, rounds=4) == 2


def test_where_tasks_of_ours_are_not_known_they_never_do(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "is_told", lambda _: False)
    assert in_a_circle(store, tmp_path, rounds=4) >= 4


def test_a_lost_answer_makes_no_second_task(office: Office) -> None:
    a_lead(office)
    says(office, ada(office), failed(office))
    office.org.set_faults(lose_next=1)
    office.pushes()
    assert len(waiting(office)) == len(subjects(office)) == 1
    office.walks()
    assert of_timeline(office) == {"charge failed": 1}
    later(office, 3_600)
    office.pushes()
    assert (len(subjects(office)), waiting(office)) == (1, [])


def test_a_lead_that_was_converted_meanwhile_has_it_on_the_contact(office: Office) -> None:
    id = a_lead(office)
    says(office, ada(office), failed(office))
    contact = office.org.org.convert(id)
    office.pushes()
    later(office)
    office.walks()
    says(office, failed(office, "ch_2"))
    office.pushes()
    assert [one["WhoId"] for one in office.org.rows("Task")] == [contact, contact]


def test_a_refused_task_holds_no_opt_out_up_and_can_be_revived(office: Office) -> None:
    id = a_lead(office)
    office.org.set_faults(refused=["Task.Subject"])
    says(office, ada(office), failed(office), Consent(act="opt_out", address="ada@example.com"))
    office.pushes()
    assert office.org.org.tables["Lead"][id]["HasOptedOutOfEmail"] is True
    office.pushes()  # what was answered to the opt-out asked for another look
    ((state, reason),) = waiting(office)
    assert (state, subjects(office)) == ("dead", [])
    assert "FIELD_CUSTOM_VALIDATION_EXCEPTION" in reason
    office.org.set_faults()
    with office.hub.store.write() as connection:
        outbox.offer(connection, now=office.now())
    written = office.org.gate.calls["PATCH composite/sobjects"]
    office.pushes()
    assert (subjects(office), waiting(office)) == (["charge failed (Upkept)"], [])
    assert office.org.gate.calls["PATCH composite/sobjects"] == written == 1, "the opt-out was not sent again"


def test_of_the_erased_nothing_more_is_told(office: Office) -> None:
    id = a_lead(office)
    says(office, ada(office), failed(office))
    erase(office.hub, f"crm:{id}", now=office.now(), actor="test")
    office.pushes()
    assert subjects(office) == []
    assert office.org.org.tables["Lead"][id]["IsDeleted"] is True
