"""What happened, as completed tasks: each once, on whom it is about, whatever gets lost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.connectors.ledgered import Ledgered
from tests.connectors.salesforce.conftest import configured
from tests.connectors.salesforce.test_push import OUT, lead, row, writes

from upkept.contract import Config, Desired, Happened, Permanent, Pushed, RecordRef, Retryable, Skipped
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept_salesforce.client import push, push_many, tasks
from upkept_salesforce.config import SalesforceConfig, told_events

AT = datetime(2026, 11, 27, 23, 3, 4, tzinfo=UTC)


def happened(id: str, name: str = "charge failed", at: datetime = AT, **metadata: Any) -> Desired:
    event = Happened(name=name, at=at, source="stripe", metadata=metadata)
    record = RecordRef("contact" if id.startswith("003") else "lead", id)
    return Desired(person="p", record=record, event=event)


def standing(fake: FakeSalesforce) -> list[tuple[str, str]]:
    return [(one["WhoId"], one["Subject"]) for one in fake.rows("Task") if not one["IsDeleted"]]


def test_an_event_becomes_a_completed_task(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    (id,) = fake.seed(leads=1)
    said: dict[str, Any] = {"amount": 49.5, "paid": False, "until": AT, "plan": None, "note": "two\nlines"}
    done = push(happened(id, **said), config, ctx, key="k1")
    assert done == Pushed(record=RecordRef("lead", id))
    (task,) = fake.rows("Task")
    assert (task["WhoId"], task["Subject"], task["ActivityDate"]) == (id, "charge failed (Upkept)", "2026-11-27")
    assert (task["Status"], task["IsClosed"]) == ("Completed", True)
    assert task["Description"].splitlines() == [
        "charge failed, 2026-11-27 23:03:04 UTC, from stripe", "amount: 49.5", "paid: no",
        "until: 2026-11-27 23:03:04 UTC", "note: two lines", "", "Upkept k1",
    ]  # fmt: skip
    assert writes(fake) == ["POST composite/sobjects"]


def test_an_answer_that_was_lost_makes_no_second_task(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    fake.set_faults(lose_next=1)
    with pytest.raises(Retryable):
        push(happened(id, name="o'neil's \"event\""), config, ctx, key="k1")
    assert len(standing(fake)) == 1
    push(happened(id, name="o'neil's \"event\""), config, ctx, key="k1")
    assert len(standing(fake)) == 1
    push(happened(id, name="o'neil's \"event\""), config, ctx, key="k2")
    assert len(standing(fake)) == 2


def test_who_does_not_look_makes_a_second_one(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above can fail."""
    monkeypatch.setattr(tasks, "_standing", lambda *_: set())
    (id,) = fake.seed(leads=1)
    fake.set_faults(lose_next=1)
    with pytest.raises(Retryable):
        push(happened(id), config, ctx, key="k1")
    push(happened(id), config, ctx, key="k1")
    assert len(standing(fake)) == 2


