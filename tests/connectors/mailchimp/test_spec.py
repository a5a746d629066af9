"""The requests our client makes, checked against Mailchimp's own specification: a judge outside of our stand-in.

`spec/` holds what that demands of a request; its README says where it is from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.connectors.ledgered import Ledgered
from tests.connectors.mailchimp.conftest import LIST, configured
from tests.connectors.spec import Object, complaints, specification, template

from upkept.contract import Desired, RawEvent, RecordRef
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept.testing.fake_mailchimp.hooks import form
from upkept_mailchimp.client import fetch, probe, pull, push_many
from upkept_mailchimp.client.batch import FEW_OPT_OUTS
from upkept_mailchimp.member import hash_of

SPEC = specification(Path(__file__).with_name("spec"), "requests.json")
MANY = FEW_OPT_OUTS + 1


def record(n: int) -> RecordRef:
    return RecordRef("member", f"{LIST}/{hash_of(f'm{n}@example.com')}")


def everything(fake: FakeMailchimp, ctx: Ledgered) -> None:
    """Each call that our client knows."""
    config = configured(fake, webhook_token="t")
    fake.audience(LIST, groups={"g": {"title": "Topics", "interests": {"i1": "Cats"}}})
    fake.seed(audience=LIST, members=600 + MANY)
    fake.act("archive", "m9@example.com", audience=LIST)
    probe(config, ctx)
    list(pull(None, config, ctx))
    list(pull(f"since:{ctx.now.date().isoformat()}", config, ctx))
    for email in ("m0@example.com", "nobody@example.com"):
        fetch(RawEvent(id=f"{LIST}/{hash_of(email)}", kind="read.member", body=b""), config, ctx)
    moved = {"list_id": LIST, "old_email": "old@example.com", "new_email": "m1@example.com"}
    for kind, data in (("profile", {"list_id": LIST, "email": "m0@example.com"}), ("upemail", moved)):
        fetch(RawEvent(id="h", kind=kind, body=form({"type": kind, "data": data}), thin=True), config, ctx)
    fields = {
        "merge_fields.FNAME": "A", "merge_fields.LNAME": None, "merge_fields.SEATS": 3, "interests.i1": True,
        "interests.i2": None, "language": "de", "email_type": "text", "vip": True,
        "location.latitude": 52.5, "tags.VIP": True, "tags.Old": None,
    }  # fmt: skip
    few = {
        "out": Desired(person="p", record=record(0), consent={"*": "opt_out"}, fields=fields),
        "in": Desired(person="p", record=record(0), consent={"*": "opt_in"}, fields={"vip": None}),
        "move": Desired(person="p", record=record(1), fields={"email_address": "n@example.com"}),
        "new": Desired(person="p", record=None, email="new@example.com", fields=fields),
        "joins": Desired(person="p", record=None, email="x@example.com", consent={"*": "opt_in"}),
        "gone": Desired(person="p", record=record(2), erased=True),
    }
    assert dict(push_many(few, config, ctx)).keys() == few.keys()
    lowered = {f"o{n}": Desired(person="p", record=record(n), consent={"*": "opt_out"}) for n in range(10, 10 + MANY)}
    rest = {f"n{n}": Desired(person="p", record=None, email=f"n{n}@example.com", fields=fields) for n in range(MANY)}
    assert dict(push_many({**lowered, **rest}, config, ctx)).keys() == {*lowered, *rest}


def within(request: Object) -> Iterator[Object]:
    """The requests that a batch makes."""
    for one in request["body"]["operations"] if request["path"] == "/batches" else ():
        body = json.loads(one.get("body", "{}"))
        yield {"query": one.get("params", {}), **one, "body": body, "type": "application/json"}


def test_every_request_is_as_mailchimp_specifies(fake: FakeMailchimp, ctx: Ledgered) -> None:
    everything(fake, ctx)
    requests = fake.requests()
    batched = [each for one in requests for each in within(one)]
    assert {(one["method"], template(one, SPEC)) for one in batched} == {
        ("PATCH", "/lists/{list_id}/members/{subscriber_hash}"),
        ("PUT", "/lists/{list_id}/members/{subscriber_hash}"),
        ("POST", "/lists/{list_id}/members/{subscriber_hash}/tags"),
    }
    made = {(one["method"], template(one, SPEC)) for one in requests}
    specified = {(method.upper(), path) for path, methods in SPEC["paths"].items() for method in methods}
    assert (len(made), made) == (14, specified)
    assert {(one["path"], why) for one in (*requests, *batched) for why in complaints(one, SPEC)} == set()


MEMBER = f"/lists/{LIST}/members/{hash_of('ann@example.com')}"
GOOD: Object = {"method": "PUT", "path": MEMBER, "query": {"skip_merge_validation": "true"}, "type": "application/json",
                "body": {"email_address": "ann@example.com", "status_if_new": "transactional", "interests": {"i": True},
                         "merge_fields": {"SEATS": 3, "FNAME": "Ann"}}}  # fmt: skip
LISTED: Object = {"method": "GET", "path": f"/lists/{LIST}/members", "body": {}}


@pytest.mark.parametrize(("change", "complaint"), [
    ({"path": f"{MEMBER}/notes"}, "no operation"),
    ({"path": "/3.0/ping"}, "no operation"),
    ({"method": "POST"}, "no operation"),
    ({"method": "DELETE", "query": {}}, "a body where none belongs"),
    ({"query": {"skip_merge_validation": "True"}}, "no boolean"),
    ({"query": {"apikey": "x"}}, "unknown parameter apikey"),
    ({"body": {"email_address": "ann@example.com"}}, ".status_if_new is missing"),
    ({"body": {**GOOD["body"], "status": "archived"}}, "not one of"),
    ({"method": "PATCH", "body": {"status": "transactional"}}, "not one of"),
    ({"body": {**GOOD["body"], "interests": {"i": ""}}}, ".i: str is no boolean"),
    ({"body": {**GOOD["body"], "marketing_permissions": {"a": True}}}, "dict is no array"),
    ({"body": {**GOOD["body"], "tags": ["VIP"]}}, "unknown ['tags']"),
    ({"type": "text/plain"}, "the body is text/plain"),
    ({"method": "POST", "path": f"{MEMBER}/tags", "query": {}, "body": {"tags": [{"name": "A"}]}}, "status is missing"),
    ({**LISTED, "query": {"count": "1001"}}, "more than 1000"),
    ({**LISTED, "query": {"count": "all"}}, "no integer"),
    ({**LISTED, "query": {"status": ""}}, "not one of"),
    ({**LISTED, "query": {"sort_dir": "asc"}}, "not one of"),
    ({"method": "POST", "path": "/batches", "query": {}, "body": {"operations": [{"path": "/"}]}}, "method is missing"),
])  # fmt: skip
def test_the_judge_has_eyes(change: Object, complaint: str) -> None:
    assert list(complaints(GOOD, SPEC)) == []
    assert complaint in " ".join(complaints({**GOOD, **change}, SPEC))
