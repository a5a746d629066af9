"""Calling Mailchimp: immune to the SDK's measured faults, errors in our words, one member read and nobody else."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import mailchimp_marketing
import pytest
from mailchimp_marketing.api_client import ApiClientError
from tests.connectors.mailchimp.conftest import KEY, LIST, OTHER, configured

from upkept.contract import Config, Permanent, RawEvent, Retryable, Skipped, UpkeptError
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept.testing.fake_mailchimp.hooks import form
from upkept_mailchimp.client import api, audience, fetch, probe
from upkept_mailchimp.client.api import ask, host_of, tell
from upkept_mailchimp.client.errors import Locked, NotFound, Refused, translated
from upkept_mailchimp.config import MailchimpConfig
from upkept_mailchimp.member import hash_of

SERVER = "ann@server.com"
PROBLEM = {
    "title": "Member In Compliance State",
    "status": 400,
    "detail": f"{SERVER} is in a compliance state",
    "instance": "x",
}


@contextmanager
def answering(status: int, body: bytes, type: str = "application/json") -> Iterator[tuple[str, list[str]]]:
    """A server that gives one answer, and the paths it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Type", type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PATCH = do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", paths
    finally:
        server.shutdown()
        server.server_close()


def get(url: str, ctx: Any) -> Any:
    config = MailchimpConfig(api_key=KEY, audiences=(LIST,), base_url=url)
    return ask("members.get", config, ctx, lambda client: client.lists.get_list_member(LIST, hash_of(SERVER)))


def test_the_word_server_is_nobody_elses_address(ctx: Any) -> None:
    """The SDK asks for `ann@us6.com` where `ann@server.com` is meant; we name hashes, and it replaces nothing."""
    with answering(200, b'{"id": "x"}') as (url, paths):
        naive = mailchimp_marketing.Client({"api_key": KEY})
        naive.api_client.host = f"{url}/server"
        naive.lists.get_list_member(LIST, SERVER)
        assert paths == [f"/us6/lists/{LIST}/members/ann%40us6.com"], "the SDK was mended: see client.api"
        get(f"{url}/server", ctx)
        assert paths[1] == f"/server/lists/{LIST}/members/{hash_of(SERVER)}"


