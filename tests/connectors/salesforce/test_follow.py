"""Following changes: over real gRPC, from a bus that forgets, gaps and overflows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.connectors.ledgered import Ledgered
from tests.connectors.salesforce.conftest import configured
from tests.connectors.salesforce.test_pull import ids, since

from upkept.contract import Config, Consent, Fact, Link, Page, Permanent, Retryable
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept.testing.fake_salesforce.org import ORGANIZATION
from upkept.testing.fake_salesforce.pubsub import FakePubSub
from upkept_salesforce import connector
from upkept_salesforce.client import follow, pubsub, pull
from upkept_salesforce.client.follow import Following
from upkept_salesforce.config import SalesforceConfig


@pytest.fixture(autouse=True)
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pubsub, "WAIT", 0.7)
    monkeypatch.setattr(follow, "ROUND", 2)
    pubsub._schemas.clear()


@pytest.fixture
def bus(fake: FakeSalesforce) -> Iterator[FakePubSub]:
    with FakePubSub(fake) as running:
        yield running


@pytest.fixture
def config(fake: FakeSalesforce, bus: FakePubSub) -> SalesforceConfig:
    return configured(fake, organization_id=ORGANIZATION[:15], changes=True, changes_url=bus.url,
                      external_id_field="User_Id__c")  # fmt: skip


def begun(config: SalesforceConfig, ctx: Ledgered) -> str:
    """The cursor after a pull; what follows it is followed."""
    (*_, last) = pull(since(ctx.now.timestamp() - 60), config, ctx)
    assert last.resume is not None
    return last.resume


def said(*pages: Page) -> list[Any]:
    return [one for page in pages for event in page.events if not event.thin
            for one in connector.normalize(event, connector.fields)]  # fmt: skip


def turn(cursor: str, config: SalesforceConfig, ctx: Ledgered) -> Page:
    page = next(pull(cursor, config, ctx))
    assert page.cursor is not None
    return page


def heard(cursor: str, config: SalesforceConfig, ctx: Ledgered) -> Page:
    """The next turn that brings something; on a machine at its limits many pass before the bus has answered one."""
    for _ in range(40):
        page = turn(cursor, config, ctx)
        if page.events:
            return page
        cursor = page.cursor or ""
    raise AssertionError("nothing was told")


def reading(lead: str, cursor: str, config: SalesforceConfig, ctx: Ledgered) -> list[Page]:
    """The pages of the pull that reads this lead: of this round or, where the bus was slow, one of the next."""
    for _ in range(20):
        pages = list(pull(cursor, config, ctx))
        if lead in ids(page for page in pages if page.events):
            return pages
        cursor = pages[-1].resume or ""
    raise AssertionError("it was not read")


def known(config: SalesforceConfig, ctx: Ledgered, fake: FakeSalesforce) -> tuple[str, str]:
    """A lead that was told of, and the cursor behind that."""
    cursor = begun(config, ctx)
    (lead,) = fake.make("Lead", {"LastName": "Doe", "Company": "x", "Email": "d@example.com", "User_Id__c": "7"})
    page = heard(cursor, config, ctx)
    (fact,) = [one for one in said(page) if isinstance(one, Fact)]
    assert fact.claims == {"email": "d@example.com", "user_id": "7"}
    return lead, page.cursor or ""


def test_a_change_is_told_within_seconds_and_says_only_what_changed(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    lead, cursor = known(config, ctx, fake)
    before = time.monotonic()
    fake.change("Lead", lead, Phone="1", Title=None)
    page = heard(cursor, config, ctx)
    assert time.monotonic() - before < 5
    (fact,) = said(page)
    assert (fact.fields["phone"], fact.fields["salesforce_title"]) == ("1", None)
    assert set(fact.fields) == {"salesforce_id", "phone", "salesforce_title"}
    assert [event.id for event in heard(cursor, config, ctx).events] == [event.id for event in page.events]


def test_what_a_sweep_has_read_is_passed_over(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    fake.org.clock.offset = -7200
    old = fake.seed(leads=150)
    fake.org.clock.offset = 0
    lead, _ = known(config, ctx, fake)
    assert lead not in old


def test_an_opt_out_a_conversion_and_activity(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    lead, cursor = known(config, ctx, fake)
    fake.change("Lead", lead, HasOptedOutOfEmail=True)
    page = heard(cursor, config, ctx)
    assert [one.act for one in said(page) if isinstance(one, Consent)] == ["opt_out"]
    assert [event.thin for event in page.events] == [False, True]
    contact = fake.org.convert(lead)
    fake.make("Task", {"WhoId": contact})
    page = heard(page.cursor or "", config, ctx)
    assert [(one.a.id, one.b.id) for one in said(page) if isinstance(one, Link)] == [(lead, contact)]
    assert [event.thin for event in page.events if event.kind == "change.task"] == [True]


def test_gaps_and_deletes_are_read(
    fake: FakeSalesforce, bus: FakePubSub, config: SalesforceConfig, ctx: Ledgered
) -> None:
    lead, cursor = known(config, ctx, fake)
    bus.gaps = 1
    fake.change("Lead", lead, Phone="2")
    fake.org.delete("Lead", lead)
    page = heard(cursor, config, ctx)
    assert [(event.kind, event.thin) for event in page.events] == [("change.lead", True)] * 2


def test_an_overflow_walks_over_everything(
    fake: FakeSalesforce, bus: FakePubSub, config: SalesforceConfig, ctx: Ledgered
) -> None:
    lead, cursor = known(config, ctx, fake)
    bus.commit("Lead", "GAP_OVERFLOW", ["000000000000000AAA"], {}, "0055fX000000001")
    pages = reading(lead, cursor, config, ctx)
    assert Following.from_cursor(pages[-1].resume or "") is not None


def test_an_expired_replay_id_leads_to_a_pull(
    fake: FakeSalesforce, bus: FakePubSub, config: SalesforceConfig, ctx: Ledgered
) -> None:
    lead, cursor = known(config, ctx, fake)
    bus.kept = 0
    fake.change("Lead", lead, Phone="3")
    (*_, last) = reading(lead, cursor, config, ctx)
    after = Following.from_cursor(last.resume or "")
    assert after is not None
    assert after.replay == ""


def test_a_round_ends_and_the_next_goes_on_behind_the_last_change(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    lead, cursor = known(config, ctx, fake)
    (*pages, last) = pull(cursor, config, ctx)
    assert len({page.cursor for page in pages}) == len(pages)
    fake.change("Lead", lead, Phone="4")
    assert said(heard(last.resume or "", config, ctx))[0].fields["phone"] == "4"


def test_a_sweep_comes_between_and_keeps_the_place_in_the_stream(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    lead, cursor = known(config, ctx, fake)
    at = Following.from_cursor(cursor)
    assert at is not None
    overdue = Following(replay=at.replay, since=at.since, swept=at.swept - follow.SWEEP).to_cursor()
    (*pages, last) = pull(overdue, config, ctx)
    assert lead in ids(pages)
    after = Following.from_cursor(last.resume or "")
    assert after is not None
    assert (after.replay, after.swept >= at.swept) == (at.replay, True)
    off = configured(fake)
    (*_, ended) = pull(cursor, off, ctx)
    assert (ended.resume or "").startswith("since:"), "switched off again, it pulls as before"


def test_a_session_that_is_over_is_replaced_once(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    _, cursor = known(config, ctx, fake)
    fake.gate.sessions.clear()
    turn(cursor, config, ctx)
    fake.gate.sessions.clear()
    ctx.tokens.clear()
    fake.set_faults(revoked=True)
    with pytest.raises(Config):
        turn(cursor, config, ctx)


def test_what_is_missing_is_the_operators(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = begun(config, ctx)
    with pytest.raises(Config, match="organization_id"):
        next(pull(cursor, configured(fake, changes=True, changes_url=config.changes_url), ctx))
    other = configured(fake, changes=True, changes_url=config.changes_url, organization_id="00D5fX000000002")
    with pytest.raises(Config, match="refuses the session"):
        next(pull(cursor, other, ctx))
    monkeypatch.setattr(pubsub, "TOPIC", "/data/NopeChangeEvents")
    with pytest.raises(Config, match="Change Data Capture"):
        next(pull(cursor, config, ctx))
    monkeypatch.setattr(pubsub, "grpc", None)
    with pytest.raises(Config, match="pip install"):
        next(pull(cursor, config, ctx))


def test_a_bus_that_is_away_is_asked_again(fake: FakeSalesforce, ctx: Ledgered) -> None:
    config = configured(fake, changes=True, organization_id=ORGANIZATION, changes_url="http://127.0.0.1:1")
    with pytest.raises(Retryable, match="Pub/Sub"):
        next(pull(begun(config, ctx), config, ctx))


def test_a_schema_that_does_not_come_is_asked_for_again_and_told(
    fake: FakeSalesforce, bus: FakePubSub, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursor = begun(config, ctx)
    monkeypatch.setattr(pubsub, "SCHEMA_TIMEOUT", 0.1)
    bus.slow_schemas = 0.5
    (lead,) = fake.make("Lead", {"LastName": "Doe", "Company": "x"})
    with pytest.raises(Retryable, match=r"Pub/Sub schema \(DEADLINE_EXCEEDED\): the hub asks again"):
        heard(cursor, config, ctx)
    bus.slow_schemas = 0.0
    assert said(heard(cursor, config, ctx))[0].fields["salesforce_id"] == lead, "nothing was passed over"


def test_a_body_that_cannot_be_read_leads_to_a_pull(
    fake: FakeSalesforce, bus: FakePubSub, config: SalesforceConfig, ctx: Ledgered
) -> None:
    lead, cursor = known(config, ctx, fake)
    fake.change("Lead", lead, Phone="5")
    bus.events[-1] = type(bus.events[-1])("broken", "Lead", b"\xff\xff\xff")
    reading(lead, cursor, config, ctx)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 40])
def test_numbers_and_bytes_survive_the_wire(value: int) -> None:
    fields: list[tuple[int, int | bytes]] = [(1, value), (2, b"x" * 300), (15, b""), (16, 7)]
    assert list(pubsub.decoded(pubsub.encoded(fields))) == fields


@pytest.mark.parametrize("message", [b"\x80", b"\x07", b"\x0b", b"\x0a\xff"])
def test_what_is_no_protobuf_is_asked_again(message: bytes) -> None:
    with pytest.raises(Retryable):
        list(pubsub.decoded(message))


@pytest.mark.parametrize(
    "said", ['{"follow":1}', '{"follow":{}}', '{"follow":{"since":1,"replay":"zz"}}', '{"follow":']
)
def test_a_cursor_that_cannot_be_read_is_permanent(said: str) -> None:
    with pytest.raises(Permanent):
        Following.from_cursor(said)
    assert Following.from_cursor(json.dumps({"of": 1})) is None
