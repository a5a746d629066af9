"""Polling the activities of a server that keeps state: nothing is missed, and a list in circles is noticed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.connectors.marketo.conftest import Lent, configured

from upkept.contract import Config, Consent, Fact, Link, Page, Permanent, RawEvent, Retryable, Statement
from upkept.testing.fake_marketo import FakeMarketo
from upkept_marketo import MarketoConfig, connector
from upkept_marketo.client import pull
from upkept_marketo.client.place import Place

NOW = 1_795_000_000
LISTS = ("leadchanges.json", "activities.json", "deletedleads.json")


@pytest.fixture
def ctx(fake: FakeMarketo) -> Lent:
    """Both clocks stand at `NOW`, a second after everything that a test lets happen before."""
    fake.control("POST", "/_clock", frozen=NOW - 1)
    return Lent(at=NOW)


def since(fake: FakeMarketo, seconds: int = 3600) -> str:
    fake.control("POST", "/_clock", frozen=NOW)
    return f"since:{datetime.fromtimestamp(NOW - seconds, UTC).isoformat()}"


def events(pages: list[Page]) -> list[RawEvent]:
    return [event for page in pages for event in page.events]


def said(pages: list[Page]) -> list[Statement]:
    return [one for event in events(pages) for one in connector.normalize(event, connector.fields)]


def kinds(pages: list[Page]) -> dict[str, int]:
    found: dict[str, int] = {}
    for event in events(pages):
        found[event.kind] = found.get(event.kind, 0) + 1
    return found


def opt_outs(pages: list[Page]) -> set[tuple[str, str | None]]:
    outs = [one for one in said(pages) if isinstance(one, Consent) and one.act == "opt_out" and one.record]
    return {(one.record.id, one.address) for one in outs if one.record}


def test_everything_that_happened_comes_in(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    ann, bo, cy, dee, eve = (fake.do("create", fields={"email": f"{name}@example.com"}) for name in "abcde")
    fake.do("unsubscribe", ann)
    fake.do("change", bo, fields={"unsubscribed": True}, source="Salesforce.com")
    fake.do("merge", cy, losers=[dee])
    fake.do("delete", eve)
    fake.do("bounce", ann)
    fake.do("fill_out", cy, fields={"firstName": "Cy", "lastName": "Roe"})
    pages = list(pull(since(fake), config, ctx))
    assert kinds(pages) == {
        "new_lead": 5, "change_data_value": 4, "read.lead": 3 + 2, "unsubscribe_email": 1, "email_bounced": 1,
        "merge_leads": 1, "delete_lead": 1, "activity": 1,
    }  # fmt: skip
    assert opt_outs(pages) == {(str(ann), "a@example.com"), (str(bo), "b@example.com")}
    links = [(one.a.id, one.b.id) for one in said(pages) if isinstance(one, Link)]
    assert links == [(str(dee), str(cy))]
    deleted = {one.record.id for one in said(pages) if isinstance(one, Fact) and one.deleted}
    assert deleted == {str(dee), str(eve)}
    bounced = [one.address for one in said(pages) if isinstance(one, Consent) and one.act == "bounce_hard"]
    assert set(bounced) == {"a@example.com"}
    assert pages[-1].resume == f"since:{datetime.fromtimestamp(NOW - 600, UTC).isoformat()}"
    told = [event.id for event in events(pages) if event.kind != "read.lead"]
    assert len(set(told)) == len(told)


def test_an_opt_out_by_form_is_no_unsubscribe_email_and_comes_in_all_the_same(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    ids = [fake.do("create", fields={"email": "Ann@example.com"}) for _ in range(2)]
    fake.do("fill_out", ids[0], form="Preferences", fields={"unsubscribed": True})
    pages = list(pull(since(fake), config, ctx))
    assert "unsubscribe_email" not in kinds(pages)
    assert opt_outs(pages) == {(str(id), "Ann@example.com") for id in ids}, "it spreads over the address"


def test_the_opt_out_of_an_old_lead_is_of_its_address_too(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    fake.control("POST", "/_clock", frozen=NOW - 50_000)
    ids = [fake.do("create", fields={"email": f"{n}@example.com"}) for n in range(3)]
    fake.control("POST", "/_clock", frozen=NOW - 1)
    fake.do("change", ids[0], fields={"unsubscribed": True}, source="Salesforce.com")
    fake.do("unsubscribe", ids[1])
    fake.do("change", ids[2], fields={"company": "Acme"})
    pages = list(pull(since(fake), config, ctx))
    assert opt_outs(pages) == {(str(ids[n]), f"{n}@example.com") for n in (0, 1)}
    told = [one for one in said(pages) if isinstance(one, Consent)]
    assert {one.address for one in told} == {"0@example.com", "1@example.com"}, "each says so by itself"
    read = [event.id.split(":")[2] for event in events(pages) if event.kind == "read.lead"]
    assert set(read) == {str(ids[0]), str(ids[1])}, "a change that is of no address costs no read"


def test_the_opt_out_is_of_the_address_that_the_lead_had_then(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    """And moving to a clean address opts in at Marketo, not here (R9): nothing but the lead's own word says so."""
    ann = fake.do("create", fields={"email": "old@example.com"})
    fake.do("fill_out", ann, fields={"unsubscribed": True})
    fake.do("change", ann, fields={"email": "new@example.com"})
    assert fake.lead(ann)["unsubscribed"] is False
    pages = list(pull(since(fake), config, ctx))
    assert opt_outs(pages) == {(str(ann), "old@example.com")}
    assert not [one for one in said(pages) if isinstance(one, Consent) and one.act == "opt_in" and one.address]


