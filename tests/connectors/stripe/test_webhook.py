"""The webhook door: signatures, modes, accounts, and bodies that are no events."""

from __future__ import annotations

import hmac
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from upkept.contract import RawEvent, Rejected, Request, Skipped
from upkept_stripe import StripeConfig, connector
from upkept_stripe.webhook import split, verify

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECRET = "whsec_current"
CONFIG = StripeConfig(api_key="sk_test_1", webhook_secret=SECRET)
EVENT = {"id": "evt_1", "object": "event", "type": "customer.created", "livemode": False, "data": {"object": {}}}


def request(body: bytes = b"{}", *, at: datetime = NOW, secret: str = SECRET, header: str = "{t},{v1}") -> Request:
    time = str(int(at.timestamp()))
    signature = hmac.digest(secret.encode(), time.encode() + b"." + body, "sha256").hex()
    return Request(body=body, headers={"stripe-signature": header.format(t=f"t={time}", v1=f"v1={signature}")})


def posted(event: Any, config: StripeConfig = CONFIG) -> RawEvent:
    (one,) = split(Request(body=json.dumps(event).encode(), headers={}), config)
    return one


@pytest.mark.parametrize(
    "header",
    [
        "{t},{v1}",
        "{v1},{t}",
        " {t} , {v1} ",
        "{t},v1=00ff,{v1}",
        "{t},{v1},v1=00ff",
        "{t},v0=6ffbb59b,{v1},v2=aa",
    ],
)
def test_what_stripe_signed_comes_in(header: str) -> None:
    verify(request(header=header), CONFIG, now=NOW)


def test_only_the_scheme_v1_counts() -> None:
    good = request()
    other = good.headers["stripe-signature"].replace("v1=", "v0=") + ",v1=00ff"
    with pytest.raises(Rejected, match="does not match"):
        verify(Request(body=good.body, headers={"stripe-signature": other}), CONFIG, now=NOW)


def test_while_a_secret_is_rotated_both_will_do() -> None:
    config = StripeConfig(api_key="sk_test_1", webhook_secret=("whsec_old", "whsec_current"))
    for secret in ("whsec_old", "whsec_current"):
        verify(request(secret=secret), config, now=NOW)
    with pytest.raises(Rejected, match="does not match"):
        verify(request(secret="whsec_older"), config, now=NOW)


@pytest.mark.parametrize("seconds", [-300, -299, 0, 299, 300])
def test_five_minutes_either_way_are_fresh(seconds: int) -> None:
    verify(request(at=NOW + timedelta(seconds=seconds)), CONFIG, now=NOW)


@pytest.mark.parametrize(
    ("seconds", "reason"), [(-301, "301 s old"), (301, "301 s in the future"), (10**9, "in the future")]
)
def test_more_are_not(seconds: int, reason: str) -> None:
    with pytest.raises(Rejected, match=reason) as caught:
        verify(request(at=NOW + timedelta(seconds=seconds)), CONFIG, now=NOW)
    assert caught.value.status == 401


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        "t=,{v1}",
        "{t}",
        "{v1}",
        "t=12a,{v1}",
        "t=-5,{v1}",
        "t=\uff11\uff12,{v1}",
        "{t},v0=6ffb",
        "{t},v1=é",
        "t=9999999999999,{v1}",
    ],
)
def test_a_header_of_another_form_is_refused(header: str) -> None:
    with pytest.raises(Rejected) as caught:
        verify(request(header=header), CONFIG, now=NOW)
    assert caught.value.status == 401
    assert str(caught.value)


def test_the_signature_is_of_the_raw_bytes() -> None:
    good = request(b'{"a": 1}')
    with pytest.raises(Rejected, match="byte for byte"):
        verify(Request(body=b'{"a":1}', headers=good.headers), CONFIG, now=NOW)
    verify(request(b"\xff\x00not json"), CONFIG, now=NOW)


@pytest.mark.parametrize("secret", ["", (), ("",)])
def test_without_a_secret_nobody_comes_in(secret: Any) -> None:
    config = StripeConfig(api_key="sk_test_1", webhook_secret=secret)
    with pytest.raises(Rejected, match="set webhook_secret"):
        verify(request(secret=""), config, now=NOW)


def test_an_event_keeps_its_bytes_and_its_own_id() -> None:
    body = json.dumps(EVENT, indent=3).encode()
    assert list(split(Request(body=body, headers={}), CONFIG)) == [
        RawEvent(id="evt_1", kind="customer.created", body=body)
    ]


def test_an_unknown_kind_is_kept_so_that_the_inbox_shows_it() -> None:
    event = posted({**EVENT, "type": "radar.early_fraud_warning.created"})
    with pytest.raises(Skipped, match="radar"):
        list(connector.normalize(event, connector.fields))


