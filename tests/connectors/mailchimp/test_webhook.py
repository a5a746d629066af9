"""The webhook door: the path's token, the audience, what is thin, what counts at once, and bodies that are no forms."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
from tests.connectors.mailchimp.conftest import LIST, OTHER

from upkept.contract import Config, RawEvent, Rejected, Request, Skipped
from upkept.testing.fake_mailchimp.hooks import form
from upkept_mailchimp import MailchimpConfig, connector
from upkept_mailchimp.form import DEEPEST, MOST_FIELDS, Unreadable, read_form
from upkept_mailchimp.webhook import split, verify

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CONFIG = MailchimpConfig(api_key="k-us6", audiences=(LIST, OTHER), webhook_token="right-token", topics={OTHER: "a&b=c"})
ANN = {"id": "8a25ff1d98", "list_id": LIST, "email": "Ann@Example.com"}


def body(kind: str, **data: Any) -> bytes:
    return form({"type": kind, "fired_at": "2026-11-24 11:59:00", "data": {**ANN, **data}})


def posted(sent: bytes) -> tuple[RawEvent, ...]:
    return split(Request(body=sent, headers={}, token="right-token"), CONFIG)


@pytest.mark.parametrize("token", ["", "right-toke", "right-token ", "RIGHT-TOKEN", "rïght", "right-token/x"])
def test_only_the_token_lets_in(token: str) -> None:
    verify(Request(body=b"", headers={}, token="right-token"), CONFIG, now=NOW)
    with pytest.raises(Rejected, match="webhook_token") as refused:
        verify(Request(body=b"", headers={}, token=token), CONFIG, now=NOW)
    assert refused.value.status == 401


def test_no_header_stands_in_for_the_token_and_no_token_means_no_entrance() -> None:
    with pytest.raises(Rejected):
        verify(Request(body=b"", headers={"x-mailchimp-signature": "right-token"}), CONFIG, now=NOW)
    bare = MailchimpConfig(api_key="k-us6", audiences=(LIST,))
    for token in ("", "x"):
        with pytest.raises(Rejected, match="no webhook_token is configured"):
            verify(Request(body=b"", headers={}, token=token), bare, now=NOW)


def test_while_a_token_is_exchanged_both_will_do() -> None:
    config = MailchimpConfig(api_key="k-us6", audiences=(LIST,), webhook_token=("old", "new"))
    for token in ("old", "new"):
        verify(Request(body=b"", headers={}, token=token), config, now=NOW)


@pytest.mark.parametrize(("kind", "data"), [
    ("subscribe", {}), ("profile", {}), ("upemail", {"old_email": "a@b.example", "new_email": "c@d.example"})
])  # fmt: skip
def test_what_raises_changes_or_moves_is_thin(kind: str, data: dict[str, str]) -> None:
    (event,) = posted(body(kind, **data))
    assert (event.kind, event.thin) == (kind, True)


@pytest.mark.parametrize(("kind", "data"), [
    ("unsubscribe", {"action": "unsub"}), ("unsubscribe", {"action": "delete"}), ("unsubscribe", {}),
    ("cleaned", {"reason": "hard"}),
])  # fmt: skip
def test_what_takes_mail_away_counts_at_once_and_is_read_beside(kind: str, data: dict[str, str]) -> None:
    told, look = posted(body(kind, **data))
    assert (told.kind, told.thin) == (kind, False)
    assert (look.kind, look.thin) == ("read.member", True)


def test_archiving_is_no_wish() -> None:
    (look,) = posted(body("unsubscribe", action="archive"))
    assert look.thin


def test_an_event_is_known_by_what_it_says_in_whatever_order_the_fields_come() -> None:
    said = [
        ("type", "profile"),
        ("fired_at", "2026-11-24 11:59:00"),
        ("data[list_id]", LIST),
        ("data[email]", "A@b.co"),
    ]
    one, two = (posted(urlencode(fields).encode())[0].id for fields in (said, said[::-1]))
    assert one == two
    others = [posted(urlencode([*said[:-1], ("data[email]", "c@b.co")]).encode())[0].id,
              posted(urlencode([*said, ("data[merges][FNAME]", "A")]).encode())[0].id]  # fmt: skip
    assert len({one, *others}) == 3


def test_the_topic_of_the_audience_goes_along_and_nobody_else_can_set_it() -> None:
    told, _ = posted(body("unsubscribe", list_id=OTHER))
    (consent, *_) = connector.normalize(told, connector.fields)
    assert consent.topic == "a&b=c"  # type: ignore[union-attr]
    with pytest.raises(Rejected):
        posted(b"upkept[topic]=none&" + body("unsubscribe"))


def test_other_audiences_and_unknown_types_are_skipped_by_name() -> None:
    with pytest.raises(Skipped, match="audience") as other:
        posted(body("unsubscribe", list_id="ffffffffff"))
    assert other.value.kind == "unsubscribe"
    with pytest.raises(Skipped, match="nothing about a member"):
        posted(body("teleport"))


@pytest.mark.parametrize("sent", [
    b"", b"type=unsubscribe", b"data[email]=a@b.co", b"type=unsubscribe&data=x",
    b"type[]=x&data[list_id]=" + LIST.encode(),
    b"type=unsubscribe&data[list_id=a", b"type=unsubscribe&data]list_id[=a", b"type=x&data[[list_id]]=a",
    b"type=x&[a]=b",
    b"type=x&data[a]b=c", b"type=x&data[a]=1&data[a][b]=2", b"type=x&data[a]=1&data[a]=2", b"type=\xff&data[a]=1",
    b"type=x&data" + b"[a]" * 50 + b"=1", b"&".join(b"data[k%d]=1" % n for n in range(2000)),
    b'{"type": "unsubscribe", "data": {}}', b"<xml/>", body("unsubscribe", email=""),
    body("unsubscribe", email="no address"),
    form({"type": "upemail", "data": {"list_id": LIST, "old_email": "a@b.co"}}),
])  # fmt: skip
def test_what_is_no_webhook_of_mailchimp_is_refused(sent: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        posted(sent)
    assert refused.value.status == 400


def test_an_opt_out_counts_before_the_audiences_are_set_up() -> None:
    bare = MailchimpConfig(api_key="k-us6", audiences=(), webhook_token="right-token")
    told, _ = split(Request(body=body("unsubscribe"), headers={}, token="right-token"), bare)
    assert told.kind == "unsubscribe"
    with pytest.raises(Skipped):
        split(Request(body=body("unsubscribe", list_id="../x"), headers={}), bare)


def test_paths_nest_as_php_writes_them() -> None:
    read = read_form(
        b"data[merges][ADDRESS][city]=Cork&data[g][0][name]=T&l[]=a&l[]=b&empty=&plus=a+b%2Bc&type=profile"
    )
    assert read == {
        "data": {"merges": {"ADDRESS": {"city": "Cork"}}, "g": {"0": {"name": "T"}}},
        "l": {"0": "a", "1": "b"}, "empty": "", "plus": "a b+c", "type": "profile",
    }  # fmt: skip
    read_form(b"a" + b"[b]" * (DEEPEST - 1) + b"=1")
    read_form(b"&".join(b"k%d=1" % n for n in range(MOST_FIELDS)))
    with pytest.raises(Unreadable, match="levels deep"):
        read_form(b"a" + b"[b]" * DEEPEST + b"=1")


@pytest.mark.parametrize(("options", "wrong"), [
    ({"audiences": ("a/../b",)}, "no audience id"), ({"audiences": ("",)}, "no audience id"),
    ({"audiences": (LIST,), "topics": {OTHER: "x"}}, "topics"),
    ({"audiences": (), "double_opt_in": (LIST,)}, "double_opt_in"),
])  # fmt: skip
def test_a_wrong_setting_is_named(options: dict[str, Any], wrong: str) -> None:
    with pytest.raises(Config, match=wrong):
        MailchimpConfig(api_key="k-us6", **options)


def test_the_door_never_imports_the_sdk() -> None:
    code = "import sys, upkept_mailchimp; sys.exit('mailchimp_marketing' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
