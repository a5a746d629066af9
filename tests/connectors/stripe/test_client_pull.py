"""Pulling from a server that keeps state: complete, resumable, and loud when the list goes round in circles."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe
from stripe import StripeClient

from upkept.contract import Config, Page, Permanent, Retryable
from upkept.testing.fake_stripe import FakeStripe
from upkept.testing.fake_stripe import api as stripe_api
from upkept_stripe.client import pull
from upkept_stripe.client.place import Place
from upkept_stripe.client.pull import EVENT_TYPES, GROUPS, estimate
from upkept_stripe.config import StripeConfig

DAY = 86_400
NOW = 1_790_000_000


def sdk(fake: FakeStripe) -> Any:
    return StripeClient("sk_test_12345678", base_addresses={"api": fake.url}, http_client=stripe.RequestsClient())


def objects(pages: list[Page]) -> list[str]:
    """`kind id` of every object or event of the pages."""
    shown = []
    for page in pages:
        for event in page.events:
            body = json.loads(event.body)
            shown.append(
                f"{event.kind} {body['data']['object']['id'] if body['object'] == 'upkept.read' else event.id}"
            )
    return shown


def iso(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()


def test_a_full_walk_sees_every_object_once(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.seed(customers=350, subscriptions=120, invoices=90, charges=101)
    gone = sdk(fake).v1.subscriptions.list({"limit": 1}).data[0].customer
    sdk(fake).v1.customers.delete(gone)
    before = int(ctx.now.timestamp())

    pages = list(pull(None, config, ctx))

    seen = objects(pages)
    assert len(seen) == len(set(seen)) == 349 + 120 + 90 + 101
    assert f"read.customer {gone}" not in seen
    # Canceled subscriptions too: the deleted customer's is one.
    assert sum(one.startswith("read.subscription") for one in seen) == 120
    assert [page.cursor is None for page in pages].count(True) == 1
    assert pages[-1].total == len(seen)
    resume = pages[-1].resume
    assert resume is not None
    assert before - 301 <= datetime.fromisoformat(resume.removeprefix("since:")).timestamp() <= before - 298
    first = json.loads(pages[0].events[0].body)
    assert (first["object"], first["account"]) == ("upkept.read", None)
    assert before - 1 <= first["read_at"] <= before + 5


def test_estimates_move_towards_the_total(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.seed(customers=600, subscriptions=600, invoices=600, charges=600, days=300)
    totals = [page.total for page in pull(None, config, ctx)]
    assert totals[-1] == 2400
    assert all(total is not None and 1800 <= total <= 3200 for total in totals)
    assert estimate(Place(stage="events", begun=NOW, seen=5)) is None
    assert estimate(Place(stage="customers", begun=NOW)) is None


def test_a_kill_at_any_page_loses_nothing_and_repeats_nothing(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.seed(customers=350, subscriptions=120, invoices=90, charges=101)
    whole = objects(list(pull(None, config, ctx)))
    cursor: str | None = None
    resumed: list[Page] = []
    while True:
        page = next(pull(cursor, config, ctx))
        resumed.append(page)
        cursor = page.cursor
        if cursor is None:
            break
    assert objects(resumed) == whole
    assert resumed[-1].total == len(whole)
    assert resumed[-1].resume is not None


def test_an_object_deleted_under_the_cursor_does_not_break_the_walk(
    fake: FakeStripe, config: StripeConfig, ctx: Any
) -> None:
    fake.seed(customers=350, days=10)
    everybody = {f"read.customer {one.id}" for one in sdk(fake).v1.customers.list({"limit": 100}).auto_paging_iter()}
    pages = [next(pull(None, config, ctx))]
    cursor = pages[0].cursor
    assert cursor is not None
    sdk(fake).v1.customers.delete(json.loads(cursor)["after"])
    pages += list(pull(cursor, config, ctx))
    assert {one for one in objects(pages) if one.startswith("read.customer")} == everybody


def test_the_cards_on_file_come_with_the_customers(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    client = sdk(fake)
    customer = client.v1.customers.create({"email": "ann@example.com"})
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})
    page = next(pull(None, config, ctx))
    shown = json.loads(page.events[0].body)["data"]["object"]
    assert shown["invoice_settings"]["default_payment_method"]["card"]["brand"] == "visa"


def test_incremental_brings_events_under_their_own_ids_and_then_only_the_overlap(
    fake: FakeStripe, config: StripeConfig, ctx: Any
) -> None:
    fake.set_clock(NOW)
    ctx.at = NOW
    client = sdk(fake)
    for number in range(130):
        client.v1.customers.create({"email": f"{number}@example.com"})
    client.v1.products.create({"name": "no event of ours"})
    ctx.at = NOW + 200
    fake.set_clock(NOW + 200)

    first = list(pull(f"since:{iso(NOW - 10)}", config, ctx))

    known = {event.id for page in first for event in page.events}
    assert known == {
        one.id for one in client.v1.events.list({"type": "customer.created", "limit": 100}).auto_paging_iter()
    }
    assert {event.kind for page in first for event in page.events} == {"customer.created"}
    assert json.loads(first[0].events[0].body)["object"] == "event"
    assert first[-1].resume == f"since:{iso(NOW + 200 - 300)}"
    late = client.v1.customers.create({"email": "late@example.com"})
    second = [event for page in pull(first[-1].resume, config, ctx) for event in page.events]
    assert {event.id for event in second} > known
    assert [json.loads(event.body)["data"]["object"]["id"] for event in second if event.id not in known] == [late.id]
    ctx.at = NOW + 900
    fake.set_clock(NOW + 900)
    third = list(pull(f"since:{iso(NOW + 700)}", config, ctx))
    assert objects(third) == []
    assert third[-1].resume == f"since:{iso(NOW + 600)}"


def test_incremental_resumes_at_every_page(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.seed(customers=250, events=True)
    client = sdk(fake)
    for _ in range(3):
        client.v1.charges.create({"amount": 500, "currency": "usd", "source": "tok_visa"})
    start = f"since:{iso(int(ctx.now.timestamp()) - DAY)}"
    whole = objects(list(pull(start, config, ctx)))
    assert len(whole) == 253
    cursor: str | None = start
    resumed: list[Page] = []
    while cursor is not None:
        resumed.append(next(pull(cursor, config, ctx)))
        cursor = resumed[-1].cursor
    assert objects(resumed) == whole


def test_each_call_asks_for_at_most_twenty_types_and_all_are_asked_for(
    fake: FakeStripe, config: StripeConfig, ctx: Any
) -> None:
    assert all(len(group) <= 20 for group in GROUPS)
    assert sorted(kind for group in GROUPS for kind in group) == sorted(EVENT_TYPES)
    list(pull(f"since:{iso(int(ctx.now.timestamp()) - 60)}", config, ctx))
    assert fake.stats()["calls"] == {"GET /v1/events": len(GROUPS)}


def test_what_is_older_than_thirty_days_is_walked(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.seed(customers=5)
    pages = list(pull(f"since:{iso(int(ctx.now.timestamp()) - 31 * DAY)}", config, ctx))
    assert len(objects(pages)) == 5
    assert fake.stats()["calls"].get("GET /v1/events") is None
    assert "30 days" in ctx.kept.lines[0][0]


def test_a_cursor_event_that_has_expired_is_followed_by_a_walk(
    fake: FakeStripe, config: StripeConfig, ctx: Any
) -> None:
    fake.seed(customers=5)
    stood = Place(stage="events", since=int(ctx.now.timestamp()) - DAY, after="evt_gone", begun=1).to_cursor()
    pages = list(pull(stood, config, ctx))
    assert len([one for one in objects(pages) if one.startswith("read.customer")]) == 5
    assert pages[-1].resume is not None
    assert datetime.fromisoformat(pages[-1].resume.removeprefix("since:")).year > 2000


def test_too_many_requests_tell_when_to_come_back_and_the_walk_goes_on(
    fake: FakeStripe, config: StripeConfig, ctx: Any
) -> None:
    fake.seed(customers=350)
    fake.faults(rate_limit={"after": 3, "retry_after": 17, "times": 2})
    pages: list[Page] = []
    with pytest.raises(Retryable) as limited:
        pages.extend(pull(None, config, ctx))
    assert limited.value.after == 17
    # The account and two pages were answered; each page that was yielded stands.
    pages = []
    walk = pull(None, config, ctx)
    with pytest.raises(Retryable):
        next(walk)
    for page in pull(None, config, ctx):
        pages.append(page)
    assert len(objects(pages)) == 350


@pytest.mark.parametrize("page", [1, 2, 3])
def test_a_list_that_does_not_advance_fails_loudly_and_soon(
    fake: FakeStripe, config: StripeConfig, ctx: Any, page: int
) -> None:
    fake.seed(customers=1000)
    fake.faults(freeze={"list": "customers", "page": page})
    with pytest.raises(Retryable, match="does not advance"):
        list(pull(None, config, ctx))
    assert fake.stats()["calls"]["GET /v1/customers"] <= page + 2


@pytest.mark.parametrize("length", [1, 2, 3, 7, 50])
def test_a_circle_of_any_length_is_noticed_even_by_a_resumed_pull(length: int) -> None:
    with pytest.raises(Retryable, match="does not advance"):
        _walk_in_circles(length)


def _walk_in_circles(length: int) -> None:
    """Five pages straight on, then round and round, with a kill after each."""
    place = Place(stage="customers")
    for number in range(6 * length + 16):
        last = f"cus_{number if number < 5 else 5 + number % length}"
        place = Place.from_cursor(place.advanced(last, objects=1, endpoint="customers.list").to_cursor())


def test_lists_that_are_no_lists_are_asked_for_again(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.seed(customers=1)
    for broken in ("garbage", "html", "reset", "empty", "array", 500, 503, 409):
        fake.faults(fail_next=[404, broken])  # the first call asks for the account, which is not needed
        with pytest.raises(Retryable):
            list(pull(None, config, ctx))
    fake.faults()
    assert len(objects(list(pull(None, config, ctx)))) == 1


def test_a_key_that_may_not_read_a_list_names_the_cure(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.faults(forbidden=["invoices"])
    with pytest.raises(Config, match=r"invoices\.list.*read access to"):
        list(pull(None, config, ctx))
    fake.faults(forbidden=["account"])
    assert list(pull(None, config, ctx))[-1].cursor is None


def test_a_server_that_knows_fewer_parameters_will_do(
    fake: FakeStripe, config: StripeConfig, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.seed(customers=120, days=0)
    sdk(fake).v1.customers.create({"email": "new@example.com"})
    monkeypatch.setitem(stripe_api.FILTERS, "event", set())
    monkeypatch.setattr(stripe_api, "PAGING", frozenset({"limit", "starting_after"}))
    since = int(ctx.now.timestamp()) - 60
    assert [one.split()[0] for one in objects(list(pull(f"since:{iso(since)}", config, ctx)))] == ["customer.created"]
    assert len(objects(list(pull(f"since:{iso(since + 3600)}", config, ctx)))) == 0


def test_connect_reads_the_account_and_says_so(fake: FakeStripe, ctx: Any) -> None:
    fake.control("POST", "/_accounts", id="acct_conn")
    fake.seed(customers=3, events=True)
    fake.seed(customers=2, account="acct_conn", events=True)
    config = StripeConfig(api_key="sk_test_12345", base_url=fake.url, account="acct_conn")
    pages = list(pull(None, config, ctx))
    bodies = [json.loads(event.body) for page in pages for event in page.events]
    assert [body["account"] for body in bodies] == ["acct_conn"] * 2
    assert all(event.id.startswith("read:customer:acct_conn/cus_") for page in pages for event in page.events)
    assert {one["account"] for one in fake.control("GET", "/_requests")["requests"]} == {"acct_conn"}
    events = list(pull(f"since:{iso(int(ctx.now.timestamp()) - 60)}", config, ctx))
    assert [json.loads(event.body)["account"] for page in events for event in page.events] == ["acct_conn"] * 2
    with pytest.raises(Config):
        list(pull(None, replace(config, account="acct_other"), ctx))


def test_every_call_has_a_permit_a_slot_and_the_pinned_version(
    fake: FakeStripe, config: StripeConfig, ctx: Any
) -> None:
    fake.seed(customers=250, subscriptions=1)
    list(pull(None, config, ctx))
    calls = fake.stats()["calls"]
    assert ctx.permits == ctx.slots == sum(calls.values()) == 7
    assert ctx.open_slots == 0
    assert {one["version"] for one in fake.control("GET", "/_requests")["requests"]} == {"2026-10-28.endive"}


@pytest.mark.parametrize("cursor", ["", "since:yesterday", "[]", '{"stage":"coupons"}', '{"nonsense":1}', "since:"])
def test_a_cursor_that_is_not_ours_is_refused(config: StripeConfig, ctx: Any, cursor: str) -> None:
    with pytest.raises(Permanent):
        list(pull(cursor, config, ctx))
