"""Writing to a server that keeps state: opt-outs first, nobody created by accident, Marketo's hole closed behind us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import pytest
from tests.connectors.marketo.conftest import Lent

from upkept.contract import Config, Desired, Permanent, Pushed, RecordRef, Retryable, Skipped, UpkeptError
from upkept.testing.fake_marketo import FakeMarketo
from upkept_marketo import MarketoConfig, connector
from upkept_marketo.client import push, push_many

Said = Literal["opt_out", "opt_in"]
SYNC, DELETE = "/rest/v1/leads.json", "/rest/v1/leads/delete.json"


def desired(id: int | None, *, says: Said | None = None, topic: str = "*", email: str | None = None,
            erased: bool = False, **fields: Any) -> Desired:  # fmt: skip
    return Desired(
        person="p", record=None if id is None else RecordRef("lead", str(id)), email=email, fields=fields,
        consent={} if says is None else {topic: says}, erased=erased,
    )  # fmt: skip


def writes(fake: FakeMarketo) -> list[dict[str, Any]]:
    return [one["body"] for one in fake.requests() if one["method"] == "POST" and one["path"] in (SYNC, DELETE)]


def said_of_consent(fake: FakeMarketo) -> list[str]:
    """Each value that `unsubscribed` ever changed to."""
    told = [field for one in fake.world.log for field in one["fields"] or () if field["name"] == "unsubscribed"]
    return [field["newValue"] for field in told]


def all_of(states: Mapping[str, Desired], config: MarketoConfig, ctx: Lent) -> dict[str, Pushed | UpkeptError]:
    return dict(push_many(states, config, ctx))


@pytest.fixture
def ann(fake: FakeMarketo) -> int:
    return fake.do("create", fields={"email": "ann@example.com", "company": "Acme"})


def test_an_opt_out_is_one_call_by_id_that_creates_nobody(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int
) -> None:
    pushed = push(desired(ann, says="opt_out"), config, ctx, key="k")
    assert writes(fake) == [
        {"action": "updateOnly", "lookupField": "id",
         "input": [{"id": ann, "unsubscribed": True, "unsubscribedReason": "Opted out (Upkept)"}]}
    ]  # fmt: skip
    assert fake.lead(ann)["unsubscribed"] is True
    assert pushed.record == RecordRef("lead", str(ann))
    assert pushed.at is not None
    assert abs((pushed.at - ctx.now).total_seconds()) < 5


def test_an_opt_out_goes_before_fields_and_is_not_held_up_by_them(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int
) -> None:
    with pytest.raises(Permanent, match="1006"):
        push(desired(ann, says="opt_out", noSuchField=1, company="Acme Inc"), config, ctx, key="k")
    assert fake.lead(ann)["unsubscribed"] is True
    pushed = push(desired(ann, says="opt_out", company="Acme Inc", phone=None), config, ctx, key="k")
    assert (fake.lead(ann)["company"], pushed.fields) == ("Acme Inc", {"company": "Acme Inc", "phone": None})
    assert ["unsubscribed" in one["input"][0] for one in writes(fake)] == [True, False, True, False]


def test_an_opt_in_is_said_only_where_it_is_decided(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int
) -> None:
    fake.do("unsubscribe", ann)
    push(desired(ann, company="Acme Inc"), config, ctx, key="k")
    assert fake.lead(ann)["unsubscribed"] is True
    push(desired(ann, says="opt_in"), config, ctx, key="k")
    assert fake.lead(ann)["unsubscribed"] is False


def test_a_second_try_changes_nothing_more(fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int) -> None:
    for _ in range(2):
        push(desired(ann, says="opt_out", company="Acme Inc"), config, ctx, key="k")
        push(desired(None, email="new@example.com", company="New"), config, ctx, key="k2")
    assert fake.stats()["leads"] == 2
    changes = [one for one in fake.world.log if one["type"] == "Change Data Value"]
    assert len(changes) == 2


def test_moving_an_opted_out_lead_to_a_clean_address_keeps_it_out(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int
) -> None:
    """Marketo opts it in by itself: its durable unsubscribe is of the address (R9)."""
    fake.do("unsubscribe", ann)
    state = Desired(person="p", record=RecordRef("lead", str(ann)), fields={"email": "new@example.com"})
    push(state, config, ctx, key="k")
    assert (fake.lead(ann)["email"], fake.lead(ann)["unsubscribed"]) == ("new@example.com", True)
    assert said_of_consent(fake) == ["true"], "at no moment was it mailable, whatever is killed in between"
    assert writes(fake)[-1]["input"] == [
        {"id": ann, "unsubscribed": True, "unsubscribedReason": "Opted out (Upkept)"}
    ], "said once more, in case Marketo applies its own rule last"


def test_an_address_that_moves_together_with_an_opt_out_ends_opted_out(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int
) -> None:
    state = Desired(person="p", record=RecordRef("lead", str(ann)), fields={"email": "new@example.com"},
                    consent={"*": "opt_out"})  # fmt: skip
    push(state, config, ctx, key="k")
    assert (fake.lead(ann)["email"], fake.lead(ann)["unsubscribed"]) == ("new@example.com", True)
    assert said_of_consent(fake) == ["true"]


def test_a_lead_is_created_only_without_a_record_and_only_once(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent
) -> None:
    made = push(desired(None, email="Bo@example.com", says="opt_out", company="Bo Ltd"), config, ctx, key="k")
    assert made.record is not None
    lead = fake.lead(int(made.record.id))
    assert (lead["email"], lead["unsubscribed"], lead["company"]) == ("Bo@example.com", True, "Bo Ltd")
    assert [one["action"] for one in writes(fake)] == ["createOnly"]
    again = push(desired(None, email="bo@example.com", company="Bo Inc"), config, ctx, key="k2")
    assert (again.record, fake.stats()["leads"]) == (made.record, 1)
    assert fake.lead(int(made.record.id))["company"] == "Bo Inc"


def test_all_leads_of_an_address_hear_of_it(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    """Marketo refuses to choose one of them (1007)."""
    ids = [fake.do("create", fields={"email": "twin@example.com"}) for _ in range(3)]
    pushed = push(desired(None, email="twin@example.com", company="Twins"), config, ctx, key="k")
    assert pushed.record == RecordRef("lead", str(ids[0]))
    assert {fake.lead(id)["company"] for id in ids} == {"Twins"}
    assert fake.stats()["leads"] == 3


@pytest.mark.parametrize("email", ["j\u00f6rg@example.com", "a,b@example.com", "with space@example.com"])
def test_addresses_that_marketo_does_not_take(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int, email: str
) -> None:
    with pytest.raises(Permanent, match="ASCII"):
        push(desired(None, email=email), config, ctx, key="k")
    state = Desired(person="p", record=RecordRef("lead", str(ann)), fields={"email": email})
    with pytest.raises(Permanent, match="ASCII"):
        push(state, config, ctx, key="k")
    push(desired(ann, says="opt_out", email=email), config, ctx, key="k")
    assert fake.lead(ann)["unsubscribed"] is True, "an opt-out needs no address"


def test_a_lead_that_is_gone_is_nothing_to_do(fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int) -> None:
    fake.do("delete", ann)
    with pytest.raises(Skipped, match="gone"):
        push(desired(ann, says="opt_out"), config, ctx, key="k")


def test_what_there_is_nothing_to_say_of(fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int) -> None:
    for state in (desired(ann), desired(ann, createdAt="2026-01-01"), desired(ann, says="opt_out", topic="news"),
                  desired(None, erased=True)):  # fmt: skip
        with pytest.raises(Skipped):
            push(state, config, ctx, key="k")
    for state in (desired(None), Desired(person="p", record=RecordRef("contact", "1")),
                  Desired(person="p", record=RecordRef("lead", "x"))):  # fmt: skip
        with pytest.raises(Permanent):
            push(state, config, ctx, key="k")
    assert writes(fake) == []


def test_an_erased_person_is_deleted_and_stays_unsubscribed(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int
) -> None:
    push(desired(ann, says="opt_out"), config, ctx, key="k")
    for _ in range(2):
        assert push(desired(ann, erased=True), config, ctx, key="k2").record == RecordRef("lead", str(ann))
    assert fake.stats()["leads"] == 0
    back = fake.do("create", fields={"email": "ann@example.com"})
    assert fake.lead(back)["unsubscribed"] is True, "Marketo remembers the address"


def test_many_go_in_calls_of_three_hundred(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    ids = fake.seed(700, days=1)
    answers = all_of({str(id): desired(id, says="opt_out") for id in ids}, config, ctx)
    assert {type(answer) for answer in answers.values()} == {Pushed}
    assert [len(one["input"]) for one in writes(fake)] == [300, 300, 100]
    assert all(fake.lead(id)["unsubscribed"] for id in ids)
    assert connector.most_at_once == 300


def test_many_are_created_in_one_call(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    there = fake.do("create", fields={"email": "p3@example.com"})
    states = {str(n): desired(None, email=f"p{n}@example.com", leadScore=n) for n in range(20)}
    answers = all_of(states, config, ctx)
    ids = {key: int(one.record.id) for key, one in answers.items() if isinstance(one, Pushed) and one.record}
    assert {key: fake.lead(id)["leadScore"] for key, id in ids.items()} == {str(n): n for n in range(20)}
    assert ids["3"] == there
    assert [len(one["input"]) for one in writes(fake)] == [20, 1]


def test_each_record_is_answered_by_its_own_reason(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    ids = fake.seed(4, days=1)
    fake.do("delete", ids[1])
    states = {
        "fine": desired(ids[0], company="A"),
        "gone": desired(ids[1], company="B"),
        "wrong": desired(ids[2], noSuchField=1),
        "empty": desired(ids[3]),
        "new": desired(None, email="new@example.com"),
        "odd": desired(None, email="j\u00f6rg@example.com"),
    }
    answers = all_of(states, config, ctx)
    found = {key: type(answer).__name__ for key, answer in answers.items()}
    assert found == {"fine": "Pushed", "gone": "Gone", "wrong": "Refused", "empty": "Skipped", "new": "Pushed",
                     "odd": "Permanent"}  # fmt: skip
    assert isinstance(answers["wrong"], Permanent)
    assert fake.lead(ids[0])["company"] == "A"


def test_no_lead_and_no_address_stands_twice_in_a_call(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    ann = fake.seed(1, days=1)[0]
    states = {
        "one": desired(ann, company="A"),
        "two": desired(ann, company="B"),
        "three": desired(None, email="bo@example.com", company="C"),
        "four": desired(None, email="BO@example.com", company="D"),
    }
    answers = all_of(states, config, ctx)
    assert {type(answer) for answer in answers.values()} == {Pushed}
    assert fake.lead(ann)["company"] == "B"
    assert fake.stats()["leads"] == 2
    for one in writes(fake):
        marks = [str(row.get("id", row.get("email"))).lower() for row in one["input"]]
        assert len(set(marks)) == len(marks)


def test_a_call_that_is_refused_as_a_whole_is_halved(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    ids = fake.seed(8, days=1)
    fetchable = {str(id): desired(id, company="A") for id in ids}
    all_of({"warm": desired(ids[0], says="opt_out")}, config, ctx)
    fake.faults(fail_next=["1003", "1003"])
    answers = all_of(fetchable, config, ctx)
    assert {type(answer) for answer in answers.values()} == {Pushed}
    assert [len(one["input"]) for one in writes(fake)][1:] == [8, 4, 2, 2, 4]


def test_a_call_stays_below_a_megabyte(fake: FakeMarketo, config: MarketoConfig, ctx: Lent) -> None:
    ids = fake.seed(60, days=1)
    answers = all_of({str(id): desired(id, company="x" * 40_000) for id in ids}, config, ctx)
    assert {type(answer) for answer in answers.values()} == {Pushed}
    assert len(writes(fake)) > 2


@pytest.mark.parametrize(("how", "error"), [("606", Retryable), ("607", Retryable), ("html", Retryable),
                                            ("garbage", Retryable), ("603", Config)])  # fmt: skip
def test_what_stops_a_push_stops_all_and_is_tried_again(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, how: str, error: type[Exception]
) -> None:
    ids = fake.seed(3, days=1)
    all_of({"warm": desired(ids[0], company="A")}, config, ctx)
    fake.faults(fail_next=[how])
    states = {str(id): desired(id, says="opt_out") for id in ids}
    with pytest.raises(error):
        all_of(states, config, ctx)
    assert {type(answer) for answer in all_of(states, config, ctx).values()} == {Pushed}


def test_an_answer_for_fewer_records_than_were_sent_is_not_believed(
    fake: FakeMarketo, config: MarketoConfig, ctx: Lent, monkeypatch: pytest.MonkeyPatch
) -> None:
    from upkept.testing.fake_marketo import api as marketo_api

    ids = fake.seed(3, days=1)
    whole = marketo_api.POSTS[SYNC]
    short = {**marketo_api.POSTS, SYNC: lambda world, said: {"result": whole(world, said)["result"][1:]}}
    monkeypatch.setattr("upkept.testing.fake_marketo.server.POSTS", short)
    with pytest.raises(Retryable, match="every record"):
        all_of({str(id): desired(id, says="opt_out") for id in ids}, config, ctx)


def test_the_lazy_door_leads_there(fake: FakeMarketo, config: MarketoConfig, ctx: Lent, ann: int) -> None:
    assert connector.push is not None
    assert connector.push_many is not None
    assert connector.push(desired(ann, says="opt_out"), config, ctx, key="k").record is not None
    assert [key for key, _ in connector.push_many({"k": desired(ann, says="opt_in")}, config, ctx)] == ["k"]
