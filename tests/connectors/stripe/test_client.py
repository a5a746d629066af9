"""Reading objects and completing thin events; every error in our words; never a secret in any of them."""

from __future__ import annotations

import inspect
import json
import logging
import multiprocessing
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import stripe
from stripe import StripeClient, oauth_error

from upkept.contract import Config, Permanent, RawEvent, Retryable, Skipped, UpkeptError
from upkept.contract.clocks import vendor_time
from upkept.testing.fake_stripe import FakeStripe
from upkept.testing.fake_stripe.world import notification
from upkept_stripe.client import api, fetch, probe
from upkept_stripe.client.errors import Forbidden, NotFound, Refused, translated
from upkept_stripe.config import StripeConfig
from upkept_stripe.normalize import KINDS

KEY = "sk_test_planted4242secret"


def sdk(fake: FakeStripe, **options: Any) -> Any:
    return StripeClient(
        "sk_test_12345678", base_addresses={"api": fake.url}, http_client=stripe.RequestsClient(), **options
    )


def read_back(of: str, id: str) -> RawEvent:
    return RawEvent(id=id, kind=f"read.{of}", body=b"")


def opened(event: RawEvent) -> Any:
    return json.loads(event.body)


def thin(fake: FakeStripe, type: str, account: str | None = None) -> RawEvent:
    """The thin notification of the newest event of a type, as the door stores it."""
    ledger = fake.world.ledger(account, live=False)
    event = [row for row in ledger.tables["event"].rows.values() if row["type"] == type][-1]
    notice = notification(ledger, event)
    return RawEvent(id=notice["id"], kind=notice["type"], body=json.dumps(notice).encode(), thin=True)


def subscribed(client: Any) -> tuple[str, str]:
    customer = client.v1.customers.create({"email": "ann@example.com", "metadata": {"user_id": "42"}})
    method = client.v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    client.v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": method.id}})
    price = client.v1.prices.create(
        {"unit_amount": 1900, "currency": "usd", "recurring": {"interval": "month"}, "product_data": {"name": "Team"}}
    )
    return customer.id, client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]}).id


def test_a_customer_is_read_with_subscriptions_and_card_in_one_call(
    fake: FakeStripe, config: StripeConfig, ctx: Any
) -> None:
    customer, subscription = subscribed(sdk(fake))
    before = fake.stats()["calls"]
    event = fetch(read_back("customer", customer), config, ctx)
    body = opened(event)
    assert (event.kind, body["object"], body["account"]) == ("read.customer", "upkept.read", None)
    assert event.kind in KINDS
    assert event.id.startswith(f"read:customer:{customer}:{body['read_at']}:")
    shown = body["data"]["object"]
    assert [one["id"] for one in shown["subscriptions"]["data"]] == [subscription]
    assert shown["invoice_settings"]["default_payment_method"]["card"]["last4"] == "4242"
    assert abs(body["read_at"] - datetime.now(UTC).timestamp()) < 3
    assert fake.stats()["calls"] == {**before, "GET /v1/customers/{id}": 1}
    assert (ctx.permits, ctx.slots) == (1, 1)


