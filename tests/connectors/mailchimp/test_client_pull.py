"""Pulling from a server that keeps state: everybody once, frozen, resumable, and nobody skipped while rows move."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.connectors.mailchimp.conftest import LIST, OTHER, configured

from upkept.contract import Config, Page, Permanent, Retryable
from upkept.contract.cursors import moment
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept_mailchimp.client import pull
from upkept_mailchimp.client.place import Place, iso
from upkept_mailchimp.config import MailchimpConfig

NOW = 1_790_000_000


def emails(pages: list[Page]) -> list[str]:
    return [json.loads(event.body)["member"]["email_address"] for page in pages for event in page.events]


def everybody(fake: FakeMailchimp, *audiences: str) -> set[str]:
    return {one["email_address"] for id in audiences for one in fake.world.audiences[id].members.values()}


def walked(cursor: str | None, config: MailchimpConfig, ctx: Any) -> list[Page]:
    """Killed after every page."""
    pages = []
    while True:
        page = next(pull(cursor, config, ctx))
        pages.append(page)
        cursor = page.cursor
        if cursor is None:
            return pages


def test_a_full_walk_shows_everybody_of_every_audience_the_archived_too(fake: FakeMailchimp, ctx: Any) -> None:
    fake.audience(OTHER)
    fake.seed(audience=LIST, members=1_130, statuses={"archived": 30, "unsubscribed": 5, "cleaned": 5, "pending": 5})
    fake.seed(audience=OTHER, members=20, prefix="o")
    pages = list(pull(None, configured(fake, audiences=(LIST, OTHER)), ctx))
    seen = emails(pages)
    assert set(seen) == everybody(fake, LIST, OTHER)
    assert len(seen) < 1_150 + 30, "pages overlap by a second"
    assert [page.cursor is None for page in pages].count(True) == 1
    totals = [page.total for page in pages]
    assert totals[-1] == len(seen)
    assert all(total is not None and total >= 1_100 for total in totals)


def test_thousands_that_an_import_gave_one_second_are_all_seen(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.seed(audience=LIST, members=2_345, one_second=True)
    assert set(emails(walked(None, config, ctx))) == everybody(fake, LIST)


@pytest.mark.parametrize("one_second", [True, False])
def test_members_that_change_under_the_walk_hide_nobody(
    one_second: bool, fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    """Each change leaves the frozen window and moves all rows after it up by one."""
    fake.seed(audience=LIST, members=2_600, one_second=one_second)
    dice = random.Random(7)
    cursor: str | None = None
    seen: set[str] = set()
    changed: set[str] = set()
    while True:
        page = next(pull(cursor, config, ctx))
        seen |= set(emails([page]))
        cursor = page.cursor
        if cursor is None:
            break
        fake.control("POST", "/_clock", offset=5)
        for email in dice.sample(sorted(everybody(fake, LIST)), 40):
            fake.act("profile", email, audience=LIST, merge_fields={"FNAME": f"changed {len(changed)}"})
            changed.add(email)
    assert everybody(fake, LIST) - seen <= changed
    resume = page.resume
    assert resume is not None
    ctx.at = ctx.now.timestamp() + 10
    assert changed <= set(emails(list(pull(resume, config, ctx))))


def test_a_list_without_an_order_comes_to_an_end(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    """Who is known and was hidden is read back by the hub; who is new, the next walk or change shows."""
    fake.seed(audience=LIST, members=1_600, one_second=True)
    fake.faults(unstable=True)
    pages = list(pull(None, config, ctx))
    assert len(pages) < 60
    assert len(set(emails(pages))) > 1_000


def test_the_window_is_frozen_and_the_next_pull_begins_before_its_end(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.set_clock(NOW - 1_000)
    fake.seed(audience=LIST, members=3)
    ctx.at = NOW
    going = pull(None, config, ctx)
    first = next(going)
    fake.set_clock(NOW + 5)
    fake.act("subscribe", "late@example.com", audience=LIST)
    ctx.at = NOW + 60
    pages = [first, *going]
    assert "late@example.com" not in emails(pages)
    assert all(one["query"].get("before_last_changed") == iso(moment_of(NOW)) for one in fake.requests()
               if one["path"].endswith("/members"))  # fmt: skip
    resume = pages[-1].resume
    assert resume is not None
    assert emails(list(pull(resume, config, ctx)))[-1] == "late@example.com"


def moment_of(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def test_a_hub_whose_clock_runs_ahead_misses_nothing(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fake.set_clock(NOW)
    fake.act("subscribe", "first@example.com", audience=LIST)
    ctx.at = NOW + 3_600
    resume = list(pull(None, config, ctx))[-1].resume
    fake.set_clock(NOW + 30)
    fake.act("subscribe", "second@example.com", audience=LIST)
    assert resume is not None
    assert "second@example.com" in emails(list(pull(resume, config, ctx)))


def test_a_kill_at_any_page_loses_nothing_and_repeats_nothing(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.seed(audience=LIST, members=1_700, statuses={"archived": 600})
    ctx.at = ctx.now.timestamp()
    assert emails(walked(None, config, ctx)) == emails(list(pull(None, config, ctx)))


def test_an_incremental_pull_brings_what_changed_and_no_more(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.seed(audience=LIST, members=40)
    fake.act("archive", "m3@example.com", audience=LIST)
    fake.act("unsubscribe", "m4@example.com", audience=LIST)
    ctx.at = ctx.now.timestamp() + 2
    since = ctx.now - timedelta(minutes=5)
    pages = list(pull(f"since:{since.isoformat()}", config, ctx))
    assert sorted(emails(pages)) == ["m3@example.com", "m4@example.com"]
    nothing = list(pull(f"since:{(ctx.now + timedelta(hours=1)).isoformat()}", config, ctx))
    assert emails(nothing) == []
    assert nothing[-1].resume == f"since:{iso(ctx.now + timedelta(hours=1))}"


def test_an_error_never_moves_the_cursor(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fake.seed(audience=LIST, members=1_200)
    cursor = next(pull(None, config, ctx)).cursor
    for how in (429, 500, "html", "nothing", "empty", "garbage", "array", "reset", "page"):
        fake.faults(fail_next=[how])
        with pytest.raises(Retryable):
            next(pull(cursor, config, ctx))
    fake.faults()
    assert len(set(emails([next(pull(None, config, ctx)), *pull(cursor, config, ctx)]))) == 1_200


def test_a_list_of_strangers_is_asked_for_again(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fake.seed(audience=LIST, members=2)
    for member in fake.world.audiences[LIST].members.values():
        member["id"] = "not a hash"
    with pytest.raises(Retryable, match="not a list of members"):
        list(pull(None, config, ctx))


def test_a_contact_without_an_address_is_no_member_for_mail(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.seed(audience=LIST, members=2)
    next(iter(fake.world.audiences[LIST].members.values()))["email_address"] = ""
    assert len(emails(list(pull(None, config, ctx)))) == 1


def test_wrong_audiences_and_cursors_say_what_to_do(fake: FakeMailchimp, ctx: Any) -> None:
    with pytest.raises(Config, match="`audiences`"):
        list(pull(None, configured(fake, audiences=()), ctx))
    with pytest.raises(Config, match=OTHER):
        list(pull(None, configured(fake, audiences=(OTHER,)), ctx))
    for wrong in ("{", "[]", '{"x": 1}', "since:yesterday"):
        with pytest.raises(Permanent):
            list(pull(wrong, configured(fake), ctx))
    place = replace(Place(until=iso(ctx.now)), audience=LIST, archived=True)
    with pytest.raises((Permanent, Config)):
        list(pull(place.to_cursor(), configured(fake, audiences=(OTHER,)), ctx))
    assert Place.from_cursor(place.to_cursor()) == place
    assert moment("2026-03-01T10:00:00").tzinfo is not None
