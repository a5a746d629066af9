"""Who left comes back by an act of its own, and by nobody else's, whatever a member shows of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.mailchimp.conftest import LIST, configured
from tests.connectors.mailchimp.door import ADMINS, TOKEN, Door, door

from upkept.contract import Consent, RecordRef
from upkept.flow.digest import digest
from upkept.flow.rebuild import check
from upkept.store.engine import Store
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept.testing.fake_mailchimp.hooks import form
from upkept_mailchimp.client import probe
from upkept_mailchimp.client.hooks import tells_own_acts
from upkept_mailchimp.member import hash_of
from upkept_mailchimp.webhook import hook_of

ANN = "ann@example.com"
ASKS = f'double_opt_in = ["{LIST}"]\n'


@pytest.fixture
def at(store: Store, tmp_path: Path, fake: FakeMailchimp) -> Iterator[Door]:
    """Ann came by a form, an hour ago."""
    with door(store, tmp_path, fake, apart=True, more=ASKS) as standing:
        came(standing)
        yield standing
        assert not [one for page in check(standing.hub, now=lambda: 4_102_444_800_000_000) for one in page]


def came(at: Door) -> None:
    at.fake.control("POST", "/_clock", offset=-4_000)
    at.fake.act("subscribe", ANN, audience=LIST)
    at.work()


def left(at: Door) -> None:
    """Elsewhere, so that Mailchimp lets a program subscribe her again."""
    at.fake.control("POST", "/_clock", offset=-2_400)
    when = datetime.now(UTC) - timedelta(minutes=50)
    at.tell(Consent(act="opt_out", record=RecordRef("user", "42"), address=ANN, at=when))
    assert (at.consent(ANN), status(at)) == ("unsubscribed", "unsubscribed")
    at.fake.control("POST", "/_clock", offset=-30)


def status(at: Door) -> str:
    return str(at.fake.world.audiences[LIST].members[hash_of(ANN)]["status"])


@pytest.mark.parametrize("by", ["admin", "api"])
@pytest.mark.parametrize("writes", [False, True])
def test_nobody_else_takes_an_opt_out_back(at: Door, by: str, writes: bool) -> None:
    """The time of the opt-in is renewed, and the source is still the form. Programs write the rest, too."""
    left(at)
    stamp = at.fake.world.stamp()
    forged = {"timestamp_signup": stamp, "timestamp_opt": stamp, "ip_signup": "203.0.113.9", "ip_opt": "203.0.113.9"}
    at.fake.act("subscribe", ANN, audience=LIST, by=by, **(forged if writes else {}))
    member = at.fake.world.audiences[LIST].members[hash_of(ANN)]
    assert (member["source"], member["timestamp_opt"], member["status"]) == ("Hosted Signup Form", stamp, "subscribed")
    at.work()
    for _ in range(2):
        at.resync(mode="full")
        at.work()
    assert (at.consent(ANN), status(at)) == ("unsubscribed", "unsubscribed")
    before = digest(at.hub)
    at.resync(mode="full")
    assert digest(at.hub) == before


def test_who_comes_back_by_a_form_is_subscribed(at: Door) -> None:
    left(at)
    at.fake.act("subscribe", ANN, audience=LIST)
    at.work()
    at.resync(mode="full")
    at.work()
    assert (at.consent(ANN), status(at)) == ("subscribed", "subscribed")
    at.act("unsubscribe", ANN, audience=LIST)
    at.act("subscribe", ANN, audience=LIST, by="admin")
    at.work()
    assert (at.consent(ANN), status(at)) == ("unsubscribed", "unsubscribed")


def test_a_webhook_that_is_read_late_does_not_answer_for_what_came_after(at: Door) -> None:
    """She came back, left again, and an admin subscribed her, before the hub read the member."""
    left(at)
    at.act("subscribe", ANN, audience=LIST)
    at.act("unsubscribe", ANN, audience=LIST)
    at.act("subscribe", ANN, audience=LIST, by="admin")
    at.arrived()
    at.work()
    assert (at.consent(ANN), status(at)) == ("unsubscribed", "unsubscribed")


def test_a_webhook_of_admins_acts_too_proves_nothing(store: Store, tmp_path: Path, fake: FakeMailchimp) -> None:
    with door(store, tmp_path, fake, more=ASKS) as at:
        came(at)
        left(at)
        at.fake.act("subscribe", ANN, audience=LIST)
        at.work()
        assert (at.consent(ANN), status(at)) == ("unsubscribed", "unsubscribed")


def test_a_lie_by_the_other_webhooks_address_proves_nothing(at: Door) -> None:
    left(at)
    at.fake.act("subscribe", ANN, audience=LIST, by="api")
    fired = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    assert (
        at.post(ADMINS, form({"type": "subscribe", "fired_at": fired, "data": {"list_id": LIST, "email": ANN}})) == 200
    )
    at.work()
    assert (at.consent(ANN), status(at)) == ("unsubscribed", "unsubscribed")


@pytest.mark.parametrize(("sources", "path", "own"), [
    ({"user": True, "admin": False, "api": False}, "/hooks/mailchimp/t%2Bk", True),
    ({"user": True}, "/behind/hooks/mailchimp/t+k", True),
    ({"user": True, "admin": True, "api": False}, "/hooks/mailchimp/t+k", False),
    ({"user": True, "admin": False, "api": True}, "/hooks/mailchimp/t+k", False),
    ({"user": False, "admin": False, "api": False}, "/hooks/mailchimp/t+k", False),
    ({"user": True, "admin": False, "api": False}, "/hooks/mailchimp/other", False),
    ({"user": True, "admin": False, "api": False}, "/elsewhere/t+k", False),
])  # fmt: skip
def test_mailchimp_says_whose_acts_a_webhook_tells_of(
    fake: FakeMailchimp, ctx: Any, sources: dict[str, bool], path: str, own: bool
) -> None:
    said = {"user": False, "admin": False, **sources}
    fake.control("POST", "/_hooks", audience=LIST, url=f"https://hub.example{path}", **said)
    assert tells_own_acts(LIST, hook_of("t+k"), configured(fake), ctx) is own


def test_the_probe_says_which_webhook_is_missing(fake: FakeMailchimp, ctx: Any) -> None:
    config = configured(fake, webhook_token=(TOKEN, ADMINS), double_opt_in=(LIST,))
    fake.control("POST", "/_hooks", audience=LIST, url=f"https://hub.example/hooks/mailchimp/{ADMINS}")
    assert "subscriber alone" in probe(config, ctx).warnings[0]
    fake.control("POST", "/_hooks", audience=LIST, url=f"https://hub.example/hooks/mailchimp/{TOKEN}", admin=False)
    assert probe(config, ctx).warnings == ()
    fake.world.audiences[LIST].webhooks.pop("wh1")
    assert "what an account admin does" in probe(config, ctx).warnings[0]
