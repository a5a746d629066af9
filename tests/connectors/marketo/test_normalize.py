"""What activities and reads say, beside the fixtures."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from upkept.contract import Consent, Fact, Permanent, RawEvent, RecordRef, Scalar, Whole
from upkept.people.consent import admit_consent, decide
from upkept_marketo import connector
from upkept_marketo.fields import FIELDS, as_number, as_wording
from upkept_marketo.payload import flag, lead_id, moment

READ_AT = 1_795_168_800


def said(kind: str, body: Any) -> list[Any]:
    return list(connector.normalize(RawEvent(id="x", kind=kind, body=json.dumps(body).encode()), connector.fields))


def lead(**fields: Any) -> list[Any]:
    return said("read.lead", {"read_at": READ_AT, "leads": [{"id": 5, "email": "ann@example.com", **fields}]})


def change(fields: list[Any], **more: Any) -> list[Any]:
    activity = {"marketoGUID": "12", "leadId": 5, "activityDate": "2026-11-20T10:00:00Z", "fields": fields}
    return said("change_data_value", {"type": "x", "activity": activity, **more})


@pytest.mark.parametrize("value", [False, None, "false", "0", 0, "", "perhaps", [], {}, 2])
def test_only_a_plain_yes_is_an_opt_out(value: Any) -> None:
    assert [one for one in lead(unsubscribed=value) if isinstance(one, Consent)] == []


@pytest.mark.parametrize("value", [True, "true", "TRUE ", "1", 1, "yes"])
def test_however_marketo_words_it(value: Any) -> None:
    (consent,) = [one for one in lead(unsubscribed=value) if isinstance(one, Consent)]
    assert consent.act == "opt_out"


def test_suspended_mail_is_no_opt_out_and_no_bounce() -> None:
    assert [one for one in lead(emailSuspended=True) if isinstance(one, Consent)] == []
    assert change([{"name": "emailSuspended", "newValue": "true"}]) == []


def test_an_opt_out_read_again_is_the_same_statement() -> None:
    """Else each walk would make it younger, until it beat an opt-in that came after it."""
    stamped = lead(unsubscribed=True, updatedAt="2026-11-01T10:00:00Z")[1]
    again = said(
        "read.lead",
        {
            "read_at": READ_AT + 9999,
            "leads": [
                {"id": 5, "email": "ann@example.com", "unsubscribed": True, "updatedAt": "2026-11-01T10:00:00+0000"}
            ],
        },
    )[1]
    assert stamped == again
    assert lead(unsubscribed=True)[1].at == datetime.fromtimestamp(READ_AT, UTC)
    ahead = lead(unsubscribed=True, updatedAt="2099-01-01T00:00:00Z")[1]
    assert ahead.at == datetime.fromtimestamp(READ_AT, UTC), "no younger than the read"


def test_only_a_qualified_opt_in_reverses_what_marketo_said() -> None:
    out = change([{"name": "unsubscribed", "newValue": "true"}], email="ann@example.com")
    back = said("change_data_value", {"type": "x", "email": "ann@example.com", "activity": {
        "marketoGUID": "13", "leadId": 5, "activityDate": "2026-11-21T10:00:00Z",
        "fields": [{"name": "unsubscribed", "newValue": "false"}]}})  # fmt: skip
    consents = [one for one in (*out, *back) if isinstance(one, Consent)]
    assert [one.act for one in consents] == ["opt_out", "opt_in"]
    facts = [fact for one in consents for fact in admit_consent("m", one, received_at=10**16, subject=_subject)]
    assert decide(facts).state == "unsubscribed"
    assert [one.address for one in consents if one.act == "opt_in"] == [None], "it makes nobody else subscribed"


def _subject(kind: str, value: str) -> str:
    return f"{kind} {value}"


def test_a_change_names_the_person_whose_name_is_known_in_full() -> None:
    fields = [{"name": "lastName", "newValue": "Roe"}]
    (fact,) = change(fields, lead={"firstName": "Ann", "lastName": "Lee"})
    assert fact.fields == {"name": "Ann Roe"}
    assert change(fields) == []


def test_a_user_id_comes_from_the_first_key_that_has_one() -> None:
    for fields, wanted in (
        ({"user_id": None, "uid": "7"}, "7"),
        ({"user_id": 42}, "42"),
        ({"user_id": " "}, None),
    ):
        fact = lead(**fields)[0]
        assert isinstance(fact, Fact)
        assert fact.claims["user_id"] == wanted
    assert "user_id" not in lead()[0].claims


@pytest.mark.parametrize(
    "fields", [None, "x", {}, [{"name": "unsubscribed"}], [None, 5, {"newValue": "x"}, {"name": 5}], []]
)
def test_a_change_of_a_strange_shape_harms_nobody(fields: Any) -> None:
    if isinstance(fields, list):
        assert [one for one in change(fields) if isinstance(one, Consent)] == []
    else:
        with pytest.raises(Permanent):
            change(fields)


@pytest.mark.parametrize("body", [
    {"activity": []}, {"activity": {}}, {"activity": {"leadId": "x", "marketoGUID": "1"}},
    {"activity": {"leadId": 5, "marketoGUID": []}}, {"activity": {"leadId": 5}},
])  # fmt: skip
@pytest.mark.parametrize("kind", sorted(connector.kinds - {"hint", "hint.unsubscribed", "read.lead"}))
def test_an_activity_of_a_strange_shape_is_for_an_engineer(kind: str, body: Any) -> None:
    if kind.startswith("email_bounced") and "leadId" in body["activity"] and body["activity"]["leadId"] == 5:
        return  # a bounce is a bounce, whatever it is called
    with pytest.raises(Permanent):
        said(kind, body)


@pytest.mark.parametrize("body", [
    {}, {"leads": []}, {"leads": {}, "read_at": 1}, {"leads": [None], "read_at": 1}, {"leads": [{}], "read_at": 1},
    {"leads": [], "read_at": 10**30},
    {"leads": [], "gone": [None], "read_at": 1}, {"leads": [], "gone": 1, "read_at": 1},
])  # fmt: skip
def test_a_read_of_a_strange_shape_is_for_an_engineer(body: Any) -> None:
    with pytest.raises(Permanent):
        said("read.lead", body)


@pytest.mark.parametrize("ids", ["", None, "[]", "5", [5], "x, y", {"a": 1}])
def test_a_merge_that_names_no_loser_is_for_an_engineer(ids: Any) -> None:
    activity = {"marketoGUID": "12", "leadId": 5, "attributes": {"Merge IDs": ids}}
    with pytest.raises(Permanent):
        said("merge_leads", {"type": "Merge Leads", "activity": activity})


@pytest.mark.parametrize(("ids", "losers"), [("[6, 7]", ["6", "7"]), ("6", ["6"]), (6, ["6"]), ([7, "6"], ["6", "7"]),
                                             ("6,5", ["6"]), ("6, x", ["6"])])  # fmt: skip
def test_a_merge_names_its_losers_in_whatever_shape(ids: Any, losers: list[str]) -> None:
    activity = {"marketoGUID": "12", "leadId": 5, "attributes": [{"name": "Merge IDs", "value": ids}]}
    links = said("merge_leads", {"type": "Merge Leads", "activity": activity})[::2]
    assert [one.a.id for one in links] == losers


def test_values_of_marketo_s() -> None:
    assert [flag(one) for one in ("True", 1, 0, "nope", None, 5)] == [True, True, False, None, None, None]
    assert [lead_id(one) for one in (5, "5", "05", 0, -1, True, "\u0665", "9" * 30, None, 1.0)] == [
        "5", "5", "5", None, None, None, None, None, None, None]  # fmt: skip
    assert moment("2014-09-17T22:31:49+0000") == moment("2014-09-17T22:31:49Z") == moment("2014-09-17T14:31:49-08:00")
    assert [moment(one) for one in ("2014-09-17T22:31:49", "x", None, 5, "0001-01-01T00:00:00+14:00")] == [None] * 5
    assert [as_number(one, {}) for one in ("12", 12.0, "1.5", "x", None, True, "1e999", "nan")] == [
        12, 12, 1.5, None, None, None, None, None]  # fmt: skip
    assert [as_wording(one, {}) for one in (5, 5.0, True, " a ", "", None)] == ["5", "5", "true", "a", None, None]


def test_what_goes_out_reads_back_as_the_same() -> None:
    outward = FIELDS.overridden(
        {"lead.leadScore": {"attribute": "score", "convert": "number", "direction": "out"},
         "lead.doNotCall": {"attribute": "dnc", "convert": "flag", "direction": "both"},
         "lead.metAt": {"attribute": "met_at", "convert": "time", "direction": "both"},
         "lead.company": {"attribute": "company", "convert": "wording", "direction": "both"}}, where="test",
    )  # fmt: skip
    values: dict[str, Scalar] = {
        "score": 7,
        "dnc": True,
        "met_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "company": None,
    }
    sent = {rule.path: outward.written(rule, values[rule.attribute]) for rule in outward.outgoing("lead")
            if rule.attribute in values}  # fmt: skip
    assert sent == {"leadScore": 7, "doNotCall": True, "metAt": "2026-01-02T03:04:05+00:00", "company": None}
    back = outward.apply("lead", sent)
    assert back == {("_score" if name == "score" else name): value for name, value in values.items()}


def test_several_leads_of_one_person_speak_as_one() -> None:
    def whole(id: str, **fields: Any) -> Whole:
        return Whole(ref=RecordRef("lead", id), fields=fields, summary={})

    old, new = datetime(2020, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    leads = [
        whole("9", marketo_created_at=new, marketo_id="9", marketo_unsubscribed=True, marketo_lead_score=50, email="x"),
        whole("5", marketo_created_at=old, marketo_id="5", marketo_unsubscribed=False, marketo_lead_score=3,
              marketo_company="Acme"),
        whole("7", marketo_id="7"),
    ]  # fmt: skip
    assert connector.combine is not None
    told = connector.combine(leads)
    assert {name: one.value for name, one in told.items()} == {
        "marketo_created_at": old, "marketo_id": "5", "marketo_unsubscribed": True, "marketo_lead_score": 50,
        "marketo_company": "Acme",
    }  # fmt: skip
    assert told == connector.combine(leads[::-1])
    assert told["marketo_unsubscribed"].used[0].id == "9"
