"""One call to Marketo: the token, errors on three levels, and what is never said in a log."""

from __future__ import annotations

import logging
import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.connectors.marketo.conftest import SECRET, Lent, configured

from upkept.contract import Config, Permanent, RawEvent, Retryable, Skipped, UpkeptError
from upkept.testing.fake_marketo import FakeMarketo
from upkept_marketo import MarketoConfig
from upkept_marketo.client import api, fetch, fetch_many, probe
from upkept_marketo.client.errors import NoData, Refused, of_response, until_midnight
from upkept_marketo.client.read import leads
from upkept_marketo.payload import read_object

IDENTITY = "/identity/oauth/token"
LEADS = "/rest/v1/leads.json"


def read_back(id: int) -> RawEvent:
    return RawEvent(id=str(id), kind="read.lead", body=b"")


def test_a_lead_is_read_with_the_fields_that_the_subscription_has(fake: FakeMarketo, ctx: Lent) -> None:
    id = fake.do("create", fields={"email": "ann@example.com", "plan": "gold"})
    config = configured(fake, lead_fields=("plan", "noSuchField"))
    answer = fetch(read_back(id), config, ctx)
    said = read_object(answer.body)
    assert (answer.kind, said["gone"], said["leads"][0]["plan"]) == ("read.lead", [], "gold")
    assert said["leads"][0]["unsubscribed"] is False, "not among the fields that Marketo gives unasked"
    (asked,) = [one["query"]["fields"].split(",") for one in fake.requests() if one["path"] == LEADS]
    assert "noSuchField" not in asked
    assert ctx.permits == ctx.slots == len(fake.requests()) - 1, "all but the token, which costs no quota"
    fetch(read_back(id), config, ctx)
    assert fake.stats()["calls"]["/rest/v1/leads/describe.json"] == 1, "its fields are known for a day"


