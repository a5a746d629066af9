"""Pulling from an org that keeps state: complete, resumable, in a frozen window, with deletes and merges."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest
from tests.connectors.ledgered import Ledgered
from tests.connectors.salesforce.conftest import configured

from upkept.contract import Config, Consent, Fact, Link, Page, Permanent, RawEvent, Retryable, Statement
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept_salesforce import connector
from upkept_salesforce.client import bulk, pull
from upkept_salesforce.config import SalesforceConfig

T0 = 1_790_000_000
pulling: Any = import_module("upkept_salesforce.client.pull")


def ids(pages: Iterable[Page]) -> list[str]:
    return [json.loads(event.body)["row"]["Id"] for page in pages for event in page.events]


def since(second: float) -> str:
    return f"since:{datetime.fromtimestamp(second, UTC).isoformat()}"


def statements(pages: Iterable[Page]) -> list[Statement]:
    return [one for page in pages for event in page.events for one in said(event)]


def said(event: RawEvent) -> list[Statement]:
    return list(connector.normalize(event, connector.fields))


def assert_resumes(page: Page, until: int) -> None:
    """The next pull begins before the end of this one's window: by the overlap, and whole minutes of deletes."""
    assert page.resume is not None
    begins = datetime.fromisoformat(page.resume.removeprefix("since:")).timestamp()
    assert until - pulling.OVERLAP - 60 < begins <= until - pulling.OVERLAP


def everything(fake: FakeSalesforce) -> list[str]:
    tables = ("Lead", "Contact", "CampaignMember", "Task", "Event")
    return sorted(row["Id"] for table in tables for row in fake.rows(table))


