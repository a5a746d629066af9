"""The webhook door: a token in the path or in a header, and a payload that an administrator worded."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from upkept.contract import Consent, RawEvent, Rejected, Request
from upkept_marketo import MarketoConfig, connector
from upkept_marketo.webhook import split, verify

CONFIG = MarketoConfig(
    client_id="c", client_secret="s", base_url="http://127.0.0.1:9", webhook_token=("old-token", "new-token")
)
NOW = datetime(2026, 11, 27, tzinfo=UTC)


def request(body: Any = None, *, header: str = "new-token", token: str = "") -> Request:
    said = body if isinstance(body, bytes) else json.dumps(body or {"lead_id": 5}).encode()
    return Request(body=said, headers={"x-upkept-token": header} if header else {}, token=token)


@pytest.mark.parametrize(
    ("header", "token"), [("new-token", ""), ("old-token", ""), ("", "new-token"), ("wrong", "new-token")]
)  # fmt: skip
def test_one_good_token_lets_in(header: str, token: str) -> None:
    verify(request(header=header, token=token), CONFIG, now=NOW)


@pytest.mark.parametrize(("header", "token"), [("", ""), ("wrong", ""), ("", "new-toke"), ("new-token ", "x"),
                                               ("n\u00ebw", "\udcff")])  # fmt: skip
def test_anything_else_is_refused(header: str, token: str) -> None:
    with pytest.raises(Rejected) as refused:
        verify(request(header=header, token=token), CONFIG, now=NOW)
    assert refused.value.status == 401
    assert "new-token" not in str(refused.value)


def test_without_a_configured_token_nobody_comes_in() -> None:
    for tokens in ((), "", ("",)):
        config = MarketoConfig(client_id="c", client_secret="s", base_url="http://x", webhook_token=tokens)
        with pytest.raises(Rejected, match="webhook_token"):
            verify(request(header="", token=""), config, now=NOW)
        with pytest.raises(Rejected):
            verify(Request(body=b"{}", headers={"x-upkept-token": ""}, token=""), config, now=NOW)


def statements(event: RawEvent) -> list[Any]:
    return list(connector.normalize(event, connector.fields))


@pytest.mark.parametrize("said", [{"lead_id": 5}, {"id": "5"}, {"leadId": " 5 "}, b"lead_id=5", b"id=5&email=", {
    "lead_id": 5, "event": "changed", "unsubscribed": False}, {"lead_id": 5, "unsubscribed": "0"}])  # fmt: skip
def test_a_hint_waits_for_the_lead_to_be_read(said: Any) -> None:
    (hint,) = split(request(said), CONFIG)
    assert (hint.kind, hint.thin, json.loads(hint.body)["lead_id"]) == ("hint", True, "5")


@pytest.mark.parametrize("said", [
    {"lead_id": 5, "email": "ann@example.com", "event": "unsubscribe"},
    {"lead_id": "5", "email": "ann@example.com", "event": " Unsubscribed "},
    {"lead_id": 5, "email": "ann@example.com", "unsubscribed": True},
    {"lead_id": 5, "email": "ann@example.com", "unsubscribed": "true"},
    b"lead_id=5&email=ann%40example.com&unsubscribed=1",
])  # fmt: skip
def test_an_unsubscribe_counts_at_once_and_is_read_back_as_well(said: Any) -> None:
    out, hint = split(request(said), CONFIG)
    assert (out.kind, out.thin, hint.thin) == ("hint.unsubscribed", False, True)
    assert out.kind in connector.lowering
    (consent,) = statements(out)
    assert isinstance(consent, Consent)
    assert (consent.act, consent.address) == ("opt_out", "ann@example.com")
    assert consent.record is not None
    assert consent.record.id == "5"


def test_without_a_time_the_minute_of_its_arrival_tells_an_unsubscribe_from_the_next() -> None:
    def ids(said: Any, at: datetime) -> list[str]:
        return [event.id for event in split(replace(request(said), received_at=at), CONFIG)]

    said = {"lead_id": 5, "event": "unsubscribe"}
    first, retry, later = (ids(said, NOW + timedelta(seconds=seconds)) for seconds in (1, 59, 60))
    assert first == retry
    assert not set(first) & set(later)
    assert len(set(first)) == 2
    timed = {**said, "at": "2026-11-20T10:00:00Z"}
    assert ids(timed, NOW) == ids(timed, NOW + timedelta(days=1)), "a time of its own says all"


def test_a_time_without_a_zone_is_no_time() -> None:
    for at, known in (("2026-11-20 10:00:00", False), ("2026-11-20T10:00:00-06:00", True), ("soon", False)):
        out, _ = split(request({"lead_id": 5, "event": "unsubscribe", "at": at}), CONFIG)
        (consent,) = statements(out)
        assert (consent.at is not None) is known


def test_the_same_hint_is_one_and_a_time_makes_another() -> None:
    first, again, later = (
        split(request({"lead_id": 5, "at": at}), CONFIG)[0].id for at in ("10:00:01", "10:00:01", "10:00:02")
    )
    assert first == again != later


@pytest.mark.parametrize("body", [
    b"", b"{", b"[]", b"null", b"5", b"{}", b"lead_id=", b"lead_id=%ff&email=x", b'{"lead_id": {{lead.Id}}}',
    b'{"lead_id": true}', b'{"lead_id": -5}', b'{"lead_id": 1e400}', b'{"lead_id": 99999999999999999999}',
    b"a" * 100_000,
    b'{"email": "no address"}', b"&".join(b"a=1" for _ in range(200)), b'{"a":' * 70 + b"1" + b"}" * 70,
    b"lead_id[=5", b"\xff\xfe\x00",
])  # fmt: skip
def test_what_names_no_lead_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        split(request(body), CONFIG)
    assert refused.value.status == 400
