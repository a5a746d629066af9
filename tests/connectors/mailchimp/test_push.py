"""Writing to Mailchimp: the opt-out first, never around a lock, nobody deleted, and the same again changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.connectors.mailchimp.conftest import LIST, OTHER, configured

from upkept.contract import Config, Desired, Gone, Permanent, Pushed, RecordRef, Retryable, Skipped
from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept_mailchimp.client import push
from upkept_mailchimp.config import MailchimpConfig
from upkept_mailchimp.member import hash_of

ANN = "ann@example.com"
RECORD = RecordRef("member", f"{LIST}/{hash_of(ANN)}")


@pytest.fixture(autouse=True)
def ann(fake: FakeMailchimp) -> None:
    fake.audience(LIST, merge_fields={"SEATS": "number"}, groups={"g": {"title": "T", "interests": {"i1": "Cats"}}})
    fake.act("subscribe", ANN, audience=LIST, merge_fields={"FNAME": "Ann"})


def wanted(**said: Any) -> Desired:
    return Desired(**{"person": "p1", "record": RECORD, **said})


def member(fake: FakeMailchimp, email: str = ANN) -> dict[str, Any]:
    return fake.world.audiences[LIST].members[hash_of(email)]


def writes(fake: FakeMailchimp) -> list[tuple[str, Any]]:
    return [(one["method"], one["body"]) for one in fake.requests() if one["method"] != "GET"]


def test_an_opt_out_and_the_profile_are_one_call(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fields = {"merge_fields.FNAME": "Anna", "merge_fields.LNAME": None, "interests.i1": True}
    done = push(wanted(consent={"*": "opt_out"}, fields=fields), config, ctx, key="k")
    assert (member(fake)["status"], member(fake)["merge_fields"]["FNAME"]) == ("unsubscribed", "Anna")
    assert member(fake)["interests"] == {"i1": True}
    assert len(writes(fake)) == 1
    assert done == Pushed(
        record=RECORD,
        fields={"merge_fields.FNAME": "Anna", "merge_fields.LNAME": "", "interests.i1": True},
        at=datetime.fromisoformat(member(fake)["last_changed"]).astimezone(UTC),
    )


def test_nothing_is_a_no_where_mailchimp_takes_no_text(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fields = {"interests.i1": None, "vip": None, "merge_fields.SEATS": None}
    done = push(wanted(fields=fields), config, ctx, key="k")
    assert writes(fake) == [("PATCH", {"interests": {"i1": False}, "vip": False, "merge_fields": {"SEATS": ""}})]
    assert isinstance(done, Pushed)
    assert done.fields["interests.i1"] is False


def test_the_same_again_changes_nothing(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    state = wanted(consent={"*": "opt_out"}, fields={"merge_fields.FNAME": "Anna", "tags.VIP": True})
    once = push(state, config, ctx, key="k")
    before = dict(member(fake))
    assert push(state, config, ctx, key="k") == once
    assert member(fake) == before


def test_a_profile_alone_leaves_the_subscription_alone(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fake.act("unsubscribe", ANN, audience=LIST)
    push(wanted(fields={"merge_fields.FNAME": "Anna"}), config, ctx, key="k")
    assert (member(fake)["status"], member(fake)["merge_fields"]["FNAME"]) == ("unsubscribed", "Anna")
    assert "status" not in writes(fake)[0][1]


def test_who_left_by_itself_is_not_subscribed_again(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fake.act("unsubscribe", ANN, audience=LIST)
    done = push(wanted(consent={"*": "opt_in"}, fields={"merge_fields.FNAME": "Anna"}), config, ctx, key="k")
    assert (done.locked, done.fields) == (frozenset({"*"}), {"merge_fields.FNAME": "Anna"})
    assert (member(fake)["status"], member(fake)["merge_fields"]["FNAME"]) == ("unsubscribed", "Anna")
    assert {method for method, _ in writes(fake)} == {"PATCH"}, "no delete, no add, no confirmation"
    assert push(wanted(consent={"*": "opt_in"}), config, ctx, key="k2").locked
    assert all(body.get("status") != "pending" for _, body in writes(fake))


def test_who_was_unsubscribed_by_us_is(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    push(wanted(consent={"*": "opt_out"}), config, ctx, key="k")
    assert push(wanted(consent={"*": "opt_in"}), config, ctx, key="k2").locked == frozenset()
    assert member(fake)["status"] == "subscribed"


def test_a_profile_that_is_refused_holds_up_no_opt_out(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    with pytest.raises(Permanent, match="SEATS"):
        push(wanted(consent={"*": "opt_out"}, fields={"merge_fields.SEATS": "many"}), config, ctx, key="k")
    assert member(fake)["status"] == "unsubscribed"


def test_a_field_that_the_audience_requires_holds_up_nothing(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.audience(LIST, required=["LNAME"])
    push(wanted(consent={"*": "opt_out"}), config, ctx, key="k")
    assert member(fake)["status"] == "unsubscribed"


@pytest.mark.parametrize(("consent", "status"), [
    ({"news": "opt_out"}, "unsubscribed"), ({"*": "opt_out"}, "unsubscribed"), ({"*": "opt_out", "news": "opt_in"},
     "unsubscribed"), ({"other": "opt_out"}, "subscribed"), ({"news": "opt_out", "*": "opt_in"}, "unsubscribed"),
])  # fmt: skip
def test_an_audience_with_a_topic_heeds_that_and_all(
    consent: dict[str, Any], status: str, fake: FakeMailchimp, ctx: Any
) -> None:
    config = configured(fake, topics={LIST: "news"})
    state = wanted(consent=consent, fields={"merge_fields.FNAME": "Anna"})
    push(state, config, ctx, key="k")
    assert member(fake)["status"] == status


@pytest.mark.parametrize("path", [
    "status", "full_name", "timestamp_opt", "tags", "id", "list_id", "status.x", "marketing_permissions.x",
])  # fmt: skip
def test_consent_is_never_written_from_a_mapping(
    path: str, fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    fake.act("unsubscribe", ANN, audience=LIST)
    with pytest.raises(Permanent, match="cannot be written"):
        push(wanted(fields={path: "subscribed"}), config, ctx, key="k")
    assert (member(fake)["status"], writes(fake)) == ("unsubscribed", [])


def test_tags_are_set_and_taken_off_without_automations(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fake.act("tag", ANN, audience=LIST, tag="Old")
    done = push(wanted(fields={"tags.VIP": True, "tags.Old": False}), config, ctx, key="k")
    assert [one["name"] for one in member(fake)["tags"]] == ["VIP"]
    assert done.fields == {"tags.VIP": True, "tags.Old": False}
    assert [body["is_syncing"] for _, body in writes(fake)] == [True]


def test_who_was_erased_here_is_archived_there_and_never_deleted(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    for _ in range(2):
        assert push(wanted(erased=True), config, ctx, key="k").record == RECORD
    assert member(fake)["status"] == "archived"
    assert not fake.world.audiences[LIST].forgotten
    del fake.world.audiences[LIST].members[hash_of(ANN)]
    push(wanted(erased=True), config, ctx, key="k")
    assert all("delete-permanent" not in one["path"] for one in fake.requests())


@pytest.mark.parametrize(("consent", "status"), [({}, "transactional"), ({"*": "opt_out"}, "unsubscribed"),
                                                 ({"*": "opt_in"}, "subscribed")])  # fmt: skip
def test_who_is_added_is_subscribed_by_an_opt_in_alone(
    consent: dict[str, Any], status: str, fake: FakeMailchimp, config: MailchimpConfig, ctx: Any
) -> None:
    state = wanted(record=None, email="Bo@Example.com", consent=consent, fields={"merge_fields.FNAME": "Bo"})
    done = push(state, config, ctx, key="k")
    assert done.record == RecordRef("member", f"{LIST}/{hash_of('bo@example.com')}")
    assert (member(fake, "bo@example.com")["status"], member(fake, "bo@example.com")["full_name"]) == (status, "Bo")
    push(wanted(record=None, email="Bo@Example.com", fields={"merge_fields.FNAME": "Bob"}), config, ctx, key="k2")
    assert member(fake, "bo@example.com")["status"] == status, "adding again leaves a subscription alone"


def test_who_was_erased_at_mailchimp_is_not_added_again(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    fake.act("erase", ANN, audience=LIST)
    done = push(wanted(record=None, email=ANN, consent={"*": "opt_in"}), config, ctx, key="k")
    assert (done.record, done.locked) == (None, frozenset({"*"}))
    assert not fake.world.audiences[LIST].members


def test_a_changed_address_answers_with_the_new_record(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    done = push(wanted(fields={"email_address": "ann@new.example"}), config, ctx, key="k")
    assert done.record == RecordRef("member", f"{LIST}/{hash_of('ann@new.example')}")


def test_there_is_nothing_to_do_for_who_is_not_ours(fake: FakeMailchimp, ctx: Any) -> None:
    config = configured(fake)
    for state in (
        wanted(),
        wanted(consent={"other": "opt_out"}),
        wanted(record=None),
        wanted(record=RecordRef("member", f"{OTHER}/{hash_of(ANN)}"), fields={"merge_fields.FNAME": "Ann"}),
    ):
        with pytest.raises(Skipped):
            push(state, config if state.record else configured(fake, audiences=()), ctx, key="k")
    with pytest.raises(Permanent):
        push(wanted(record=RecordRef("member", f"{LIST}/{ANN}"), consent={"*": "opt_out"}), config, ctx, key="k")


@pytest.mark.parametrize(
    "owed",
    [{"consent": {"*": "opt_out"}}, {"fields": {"tags.VIP": True}}, {"erased": True}],
    ids=lambda owed: next(iter(owed)),
)
def test_nobody_is_gone_for_an_account_without_the_audience(
    fake: FakeMailchimp, config: MailchimpConfig, ctx: Any, owed: dict[str, Any]
) -> None:
    state = wanted(record=RecordRef("member", f"{LIST}/{hash_of('x@y.example')}"), **owed)
    if state.erased:
        push(state, config, ctx, key="k")  # nobody has to be archived
    else:
        with pytest.raises(Gone):
            push(state, config, ctx, key="k")
    fake.world.audiences.clear()
    with pytest.raises(Config, match="not in this account"):
        push(state, config, ctx, key="k")


def test_what_is_owed_to_a_member_of_an_audience_that_is_not_named_waits_for_a_person(
    fake: FakeMailchimp, ctx: Any
) -> None:
    other = RecordRef("member", f"{OTHER}/{hash_of(ANN)}")
    for owed in (wanted(record=other, consent={"*": "opt_out"}), wanted(record=other, erased=True)):
        with pytest.raises(Permanent, match=f"name {OTHER} in `audiences`"):
            push(owed, configured(fake), ctx, key="k")


def test_a_sick_vendor_is_told_later(fake: FakeMailchimp, config: MailchimpConfig, ctx: Any) -> None:
    for how in (429, 503, "nothing", "empty", "html", "reset", "stranger"):
        fake.faults(fail_next=[how])
        with pytest.raises(Retryable):
            push(wanted(consent={"*": "opt_out"}), config, ctx, key="k")
    fake.faults(revoked=True)
    with pytest.raises(Config):
        push(wanted(consent={"*": "opt_out"}), config, ctx, key="k")
    assert ctx.open_slots == 0