@pytest.mark.parametrize(
    ("type", "thin"), [("customer", True), ("subscription", True), ("payment_method", True), ("product", False)]
)
def test_a_thin_event_waits_for_its_object_if_the_object_is_ours(type: str, thin: bool) -> None:
    event = {"id": "evt_2", "object": "v2.core.event", "type": f"v1.{type}.updated", "livemode": False,
             "related_object": {"id": "x_1", "type": type, "url": f"/v1/{type}s/x_1"}}  # fmt: skip
    assert posted(event).thin is thin
    assert posted({**event, "related_object": None}).thin is False


@pytest.mark.parametrize(
    ("key", "livemode", "skipped"),
    [
        ("sk_live_1", False, True),
        ("rk_live_1", False, True),
        ("sk_test_1", True, True),
        ("rk_test_1", True, True),
        ("sk_live_1", True, False),
        ("rk_test_1", False, False),
        ("sk_org_live_1", False, True),
        ("sk_anything", True, False),
        ("sk_test_1", None, False),
    ],
)
def test_an_event_of_the_other_mode_is_skipped(key: str, livemode: bool | None, skipped: bool) -> None:
    config = StripeConfig(api_key=key)
    event = {**EVENT, "livemode": livemode}
    if not skipped:
        assert posted(event, config).id == "evt_1"
        return
    with pytest.raises(Skipped, match="mode event, but api_key is of") as caught:
        posted(event, config)
    assert caught.value.kind == EVENT["type"]


def test_with_an_account_only_its_events_count() -> None:
    config = StripeConfig(api_key="sk_test_1", account="acct_1")
    assert posted({**EVENT, "account": "acct_1"}, config).id == "evt_1"
    with pytest.raises(Skipped, match="another connected account"):
        posted({**EVENT, "account": "acct_2"}, config)
    with pytest.raises(Skipped, match="remove `account`"):
        posted(EVENT, config)
    thin = {"id": "evt_2", "object": "v2.core.event", "type": "v1.customer.updated", "context": "acct_1"}
    assert posted(thin, config).id == "evt_2"
    assert posted({**thin, "context": "org_1/acct_1"}, config).id == "evt_2"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"{}", "no id or no type"),
        (b'{"id": 7, "type": "x", "object": "event"}', "no id or no type"),
        (b'{"id": "evt_1", "type": "", "object": "event"}', "no id or no type"),
        (b'{"id": "evt 1", "type": "x", "object": "event"}', "no id or no type"),
        (b'{"id": "' + b"e" * 300 + b'", "type": "x", "object": "event"}', "no id or no type"),
        (b'{"id": "evt_1", "type": "x", "object": "charge"}', 'neither "event" nor'),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "more than 64 levels"),
        (b"[" * 200_000, "not JSON|64 levels"),
    ],
)
def test_what_is_no_event_is_a_bad_request(body: bytes, reason: str) -> None:
    with pytest.raises(Rejected, match=reason) as caught:
        split(Request(body=body, headers={}), CONFIG)
    assert caught.value.status == 400


def test_depth_is_depth_and_not_size() -> None:
    wide = {**EVENT, "data": {"object": {"id": "cus_1", "lines": [{"n": [n]} for n in range(500)]}}}
    assert posted(wide).id == "evt_1"
    deep: Any = 1
    for _ in range(61):
        deep = [deep]
    assert posted({**EVENT, "data": deep, "more": [[]] * 80}).id == "evt_1"
    with pytest.raises(Rejected, match="64 levels"):
        posted({**EVENT, "data": [[[deep]]], "more": [[]] * 80})


def test_lone_surrogates_and_nul_are_read() -> None:
    body = json.dumps({**EVENT, "data": {"object": {"id": "cus_1", "email": "a@example.com", "name": "\ud800 \x00"}}})
    (event,) = split(Request(body=body.encode(), headers={}), CONFIG)
    (fact, *_) = connector.normalize(event, connector.fields)
    assert fact.fields["name"] == "\ud800 \x00"  # type: ignore[union-attr]  # the hub replaces them when it stores


def test_the_web_process_never_loads_the_sdk() -> None:
    program = (
        "import sys, json, upkept_stripe as s; from upkept.contract import RawEvent; "
        "body = json.dumps({'created': 1, 'data': {'object': {'id': 'cus_1', 'object': 'customer'}}}).encode(); "
        "list(s.connector.normalize(RawEvent(id='e', kind='customer.created', body=body), s.connector.fields)); "
        "sys.exit('stripe' in sys.modules or 'requests' in sys.modules or 'upkept_stripe.client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_secrets_do_not_show() -> None:
    assert "sk_test_1" not in repr(CONFIG)
    assert "whsec_current" not in repr(CONFIG)
