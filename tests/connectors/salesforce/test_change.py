"""Change Data Capture: bitmaps, nulls, many records, gaps and overflows, on the examples of Salesforce's guide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from upkept.contract import Consent, Fact, Link, Permanent
from upkept_salesforce import connector
from upkept_salesforce.change import Schema, changes, is_ours, named, schema_of, sequence, stated

PUBLISHED = Path(__file__).with_name("published")
NAME = ("Salutation", "FirstName", "LastName")
SCHEMA: Schema = {"ChangeEventHeader": (), "Name": NAME, "Email": (), "Phone": (), "HasOptedOutOfEmail": ()}


def published(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PUBLISHED / f"{name}.json").read_bytes())
    return found


def change(type: str = "UPDATE", *, ids: list[str] | None = None, entity: str = "Lead", **said: Any) -> dict[str, Any]:
    header = {
        "entityName": entity,
        "recordIds": ids or ["00Q5f000005bwLFEAY"],
        "changeType": type,
        "changeOrigin": "com/salesforce/api/rest/62.0;client=devconsole",
        "commitTimestamp": 1714153780123,
        "sequenceNumber": 7,
        "changedFields": said.pop("changed", []),
        "nulledFields": said.pop("nulled", []),
    }
    return {"ChangeEventHeader": header, **said}


def test_the_bitmap_of_the_published_conversion_names_the_seven_fields_of_the_guide() -> None:
    event = published("cdc_lead_conversion_update")
    assert named(event["ChangeEventHeader"]["changedFields"], dict.fromkeys(event, ())) == [
        "Status",
        "IsConverted",
        "ConvertedDate",
        "ConvertedAccountId",
        "ConvertedContactId",
        "ConvertedOpportunityId",
        "LastModifiedDate",
    ]


def test_an_update_says_nothing_of_the_fields_that_come_as_null() -> None:
    event = published("cdc_lead_conversion_update")
    (told,) = changes("ev1", event, dict.fromkeys(event, ())).events
    fact, link = connector.normalize(told, connector.fields)
    assert isinstance(fact, Fact)
    assert isinstance(link, Link)
    assert "email" not in fact.fields
    assert fact.claims == {}
    assert fact.fields["salesforce_lead_status"] == "Closed - Converted"
    assert (link.a.id, link.b.id) == ("00Q5f000005bwLFEAY", "0035f00002EztxDAAR")
    assert told.id == "ev1:00Q5f000005bwLFEAY"


def test_what_was_nulled_is_empty_and_what_was_set_to_null_too() -> None:
    event = change(nulled=["0x08"], changed=["0x04"], Name=None, Email=None, Phone=None, HasOptedOutOfEmail=None)
    assert stated(event, SCHEMA) == {"Email": None, "Phone": None}


def test_fields_of_a_compound_have_a_bitmap_of_their_own() -> None:
    event = change(changed=["0x10", "1-0x02"], Name={"Salutation": None, "FirstName": "Ann", "LastName": None},
                   HasOptedOutOfEmail=True)  # fmt: skip
    assert stated(event, SCHEMA) == {"HasOptedOutOfEmail": True, "FirstName": "Ann"}


def test_names_instead_of_bitmaps_stand_for_themselves() -> None:
    event = change(changed=["Phone"], Phone="1", Email=None)
    assert stated(event, SCHEMA) == {"Phone": "1"}


@pytest.mark.parametrize("mask", ["0xFFFF", "9-0x01", "x-0x01", "0xZZ", "2-0x01"])
def test_a_bitmap_beyond_the_schema_is_permanent(mask: str) -> None:
    with pytest.raises(Permanent, match="schema"):
        named([mask], SCHEMA)


def test_a_creation_states_what_is_there() -> None:
    event = change("CREATE", Name={"FirstName": None, "LastName": "Doe"}, Email="d@example.com", Phone=None)
    assert stated(event, SCHEMA) == {"LastName": "Doe", "Email": "d@example.com"}


def test_each_of_several_records_has_an_event_of_its_own() -> None:
    ids = ["00Q5f000005bwLFEAY", "00Q5f000005bwLGEAY"]
    told = changes("ev2", change(ids=ids, changed=["0x08"], Phone="1"), SCHEMA)
    assert [event.id for event in told.events] == [f"ev2:{id}" for id in ids]
    assert not told.walk


@pytest.mark.parametrize("type", ["GAP_CREATE", "GAP_UPDATE", "GAP_DELETE", "GAP_UNDELETE", "DELETE", "UNDELETE"])
def test_what_has_no_body_is_read(type: str) -> None:
    told = changes("ev3", change(type), SCHEMA)
    assert [(event.kind, event.thin) for event in told.events] == [("change.lead", True)]


def test_activity_is_read_as_well() -> None:
    told = changes("ev3", change(ids=["00T5f00000aaaaaEAA"], entity="Task"), SCHEMA)
    assert [(event.kind, event.thin) for event in told.events] == [("change.task", True)]


def test_the_published_gap_is_of_an_object_that_is_not_read() -> None:
    event = published("cdc_gap_create")
    assert changes("ev4", event, {}) == changes("ev4", published("cdc_gap_overflow"), {})
    event["ChangeEventHeader"] |= {"entityName": "Contact", "recordIds": ["0035f00002EztxD"]}
    (told,) = changes("ev4", event, {}).events
    assert (told.kind, told.thin, told.id) == ("change.contact", True, "ev4:0035f00002EztxDAAR:read")


def test_an_overflow_or_a_wildcard_asks_for_a_walk() -> None:
    event = published("cdc_gap_overflow")
    event["ChangeEventHeader"]["entityName"] = "Lead"
    assert changes("ev5", event, {}).walk == {"lead"}
    assert changes("ev5", change(ids=["00Q*"]), SCHEMA).walk == {"lead"}
    assert changes("ev5", change(ids=["000000000000000AAA"]), SCHEMA).walk == {"lead"}


def test_an_opt_out_counts_at_once_and_the_address_it_binds_is_read() -> None:
    told = changes("ev6", change(changed=["0x10"], HasOptedOutOfEmail=True), SCHEMA)
    assert [event.thin for event in told.events] == [False, True]
    said = [one for one in connector.normalize(told.events[0], connector.fields) if isinstance(one, Consent)]
    assert [(one.act, one.address) for one in said] == [("opt_out", None)]


def test_the_order_within_a_second_is_that_of_the_commits() -> None:
    early, late = change()["ChangeEventHeader"], change()["ChangeEventHeader"]
    early |= {"commitTimestamp": 1714153780123, "sequenceNumber": 90_000}
    late |= {"commitTimestamp": 1714153780124, "sequenceNumber": 1}
    assert sequence(early) < sequence(late)


def test_our_own_changes_are_known_by_their_origin() -> None:
    assert is_ours({"changeOrigin": "com/salesforce/api/rest/62.0;client=upkept"})
    assert is_ours({"changeOrigin": "com/salesforce/api/rest/62.0;client=upkept/"})
    assert not is_ours({"changeOrigin": "com/salesforce/api/rest/62.0;client=notupkept"})
    assert not is_ours({"changeOrigin": None})


def test_the_schema_of_an_avro_record_knows_its_compounds() -> None:
    avro = {
        "type": "record",
        "fields": [
            {"name": "ChangeEventHeader", "type": {"type": "record", "fields": [{"name": "entityName"}]}},
            {"name": "Name", "type": ["null", {"type": "record", "fields": [{"name": name} for name in NAME]}]},
            {"name": "Email", "type": ["null", "string"]},
        ],
    }
    schema = schema_of(avro)
    assert list(schema) == ["ChangeEventHeader", "Name", "Email"]
    assert tuple(schema["Name"]) == NAME
    assert named(["1-0x06"], schema) == ["Name.FirstName", "Name.LastName"]


@pytest.mark.parametrize("event", [{}, {"ChangeEventHeader": None}, {"ChangeEventHeader": {"recordIds": "00Q"}}])
def test_what_is_no_change_event_is_permanent(event: dict[str, Any]) -> None:
    with pytest.raises(Permanent):
        changes("ev7", event, SCHEMA)
