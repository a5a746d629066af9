"""Writing back, to an org that has rules of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tests.connectors.ledgered import Ledgered
from tests.connectors.salesforce.conftest import configured

from upkept.contract import Config, Desired, Permanent, Pushed, RecordRef, Retryable, Skipped
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept.testing.fake_salesforce.shapes import Row, whole_id
from upkept_salesforce import connector
from upkept_salesforce.client import push, push_many
from upkept_salesforce.config import SalesforceConfig

OUT: dict[str, Any] = {"consent": {"*": "opt_out"}}


def lead(id: str, **said: Any) -> Desired:
    return Desired(person="p", record=RecordRef("lead", id), **said)


def nobody(**said: Any) -> Desired:
    return Desired(person="p", record=None, **{"email": "new@example.com", "user_id": "42", **said})


def row(fake: FakeSalesforce, id: str, table: str = "Lead") -> Row:
    return fake.org.tables[table][whole_id(id)]


def writes(fake: FakeSalesforce) -> list[str]:
    return [seen["endpoint"] for seen in fake.gate.requests if seen["method"] in ("POST", "PATCH", "DELETE")][1:]


def test_fields_and_an_opt_out_are_written_in_one_call(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    asked = ctx.now
    done = push(lead(id[:15], fields={"Phone": "1", "Title": None}, **OUT), config, ctx, key="k")
    assert done == Pushed(
        record=RecordRef("lead", id), fields={"Phone": "1", "Title": None, "HasOptedOutOfEmail": True}, at=done.at
    )
    assert done.at is not None
    assert done.at - asked < timedelta(seconds=1), "not the time of the answer"
    assert (row(fake, id)["Phone"], row(fake, id)["HasOptedOutOfEmail"]) == ("1", True)
    assert writes(fake) == ["PATCH composite/sobjects"]
    (seen,) = [seen for seen in fake.gate.requests if seen["method"] == "PATCH"]
    assert seen["sforce-call-options"] == "client=upkept"
    assert seen["sforce-auto-assign"] == "FALSE", "an update of ours hands no lead to another owner"


def test_consent_is_raised_only_where_it_says_so(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    (id,) = fake.seed(leads=1)
    fake.change("Lead", id, HasOptedOutOfEmail=True)
    push(lead(id, fields={"Title": "x", "HasOptedOutOfEmail": False}), config, ctx, key="k")
    assert row(fake, id)["HasOptedOutOfEmail"] is True, "a mapped field is no way around consent"
    with pytest.raises(Skipped):
        push(lead(id, consent={"news": "opt_in"}), config, ctx, key="k")
    push(lead(id, consent={"*": "opt_in"}), config, ctx, key="k")
    assert row(fake, id)["HasOptedOutOfEmail"] is False


def test_a_field_that_is_refused_does_not_hold_up_the_opt_out(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    fake.set_faults(refused=["Lead.Phone"])
    with pytest.raises(Permanent, match="FIELD_CUSTOM_VALIDATION_EXCEPTION"):
        push(lead(id, fields={"Phone": "1"}, **OUT), config, ctx, key="k")
    assert row(fake, id)["HasOptedOutOfEmail"] is True
    assert row(fake, id)["Phone"] is None


def test_many_go_200_at_a_time_with_a_result_each_and_opt_outs_first(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    leads = fake.seed(leads=250)
    fake.org.delete("Lead", leads[7])
    fake.org.convert(leads[8])
    fake.set_faults(locked={leads[9]: 9}, refused=["Lead.Rating"])
    states = {id: lead(id, fields={"Title": "new"}) for id in leads}
    states[leads[10]] = lead(leads[10], fields={"Rating": "Hot"})
    states[leads[249]] = lead(leads[249], **OUT)
    answers = list(push_many(states, config, ctx))
    assert answers[0][0] == leads[249]
    by_key = dict(answers)
    assert len(by_key) == len(answers) == 250
    failed = {key: type(answer) for key, answer in by_key.items() if not isinstance(answer, Pushed)}
    assert {key: kind.__mro__[1] if kind not in (Skipped,) else kind for key, kind in failed.items()} == {
        leads[7]: Skipped,
        leads[8]: Skipped,
        leads[9]: Retryable,
        leads[10]: Permanent,
    }
    assert writes(fake) == ["PATCH composite/sobjects"] * 2
    assert sum(one["Title"] == "new" for one in fake.rows("Lead")) == 245


def test_two_states_of_one_record_go_in_two_calls(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    answers = dict(push_many({"a": lead(id, fields={"Title": "x"}), "b": lead(id[:15], **OUT)}, config, ctx))
    assert all(isinstance(answer, Pushed) for answer in answers.values())
    assert (row(fake, id)["Title"], row(fake, id)["HasOptedOutOfEmail"]) == ("x", True)


def test_a_spent_limit_stops_all_and_leaves_the_rest_to_be_tried_again(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    leads = fake.seed(leads=201)
    fake.set_faults(limit={"after": 1})
    answers = []
    with pytest.raises(Retryable, match="REQUEST_LIMIT"):
        answers += list(push_many({id: lead(id, **OUT) for id in leads}, config, ctx))
    assert sum(one["HasOptedOutOfEmail"] for one in fake.rows("Lead")) == 200


def test_the_upsert_by_user_id_makes_nobody_twice_and_escapes_it(fake: FakeSalesforce, ctx: Ledgered) -> None:
    config = configured(fake, external_id_field="User_Id__c")
    state = nobody(user_id="a/b c?é", fields={"LastName": "Doe"})
    first = push(state, config, ctx, key="k")
    again = push(state, config, ctx, key="k")
    (made,) = fake.rows("Lead")
    assert first.record == again.record == RecordRef("lead", made["Id"])
    assert (made["User_Id__c"], made["Email"], made["Company"]) == ("a/b c?é", "new@example.com", "[not provided]")
    assert writes(fake) == ["PATCH sobjects/Lead"] * 2
    assert made["LastName"] == "Doe"


def test_a_lead_that_is_there_keeps_the_name_somebody_typed(fake: FakeSalesforce, ctx: Ledgered) -> None:
    config = configured(fake, external_id_field="User_Id__c")
    (id,) = fake.make("Lead", {"LastName": "Real", "Company": "Acme", "User_Id__c": "42", "Email": "own@example.com"})
    assert push(nobody(fields={"Title": "x"}), config, ctx, key="k").record == RecordRef("lead", id)
    found = row(fake, id)
    assert (found["LastName"], found["Company"], found["Email"]) == ("Real", "Acme", "own@example.com")
    assert found["Title"] == "x"
    fake.org.convert(id)
    with pytest.raises(Skipped, match="converted"):
        push(nobody(fields={"Title": "y"}), config, ctx, key="k")


def test_a_lead_of_another_user_is_not_taken(fake: FakeSalesforce, ctx: Ledgered) -> None:
    (id,) = fake.make("Lead", {"LastName": "Doe", "Company": "x", "Email": "new@example.com", "User_Id__c": "9"})
    fake.set_faults(duplicate_rule=True)
    with pytest.raises(Permanent, match="another user's"):
        push(nobody(), configured(fake, external_id_field="User_Id__c"), ctx, key="k")
    assert row(fake, id)["User_Id__c"] == "9"


def test_an_external_id_that_several_bear_is_permanent(fake: FakeSalesforce, ctx: Ledgered) -> None:
    fake.set_faults(ambiguous=True)
    fake.make("Lead", *({"LastName": "Doe", "Company": "x", "User_Id__c": "42"} for _ in range(2)))
    with pytest.raises(Permanent, match="several leads"):
        push(nobody(), configured(fake, external_id_field="User_Id__c"), ctx, key="k")


def test_without_an_external_id_whoever_bears_the_address_is_taken(fake: FakeSalesforce, ctx: Ledgered) -> None:
    config = configured(fake)
    state = nobody(email="o'neil@example.com", fields={"Title": "x"}, **OUT)
    first = push(state, config, ctx, key="k")
    again = push(state, config, ctx, key="k")
    (made,) = fake.rows("Lead")
    assert first.record == again.record == RecordRef("lead", made["Id"])
    assert (made["LastName"], made["HasOptedOutOfEmail"]) == ("[not provided]", True)
    fake.make("Lead", {"LastName": "Twin", "Company": "x", "Email": "O'Neil@example.com"})
    with pytest.raises(Permanent, match="several leads"):
        push(state, config, ctx, key="k")
    with pytest.raises(Skipped):
        push(nobody(email=None, user_id=None), config, ctx, key="k")


def test_a_duplicate_rule_leads_to_the_record_it_names(fake: FakeSalesforce, ctx: Ledgered) -> None:
    (id,) = fake.make("Lead", {"LastName": "Doe", "Company": "x", "Email": "new@example.com"})
    fake.set_faults(duplicate_rule=True)
    done = push(nobody(), configured(fake, external_id_field="User_Id__c"), ctx, key="k")
    assert done.record == RecordRef("lead", id)
    assert (row(fake, id)["User_Id__c"], row(fake, id)["LastName"]) == ("42", "Doe")


def test_the_erased_are_deleted_and_stay_so(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    one, two = fake.seed(leads=2)
    (contact,) = fake.make("Contact", {"LastName": "Doe"})
    states = {
        "a": lead(one, erased=True),
        "b": Desired(person="p", record=RecordRef("contact", contact), erased=True),
        "c": nobody(erased=True, email=None, user_id=None),
        "d": Desired(person="p", record=RecordRef("task", "00T5f00000aaaaaEAA"), erased=True),
    }
    for _ in range(2):
        answers = dict(push_many(states, config, ctx))
        assert isinstance(answers["a"], Pushed)
        assert isinstance(answers["b"], Pushed)
        assert isinstance(answers["c"], Skipped)
        assert isinstance(answers["d"], Skipped)
    assert (row(fake, one)["IsDeleted"], row(fake, contact, "Contact")["IsDeleted"]) == (True, True)
    assert row(fake, two)["IsDeleted"] is False


def test_a_refused_login_is_the_operators(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    fake.set_faults(revoked=True)
    with pytest.raises(Config):
        push(lead("00Q5f000005bwLFEAY", **OUT), config, ctx, key="k")


def test_what_goes_out_is_what_comes_back() -> None:
    rules = {
        "lead.Phone": {"attribute": "phone", "convert": "text", "direction": "both"},
        "lead.Seen__c": {"attribute": "last_seen", "convert": "time", "direction": "out"},
    }
    fields = connector.fields.overridden(rules, where="here")
    ours: dict[str, Any] = {"phone": "1", "last_seen": 1_790_000_000}
    sent = {rule.path: fields.written(rule, ours[rule.attribute]) for rule in fields.outgoing("lead")}
    assert sent == {"Phone": "1", "Seen__c": "2026-09-21T14:13:20Z"}
    assert fields.converters["time"](sent["Seen__c"], {}) == 1_790_000_000
    with pytest.raises(Config, match="nothing writes"):
        connector.fields.overridden({"lead.OwnerId": {"attribute": "owner", "convert": "id", "direction": "out"}},
                                    where="here")  # fmt: skip
