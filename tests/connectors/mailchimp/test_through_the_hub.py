"""What happens at Mailchimp, through the real door, inbox and store: what a support team reads in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.connectors import door as http
from tests.connectors.mailchimp.conftest import KEY, LIST, OTHER
from tests.connectors.mailchimp.door import TOKEN, Door, door

from upkept.flow.digest import digest
from upkept.flow.rebuild import check
from upkept.store.engine import Store
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept.testing.fake_mailchimp.hooks import form
from upkept_mailchimp.client import audience
from upkept_mailchimp.member import hash_of

ANN = "ann@example.com"


@pytest.fixture
def at(store: Store, tmp_path: Path, fake: FakeMailchimp) -> Iterator[Door]:
    fake.control("POST", "/_clock", offset=-600)  # so that nothing is read within the second of its change
    fake.audience(LIST, groups={"g1": {"title": "Topics", "interests": {"9143cf3bd1": "Cats", "3a2a927344": "Birds"}}})
    with door(store, tmp_path, fake) as standing:
        yield standing
        assert set(standing.answers) <= {200}
        assert not [one for page in check(standing.hub, now=lambda: 4_102_444_800_000_000) for one in page]


def test_a_subscription_is_believed_when_it_was_read(at: Door) -> None:
    at.act("subscribe", "Ann@Example.com", audience=LIST, merge_fields={"FNAME": "Ann", "LNAME": "Byrne"},
                interests={"9143cf3bd1": True})  # fmt: skip
    at.arrived()
    assert at.count("people") == 0
    at.work()
    ann = at.explain(ANN)
    assert (ann["name"], ann["role"], ann["consent"]["email"]["state"]) == ("Ann Byrne", "lead", "subscribed")
    assert at.value(ANN, "mailchimp_topics_cats") is True
    assert at.value(ANN, "mailchimp_topics_birds") is False


def test_a_lie_raises_nothing_and_changes_nothing(at: Door) -> None:
    """Who learnt the address of the webhook can only take mail away."""
    at.act("subscribe", ANN, audience=LIST, merge_fields={"FNAME": "Ann"})
    at.act("unsubscribe", ANN, audience=LIST)
    at.act("subscribe", "mallory@example.com", audience=LIST)
    at.work()
    lie = {"list_id": LIST, "email": ANN, "merges": {"EMAIL": ANN, "FNAME": "Mallory"}}
    for kind in ("subscribe", "profile"):
        assert at.post(TOKEN, form({"type": kind, "fired_at": "2026-03-01 10:00:00", "data": lie})) == 200
    moved = {"list_id": LIST, "old_email": ANN, "new_email": "mallory@example.com", "new_id": "51da8c3259"}
    assert at.post(TOKEN, form({"type": "upemail", "fired_at": "2026-03-01 10:00:00", "data": moved})) == 200
    at.work()
    assert (at.value(ANN, "first_name"), at.consent(ANN)) == ("Ann", "unsubscribed")
    assert [record["id"] for record in at.explain(ANN)["records"]] == ["/".join((LIST, hash_of(ANN)))]


def test_an_opt_out_is_in_force_at_2xx_and_before_anything_is_read(at: Door) -> None:
    at.act("subscribe", ANN, audience=LIST)
    at.work()
    asked = len(at.fake.requests())
    at.act("unsubscribe", ANN, audience=LIST)
    at.arrived()
    assert at.consent(ANN) == "unsubscribed"
    assert len(at.fake.requests()) == asked
    at.work()
    assert at.value(ANN, "mailchimp_status") == "unsubscribed"
    events = {row[0] for row in names(at)}
    assert "email unsubscribed" in events


def names(at: Door) -> list[tuple[str, ...]]:
    with at.hub.store.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql("SELECT name FROM timeline")]


def test_a_list_that_says_subscribed_reverses_no_opt_out(at: Door) -> None:
    at.act("subscribe", ANN, audience=LIST)
    at.act("unsubscribe", ANN, audience=LIST)
    at.work()
    at.act("subscribe", ANN, audience=LIST, by="admin", source="Admin Add")
    at.work()
    at.resync(mode="full")
    there = at.fake.world.audiences[LIST].members[hash_of(ANN)]
    assert (at.consent(ANN), there["status"]) == ("unsubscribed", "unsubscribed")
    assert [one["body"] for one in at.fake.requests() if one["method"] == "PATCH"] == [{"status": "unsubscribed"}]


def test_an_audience_with_a_topic_opts_out_of_that_alone(store: Store, tmp_path: Path, fake: FakeMailchimp) -> None:
    with door(store, tmp_path, fake, more=f'topics = {{ {OTHER} = "product news" }}\n') as at:
        fake.act("subscribe", ANN, audience=LIST)
        fake.act("subscribe", ANN, audience=OTHER)
        fake.act("unsubscribe", ANN, audience=OTHER)
        at.work()
        assert at.consent(ANN) == "subscribed"
        ledger = at.explain(ANN)["consent"]["email"]["ledger"]
        assert {(one["act"], one["topic"]) for one in ledger} >= {("opt_out", "product news"), ("opt_in", "*")}


def test_a_changed_address_stays_one_person_and_takes_its_opt_out_along(at: Door) -> None:
    at.act("subscribe", ANN, audience=LIST, merge_fields={"FNAME": "Ann"})
    at.act("unsubscribe", ANN, audience=LIST)
    at.work()
    first = at.explain(ANN)["id"]
    at.act("upemail", ANN, audience=LIST, to="ann@new.example", merge_fields={"FNAME": "Anna"})
    at.work()
    ann = at.explain("ann@new.example")
    assert (ann["id"], ann["email"], ann["consent"]["email"]["state"]) == (first, "ann@new.example", "unsubscribed")
    assert {record["id"]: record["deleted"] for record in ann["records"]} == {
        f"{LIST}/{hash_of(ANN)}": True,
        f"{LIST}/{hash_of('ann@new.example')}": False,
    }


def test_webhooks_in_any_order_and_twice_end_the_same(at: Door) -> None:
    """`profile` with the new address comes before `upemail`, as seen in the field."""
    at.fake.faults(duplicate=0.5, reorder=0.2)
    at.act("subscribe", ANN, audience=LIST)
    at.work()
    at.act("upemail", ANN, audience=LIST, to="ann@new.example", merge_fields={"FNAME": "Anna"})
    at.act("unsubscribe", "ann@new.example", audience=LIST)
    at.act("upemail", "ann@new.example", audience=LIST, to="ann@newer.example")
    at.work()
    at.fake.faults()
    at.resync(mode="full")
    at.work()
    assert at.consent("ann@newer.example") == "unsubscribed"
    assert at.value("ann@newer.example", "first_name") == "Anna"
    before = digest(at.hub)
    at.resync(mode="full")
    assert digest(at.hub) == before


def test_cleaned_is_no_wish_and_spam_is_one(at: Door) -> None:
    for email in (ANN, "bo@example.com"):
        at.act("subscribe", email, audience=LIST)
    at.work()
    at.act("clean", ANN, audience=LIST)
    at.act("clean", "bo@example.com", audience=LIST, why="abuse")
    at.arrived()
    at.work()
    assert at.consent(ANN) == "subscribed"
    assert at.explain(ANN)["deliverability"][ANN]["state"] == "hard"
    assert at.consent("bo@example.com") == "unsubscribed"


def test_archiving_is_no_wish_either_and_what_mailchimp_forgets_is_deleted(at: Door) -> None:
    for n in range(3):
        at.act("subscribe", f"m{n}@example.com", audience=LIST)
    at.work()
    at.act("archive", "m0@example.com", audience=LIST)
    at.work()
    assert (at.value("m0@example.com", "mailchimp_status"), at.consent("m0@example.com")) == ("archived", "subscribed")
    at.act("erase", "m1@example.com", audience=LIST)
    run = at.resync(mode="full")
    assert (run.state, run.scanned) == ("complete", 2)
    at.work()
    gone = at.explain(f"mailchimp:{LIST}/{hash_of('m1@example.com')}")
    assert [record["deleted"] for record in gone["records"]] == [True]
    assert at.explain("m2@example.com")["records"][0]["deleted"] is False


def test_what_no_webhook_told_the_next_pull_brings(at: Door) -> None:
    at.act("subscribe", ANN, audience=LIST)
    at.work()
    at.resync(mode="full")
    at.fake.faults(drop=1.0)
    at.act("unsubscribe", ANN, audience=LIST)
    at.act("subscribe", "new@example.com", audience=OTHER)
    at.arrived()
    assert at.consent(ANN) == "subscribed"
    run = at.resync(mode="incremental")
    assert run.scanned == 2
    assert (at.consent(ANN), at.consent("new@example.com")) == ("unsubscribed", "subscribed")


def test_tags_are_the_persons_and_go_when_they_are_taken_off(at: Door) -> None:
    at.act("subscribe", ANN, audience=LIST)
    at.act("tag", ANN, audience=LIST, tag="VIP")
    at.work()
    assert at.explain(ANN)["tags"] == ["VIP"]
    audience.forget()
    at.act("untag", ANN, audience=LIST, tag="VIP")  # which changes no `last_changed`, and has no webhook
    at.resync(mode="full")
    assert at.explain(ANN)["tags"] == []


def test_a_person_in_two_audiences_is_shown_by_the_better_one(at: Door) -> None:
    for one in (LIST, OTHER):
        at.act("subscribe", ANN, audience=one)
    at.work()
    at.act("archive", ANN, audience=LIST)
    at.work()
    ann = at.explain(ANN)
    assert len(ann["records"]) == 2
    assert at.value(ANN, "mailchimp_status") == "subscribed"
    assert at.value(ANN, "mailchimp_audience") == OTHER
    assert ann["attributes"]["mailchimp_status"]["rule"] == "combined"


def test_mailchimps_probe_of_the_address_is_answered_whatever_its_token(at: Door) -> None:
    """Mailchimp saves a webhook only if its address answers a GET, which shows no more than that a hub is there."""
    with http.door(at.hub) as (url, rung):
        answers = [httpx.request(method, f"{url}/hooks/mailchimp/{token}")
                   for method in ("GET", "HEAD") for token in (TOKEN, "wrong")]  # fmt: skip
        saved = httpx.post(f"{at.fake.url}/lists/{LIST}/webhooks", auth=("any", KEY), json={
            "url": f"{url}/hooks/mailchimp/{TOKEN}", "events": {"unsubscribe": True}, "sources": {"user": True}
        })  # fmt: skip
        lost = httpx.post(f"{at.fake.url}/lists/{LIST}/webhooks", auth=("any", KEY), json={
            "url": f"{url}/hooks/nobody/{TOKEN}"
        })  # fmt: skip
    assert [answer.status_code for answer in answers] == [200] * 4
    assert (saved.status_code, lost.status_code) == (200, 400)
    assert (at.count("inbox"), rung) == (0, [])


def test_strangers_are_turned_away_and_another_audience_is_skipped(at: Door) -> None:
    body = form({"type": "unsubscribe", "fired_at": "2026-03-01 10:00:00", "data": {"list_id": LIST, "email": ANN}})
    assert at.post("", body) == at.post("wrong", body) == 401
    assert at.count("inbox") == 0
    assert at.post(TOKEN, body.replace(LIST.encode(), b"c000000000")) == 200
    at.work()
    assert (at.count("inbox"), at.count("people"), at.count("consent")) == (1, 0, 0)
