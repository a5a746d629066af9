"""The requests our client makes, checked against Adobe's own specification: a judge outside of our stand-in.

`spec/` holds what the Swagger files of https://github.com/AdobeDocs/marketo-apis demand of a request; its README
names the commit and the licence.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.connectors.marketo.conftest import Lent, configured
from tests.connectors.spec import Object, complaints, specification

from upkept.contract import Desired, RawEvent, RecordRef
from upkept.testing.fake_marketo import FakeMarketo
from upkept_marketo.client import fetch, probe, pull, push_many

SPEC = Path(__file__).with_name("spec")
MAPI, IDENTITY = specification(SPEC, "mapi.json"), specification(SPEC, "identity.json")


def against(request: Object) -> list[str]:
    return list(complaints(request, IDENTITY if request["path"].startswith("/identity") else MAPI))


def everything(fake: FakeMarketo, ctx: Lent) -> None:
    """Each call that our client knows."""
    config = configured(fake, lead_fields=("plan",))
    ids = fake.seed(6, days=40, unsubscribed=1)
    fake.do("unsubscribe", ids[1])
    fake.do("delete", ids[5])
    probe(config, ctx)
    fetch(RawEvent(id=str(ids[0]), kind="read.lead", body=b""), config, ctx)
    fetch(RawEvent(id="h", kind="hint", body=b'{"email":"lead1@example.com"}', thin=True), config, ctx)
    list(pull(None, config, ctx))
    list(pull(f"since:{ctx.now.date().isoformat()}", config, ctx))
    states = {
        "out": Desired(person="p", record=RecordRef("lead", str(ids[0])), consent={"*": "opt_out"}),
        "in": Desired(person="p", record=RecordRef("lead", str(ids[1])), consent={"*": "opt_in"}, fields={"plan": "a"}),
        "move": Desired(person="p", record=RecordRef("lead", str(ids[2])), fields={"email": "n@example.com"}),
        "new": Desired(person="p", record=None, email="new@example.com", fields={"leadScore": 5}),
        "gone": Desired(person="p", record=RecordRef("lead", str(ids[3])), erased=True),
    }
    assert dict(push_many(states, config, ctx)).keys() == states.keys()


def test_every_request_is_as_adobe_specifies(fake: FakeMarketo, ctx: Lent) -> None:
    everything(fake, ctx)
    requests = fake.requests()
    made = {(one["method"], re.sub(r"[0-9a-f-]{36}", "{id}", one["path"])) for one in requests}
    assert len(made) == 18, sorted(made)
    assert [(one["path"], why) for one in requests for why in against(one)] == []


GOOD: Object = {"method": "POST", "path": "/rest/v1/leads.json", "query": {}, "type": "application/json",
                "body": {"action": "updateOnly", "lookupField": "id", "input": [{"id": 5, "plan": "x"}]}}  # fmt: skip


@pytest.mark.parametrize(("change", "complaint"), [
    ({"path": "/rest/v1/lead.json"}, "no operation"),
    ({"method": "PATCH"}, "no operation"),
    ({"query": {"access_token": "x"}}, "unknown parameter access_token"),
    ({"body": {**GOOD["body"], "action": "upsert"}}, "not one of"),
    ({"body": {"action": "updateOnly"}}, ".input is missing"),
    ({"body": {**GOOD["body"], "input": [{"id": "5"}]}}, "str is no integer"),
    ({"body": {**GOOD["body"], "partition": "x"}}, "unknown ['partition']"),
    ({"type": "text/plain"}, "the body is text/plain"),
    ({"method": "GET", "body": {}}, "filterType is missing"),
    ({"path": "/bulk/v1/leads/export/create.json", "body": {"fields": ["id"]}}, ".filter is missing"),
])  # fmt: skip
def test_the_judge_has_eyes(change: Object, complaint: str) -> None:
    assert against(GOOD) == []
    assert complaint in " ".join(against({**GOOD, **change}))