def test_a_lead_that_moves_to_an_opted_out_address_is_opted_out(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    gone = fake.do("create", fields={"email": "out@example.com"})
    fake.do("change", gone, fields={"unsubscribed": True})
    fake.do("delete", gone)
    ann = fake.do("create", fields={"email": "ann@example.com"})
    fake.do("change", ann, fields={"email": "out@example.com"})
    again = fake.do("create", fields={"email": "OUT@example.com"})
    found = opt_outs(list(pull(since(fake), config, ctx)))
    assert found == {
        (str(gone), None),  # it can be read no more: the hub knows its address, if anybody does
        (str(ann), "out@example.com"),
        (str(again), "OUT@example.com"),
    }


def test_short_and_empty_pages_that_promise_more_are_read_on(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    ids = fake.seed(40, days=0)
    for id in ids:
        fake.do("change", id, fields={"plan": "gold"})
    fake.do("unsubscribe", ids[0])
    fake.faults(scan=7)
    pages = list(pull(since(fake), config, ctx))
    assert kinds(pages)["new_lead"] == 40
    assert kinds(pages)["unsubscribe_email"] == 1
    assert sum(not page.events for page in pages) > 10
    for name in LISTS:
        tokens = [one["query"]["nextPageToken"] for one in fake.requests() if one["path"].endswith(name)]
        assert len(tokens) == len(set(tokens)) > 10


def test_a_kill_at_any_page_loses_nothing_and_repeats_nothing(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    ids = fake.seed(30, days=0)
    fake.do("merge", ids[0], losers=ids[1:3])
    fake.do("delete", ids[4])
    fake.faults(scan=8)
    start = since(fake)
    whole = list(pull(start, config, ctx))
    cursor: str | None = start
    resumed: list[Page] = []
    while cursor is not None:
        page = next(pull(cursor, config, Lent(at=NOW)))
        resumed.append(page)
        cursor = page.cursor
    assert [event.id for event in events(resumed)] == [event.id for event in events(whole)]
    assert resumed[-1].resume == whole[-1].resume


def test_a_list_in_circles_is_noticed(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    fake.seed(3, days=0)
    fake.faults(circle=True)
    with pytest.raises(Retryable, match="does not advance"):
        list(pull(since(fake), config, ctx))


def test_a_circle_of_any_length_is_noticed() -> None:
    def walk(length: int) -> None:
        place = Place(stage="changes", token="0")
        for number in range(10 * length):
            place = place.advanced(str(1 + number % length), events=0, endpoint="x")

    for length in (1, 2, 7, 100):
        with pytest.raises(Retryable, match="does not advance"):
            walk(length)


def test_a_list_ends_at_what_happens_after_the_pull_began(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    """A subscription in which something happens all the time is read to the moment the pull began, and no further."""
    fake.seed(10, days=0)
    start = since(fake)
    fake.control("POST", "/_clock", frozen=NOW + 5)
    for number in range(30):
        fake.do("create", fields={"email": f"late{number}@example.com"})
    fake.control("POST", "/_clock", frozen=NOW)
    fake.faults(scan=10)
    pages = list(pull(start, config, ctx))
    assert kinds(pages)["new_lead"] == 10 + 10, "the page that reached it came whole"
    resume = pages[-1].resume
    assert resume is not None
    fake.control("POST", "/_clock", frozen=NOW + 60)
    assert kinds(list(pull(resume, config, Lent(at=NOW + 60))))["new_lead"] == 40


def test_what_is_listed_late_is_in_the_overlap(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    fake.do("create", fields={"email": "late@example.com"})
    fake.faults(lag=60)
    first = list(pull(since(fake), config, ctx))
    assert events(first) == []
    fake.control("POST", "/_clock", frozen=NOW + 900)
    assert kinds(list(pull(first[-1].resume, config, Lent(at=NOW + 900))))["new_lead"] == 1


def test_types_are_known_by_name_for_a_day(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    fake.do("unsubscribe", fake.do("create", fields={"email": "ann@example.com"}))
    start = since(fake)
    for _ in range(3):
        assert kinds(list(pull(start, config, ctx)))["unsubscribe_email"] == 1
    assert fake.stats()["calls"]["/rest/v1/activities/types.json"] == 1
    asked = {one["query"]["activityTypeIds"] for one in fake.requests() if one["path"].endswith("/activities.json")}
    assert asked == {"1002,1008,1009,1027,1032"}


def test_the_timeline_has_the_types_that_are_named(fake: FakeMarketo, ctx: Lent) -> None:
    fake.do("fill_out", fake.do("create"), form="Demo")
    start = since(fake)
    assert kinds(list(pull(start, configured(fake), Lent(at=NOW))))["activity"] == 1
    assert "activity" not in kinds(list(pull(start, configured(fake, activities=("Open Email", "No Such")), ctx)))
    many = (
        "Open Email",
        "Click Email",
        "Send Email",
        "Email Delivered",
        "Visit Webpage",
        "Click Link",
        "Fill Out Form",
    )
    with pytest.raises(Config, match="activities"):
        list(pull(start, configured(fake, activities=many), Lent(at=NOW)))


def test_a_pull_from_before_the_deletes_walks_over_everything(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    start = since(fake, 14 * 86_400)
    page = next(pull(start, config, ctx))
    assert page.cursor is not None
    assert json.loads(page.cursor)["stage"] == "leads"
    assert "14 days" in ctx.kept.lines[0][0]


@pytest.mark.parametrize("cursor", ["since:yesterday", "{}", "[]", '{"stage":"x"}', '{"stage":"leads","strange":1}'])
def test_a_cursor_that_is_none_is_for_an_engineer(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, cursor: str
) -> None:
    with pytest.raises(Permanent):
        list(pull(cursor, config, ctx))


@pytest.mark.parametrize("how", ["html", "login", "garbage", "array", "reset", "606", "607"])
def test_an_error_in_the_middle_keeps_the_pages_before(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, how: Any
) -> None:
    fake.seed(30, days=0)
    fake.faults(scan=8)
    start = since(fake)
    whole = {event.id for event in events(list(pull(start, config, ctx)))}
    pulled = pull(start, config, ctx)
    pages = [next(pulled), next(pulled)]
    fake.faults(fail_next=[how])
    with pytest.raises(Retryable):
        next(pulled)
    rest = list(pull(pages[-1].cursor, config, ctx))
    assert {event.id for event in events(pages + rest)} == whole


def test_our_own_change_coming_back_is_no_news(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    ann = fake.do("create", fields={"email": "ann@example.com", "company": "Acme"})
    fake.do("change", ann, fields={"company": "Acme Inc"}, source="Web service API")
    fake.do("change", ann, fields={"company": "Acme Ltd"}, source="Flow action")
    facts = [one for one in said(list(pull(since(fake), config, ctx))) if isinstance(one, Fact)]
    echoed = {one.fields["marketo_company"]: one.snapshot for one in facts if one.fields.keys() == {"marketo_company"}}
    assert echoed == {"Acme Inc": True, "Acme Ltd": False}
