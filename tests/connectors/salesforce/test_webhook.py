"""The door for outbound messages."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.connectors.salesforce.test_conformance import CONFIG, FIXTURES

from upkept.contract import Consent, RecordRef, Rejected, Request, Skipped
from upkept.testing.fake_salesforce.hooks import message
from upkept.testing.fake_salesforce.shapes import made_id
from upkept_salesforce import connector
from upkept_salesforce.soap import ACK, read_message
from upkept_salesforce.webhook import split, verify

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ORG = "00D000000000001EAA"
LEAD = "00Q5f000005bwLFEAY"
BOMB = b"""<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]><b>&c;</b>"""
FILE = b'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY a SYSTEM "file:///etc/passwd">]><b>&a;</b>'
DTD = b'<?xml version="1.0"?><!DOCTYPE b SYSTEM "http://127.0.0.1:1/evil.dtd"><b/>'


def sent(*changes: tuple[str, str, dict[str, Any] | None], organization: str = ORG) -> Request:
    return Request(body=message(list(changes), organization=organization), headers={}, token="token_that_is_current")


def lead(**values: Any) -> dict[str, Any]:
    return {"Id": LEAD, "Email": "ada@example.com", "SystemModstamp": "2026-02-01T00:00:00.000+0000", **values}


@pytest.mark.parametrize("body", [BOMB, FILE, DTD], ids=["entity bomb", "external entity", "external DTD"])
def test_documents_with_a_dtd_or_entities_are_refused(body: bytes) -> None:
    with pytest.raises(Rejected, match="document type or entities") as refused:
        split(Request(body=body, headers={}), CONFIG)
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"", b"<a", b"{}", b"<a/>", b"<a>" * 5000, b"\xff\xfe<", message([])])
def test_what_is_no_message_is_refused(body: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        split(Request(body=body, headers={}), CONFIG)
    assert refused.value.status == 400


@pytest.mark.parametrize("organization", ["00D000000000002EAA", "00D000000000002", "", "00d000000000001"])
def test_a_forged_organization_is_refused_in_both_lengths(organization: str) -> None:
    with pytest.raises(Rejected, match="another org") as refused:
        split(sent((made_id("04l", 1), "Lead", lead()), organization=organization), CONFIG)
    assert refused.value.status == 401


@pytest.mark.parametrize("said", [ORG, ORG[:15]])
@pytest.mark.parametrize("known", [ORG, ORG[:15]])
def test_15_and_18_characters_of_the_organization_are_the_same(said: str, known: str) -> None:
    config = replace(CONFIG, organization_id=known)
    assert split(sent((made_id("04l", 1), "Lead", lead()), organization=said), config)


def test_without_token_or_organization_nothing_comes_in() -> None:
    good = sent((made_id("04l", 1), "Lead", lead()))
    verify(good, CONFIG, now=NOW)
    verify(replace(good, token="token_that_is_retired"), CONFIG, now=NOW)
    for config, token in (
        (CONFIG, ""),
        (CONFIG, "token_that_is_curren"),
        (replace(CONFIG, webhook_token=()), ""),
        (replace(CONFIG, webhook_token=""), ""),
        (replace(CONFIG, organization_id=""), "token_that_is_current"),
    ):
        with pytest.raises(Rejected) as refused:
            verify(replace(good, token=token), config, now=NOW)
        assert refused.value.status == 401


def test_an_opt_out_counts_at_once_and_all_else_waits_for_the_reading() -> None:
    events = split(
        sent(
            (made_id("04l", 1), "Lead", lead(HasOptedOutOfEmail=True)),
            (made_id("04l", 2), "Contact", {**lead(HasOptedOutOfEmail=False), "Id": "0035f00002EztxD"}),
        ),
        CONFIG,
    )
    assert [(event.kind, event.thin) for event in events] == [
        ("outbound.opt_out", False),
        ("outbound.lead", True),
        ("outbound.contact", True),
    ]
    assert connector.lowering & {event.kind for event in events} == {"outbound.opt_out"}
    (said,) = connector.normalize(events[0], connector.fields)
    assert said == Consent(
        act="opt_out",
        record=RecordRef("lead", LEAD),
        address="ada@example.com",
        at=datetime(2026, 2, 1, tzinfo=UTC),
        reason="Email Opt Out in Salesforce",
    )
    for thin in events[1:]:
        assert "example.com" not in thin.body.decode(), "a hint holds an id, no personal data"
    assert json.loads(events[2].body)["row"] == {"Id": "0035f00002EztxDAAR"}


def test_the_session_id_is_never_kept() -> None:
    body = (FIXTURES / "webhook/outbound.opt_out__two_leads.xml").read_bytes()
    leaky = body.replace(b'<SessionId xsi:nil="true"/>', b"<SessionId>00D!secret</SessionId>")
    assert leaky != body
    events = split(Request(body=leaky, headers={}), CONFIG)
    assert len(events) == 3
    assert not [event for event in events if b"secret" in event.body]


def test_ids_are_the_notifications_and_do_not_change_in_another_message() -> None:
    one, two = (made_id("04l", 1), "Lead", lead()), (made_id("04l", 2), "Lead", lead())
    together = {event.id for event in split(sent(one, two), CONFIG)}
    apart = {event.id for change in (one, two) for event in split(sent(change), CONFIG)}
    assert together == apart == {made_id("04l", 1), made_id("04l", 2)}


def test_a_hundred_notifications_are_taken_and_more_refused() -> None:
    changes = [(made_id("04l", n), "Lead", lead()) for n in range(101)]
    assert len(split(sent(*changes[:100]), CONFIG)) == 100
    with pytest.raises(Rejected, match="at most 100"):
        split(sent(*changes), CONFIG)


def test_deleted_records_and_other_objects_are_passed_over() -> None:
    mine = (made_id("04l", 3), "Task", {"Id": "00T5f00000aaaaaEAA"})
    events = split(sent((made_id("04l", 1), "Lead", None), (made_id("04l", 2), "Account", lead()), mine), CONFIG)
    assert [event.kind for event in events] == ["outbound.task"]
    with pytest.raises(Skipped):
        split(sent((made_id("04l", 1), "Lead", None)), CONFIG)


def test_the_acknowledgement_is_the_one_salesforce_waits_for() -> None:
    assert b"<Ack>true</Ack>" in ACK
    assert b"http://soap.sforce.com/2005/09/outbound" in ACK
    with pytest.raises(ValueError, match="not an outbound message"):
        read_message(ACK)