@pytest.mark.parametrize("in_bulk", [False, True])
def test_a_full_walk_sees_every_row_once_deleted_ones_too(
    in_bulk: bool, fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    if in_bulk:
        monkeypatch.setattr(bulk, "FROM", 0)
        monkeypatch.setattr(bulk, "PART", 7)
        monkeypatch.setattr(bulk, "PATIENCE", (0.01,))
    fake.set_faults(page=13, bulk_looks=2)
    leads = fake.seed(leads=40, contacts=20, tasks=5)
    fake.org.delete("Lead", leads[3])
    (campaign,) = fake.make("Campaign", {"Name": "Fair, spring"})
    fake.make("CampaignMember", {"LeadId": leads[0], "CampaignId": campaign, "HasResponded": True})
    fake.make("Event", {"WhoId": leads[1], "Subject": 'Said "yes",\nand left'})

    pages = list(pull(None, config, ctx))

    assert sorted(ids(pages)) == everything(fake)
    assert [page.cursor is None for page in pages].count(True) == 1
    assert pages[-1].total == 67
    assert pages[1].total == 67
    assert fake.gate.calls["POST jobs/query"] == (5 if in_bulk else 0)
    names = {one.metadata.get("campaign") or one.metadata.get("subject") for one in statements(pages)
             if hasattr(one, "metadata")}  # fmt: skip
    assert {"Fair, spring", 'Said "yes",\nand left'} <= names


@pytest.mark.parametrize("in_bulk", [False, True])
def test_rest_and_bulk_say_the_same(
    in_bulk: bool, fake: FakeSalesforce, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.org.clock.frozen = T0
    config = configured(fake, custom_fields=("Lead.Score__c",), external_id_field="User_Id__c")
    (lead,) = fake.make("Lead", {"LastName": "Ünal", "Company": "Ä", "Score__c": 1.5, "HasOptedOutOfEmail": True,
                                 "Email": "u@example.com", "User_Id__c": "7"})  # fmt: skip
    fake.org.convert(lead)
    wanted = statements(list(pull(None, config, ctx)))
    monkeypatch.setattr(bulk, "FROM", -1 if in_bulk else 1000)
    monkeypatch.setattr(bulk, "PATIENCE", (0.01,))
    assert statements(list(pull(None, config, ctx))) == wanted
    assert [one for one in wanted if isinstance(one, Link)]
    assert next(one.claims for one in wanted if isinstance(one, Fact)) == {"email": "u@example.com", "user_id": "7"}


@pytest.mark.parametrize("in_bulk", [False, True])
def test_a_walk_killed_after_any_page_goes_on_to_the_same_end(
    in_bulk: bool, fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "FROM", 0 if in_bulk else 1000)
    monkeypatch.setattr(bulk, "PART", 5)
    monkeypatch.setattr(bulk, "PATIENCE", (0.01,))
    fake.set_faults(page=6)
    fake.seed(leads=15, contacts=8, tasks=4)
    cursor: str | None = None
    seen: list[str] = []
    while True:
        page = next(pull(cursor, config, ctx))
        seen += ids([page])
        if page.cursor is None:
            break
        assert page.cursor != cursor
        cursor = page.cursor
    assert sorted(seen) == everything(fake)


def test_an_incremental_pull_reads_what_changed_in_its_window_and_resumes_with_overlap(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    clock, now = fake.org.clock, int(ctx.now.timestamp())
    clock.frozen = now - 7200
    old = fake.seed(leads=30, contacts=1)
    clock.frozen = now - 600
    fake.set_faults(page=4)
    for id in old[:10]:
        fake.change("Lead", id, Title="new")
    clock.frozen = now
    fake.change("Lead", old[20], Title="in this very second")

    pages = list(pull(since(now - 3600), config, ctx))

    # The second of the pull belongs to the next one: whatever else happens in it has the same stamp. The first page
    # is read before the window is known, and may hold more.
    assert set(ids(pages)) - {old[20]} == set(old[:10])
    assert len(ids(pages)) == len(set(ids(pages)))
    assert_resumes(pages[-1], now)
    clock.frozen = now + 5
    assert old[20] in ids(pull(pages[-1].resume, config, Ledgered(offset=5)))


def test_more_rows_of_one_second_than_a_page_holds_are_all_read(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "LIMIT", 5)
    fake.org.clock.frozen = now = int(ctx.now.timestamp()) - 60
    leads = fake.seed(leads=23)
    fake.org.clock.frozen = None
    assert sorted(ids(pull(since(now), config, ctx))) == sorted(leads)


def test_the_window_does_not_move_with_what_changes_meanwhile(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "LIMIT", 3)
    clock, now = fake.org.clock, int(ctx.now.timestamp())
    clock.frozen = now - 100
    leads = fake.seed(leads=9)
    clock.frozen = now
    pages = []
    for page in pull(since(now - 200), config, ctx):
        pages.append(page)
        clock.frozen += 1
        fake.change("Lead", leads[len(pages) % 9], Title=f"{len(pages)}")
        assert len(pages) < 30
    assert_resumes(pages[-1], now)


def test_deletes_merges_and_purges_are_seen(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    clock, now = fake.org.clock, int(ctx.now.timestamp())
    clock.frozen = now - 7200
    winner, loser, deleted, purged = fake.seed(leads=4)
    clock.frozen = now - 300
    fake.org.delete("Lead", purged)
    fake.org.purge()
    fake.org.merge("Lead", winner, [loser])
    fake.org.delete("Lead", deleted)
    clock.frozen = now
    found = statements(pull(since(now - 900), config, ctx))
    gone = {one.record.id for one in found if isinstance(one, Fact) and one.deleted}
    assert gone == {loser, deleted, purged}
    assert {(one.a.id, one.b.id) for one in found if isinstance(one, Link)} == {(loser, winner)}


def test_a_log_of_deletes_that_begins_later_leads_to_a_full_walk(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    now = int(ctx.now.timestamp())
    fake.org.clock.frozen = now - 86_400
    fake.seed(leads=3, contacts=2)
    fake.org.clock.frozen = now
    fake.set_faults(deletes_kept=60)
    assert set(ids(pull(since(now - 3600), config, ctx))) == set(everything(fake))
    fake.set_faults()
    assert set(ids(pull(since(now - 20 * 86_400), config, ctx))) == set(everything(fake))


def test_the_next_pull_begins_where_deletes_are_known(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(ctx.now.timestamp())
    fake.org.clock.frozen = now
    covered: dict[str, Any] = {
        "deletedRecords": [],
        "earliestDateAvailable": None,
        "latestDateCovered": "2026-01-01T00:00:00.000+0000",
    }
    monkeypatch.setattr(fake.org, "deleted", lambda *_: covered)
    (*_, last) = pull(since(now - 900), config, ctx)
    assert last.resume == since(datetime(2026, 1, 1, tzinfo=UTC).timestamp() - pulling.OVERLAP)


def test_a_hub_whose_clock_runs_ahead_does_not_leave_a_gap(fake: FakeSalesforce, config: SalesforceConfig) -> None:
    ahead = Ledgered(offset=3600)
    theirs = datetime.now(UTC).timestamp()
    first = next(pull(since(theirs - 60), config, ahead))
    assert first.cursor is not None
    assert theirs - 5 < json.loads(first.cursor)["until"] <= theirs + 60


def test_a_row_read_in_the_second_of_its_change_yields_to_a_later_look(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    now = int(ctx.now.timestamp())
    fake.org.clock.frozen = now
    (lead,) = fake.make("Lead", {"LastName": "Doe", "Company": "x", "Title": "first"})
    early = list(pull(since(now - 60), config, ctx))
    fake.change("Lead", lead, Title="second")  # in the same second: the same SystemModstamp
    fake.org.clock.frozen = None
    fake.org.clock.offset = 5
    late = list(pull(since(now - 60), config, Ledgered(offset=5)))
    (one,), (other,) = ([s for s in statements(p) if isinstance(s, Fact)] for p in (early, late))
    assert one.observed_at == other.observed_at
    assert one.sequence < other.sequence
    assert {e.id for p in early for e in p.events}.isdisjoint(e.id for p in late for e in p.events)
    again = list(pull(since(now - 60), config, Ledgered(offset=5)))
    assert [e.id for p in again for e in p.events] == [e.id for p in late for e in p.events]


def test_an_opt_out_is_stated_whoever_set_it_and_no_tick_says_nothing(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    out, _ = fake.seed(leads=2)
    fake.org.update("Lead", out, {"HasOptedOutOfEmail": True}, by="0055fX000000002AAA")
    consents = [one for one in statements(pull(None, config, ctx)) if isinstance(one, Consent)]
    assert [(one.act, one.record and one.record.id, one.address) for one in consents] == [
        ("opt_out", out, "lead0@example.com")
    ]


def test_hidden_activity_is_left_out_and_hidden_people_are_the_operators(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    leads = fake.seed(leads=2, tasks=2)
    fake.set_faults(hidden=["Task", "CampaignMember"])
    assert sorted(ids(pull(None, config, ctx))) == sorted(leads)
    fake.set_faults(hidden=["Contact"])
    with pytest.raises(Config, match="Contacts"):
        list(pull(None, configured(fake, client_id="other"), ctx))


@pytest.mark.parametrize("fault", [{"bulk_lost": 2}, {"bulk_cut": True}])
def test_bulk_jobs_that_are_lost_or_cut_are_read_again(
    fault: dict[str, Any],
    fake: FakeSalesforce,
    config: SalesforceConfig,
    ctx: Ledgered,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bulk, "FROM", 0)
    monkeypatch.setattr(bulk, "PATIENCE", (0.01,))
    leads = fake.seed(leads=9)
    fake.set_faults(bulk_looks=3, **fault)
    cursor: str | None = None
    seen: list[str] = []
    tries = 0
    while tries < 3:
        try:
            for page in pull(cursor, config, ctx):
                seen += ids([page])
                cursor = page.cursor
            break
        except Retryable:
            tries += 1
    assert tries == ("bulk_cut" in fault)
    assert sorted(seen) == sorted(leads)


def test_a_bulk_job_that_failed_is_told(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "FROM", 0)
    fake.seed(leads=1)
    fake.set_faults(bulk_fails=True)
    with pytest.raises(Permanent, match="Failed"):
        list(pull(None, config, ctx))


@pytest.mark.parametrize("cursor", ["", "{", "[]", '{"of": 99}', '{"nope": 1}', "since:yesterday"])
def test_a_cursor_that_cannot_be_read_is_permanent(cursor: str, config: SalesforceConfig, ctx: Ledgered) -> None:
    with pytest.raises(Permanent):
        next(pull(cursor, config, ctx))
