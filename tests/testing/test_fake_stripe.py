"""The stand-in answers the official SDK as Stripe does, and misbehaves only when told to."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
import stripe
from stripe import StripeClient

from upkept.testing.fake_stripe import FakeStripe

SECRET = "whsec_fake"
DAY = 86_400
START = 1_790_000_000


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with FakeStripe() as running:
        yield running


def sdk(fake: FakeStripe, key: str = "sk_test_1234567890", **options: Any) -> Any:
    """The official SDK. Untyped: its unions of "id or object" would want a cast in every line."""
    return StripeClient(key, base_addresses={"api": fake.url}, http_client=stripe.RequestsClient(timeout=10), **options)


def subscribed(client: Any, card: str = "pm_card_visa", **options: Any) -> tuple[Any, Any]:
    """A customer with a card and a subscription at 19.00 a month."""
    customer = client.v1.customers.create({"email": "ann@example.com", "metadata": {"user_id": "42"}})
    method = client.v1.payment_methods.attach(card, {"customer": customer.id})
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})
    price = client.v1.prices.create(
        {"unit_amount": 1900, "currency": "usd", "recurring": {"interval": "month"}, "product_data": {"name": "Team"}}
    )
    return customer, client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price.id}], **options}
    )


class Inbox:
    """A webhook receiver that answers as told and keeps what came."""

    def __init__(self, statuses: list[int]) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            statuses_left: ClassVar = statuses

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                inbox.got.append((dict(self.headers), body))
                self.send_response(self.statuses_left.pop(0) if self.statuses_left else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hooks/stripe"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def events(self) -> list[Any]:
        return [json.loads(body) for _headers, body in self.got]


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    running = Inbox([])
    yield running
    running.stop()


def test_customers_live_and_die_as_at_stripe(fake: FakeStripe) -> None:
    client = sdk(fake)
    made = client.v1.customers.create({"email": "ann@example.com", "metadata": {"user_id": "42", "tier": "gold"}})
    assert (made.object, made.email, made.balance, made.livemode) == ("customer", "ann@example.com", 0, False)
    assert "subscriptions" not in made.to_dict()
    changed = client.v1.customers.update(made.id, {"name": "Ann", "metadata": {"tier": ""}})
    assert (changed.name, changed.metadata.to_dict()) == ("Ann", {"user_id": "42"})
    assert [one.id for one in client.v1.customers.list({"email": "ann@example.com"}).data] == [made.id]

    client.v1.customers.delete(made.id)

    assert client.v1.customers.retrieve(made.id).to_dict() == {"id": made.id, "object": "customer", "deleted": True}
    assert client.v1.customers.list().data == []
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.customers.retrieve("cus_none")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


def test_a_subscription_is_paid_and_tells_every_step(fake: FakeStripe) -> None:
    client = sdk(fake)
    customer, subscription = subscribed(client)
    now = client.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice", "customer"]})
    item = now["items"].data[0]
    assert (now.status, now.customer.email, item.quantity, item.price.unit_amount) == (
        "active", "ann@example.com", 1, 1900,
    )  # fmt: skip
    assert item.current_period_end - item.current_period_start in range(27 * DAY, 32 * DAY)
    assert "current_period_end" not in now.to_dict()
    assert (now.latest_invoice.status, now.latest_invoice.total) == ("paid", 1900)
    assert now.latest_invoice.parent.subscription_details.subscription == subscription.id
    charge = client.v1.charges.list({"customer": customer.id}).data[0]
    assert (charge.amount, charge.payment_method_details.card.brand) == (1900, "visa")

    client.v1.refunds.create({"charge": charge.id, "amount": 900})
    client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    client.v1.subscriptions.cancel(subscription.id)

    assert client.v1.charges.retrieve(charge.id).amount_refunded == 900
    assert client.v1.subscriptions.list({"customer": customer.id}).data == []
    assert client.v1.subscriptions.list({"status": "all"}).data[0].status == "canceled"
    assert [event.type for event in client.v1.events.list({"limit": 100}).auto_paging_iter()][::-1] == [
        "customer.created", "payment_method.attached", "customer.updated", "price.created", "customer.updated",
        "invoice.created", "invoice.finalized", "customer.subscription.created", "charge.succeeded", "invoice.paid",
        "invoice.payment_succeeded", "customer.subscription.updated", "refund.created", "charge.refunded",
        "customer.subscription.updated", "customer.subscription.deleted",
    ]  # fmt: skip
    ending = client.v1.events.list({"type": "customer.subscription.updated"}).data[0]
    assert ending.data.previous_attributes.to_dict() == {
        "cancel_at_period_end": False, "cancel_at": None, "canceled_at": None,
    }  # fmt: skip


def test_a_declined_card_leaves_the_invoice_open_until_it_is_paid(fake: FakeStripe) -> None:
    client = sdk(fake)
    customer, subscription = subscribed(client, "pm_card_chargeCustomerFail")
    assert client.v1.subscriptions.retrieve(subscription.id).status == "incomplete"
    invoice = client.v1.invoices.list({"customer": customer.id}).data[0]
    with pytest.raises(stripe.CardError):
        client.v1.invoices.pay(invoice.id)

    client.v1.invoices.pay(invoice.id, {"payment_method": "pm_card_visa"})

    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"
    types = [event.type for event in client.v1.events.list({"limit": 100}).data]
    assert types.count("invoice.payment_failed") == 2
    assert types.count("charge.failed") == 2
    assert types.count("invoice.paid") == 1


def test_time_renews_warns_and_fails(fake: FakeStripe) -> None:
    fake.set_clock(START)
    client = sdk(fake)
    _customer, subscription = subscribed(client, trial_period_days=14)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "trialing"

    fake.advance(15 * DAY)

    now = client.v1.subscriptions.retrieve(subscription.id)
    assert (now.status, now["items"].data[0].current_period_start) == ("active", START + 14 * DAY)
    warned = client.v1.events.list({"type": "customer.subscription.trial_will_end"}).data
    assert [event.created for event in warned] == [START + 11 * DAY]
    paid = client.v1.events.list({"type": "charge.succeeded"}).data
    assert [event.created for event in paid] == [START + 14 * DAY]


@pytest.mark.parametrize(
    ("version", "old"), [("2017-08-15", True), ("2025-02-24.acacia", True), ("2026-10-28.endive", False)]
)
def test_objects_are_worded_in_the_version_asked_for(fake: FakeStripe, version: str, old: bool) -> None:
    client = sdk(fake, stripe_version=version)
    customer, subscription = subscribed(client)
    shown = client.v1.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]}).to_dict()
    assert ("current_period_end" in shown) is old
    assert ("current_period_end" in shown["items"]["data"][0]) is not old
    assert ("subscription" in shown["latest_invoice"], "charge" in shown["latest_invoice"]) == (old, old)
    assert shown["latest_invoice"].get("parent") is None if old else "parent" in shown["latest_invoice"]
    person = client.v1.customers.retrieve(customer.id).to_dict()
    ancient = version < "2019"
    assert ("account_balance" in person, "subscriptions" in person, "billing" in shown) == (ancient, ancient, ancient)
    # An event keeps the account's version for ever, whatever a reader asks for.
    event = client.v1.events.list({"type": "customer.subscription.created"}).data[0]
    assert event.api_version == "2026-10-28.endive"
    assert "current_period_end" not in event.data.object


def test_lists_page_both_ways_and_know_their_parameters(fake: FakeStripe) -> None:
    fake.seed(customers=250, subscriptions=3, days=100)
    client = sdk(fake)
    walked = [one.id for one in client.v1.customers.list({"limit": 100}).auto_paging_iter()]
    assert len(walked) == len(set(walked)) == 250
    page = client.v1.customers.list({"limit": 10, "ending_before": walked[20]})
    assert ([one.id for one in page.data], page.has_more) == (walked[10:20], True)
    middle = client.v1.customers.retrieve(walked[125]).created
    assert [one.id for one in client.v1.customers.list({"created": {"lte": middle}, "limit": 2}).data] == walked[
        125:127
    ]
    for bad in ({"limit": 101}, {"starting_after": "cus_none"}, {"colour": "red"}):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            client.v1.customers.list(bad)
        assert refused.value.http_status == 400
    expanded = client.v1.subscriptions.list({"expand": ["data.customer", "data.items.data.price.product"]}).data[0]
    assert expanded.customer.email.startswith("customer")
    assert expanded["items"].data[0].price.product.name == "Seeded"


def test_events_filter_and_expire(fake: FakeStripe) -> None:
    fake.set_clock(START)
    client = sdk(fake)
    for number in range(3):
        client.v1.customers.create({"email": f"{number}@example.com"})
        fake.advance(10 * DAY)
    client.v1.products.create({"name": "Team"})
    assert [one.created for one in client.v1.events.list({"types": ["customer.created"]}).data] == [
        START + 20 * DAY, START + 10 * DAY, START,
    ]  # fmt: skip
    assert len(client.v1.events.list({"types": ["customer.created"], "created": {"gt": START}}).data) == 2
    first = client.v1.events.list({"types": ["customer.created"]}).data[-1]

    fake.advance(1)

    assert len(client.v1.events.list({"types": ["customer.created", "customer.updated"]}).data) == 2
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.events.retrieve(first.id)
    for bad in ({"types": [f"a{n}" for n in range(21)]}, {"types": ["a"], "type": "a"}):
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.events.list(bad)


def test_idempotency_keys_replay_and_refuse(fake: FakeStripe) -> None:
    client = sdk(fake)
    first = client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "k1"})
    again = client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "k1"})
    assert first.id == again.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            client.v1.charges.create(
                {"amount": 500, "currency": "usd", "source": "tok_chargeCustomerFail"}, {"idempotency_key": "k2"}
            )
    assert len(client.v1.charges.list().data) == 1
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"email": "b@example.com"}, {"idempotency_key": "k1"})
    assert client.v1.events.list({"type": "customer.created"}).data[0].request.idempotency_key == "k1"


def test_webhooks_are_signed_and_tried_again_with_a_fresh_signature(fake: FakeStripe) -> None:
    inbox = Inbox([500, 503])
    fake.webhook(inbox.url, SECRET, events=["customer.created"])
    fake.faults(retry_delays=[1.1, 0.05])
    client = sdk(fake)
    try:
        client.v1.customers.create({"email": "ann@example.com"})
        client.v1.products.create({"name": "not wanted"})
        assert fake.drain()
    finally:
        inbox.stop()
    assert len(inbox.got) == 3
    assert len({event["id"] for event in inbox.events}) == 1
    for headers, body in inbox.got:
        event = client.construct_event(body, headers["Stripe-Signature"], SECRET)
        assert (event.type, event.data.object.email) == ("customer.created", "ann@example.com")
    assert inbox.got[0][0]["Stripe-Signature"] != inbox.got[1][0]["Stripe-Signature"]
    assert fake.stats()["deliveries"] == {
        "tries": 3, "status_500": 1, "status_503": 1, "retried": 2, "delivered": 1, "pending": 0,
    }  # fmt: skip


def test_two_live_secrets_sign_twice(fake: FakeStripe, inbox: Inbox) -> None:
    fake.webhook(inbox.url, ["whsec_old", "whsec_new"])
    sdk(fake).v1.customers.create()
    assert fake.drain()
    headers, body = inbox.got[0]
    parts = [part.split("=") for part in headers["Stripe-Signature"].split(",")]
    at = dict(parts)["t"]
    signed = at.encode() + b"." + body
    expected = {hmac.new(key, signed, hashlib.sha256).hexdigest() for key in (b"whsec_old", b"whsec_new")}
    assert {value for name, value in parts if name == "v1"} == expected


def test_thin_notifications_lead_to_the_object_and_the_snapshot(fake: FakeStripe, inbox: Inbox) -> None:
    fake.webhook(inbox.url, SECRET, thin=True)
    client = sdk(fake)
    customer = client.v1.customers.create({"email": "ann@example.com"})
    client.v1.customers.update(customer.id, {"name": "Ann"})
    assert fake.drain()
    headers, body = next(one for one in inbox.got if b"customer.updated" in one[1])
    notice = client.parse_event_notification(body, headers["Stripe-Signature"], SECRET)
    assert notice.type == "v1.customer.updated"
    event = notice.fetch_event()
    assert event.snapshot_event == client.v1.events.list({"type": "customer.updated"}).data[0].id
    assert event.changes.to_dict() == {"before": {"name": None}, "after": {"name": "Ann"}}
    related = notice.fetch_related_object()
    assert related.name == "Ann"


def test_connected_accounts_and_modes_keep_apart(fake: FakeStripe, inbox: Inbox) -> None:
    fake.control("POST", "/_accounts", id="acct_conn")
    fake.webhook(inbox.url, SECRET, connect=True)
    client = sdk(fake)
    theirs = client.v1.customers.create({"email": "b@example.com"}, {"stripe_account": "acct_conn"})
    client.v1.customers.create({"email": "a@example.com"})
    assert fake.drain()
    assert [(one["account"], one["data"]["object"]["id"]) for one in inbox.events] == [("acct_conn", theirs.id)]
    assert [one.email for one in client.v1.customers.list().data] == ["a@example.com"]
    with pytest.raises(stripe.PermissionError, match="does not have access to account"):
        client.v1.customers.list({}, {"stripe_account": "acct_other"})
    ours = client.v1.customers.list().data[0].id
    with pytest.raises(stripe.InvalidRequestError, match="similar object exists in test mode"):
        sdk(fake, "sk_live_123456789").v1.customers.retrieve(ours)


def test_faults_of_the_api(fake: FakeStripe) -> None:
    client = sdk(fake)
    fake.faults(rate_limit={"after": 1, "retry_after": 7, "times": 1})
    client.v1.customers.list()
    with pytest.raises(stripe.RateLimitError) as limited:
        client.v1.customers.list()
    assert limited.value.headers is not None
    assert limited.value.headers["Retry-After"] == "7"
    client.v1.customers.list()
    fake.faults(fail_next=[503, "garbage", "html", "reset"])
    for expected in (stripe.APIError, stripe.APIError, stripe.APIError, stripe.APIConnectionError):
        with pytest.raises(expected):
            client.v1.customers.list()
    fake.faults(forbidden=["invoices"])
    with pytest.raises(stripe.PermissionError):
        client.v1.invoices.list()
    fake.faults(revoked=True)
    with pytest.raises(stripe.AuthenticationError) as refused:
        client.v1.customers.list()
    assert "sk_test_1234567890" not in str(refused.value)
    fake.faults()
    client.v1.customers.list()
    assert fake.stats()["calls"] == {"GET /v1/customers": 9, "GET /v1/invoices": 1}
    assert fake.stats()["refused"] == {"429": 1, "503": 1}


def test_a_limit_per_second_and_endpoint(fake: FakeStripe) -> None:
    fake.faults(rate_limit={"per_second": 5, "retry_after": 1})
    client = sdk(fake)
    time.sleep(1 - time.monotonic() % 1)
    refusals = 0
    for _ in range(8):
        try:
            client.v1.customers.list()
        except stripe.RateLimitError:
            refusals += 1
    assert refusals == fake.stats()["peak_per_second"]["GET /v1/customers"] - 5 > 0


def test_a_frozen_page_comes_again_and_again(fake: FakeStripe) -> None:
    fake.seed(customers=500)
    fake.faults(freeze={"list": "customers", "page": 2})
    client = sdk(fake)
    pages = [client.v1.customers.list({"limit": 100})]
    for _ in range(3):
        pages.append(client.v1.customers.list({"limit": 100, "starting_after": pages[-1].data[-1].id}))
    assert pages[0].data[0].id != pages[1].data[0].id
    assert {page.data[0].id for page in pages[1:]} == {pages[1].data[0].id}


def test_faults_of_webhooks(fake: FakeStripe, inbox: Inbox) -> None:
    fake.webhook(inbox.url, SECRET)
    fake.faults(duplicate=1.0, reorder=0.3)
    client = sdk(fake)
    for number in range(10):
        client.v1.customers.create({"email": f"{number}@example.com"})
    assert fake.drain()
    emails = [event["data"]["object"]["email"] for event in inbox.events]
    assert sorted(emails) == sorted(f"{number}@example.com" for number in [*range(10), *range(10)])
    assert emails != sorted(emails)
    fake.faults(drop=1.0)
    client.v1.customers.create({"email": "lost@example.com"})
    assert fake.drain()
    assert len(inbox.got) == 20
    undelivered = client.v1.events.list({"delivery_success": False}).data
    assert [event.data.object.email for event in undelivered] == ["lost@example.com"]


def test_disputes(fake: FakeStripe) -> None:
    client = sdk(fake)
    charge = client.v1.charges.create({"amount": 500, "currency": "usd", "source": "tok_visa"})
    opened = fake.control("POST", "/_dispute", charge=charge.id)["id"]
    client.v1.disputes.close(opened)
    assert client.v1.charges.retrieve(charge.id).disputed
    types = [event.type for event in client.v1.events.list().data]
    assert types == ["charge.dispute.closed", "charge.dispute.created", "charge.succeeded"]


def test_seeding_is_quick_and_the_controls_answer_over_http(fake: FakeStripe) -> None:
    connection = http.client.HTTPConnection(urlsplit(fake.url).netloc, timeout=30)
    started = time.monotonic()
    connection.request("POST", "/_seed", json.dumps({"customers": 10_000, "subscriptions": 10_000}))
    assert json.loads(connection.getresponse().read())["customers"] == 10_000
    assert time.monotonic() - started < 5
    connection.request("POST", "/_faults", json.dumps({"colour": "red"}))
    answer = connection.getresponse()
    assert (answer.status, "unknown faults" in answer.read().decode()) == (400, True)
    connection.request("GET", "/_stats")
    assert json.loads(connection.getresponse().read())["deliveries"] == {"pending": 0}
    connection.request("DELETE", "/_config/data")
    assert connection.getresponse().read() == b"{}"
    connection.close()
    assert sdk(fake).v1.customers.list().data == []


def test_a_stopped_server_answers_no_more() -> None:
    fake = FakeStripe().start()
    client = sdk(fake)
    client.v1.customers.list()
    fake.stop()
    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.list()


def test_it_runs_as_a_program_and_ends_when_told() -> None:
    command = [sys.executable, "-m", "upkept.testing.fake_stripe", "--port", "0", "--api-version", "2017-08-15"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        url = re.search(r"http://127\.0\.0\.1:\d+", program.stdout.readline())
        assert url is not None
        client = StripeClient("sk_test_12345678", base_addresses={"api": url[0]})
        client.v1.customers.create({"email": "ann@example.com"})
        assert client.v1.events.list().data[0].api_version == "2017-08-15"
        program.terminate()
        assert program.wait(10) == 0
