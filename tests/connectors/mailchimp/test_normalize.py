"""What is made of a webhook's time, of a read, of tags and interests, and of an operator's own field map."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.connectors.mailchimp.conftest import LIST

from upkept.contract import (
    WITHDRAWN,
    Config,
    Consent,
    Fact,
    FactKind,
    FieldMap,
    Permanent,
    RawEvent,
    RecordRef,
    Skipped,
    Whole,
)
from upkept.testing.fake_mailchimp.hooks import form
from upkept_mailchimp import connector
from upkept_mailchimp.combine import combine
from upkept_mailchimp.fields import FIELDS, interest_attribute
from upkept_mailchimp.member import hash_of, parted

CHANGED = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)


def said(
    member: dict[str, Any], *, received: datetime | None = None, fields: FieldMap = FIELDS, **more: Any
) -> list[Any]:
    email = member.setdefault("email_address", "ann@example.com")
    member.setdefault("id", hash_of(email))
    member.setdefault("last_changed", CHANGED.isoformat())
    read = {
        "object": "upkept.member",
        "audience": LIST,
        "topic": "*",
        "confirms": False,
        "titles": {},
        "tags": {},
        **more,
    }
    event = RawEvent(
        id="r", kind="read.member", body=json.dumps({**read, "member": member}).encode(), received_at=received
    )
    return list(connector.normalize(event, fields))


def consents(member: dict[str, Any], **more: Any) -> list[tuple[str, bool]]:
    return [(one.act, one.qualified) for one in said(member, **more) if isinstance(one, Consent)]


@pytest.mark.parametrize(("status", "acts"), [
    ("subscribed", [("opt_in", False)]), ("unsubscribed", [("opt_out", False)]), ("cleaned", [("bounce_hard", False)]),
    ("pending", []), ("transactional", []), ("archived", []), ("news to us", []), (None, []),
])  # fmt: skip
def test_what_a_status_says_of_consent(status: str | None, acts: list[tuple[str, bool]]) -> None:
    assert consents({"status": status}) == acts


@pytest.mark.parametrize(("told", "confirms", "ip", "own_at"), [
    ("2026-02-01 09:00:03", True, "198.51.100.7", "2026-02-01T09:00:00+00:00"),
    ("2026-02-01 08:50:00", True, "198.51.100.7", "2026-02-01T08:50:00+00:00"),
    ("", True, "198.51.100.7", None), ("yesterday", True, "198.51.100.7", None),
    ("2026-02-01 09:00:03", False, "198.51.100.7", None), ("2026-02-01 09:00:03", True, "", None),
])  # fmt: skip
def test_only_what_was_told_of_a_subscriber_is_the_persons_own_act(
    told: str, confirms: bool, ip: str, own_at: str | None
) -> None:
    """And what somebody else did to the member after that does not date it."""
    opted = "2026-02-01T09:00:00+00:00"
    member = {"status": "subscribed", "source": "Embed Form", "ip_opt": ip, "timestamp_signup": opted,
              "timestamp_opt": opted}  # fmt: skip
    consent = next(one for one in said(member, confirms=confirms, told_at=told) if isinstance(one, Consent))
    at = datetime.fromisoformat(own_at or opted)
    assert (consent.act, consent.qualified, consent.at) == ("opt_in", own_at is not None, at)


@pytest.mark.parametrize(("arrived", "counts"), [
    (timedelta(0), True), (timedelta(minutes=75), True), (timedelta(minutes=-4), True),
    (timedelta(hours=5), False), (timedelta(hours=-2), False), (timedelta(days=400), False),
])  # fmt: skip
def test_a_time_without_a_zone_counts_only_where_it_can_be_utc(arrived: timedelta, counts: bool) -> None:
    body = form(
        {"type": "unsubscribe", "fired_at": "2026-03-01 10:00:00", "data": {"list_id": LIST, "email": "a@b.co"}}
    )
    event = RawEvent(id="u", kind="unsubscribe", body=body, received_at=CHANGED + arrived)
    consent = next(one for one in connector.normalize(event, FIELDS) if isinstance(one, Consent))
    assert consent.at == (CHANGED if counts else None)


def test_a_read_within_the_second_of_the_change_is_outranked_by_a_later_one() -> None:
    early, late = (said({"status": "pending"}, received=CHANGED + timedelta(seconds=s))[0] for s in (1, 30))
    assert (early.kind, late.kind) == (FactKind.EVENT, FactKind.READ_BACK)
    assert early.observed_at == late.observed_at == CHANGED


def test_tags_are_dated_by_the_read_as_they_change_no_version() -> None:
    profile, tags = said({"status": "pending"}, tags={"VIP": True, "Old": False})
    assert (tags.fields, tags.observed_at, tags.snapshot) == ({"tag:VIP": True, "tag:Old": False}, None, True)
    assert not [name for name in profile.fields if name.startswith("tag:")]


def test_interests_go_by_their_titles_unless_a_rule_names_them() -> None:
    titles = {"i1": ["Topics", "Cats & Dogs"], "i2": ["Topics", "Vögel"], "i3": ["Topics", "cats -- dogs"]}
    member = {"status": "pending", "interests": {"i1": False, "i2": True, "i3": True, "unknown": True}}
    (fact,) = said(member, titles=titles)
    chosen = {name: value for name, value in fact.fields.items() if "topics" in name}
    assert chosen == {"mailchimp_topics_cats_dogs": True, "mailchimp_topics_vögel": True}
    own = FIELDS.overridden({"member.interests.i2": {"attribute": "likes_birds", "direction": "both"}}, where="x")
    (fact,) = said(member, titles=titles, fields=own)
    assert fact.fields["likes_birds"] is True
    assert interest_attribute("Topics", "Vögel") not in fact.fields


def test_an_empty_field_withdraws_what_others_know_better() -> None:
    own = FIELDS.overridden({"member.merge_fields.PLAN": "plan", "member.merge_fields.SEATS": {"attribute": "seats",
                             "convert": "number"}}, where="x")  # fmt: skip
    (fact,) = said({"status": "pending", "merge_fields": {"FNAME": "", "SEATS": "12"}}, fields=own)
    assert (fact.fields["first_name"], fact.fields["plan"], fact.fields["seats"]) == (WITHDRAWN, WITHDRAWN, 12)


def test_nothing_writes_what_mailchimp_alone_decides() -> None:
    for path in ("status", "full_name", "timestamp_opt"):
        rule = {
            "attribute": "x",
            "convert": next(r.convert for r in FIELDS.rules if r.path == path),
            "direction": "out",
        }
        with pytest.raises(Config, match="nothing writes"):
            FIELDS.overridden({f"member.{path}": rule}, where="x")
    both = FIELDS.overridden({"member.merge_fields.FNAME": {"attribute": "first_name", "convert": "text",
                              "direction": "both"}}, where="x")  # fmt: skip
    (going,) = both.outgoing("member")
    assert (going.path, both.written(going, "Ann")) == ("merge_fields.FNAME", "Ann")
    out = FIELDS.overridden({"member.merge_fields.PLAN": {"attribute": "plan", "direction": "out"}}, where="x")
    for held in ("gold", None):
        (fact,) = said({"status": "pending", "merge_fields": {"PLAN": held}}, fields=out)
        assert fact.fields["_plan"] == held, "a note of what Mailchimp holds, and no word of Mailchimp's"


def test_an_unsigned_hint_makes_no_statement_by_itself() -> None:
    for kind in ("subscribe", "profile", "upemail"):
        with pytest.raises(Permanent, match="unsigned"):
            connector.normalize(RawEvent(id="x", kind=kind, body=b"type=profile&data[email]=a@b.co"), FIELDS)
    with pytest.raises(Skipped, match="mailing"):
        connector.normalize(RawEvent(id="x", kind="campaign", body=b"type=campaign&data[id]=1"), FIELDS)


def test_surrogates_of_a_broken_name_do_not_stop_the_opt_out() -> None:
    (fact, consent) = said({"status": "unsubscribed", "merge_fields": {"FNAME": "\ud800"}})
    assert (isinstance(fact, Fact), consent.act) == (True, "opt_out")


def test_the_main_member_speaks_for_the_person() -> None:
    def whole(id: str, status: str, opted: datetime | None) -> Whole:
        fields = {"mailchimp_status": status, "mailchimp_opted_in_at": opted, "first_name": id}
        return Whole(ref=RecordRef("member", id), fields=fields, summary={})

    one = whole("a", "archived", CHANGED)
    two = whole("b", "subscribed", CHANGED - timedelta(days=9))
    three = whole("c", "subscribed", CHANGED - timedelta(days=2))
    said = combine([one, two, three])
    assert {name: (value.value, value.used[0].id) for name, value in said.items()} == {
        "mailchimp_status": ("subscribed", "c"),
        "mailchimp_opted_in_at": (CHANGED - timedelta(days=2), "c"),
    }
    assert combine([]) == {}


def test_a_member_is_named_by_the_hash_of_its_address() -> None:
    assert hash_of(" Urist.McVankab@Freddiesjokes.com ") == "62eeb292278cc15f5817cb78f7790b08"
    assert parted(f"{LIST}/{hash_of('a@b.co')}") == (LIST, hash_of("a@b.co"))
    for wrong in ("", LIST, f"{LIST}/a@b.co", f"{LIST}/x/{hash_of('a')}", f"../{hash_of('a')}", f"{LIST}/{'A' * 32}"):
        assert parted(wrong) is None
