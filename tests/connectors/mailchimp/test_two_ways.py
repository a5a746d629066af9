"""Both ways through the hub: what others say reaches Mailchimp once, and what Mailchimp says of it is no news."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.door import next_second
from tests.connectors.mailchimp import door as doors
from tests.connectors.mailchimp.conftest import LIST, OTHER
from tests.connectors.mailchimp.door import Door, door, now

from upkept.contract import Consent, Fact, RecordRef, Said
from upkept.flow.context import PAUSED_AGAIN
from upkept.flow.digest import digest
from upkept.flow.erase import erase
from upkept.flow.push import push
from upkept.people.facts import from_us
from upkept.store import connections
from upkept.store.engine import Store
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept_mailchimp.member import hash_of

ANN = "ann@example.com"
RULES = """
[connections.mailchimp.fields]
"member.merge_fields.FNAME" = { attribute = "first_name", convert = "text", direction = "both" }
"member.merge_fields.PLAN" = { attribute = "plan", convert = "text", direction = "out" }
"member.tags.Paying" = { attribute = "tag:Paying", direction = "out" }
"""


@pytest.fixture
def at(store: Store, tmp_path: Path, fake: FakeMailchimp) -> Iterator[Door]:
    """Its webhooks tell what we write ourselves, too: the worst case."""
    fake.audience(LIST, merge_fields={"PLAN": "text"})
    with door(store, tmp_path, fake, api=True, more=RULES) as standing:
        fake.control("POST", "/_clock", offset=-4_000)
        fake.act("subscribe", ANN, audience=LIST, merge_fields={"FNAME": "Ann"})
        standing.work()
        fake.control("POST", "/_clock", offset=0)
        yield standing


def member(at: Door, email: str = ANN) -> dict[str, Any]:
    return at.fake.world.audiences[LIST].members[hash_of(email)]


def user(**fields: Said) -> Fact:
    moment = from_us(now())
    return Fact(record=RecordRef("user", "42"), fields=fields, claims={"user_id": "42", "email": ANN},
                observed_at=moment, makes_user=True)  # fmt: skip


def writes(at: Door) -> list[tuple[str, str]]:
    return [(one["method"], one["path"]) for one in at.fake.requests() if one["method"] != "GET"]


def opt_out(*, ago: timedelta = timedelta()) -> Consent:
    return Consent(act="opt_out", record=RecordRef("user", "42"), address=ANN, at=datetime.now(UTC) - ago)


def opt_in(*, ago: timedelta = timedelta()) -> Consent:
    return Consent(act="opt_in", record=RecordRef("user", "42"), address=ANN, at=datetime.now(UTC) - ago,
                   qualified=True, evidence="ticked a box while logged in")  # fmt: skip


def test_an_opt_out_elsewhere_is_one_at_mailchimp(at: Door) -> None:
    at.tell(user(first_name="Ann"), opt_out())
    assert member(at)["status"] == "unsubscribed"
    assert len(writes(at)) == 1
    at.resync(mode="full")
    at.work()
    assert len(writes(at)) == 1


def test_both_audiences_of_a_person_are_told_in_one_round(at: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    at.fake.control("POST", "/_clock", offset=-4_000)
    at.fake.act("subscribe", ANN, audience=OTHER)
    at.work()
    at.fake.control("POST", "/_clock", offset=0)
    rounds: list[list[str]] = []

    def counted(*said: Any, **more: Any) -> Any:
        before = len(writes(at))
        left = push(*said, **more)
        rounds.append(sorted(path for _, path in writes(at)[before:]))
        return left

    monkeypatch.setattr(doors, "push", counted)
    at.tell(user(), opt_out())
    assert [told for told in rounds if told] == [[f"/lists/{one}/members/{hash_of(ANN)}" for one in (LIST, OTHER)]]
    for audience in (LIST, OTHER):
        assert at.fake.world.audiences[audience].members[hash_of(ANN)]["status"] == "unsubscribed"


def test_fields_go_out_once_however_often_mailchimp_repeats_them(at: Door) -> None:
    at.tell(user(first_name="Anna", plan="gold", **{"tag:Paying": True}))
    assert member(at)["merge_fields"] == {"FNAME": "Anna", "LNAME": "", "PHONE": "", "PLAN": "gold"}
    assert [one["name"] for one in member(at)["tags"]] == ["Paying"]
    told = len(writes(at))
    before = digest(at.hub)
    for _ in range(2):
        at.resync(mode="full")
        at.work()
    assert len(writes(at)) == told == 2
    assert digest(at.hub) == before
    assert at.explain(ANN)["attributes"]["plan"]["source"] == "app"


def test_what_is_changed_there_comes_back_and_is_not_told_again(at: Door) -> None:
    at.tell(user(first_name="Anna"))
    at.fake.control("POST", "/_clock", offset=2)
    told = len(writes(at))
    at.fake.act("profile", ANN, audience=LIST, merge_fields={"FNAME": "Annie"})
    at.work()
    assert at.value(ANN, "first_name") == "Annie"
    assert len(writes(at)) == told


def test_an_import_that_subscribes_who_opted_out_is_overruled(at: Door) -> None:
    """No webhook tells of it: only reading the member shows it. That an opt-in is renewed by it is `test_own_act`."""
    at.tell(user(), opt_out())
    assert member(at)["status"] == "unsubscribed"
    next_second()
    member(at).update(status="subscribed", last_changed=datetime.now(UTC).replace(microsecond=0).isoformat())
    next_second()
    at.resync(mode="full")
    at.work()
    assert (member(at)["status"], at.consent(ANN)) == ("unsubscribed", "unsubscribed")
    for _ in range(2):
        assert len(writes(at)) == 2
        at.resync(mode="full")
        at.work()


def test_a_lock_is_a_fact_and_is_not_knocked_at_twice(at: Door) -> None:
    at.fake.control("POST", "/_clock", offset=-3_000)
    at.fake.act("unsubscribe", ANN, audience=LIST)
    at.work()
    at.tell(user(), opt_in())
    told = len(writes(at))
    assert (member(at)["status"], told) == ("unsubscribed", 1)
    at.tell(user(first_name="Anna"))
    assert (member(at)["status"], member(at)["merge_fields"]["FNAME"]) == ("unsubscribed", "Anna")
    statuses = [one["body"].get("status") for one in at.fake.requests() if one["method"] == "PATCH"]
    assert statuses.count("subscribed") == 1


def test_who_is_erased_here_is_archived_there(at: Door) -> None:
    at.tell(user())
    erase(at.hub, ANN, now=now(), actor="test")
    with at.hub.store.read() as connection:
        rows = [row[0] for row in connection.exec_driver_sql("SELECT id FROM outbox")]
    push(at.hub, rows, now=now)
    assert member(at)["status"] == "archived"
    assert not at.fake.world.audiences[LIST].forgotten
    at.resync(mode="full")
    at.work()
    assert at.count("people") == 0


def test_sixty_that_leave_at_once_leave_mailchimp_in_batches(at: Door) -> None:
    at.fake.seed(audience=LIST, members=60, prefix="leaving")
    at.resync(mode="full")
    at.work()
    gone = [Consent(act="opt_out", address=f"leaving{n}@example.com", at=datetime.now(UTC)) for n in range(1, 61)]
    at.tell(*gone)
    left = [one["status"] for one in at.fake.world.audiences[LIST].members.values() if one["email_address"] != ANN]
    assert left == ["unsubscribed"] * 60
    # One, or two where an echo that came before the batch's end renewed a wish.
    assert [method for method, _ in writes(at)] in (["POST"], ["POST", "POST"])


def test_an_opt_out_that_the_key_of_another_account_could_not_tell_is_told_by_the_right_one(at: Door) -> None:
    audiences = dict(at.fake.world.audiences)
    at.fake.world.audiences.clear()
    at.tell(user(), opt_out())
    with at.hub.store.write() as connection:
        assert connections.resume(connection, "mailchimp"), "a wrong key pauses the connection"
    at.fake.world.audiences.update(audiences)
    with at.hub.store.read() as connection:
        rows = [row[0] for row in connection.exec_driver_sql("SELECT id FROM outbox")]
    push(at.hub, rows, now=lambda: now() + PAUSED_AGAIN)
    assert member(at)["status"] == "unsubscribed"