def test_two_states_read_in_one_second_are_two_reads(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.set_clock(1_790_000_000)
    ctx.at = 1_790_000_000
    customer = sdk(fake).v1.customers.create({"email": "a@example.com"}).id
    first, again = (fetch(read_back("customer", customer), config, ctx) for _ in range(2))
    sdk(fake).v1.customers.update(customer, {"email": "b@example.com"})
    changed = fetch(read_back("customer", customer), config, ctx)
    assert first == again
    assert changed.id != first.id
    assert opened(changed)["read_at"] == opened(first)["read_at"] == 1_790_000_000


@pytest.mark.parametrize("of", ["subscription", "invoice", "charge"])
def test_parts_are_read_by_their_own_id(fake: FakeStripe, config: StripeConfig, ctx: Any, of: str) -> None:
    subscribed(sdk(fake))
    id = next(iter(fake.world.ledger(None, live=False).tables[of].rows))
    event = fetch(read_back(of, id), config, ctx)
    assert (event.kind, opened(event)["data"]["object"]["id"]) == (f"read.{of}", id)
    if of == "invoice":
        assert opened(event)["data"]["object"]["payments"]["data"][0]["payment"]["payment_intent"].startswith("pi_")


@pytest.mark.parametrize("gone", ["deleted", "never"])
def test_what_stripe_no_longer_knows_is_read_as_deleted(
    fake: FakeStripe, config: StripeConfig, ctx: Any, gone: str
) -> None:
    customer = "cus_9"
    if gone == "deleted":
        customer = sdk(fake).v1.customers.create({"email": "a@example.com"}).id
        sdk(fake).v1.customers.delete(customer)
    body = opened(fetch(read_back("customer", customer), config, ctx))
    assert body["data"]["object"] == {"id": customer, "object": "customer", "deleted": True}
    assert abs(body["read_at"] - datetime.now(UTC).timestamp()) < 3


def test_a_bare_404_deletes_nobody(fake: FakeStripe, ctx: Any) -> None:
    lost = StripeConfig(api_key=KEY, base_url=f"{fake.url}/wrong")
    fake.faults(fail_next=["html"])
    with pytest.raises(UpkeptError) as missing:
        fetch(read_back("customer", "cus_9"), StripeConfig(api_key=KEY, base_url=fake.url), ctx)
    assert isinstance(missing.value, Retryable)
    with pytest.raises(Permanent, match="base_url"):
        fetch(read_back("customer", "cus_9"), lost, ctx)


def test_an_object_of_the_other_mode_is_not_deleted(fake: FakeStripe, ctx: Any) -> None:
    customer = sdk(fake).v1.customers.create({"email": "a@example.com"}).id
    live = StripeConfig(api_key="sk_live_1234567890", base_url=fake.url)
    with pytest.raises(Skipped, match="other mode"):
        fetch(read_back("customer", customer), live, ctx)


def test_a_connected_accounts_customer_is_read_in_its_account(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.control("POST", "/_accounts", id="acct_conn")
    customer = sdk(fake).v1.customers.create({"email": "a@example.com"}, {"stripe_account": "acct_conn"}).id
    body = opened(fetch(read_back("customer", f"acct_conn/{customer}"), config, ctx))
    assert (body["account"], body["data"]["object"]["email"]) == ("acct_conn", "a@example.com")
    assert fake.control("GET", "/_requests")["requests"][-1]["account"] == "acct_conn"


def test_a_key_without_payment_methods_still_reads_customers(
    fake: FakeStripe, config: StripeConfig, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer = sdk(fake).v1.customers.create({"email": "a@example.com"}).id
    fake.faults(fail_next=[403])
    assert opened(fetch(read_back("customer", customer), config, ctx))["data"]["object"]["id"] == customer
    fake.faults(fail_next=[403, 403])
    with pytest.raises(Config):
        fetch(read_back("customer", customer), config, ctx)


def test_a_thin_event_is_completed_by_its_snapshot_twin(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    client = sdk(fake)
    customer = client.v1.customers.create({"email": "a@example.com"})
    client.v1.customers.update(customer.id, {"name": "Ann"})
    twin = client.v1.events.list({"type": "customer.updated"}).data[0]
    event = fetch(thin(fake, "customer.updated"), config, ctx)
    assert (event.id, event.kind, event.thin) == (twin.id, "customer.updated", False)
    assert opened(event)["data"]["previous_attributes"] == {"name": None}
    assert ctx.permits == 2


@pytest.mark.parametrize(
    ("type", "kind"),
    [("charge.succeeded", "read.charge"), ("payment_method.attached", "read.customer"),
     ("refund.created", "read.charge"), ("charge.dispute.created", "read.charge"),
     ("customer.subscription.created", "read.subscription")],
)  # fmt: skip
def test_a_thin_event_that_has_expired_is_replaced_by_a_read(
    fake: FakeStripe, config: StripeConfig, ctx: Any, type: str, kind: str
) -> None:
    client = sdk(fake)
    customer, _ = subscribed(client)
    charge = client.v1.charges.list({"customer": customer}).data[0].id
    client.v1.refunds.create({"charge": charge, "amount": 5})
    fake.control("POST", "/_dispute", charge=charge)
    notice = thin(fake, type)
    fake.control("POST", "/_clock", offset=31 * 86_400)
    event = fetch(notice, config, ctx)
    assert event.kind == kind
    expected = charge if kind == "read.charge" else customer
    shown = opened(event)["data"]["object"]
    assert expected in (shown["id"], shown.get("customer"))


def test_a_thin_event_of_a_connected_account(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    fake.control("POST", "/_accounts", id="acct_conn")
    sdk(fake).v1.customers.create({"email": "a@example.com"}, {"stripe_account": "acct_conn"})
    body = opened(fetch(thin(fake, "customer.created", "acct_conn"), config, ctx))
    assert (body["type"], body["account"]) == ("customer.created", "acct_conn")


def test_what_is_not_ours_or_not_an_event_is_said_so(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    with pytest.raises(Skipped):
        fetch(read_back("coupon", "co_9"), config, ctx)
    with pytest.raises(Skipped):
        fetch(read_back("payment_method", "pm_none"), config, ctx)
    notice = {"id": "evt_9", "related_object": {"id": "tx_9", "type": "tax_id"}}
    with pytest.raises(Skipped):
        fetch(RawEvent(id="evt_9", kind="v1.x", body=json.dumps(notice).encode(), thin=True), config, ctx)
    for body in (b"{", b"[]", b"{}"):
        with pytest.raises(Permanent):
            fetch(RawEvent(id="evt_9", kind="v1.x", body=body, thin=True), config, ctx)


def test_an_id_cannot_lead_the_key_elsewhere(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    body = opened(fetch(read_back("customer", "cus_9?x=1#@example.com"), config, ctx))
    assert body["data"]["object"]["deleted"] is True
    asked = fake.control("GET", "/_requests")["requests"][-1]["path"]
    assert asked.startswith("/v1/customers/cus_9%3Fx%3D1%23%40example.com?expand")


@pytest.mark.parametrize("offset", [-3600, -1, 0, 1, 3600])
def test_a_read_is_dated_by_stripes_clock(fake: FakeStripe, config: StripeConfig, ctx: Any, offset: float) -> None:
    """A hub whose clock runs ahead must not let a read beat the events after it (SEMANTICS R3)."""
    fake.seed(customers=1)
    ctx.offset = offset
    read_at = opened(fetch(read_back("customer", "cus_9"), config, ctx))["read_at"]
    assert abs(read_at - datetime.now(UTC).timestamp()) < 3


def test_the_time_of_sending_counts() -> None:
    sent = datetime(2026, 11, 24, 10, 0, 0, 900_000, tzinfo=UTC)
    second = int(sent.timestamp())
    answered = sent + timedelta(seconds=1.5)
    assert vendor_time(sent, answered, format_datetime(answered, usegmt=True)) == second
    assert vendor_time(sent, answered, format_datetime(answered - timedelta(hours=1), usegmt=True)) <= second - 3600
    assert vendor_time(sent, answered, None) == vendor_time(sent, answered, "yesterday") == second


def test_the_probe_names_the_account_and_what_is_closed(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    assert probe(config, ctx).account == "acct_fake"
    assert probe(config, ctx).warnings == ()
    fake.faults(forbidden=["account", "charges"])
    found = probe(config, ctx)
    assert (found.account, len(found.warnings)) == ("the key's own account", 1)
    assert "charges" in found.warnings[0]
    fake.faults(forbidden=["account", "customers", "subscriptions", "invoices", "charges", "events"])
    with pytest.raises(Config, match="read access"):
        probe(config, ctx)
    fake.faults(revoked=True)
    with pytest.raises(Config, match="api_key"):
        probe(config, ctx)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, Refused), (401, Config), (402, Permanent), (403, Forbidden), (404, NotFound), (405, Permanent),
     (409, Retryable), (429, Retryable), (500, Retryable), (502, Retryable), (503, Retryable)],
)  # fmt: skip
def test_each_status_has_one_meaning(
    fake: FakeStripe, config: StripeConfig, ctx: Any, status: int, expected: type[UpkeptError]
) -> None:
    fake.faults(fail_next=[status, status])
    with pytest.raises(expected) as said:
        api.ask("/v1/customers", config, ctx, endpoint="customers.list")
    assert type(said.value) is expected
    assert isinstance(said.value.__cause__, stripe.StripeError)


def test_retry_after_is_heard_in_seconds_and_as_a_date() -> None:
    def after(value: str | None, **headers: str) -> float | None:
        given = headers | ({"retry-after": value} if value is not None else {})
        ours = translated(stripe.RateLimitError("slow down", None, 429, None, given), endpoint="x")
        assert isinstance(ours, Retryable)
        return ours.after

    assert [after("7"), after("0.5"), after("-3"), after(None), after("nan"), after("inf"), after("soon")] == [
        7.0, 0.5, 0.0, None, None, None, None,
    ]  # fmt: skip
    assert after("99999999") == 86_400
    assert after("Tue, 24 Nov 2026 10:00:30 GMT", date="Tue, 24 Nov 2026 10:00:00 GMT") == 30
    # A proxy's 429 that is not JSON: the SDK mislays the headers.
    html = stripe.APIError("Invalid response body", b"<html>", 429, {"retry-after": "9"})
    ours = translated(html, endpoint="x")
    assert isinstance(ours, Retryable)
    assert ours.after == 9


def all_errors(of: type[stripe.StripeError] = stripe.StripeError) -> Iterator[type[stripe.StripeError]]:
    yield of
    for below in of.__subclasses__():
        yield from all_errors(below)


def made(error: Any, status: int | None) -> stripe.StripeError:
    """An instance of any of the SDK's errors, whatever it asks for; its texts hold what must not leak."""
    secret = f"{KEY} ann@example.com"
    body = {"error": {"message": secret}}
    wants = list(inspect.signature(error.__init__).parameters)[1:]
    known = {"http_status": status, "json_body": body, "headers": {}, "should_retry": False}
    built: stripe.StripeError = error(**{name: known.get(name, secret) for name in wants})
    return built


@pytest.mark.parametrize("error", sorted(set(all_errors()), key=str))
def test_no_error_of_the_sdk_is_without_a_translation(error: type[stripe.StripeError]) -> None:
    for status in (None, 400, 401, 403, 404, 409, 429, 500):
        ours = translated(made(error, status), endpoint="customers.list")
        assert isinstance(ours, Config | Retryable | Permanent)
        assert "customers.list" in str(ours)
        assert KEY not in str(ours)
        assert "ann@example.com" not in str(ours)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(stripe.AuthenticationError, Config), (stripe.PermissionError, Config), (stripe.RateLimitError, Retryable),
     (stripe.APIConnectionError, Retryable), (stripe.FeatureNotEnabledError, Config), (stripe.CardError, Permanent),
     (stripe.QuotaExceededError, Retryable), (stripe.TemporarySessionExpiredError, Retryable),
     (oauth_error.InvalidClientError, Config), (stripe.IdempotencyError, Permanent), (stripe.APIError, Retryable)],
)  # fmt: skip
def test_who_acts_next(error: type[stripe.StripeError], expected: type[UpkeptError]) -> None:
    assert isinstance(translated(made(error, None), endpoint="x"), expected)


def test_neither_errors_nor_logs_hold_the_key(
    fake: FakeStripe,
    config: StripeConfig,
    ctx: Any,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    customer = sdk(fake).v1.customers.create({"email": "ann@example.com"}).id
    api._client.cache_clear()
    logging.getLogger("stripe").setLevel(logging.NOTSET)
    messages = []
    with caplog.at_level(logging.DEBUG):
        fetch(read_back("customer", customer), config, ctx)
        fake.faults(revoked=True)
        with pytest.raises(Config) as refused:
            fetch(read_back("customer", customer), config, ctx)
        messages.append(str(refused.value))
    out = capfd.readouterr()
    everything = "\n".join([*messages, caplog.text, out.out, out.err, repr(ctx.kept.lines), repr(config)])
    assert "`api_key`" in messages[0]
    assert KEY not in everything.replace(repr(config), "")
    assert "ann@example.com" not in everything


def test_clients_are_shared_in_a_process_and_never_after_a_fork(config: StripeConfig) -> None:
    ours = api._client(1, KEY, config.base_url)
    assert api._client(1, KEY, config.base_url) is ours
    assert api._client(2, KEY, config.base_url) is not ours
    assert api._client(1, f"{KEY}2", config.base_url) is not ours


def test_a_forked_worker_reads_as_well(fake: FakeStripe, config: StripeConfig, ctx: Any) -> None:
    customer = sdk(fake).v1.customers.create({}).id
    fetch(read_back("customer", customer), config, ctx)
    forking = multiprocessing.get_context("fork")
    answers = forking.Queue()

    def work() -> None:
        known = api._client.cache_info().misses
        kind = fetch(read_back("customer", customer), config, ctx).kind
        answers.put((kind, api._client.cache_info().misses - known))

    child = forking.Process(target=work)
    child.start()
    assert answers.get(timeout=20) == ("read.customer", 1)
    child.join(20)


def test_a_silent_server_is_given_up(fake: FakeStripe, ctx: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "READ_TIMEOUT", 0.3)
    api._client.cache_clear()
    fake.faults(slow=2.0)
    with pytest.raises(Retryable, match="no answer"):
        fetch(read_back("customer", "cus_9"), StripeConfig(api_key="sk_test_silent12", base_url=fake.url), ctx)
    api._client.cache_clear()
    nobody = StripeConfig(api_key=KEY, base_url="http://127.0.0.1:9")
    with pytest.raises(Retryable, match="no answer"):
        fetch(read_back("customer", "cus_9"), nobody, ctx)