def test_one_that_sales_deleted_is_not_made_again(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    (id,) = fake.seed(leads=1)
    push(happened(id), config, ctx, key="k1")
    fake.org.delete("Task", fake.rows("Task")[0]["Id"])
    push(happened(id), config, ctx, key="k1")
    assert standing(fake) == []


def test_those_that_stand_are_found_on_every_page(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    leads = fake.seed(leads=7)
    states = {f"k{n}": happened(id) for n, id in enumerate(leads)}
    assert all(isinstance(answer, Pushed) for _, answer in push_many(states, config, ctx))
    fake.set_faults(page=2)
    assert all(isinstance(answer, Pushed) for _, answer in push_many(states, config, ctx))
    assert len(standing(fake)) == 7


def test_many_go_200_at_a_time_with_a_result_each_after_the_opt_outs(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    leads = fake.seed(leads=250)
    states = {id: happened(id) for id in leads}
    states["long"] = happened(leads[0], name="x" * 400, value="y" * 40_000, more="z" * 1_001)
    states["task"] = Desired(person="p", record=RecordRef("task", "00T5f00000aaaaaEAA"), event=happened("").event)
    states["out"] = lead(leads[3], **OUT)
    answers = list(push_many(states, config, ctx))
    assert answers[0][0] == "out"
    assert writes(fake) == ["PATCH composite/sobjects", "POST composite/sobjects", "POST composite/sobjects"]
    by_key = dict(answers)
    assert len(by_key) == len(answers) == 253
    assert {key for key, answer in by_key.items() if not isinstance(answer, Pushed)} == {"task"}
    assert isinstance(by_key["task"], Skipped)
    assert len(standing(fake)) == 251


def test_each_refusal_is_its_own(fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered) -> None:
    one, two = fake.seed(leads=2)
    fake.set_faults(locked={one: 1})
    nobody = happened("00Q5f000005bwLFEAY")
    answers = dict(push_many({"a": happened(one), "b": happened(two), "c": nobody}, config, ctx))
    assert isinstance(answers["c"], Skipped)
    assert standing(fake) == [(one, "charge failed (Upkept)"), (two, "charge failed (Upkept)")]
    fake.set_faults(refused=["Task.Subject"])
    with pytest.raises(Permanent, match="FIELD_CUSTOM_VALIDATION_EXCEPTION"):
        push(happened(one), config, ctx, key="d")


def test_tasks_that_may_not_be_seen_stop_no_opt_out(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    one, two = fake.seed(leads=2)
    fake.set_faults(hidden=["Task"])
    answers = dict(push_many({"a": happened(one), "b": lead(two, **OUT)}, config, ctx))
    assert isinstance(answers["b"], Pushed)
    assert isinstance(answers["a"], Permanent)
    fake.set_faults(fail_next=[403])
    with pytest.raises(Permanent, match="403"):
        push(happened(one), config, ctx, key="a")
    fake.set_faults(revoked=True, fail_next=["expired"])
    with pytest.raises(Config):
        push(happened(one), config, ctx, key="a")


def test_whoever_took_over_is_told_and_what_went_along_is_found(
    fake: FakeSalesforce, config: SalesforceConfig, ctx: Ledgered
) -> None:
    ada, bo, bob, eve = fake.seed(leads=4)
    push(happened(ada), config, ctx, key="before")
    contact = fake.org.convert(ada)
    fake.org.merge("Lead", bo, [bob])
    fake.org.delete("Lead", eve)
    (heir,) = fake.make("Contact", {"LastName": "Heir"})
    fake.org.merge("Contact", heir, [contact])
    states = {"before": happened(ada), "after": happened(ada), "loser": happened(bob), "gone": happened(eve)}
    answers = dict(push_many(states, config, ctx))
    assert {key for key, answer in answers.items() if isinstance(answer, Pushed)} == {"before", "after", "loser"}
    assert isinstance(answers["gone"], Skipped)
    assert sorted(who for who, _ in standing(fake)) == sorted([heir, heir, bo])


def test_the_status_is_the_operators(fake: FakeSalesforce, ctx: Ledgered) -> None:
    (id,) = fake.seed(leads=1)
    push(happened(id), configured(fake, task_status="Abgeschlossen"), ctx, key="k")
    assert row(fake, fake.rows("Task")[0]["Id"], "Task")["Status"] == "Abgeschlossen"


def test_the_rule_is_a_name_or_a_list_of_names() -> None:
    assert told_events(SalesforceConfig()) == ()
    assert told_events(SalesforceConfig(tasks="charge failed")) == ("charge failed",)
    assert told_events(SalesforceConfig(tasks=("a", "b"))) == ("a", "b")
    for wrong in ("", ("charge failed", "")):
        with pytest.raises(Config, match='"tasks"'):
            told_events(SalesforceConfig(tasks=wrong))
    with pytest.raises(Config, match='"task_status"'):
        told_events(SalesforceConfig(tasks="a", task_status=" "))