def test_a_read_of_a_member_at_server_is_of_that_member(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    for email in (SERVER, "ann@us6.com"):
        fake.act("subscribe", email, audience=LIST)
    body = form({"type": "profile", "data": {"list_id": LIST, "email": SERVER}})
    read = fetch(RawEvent(id="x", kind="profile", body=body, thin=True), config, ctx)
    assert json.loads(read.body)["member"]["email_address"] == SERVER
    assert all("@" not in one["path"] and "%40" not in one["path"] for one in fake.requests())


@pytest.mark.parametrize(
    ("status", "body"), [(502, b""), (500, b"{}"), (200, b""), (200, b"{}"), (204, b""), (302, b"")]
)
def test_an_answer_without_a_body_is_no_success(status: int, body: bytes, ctx: Any) -> None:
    """The SDK raises nothing for these, and returns a `requests.Response`."""
    with answering(status, body) as (url, _), pytest.raises(Retryable):
        get(url, ctx)


@pytest.mark.parametrize(
    "type", ["application/problem+json", "application/problem+json; charset=utf-8", "application/json"]
)
def test_a_problem_is_understood_as_text_and_as_an_object(type: str, ctx: Any) -> None:
    with answering(400, json.dumps(PROBLEM).encode(), type) as (url, _), pytest.raises(Locked) as locked:
        get(url, ctx)
    shown = "".join(traceback.format_exception(locked.value))
    assert SERVER not in shown
    assert "Member In Compliance State" in shown


@pytest.mark.parametrize("body", [b"<html>Login</html>", b'["unexpected"]', b'{"members": [', b'"text"', b"null", b"7"])
def test_a_success_of_another_shape_is_asked_for_again(body: bytes, ctx: Any) -> None:
    for type in ("text/html", "application/json"):
        with answering(200, body, type) as (url, _), pytest.raises(Retryable):
            get(url, ctx)


def test_nobody_is_waited_for_longer_than_half_a_minute(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sum(api.TIMEOUT) < 30
    monkeypatch.setattr(api, "TIMEOUT", (0.2, 0.2))
    fake.faults(slow=1.0)
    with pytest.raises(Retryable):
        probe(config, ctx)
    assert ctx.open_slots == 0


@pytest.mark.parametrize(("status", "title", "ours"), [
    (401, "API Key Invalid", Config), (403, "Forbidden", Config), (403, "", Retryable),
    (404, "Resource Not Found", NotFound),
    (404, "", Retryable), (405, "Method Not Allowed", Refused), (400, "Invalid Resource", Refused),
    (400, "Forgotten Email Not Subscribed", Locked), (429, "Too Many Requests", Retryable), (429, "", Retryable),
    (500, "Internal Server Error", Retryable), (503, "", Retryable), (408, "", Retryable), (None, "", Retryable),
])  # fmt: skip
def test_the_class_says_who_acts_next(status: int | None, title: str, ours: type[UpkeptError]) -> None:
    body = json.dumps({"title": title, "status": status}) if title else "<html></html>"
    assert type(translated(status, body, endpoint="x")) is ours
    for strange in (None, ApiClientError(OSError("secret")), "[" * 100_000, b"\xff", 7):
        assert isinstance(translated(status, strange, endpoint="x"), UpkeptError)


def test_too_fast_waits_and_a_refusal_names_the_field_alone() -> None:
    assert translated(429, "{}", endpoint="x").after  # type: ignore[attr-defined]
    problem = {
        "title": "Invalid Resource",
        "errors": [{"field": "FNAME", "message": "Ann is too short"}, {"field": "a@b.co"}],
    }
    assert "FNAME" in str(translated(400, problem, endpoint="x"))
    assert "Ann" not in str(translated(400, problem, endpoint="x"))
    assert "a@b.co" not in str(translated(400, problem, endpoint="x"))


@pytest.mark.parametrize("key", ["abc", "abc-", "abc-us6.evil.example/x", "abc-server", "", "abc-us6-", "-us6"])
def test_a_key_that_names_no_data_centre_sends_nothing_anywhere(key: str) -> None:
    with pytest.raises(Config, match="data centre"):
        host_of(MailchimpConfig(api_key=key, audiences=()))
    assert host_of(MailchimpConfig(api_key=" 0123abc-us21 ", audiences=())) == "https://us21.api.mailchimp.com/3.0"


def test_each_call_has_a_permit_and_a_slot(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fake.act("subscribe", SERVER, audience=LIST)
    fetch(RawEvent(id=f"{LIST}/{hash_of(SERVER)}", kind="read.member", body=b""), config, ctx)
    assert ctx.permits == ctx.slots == len(fake.requests()) == 3  # interest groups, tags, the member
    fetch(RawEvent(id=f"{LIST}/{hash_of(SERVER)}", kind="read.member", body=b""), config, ctx)
    assert ctx.permits == 4


def test_who_is_not_there_is_gone_and_an_account_without_the_audience_deletes_nobody(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    read = RawEvent(id=f"{LIST}/{hash_of('nobody@example.com')}", kind="read.member", body=b"")
    assert json.loads(fetch(read, config, ctx).body)["member"] == {"id": hash_of("nobody@example.com"), "deleted": True}
    fake.world.audiences.clear()
    with pytest.raises(Config, match="not in this account"):
        fetch(read, config, ctx)
    audience.forget()
    with pytest.raises((Config, NotFound)):
        fetch(read, config, ctx)


def test_the_answer_must_be_the_member_that_was_asked_for(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.act("subscribe", SERVER, audience=LIST)
    fake.faults(fail_next=[None, None, "stranger"])
    with pytest.raises(Retryable, match="not the member"):
        fetch(RawEvent(id=f"{LIST}/{hash_of(SERVER)}", kind="read.member", body=b""), config, ctx)


@pytest.mark.parametrize("id", ["", "conformance_1", f"{OTHER}/{hash_of(SERVER)}", f"{LIST}/{SERVER}", "../../x/y"])
def test_what_is_not_ours_is_not_asked_for(id: str, fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    with pytest.raises(Skipped):
        fetch(RawEvent(id=id, kind="read.member", body=b""), config, ctx)
    assert fake.requests() == []


def test_two_reads_of_one_state_are_one_event_and_a_tag_is_another(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.act("subscribe", SERVER, audience=LIST)
    read = RawEvent(id=f"{LIST}/{hash_of(SERVER)}", kind="read.member", body=b"")
    one, two = (fetch(read, config, ctx) for _ in range(2))
    fake.act("tag", SERVER, audience=LIST, tag="VIP")
    three = fetch(read, config, ctx)
    assert one == two
    assert one.id != three.id
    assert json.loads(three.body)["tags"] == {"VIP": True}


def test_only_chosen_tags_are_kept_in_step(fake: FakeMailchimp, ctx: Any) -> None:
    fake.act("subscribe", SERVER, audience=LIST)
    for tag in ("VIP", "Internal"):
        fake.act("tag", SERVER, audience=LIST, tag=tag)
    read = RawEvent(id=f"{LIST}/{hash_of(SERVER)}", kind="read.member", body=b"")
    chosen = fetch(read, configured(fake, tags=("VIP", "Lapsed")), ctx)
    assert json.loads(chosen.body)["tags"] == {"VIP": True, "Lapsed": False}


def test_the_probe_names_the_account_and_what_the_webhooks_do_not_tell(fake: FakeMailchimp, ctx: Any) -> None:
    config = configured(fake, webhook_token="t")
    found = probe(config, ctx)
    assert found.account == "Acme (acc0123456789)"
    assert "no webhook leads to" in found.warnings[0]
    fake.control("POST", "/_hooks", audience=LIST, url="https://hub.example/hooks/mailchimp/t")
    assert probe(config, ctx).warnings == ()
    fake.control("POST", "/_hooks", audience=LIST, url="https://hub.example/hooks/mailchimp/t", api=True)
    assert "switch the source API off" in probe(config, ctx).warnings[0]
    assert "webhooks are refused" in probe(configured(fake), ctx).warnings[0]


def test_the_probe_refuses_a_bad_key_and_an_unknown_audience(fake: FakeMailchimp, ctx: Any) -> None:
    with pytest.raises(Config, match=OTHER):
        probe(configured(fake, audiences=(LIST, OTHER)), ctx)
    fake.faults(revoked=True)
    with pytest.raises(Config, match="refuses the key"):
        probe(configured(fake), ctx)


def test_ten_calls_at_once_are_mailchimps_limit_and_it_is_waited_for(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.faults(at_once=0)
    with pytest.raises(Retryable, match="10 calls at once"):
        probe(config, ctx)


def test_nothing_comes_back_from_an_archive_and_that_is_well(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.act("subscribe", SERVER, audience=LIST)
    tell("x", config, ctx, lambda client: client.lists.delete_list_member(LIST, hash_of(SERVER)))
    with pytest.raises(Permanent):
        tell("x", config, ctx, lambda client: client.lists.delete_list_member(LIST, hash_of(SERVER)))
    fake.faults(fail_next=["nothing", "empty", "html"])
    for _ in range(3):
        with pytest.raises(Retryable):
            tell("x", config, ctx, lambda client: client.lists.delete_list_member(LIST, hash_of(SERVER)))
