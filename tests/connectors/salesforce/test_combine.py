"""Leads and contacts of one person, and their activity summed up."""

from __future__ import annotations

from typing import Any

from upkept.contract import Part, RecordRef, Whole
from upkept_salesforce.combine import combine
from upkept_salesforce.parts import AT, CAMPAIGN, CLOSED, CREATED, RESPONDED, STATUS
from upkept_salesforce.summarize import summarize

LEAD, CONTACT = RecordRef("lead", "00Q5f000005bwLFEAY"), RecordRef("contact", "0035f00002EztxDAAR")


def part(of: str, n: int, fields: dict[str, Any], *, deleted: bool = False) -> Part:
    return Part(RecordRef(of, str(n)), fields, deleted)


def task(n: int, at: int | None, closed: bool, *, deleted: bool = False) -> Part:
    return part("task", n, {AT: at, CLOSED: closed}, deleted=deleted)


def values(summaries: Any) -> dict[str, Any]:
    return {name: one.value for name, one in summaries.items()}


def test_activity_is_counted_and_the_last_one_told() -> None:
    parts = [
        task(1, 100, True),
        task(2, 900, False),
        task(3, 700, True, deleted=True),
        part("event", 4, {AT: 300}),
        part("campaign_member", 5, {CAMPAIGN: "Old", STATUS: "Sent", RESPONDED: True, CREATED: 1}),
        part("campaign_member", 6, {CAMPAIGN: "New", STATUS: "Opened", RESPONDED: False, CREATED: 2}),
        part("campaign_member", 7, {CAMPAIGN: "Gone", STATUS: "Sent", RESPONDED: True, CREATED: 3}, deleted=True),
    ]
    assert values(summarize({}, parts)) == {
        "salesforce_open_tasks_count": 1,
        "salesforce_last_activity_at": 300,
        "salesforce_campaigns_count": 2,
        "salesforce_campaign_responses_count": 1,
        "salesforce_last_campaign": "New",
        "salesforce_last_campaign_status": "Opened",
        "_campaign_at": 2,
    }
    assert summarize({}, []) == {}
    assert values(summarize({}, [task(1, None, False)]))["salesforce_last_activity_at"] is None


def test_what_was_taken_away_no_longer_counts() -> None:
    assert values(summarize({}, [part("campaign_member", 7, {}, deleted=True)])) == {
        "salesforce_campaigns_count": 0,
        "salesforce_campaign_responses_count": 0,
        "salesforce_last_campaign": None,
        "salesforce_last_campaign_status": None,
        "_campaign_at": 0,
    }


def test_the_contact_of_a_converted_lead_shows_both() -> None:
    lead = Whole(
        ref=LEAD,
        fields={"salesforce_id": LEAD.id, "salesforce_rating": "Hot", "salesforce_title": "Old", "name": "Ada",
                "salesforce_converted": True, "salesforce_created_at": 5, "salesforce_lead_source": "Web"},
        summary={"salesforce_open_tasks_count": 1, "salesforce_last_campaign": "Fair", "_campaign_at": 9},
    )  # fmt: skip
    contact = Whole(
        ref=CONTACT,
        fields={"salesforce_id": CONTACT.id, "salesforce_title": "New", "salesforce_created_at": 4,
                "salesforce_lead_source": None},
        summary={"salesforce_open_tasks_count": 2, "salesforce_last_campaign": "Older", "_campaign_at": 8},
    )  # fmt: skip
    together = combine([lead, contact])
    assert (
        values(together)
        == values(combine([contact, lead]))
        == {
            "salesforce_id": CONTACT.id,
            "salesforce_title": "New",
            "salesforce_rating": "Hot",
            "salesforce_converted": True,
            "salesforce_created_at": 4,
            "salesforce_lead_source": "Web",
            "salesforce_open_tasks_count": 3,
            "salesforce_last_campaign": "Fair",
        }
    )
    assert together["salesforce_rating"].used == (LEAD, CONTACT)


def test_an_open_lead_is_shown_before_a_converted_one() -> None:
    one = Whole(ref=LEAD, fields={"salesforce_id": "1", "salesforce_converted": True, "salesforce_created_at": 9},
                summary={})  # fmt: skip
    other = Whole(ref=RecordRef("lead", "2"), fields={"salesforce_id": "2", "salesforce_created_at": 1}, summary={})
    assert combine([one, other])["salesforce_id"].value == "2"