def test_a_lead_that_is_no_more_is_gone(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    assert read_object(fetch(read_back(77), config, ctx).body)["gone"] == ["77"]
    with pytest.raises(Skipped):
        fetch(RawEvent(id="no number", kind="read.lead", body=b""), config, ctx)


def test_a_hint_is_completed_by_id_or_by_address(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    ids = [fake.do("create", fields={"email": "Ann+1@example.com"}) for _ in range(2)]
    by_id = fetch(RawEvent(id="h", kind="hint", body=b'{"lead_id":"%d"}' % ids[0], thin=True), config, ctx)
    assert [one["id"] for one in read_object(by_id.body)["leads"]] == ids[:1]
    by_email = fetch(RawEvent(id="h", kind="hint", body=b'{"email":"ann+1@example.com"}', thin=True), config, ctx)
    assert [one["id"] for one in read_object(by_email.body)["leads"]] == ids
    for email in ("nobody@example.com", "j\u00f6rg@example.com", "a@example.com,b@example.com"):
        with pytest.raises(Skipped):
            fetch(RawEvent(id="h", kind="hint", body=f'{{"email":"{email}"}}'.encode(), thin=True), config, ctx)


def test_many_hints_are_completed_by_one_call_for_each_three_hundred(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    ids = [*fake.seed(301), 9999]
    hints = [RawEvent(id=f"h{id}", kind="hint", body=b'{"lead_id":"%d"}' % id, thin=True) for id in (ids[0], *ids)]
    others = [RawEvent(id="m", kind="hint", body=b'{"email":"lead1@example.com"}', thin=True),
              RawEvent(id="b", kind="hint", body=b"[", thin=True)]  # fmt: skip
    before = fake.stats()["calls"].get("/rest/v1/leads.json", 0)
    answers = list(fetch_many([*others, *hints], config, ctx))
    assert fake.stats()["calls"]["/rest/v1/leads.json"] - before == 2
    assert [hint.id for hint, _ in answers] == [hint.id for hint in hints], "an address and rubbish are left to fetch"
    for hint, answer in (answers[0], answers[-1]):
        said = read_object(answer.body)
        alone = read_object(fetch(hint, config, ctx).body)
        assert (said["leads"], said["gone"]) == (alone["leads"], alone["gone"])


def test_a_read_is_never_later_than_what_it_shows(fake: FakeMarketo, config: MarketoConfig) -> None:
    id = fake.do("create", fields={"email": "ann@example.com"})
    ahead = Lent(offset=3600)
    now = datetime.now(UTC).timestamp()
    assert abs(read_object(fetch(read_back(id), config, ahead).body)["read_at"] - now) <= 2


def test_one_token_serves_all_calls_and_goes_in_a_header(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    for _ in range(3):
        fetch(read_back(1), config, ctx)
    fetch(read_back(1), config, Lent(tokens=ctx.tokens))
    assert fake.stats()["calls"][IDENTITY] == 1
    assert not [one for one in fake.requests() if "access_token" in str(one)]


def test_a_token_about_to_end_is_asked_for_anew(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    fake.world.token_seconds = 40
    fetch(read_back(1), config, ctx)
    first = fake.world.token
    fetch(read_back(1), config, ctx)
    assert fake.world.token == first, "Marketo gives out the same until it has ended"
    assert fake.stats()["calls"][IDENTITY] >= 2


@pytest.mark.parametrize("code", ["601", "602"])
def test_a_token_that_is_not_accepted_is_renewed_once(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, code: str
) -> None:
    fetch(read_back(1), config, ctx)
    if code == "601":
        fake.control("POST", "/_expire")
    else:
        fake.control("POST", "/_clock", advance=4000)
    fetch(read_back(1), config, ctx)
    assert fake.stats()["calls"][IDENTITY] == 2

    fake.faults(stubborn=True)
    before = fake.stats()["calls"]
    with pytest.raises(Retryable, match="identity_url"):
        fetch(read_back(1), config, ctx)
    after = fake.stats()["calls"]
    assert (after[IDENTITY] - before[IDENTITY], after[LEADS] - before[LEADS]) == (1, 2)


def test_refused_credentials_are_for_the_operator(fake: FakeMarketo, ctx: Lent) -> None:
    for config in (configured(fake, client_secret="wrong-secret"), configured(fake, client_id="nobody")):
        with pytest.raises(Config, match="client_id and client_secret"):
            probe(config, ctx)
    with pytest.raises(Config, match="base_url"):
        probe(configured(fake, base_url="123-ABC-456.mktorest.com"), ctx)
    with pytest.raises(Config, match="base_url"):
        probe(configured(fake, base_url=f"{fake.url}/elsewhere", identity_url=f"{fake.url}/identity"), Lent())


def test_the_identity_service_may_be_elsewhere_and_addresses_end_as_marketo_shows_them(fake: FakeMarketo) -> None:
    for identity in (None, f"{fake.url}/identity", f"{fake.url}/identity/oauth/token"):
        config = configured(fake, base_url=f"{fake.url}/rest/" if identity is None else fake.url, identity_url=identity)
        assert probe(config, Lent()).account == "127.0.0.1"


def test_a_probe_says_what_is_missing(fake: FakeMarketo, ctx: Lent) -> None:
    config = configured(fake, lead_fields=("plan", "noSuchField"), activities=("Fill Out Form", "Attend Opera"))
    told = " ".join(probe(config, ctx).warnings)
    assert "noSuchField" in told
    assert "Attend Opera" in told
    assert '"plan"' not in told
    fake.faults(forbidden=["activities/types.json"])
    assert "Read-Only Activity" in probe(config, Lent()).warnings[0]
    fake.faults(forbidden=["leads.json"])
    with pytest.raises(Config, match="Read-Write Person"):
        probe(config, Lent())


@pytest.mark.parametrize(
    ("code", "kind"),
    [("502", Retryable), ("604", Retryable), ("606", Retryable), ("608", Retryable), ("611", Retryable),
     ("614", Retryable), ("615", Retryable), ("713", Retryable), ("719", Retryable), ("607", Retryable),
     ("1029", Retryable), ("603", Config), ("616", Config), ("703", Config), ("1008", Config), ("702", NoData),
     ("605", Refused), ("609", Refused), ("610", Refused), ("612", Refused), ("701", Refused), ("704", Refused),
     ("709", Refused), ("1001", Refused), ("1003", Refused), ("1006", Refused), ("1011", Refused)],
)  # fmt: skip
def test_errors_inside_of_http_200(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, code: str, kind: type[UpkeptError]
) -> None:
    fetch(read_back(1), config, ctx)
    fake.faults(fail_next=[code])
    with pytest.raises(kind, match=code):
        fetch(read_back(1), config, ctx)


@pytest.mark.parametrize("how", ["html", "login", "garbage", "array", "reset", 500, 503, 302])
def test_what_is_not_marketo_s_answer_is_asked_for_again(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, how: Any
) -> None:
    fetch(read_back(1), config, ctx)
    fake.faults(fail_next=[how])
    with pytest.raises(Retryable):
        fetch(read_back(1), config, ctx)
    assert ctx.open_slots == 0
    fetch(read_back(1), config, ctx)


def test_quotas_begin_anew_at_midnight_in_central_time() -> None:
    winter, summer = datetime(2026, 11, 27, 21, 0, tzinfo=UTC), datetime(2026, 7, 1, 21, 0, tzinfo=UTC)
    assert (until_midnight(winter), until_midnight(summer)) == (9 * 3600, 8 * 3600)
    assert until_midnight(datetime(2026, 11, 28, 3, 0, tzinfo=UTC)) == 3 * 3600, "it is still the 27th there"
    assert until_midnight(datetime(2026, 3, 8, 7, 0, tzinfo=UTC)) == 22 * 3600, "the clocks go forward that night"
    assert until_midnight(datetime(2026, 11, 27, 6, 0, tzinfo=UTC)) == 24 * 3600

    def after(code: str, message: str) -> float | None:
        error = of_response([{"code": code, "message": message}], endpoint="x", now=winter)
        assert isinstance(error, Retryable)
        return error.after

    assert after("607", "Daily quota reached") == after("1029", "Export daily quota 500MB exceeded") == 9 * 3600
    assert after("1029", "Too many jobs (10) in queue") is None
    assert after("606", "Max rate limit '100' exceeded with in '20' secs") == 20


@pytest.mark.parametrize(
    "errors", [None, [], {}, "no", [None], [{}], [{"code": None}], [{"code": "\u0661\u0661\u0661"}]]
)
def test_errors_without_a_code_are_not_marketo_s(errors: Any) -> None:
    assert isinstance(of_response(errors, endpoint="x", now=datetime.now(UTC)), Retryable)


def test_a_question_too_long_for_an_address_goes_as_a_form(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    ids = [fake.do("create", fields={"email": f"{'a' * 50}+{n}@example.com"}) for n in range(200)]
    found, _ = leads("email", [f"{'a' * 50}+{n}@example.com" for n in range(200)], config, ctx)
    assert [one["id"] for one in found] == ids
    asked = fake.requests()[-1]
    assert (asked["method"], asked["type"]) == ("POST", "application/x-www-form-urlencoded")
    leads("email", ["short@example.com"], config, ctx)
    assert fake.requests()[-1]["method"] == "GET"


def test_neither_errors_nor_logs_hold_a_secret(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    id = fake.do("create", fields={"email": "ann@example.com"})
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    forget_the_client()
    said = []
    with caplog.at_level(logging.DEBUG):
        fetch(read_back(id), config, ctx)
        fake.control("POST", "/_expire")
        fake.faults(revoked=True)
        with pytest.raises(Config) as refused:
            fetch(read_back(id), config, ctx)
        said.append(str(refused.value))
    out = capfd.readouterr()
    everything = "\n".join([*said, caplog.text, out.out, out.err, repr(ctx.kept.lines), repr(config)])
    token = fake.world.token[0] or "never"
    for secret in (SECRET, "hook-token", "ann@example.com", token):
        assert secret not in everything


def test_a_client_is_shared_in_a_process_and_never_after_a_fork() -> None:
    clients = [api._client(number) for number in (1, 1, 2)]
    assert clients[0] is clients[1] is not clients[2]
    for one in clients:
        one.close()
    forget_the_client()


def test_a_silent_server_is_given_up(fake: FakeMarketo, config: MarketoConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "READ_TIMEOUT", 0.3)
    forget_the_client()
    fake.faults(slow=2.0)
    with pytest.raises(Retryable, match="no answer"):
        fetch(read_back(1), config, Lent())
    forget_the_client()
    with pytest.raises(Retryable, match="no answer"):
        fetch(read_back(1), configured(fake, base_url="http://127.0.0.1:9"), Lent())


def forget_the_client() -> None:
    """So that the next call makes one, as it is configured then."""
    api._client(os.getpid()).close()
    api._client.cache_clear()


@contextmanager
def drip() -> Iterator[str]:
    """A server that answers a byte at a time, and never ends."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999999\r\n\r\n{"
            )
            try:
                while not ended.wait(0.02):
                    self.request.sendall(b" ")
            except OSError:
                return

    ended = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        ended.set()
        server.shutdown()
        thread.join(5)


def test_an_answer_that_does_not_end_is_given_up(fake: FakeMarketo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "LONGEST_CALL", 0.3)
    with drip() as url, pytest.raises(Retryable, match="does not end"):
        fetch(read_back(1), configured(fake, base_url=url, identity_url=f"{fake.url}/identity"), Lent())


def test_a_body_beyond_all_measure_is_not_marketo_s(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MOST_BYTES", 100)
    with pytest.raises(Retryable, match="too long"):
        fetch(read_back(1), config, ctx)


def test_a_hint_that_cannot_be_read_is_for_an_engineer(config: MarketoConfig, ctx: Lent) -> None:
    with pytest.raises(Permanent):
        fetch(RawEvent(id="h", kind="hint", body=b"[", thin=True), config, ctx)
