"""Undo: what a run said is void, what came later stays, and no opt-out is lifted; and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flow.stage import RecordRef, Stage, at, customer, happened, row, stage, user

from upkept.contract import Consent, Fact, FactKind
from upkept.flow import undo
from upkept.flow.apply import apply
from upkept.flow.link import unmerge
from upkept.flow.undo import NoSuchRun, preview, redo
from upkept.store import runs
from upkept.store.engine import Store
from upkept.store.runs import Run


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


def an_import(on: Stage, *said: Fact | Consent, alone: bool = False) -> int:
    """A run of a file, each statement a row of it."""
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "import", "csv", {"file": len(said)}, on.now)
    for number, one in enumerate(said):
        on.say("csv", one, key=f"run {run.id} row {number}", run=run.id)
    if not alone:
        on.apply()
        on.run("UPDATE runs SET state = 'complete', finished_at = 1 WHERE kind = 'import'")
    return run.id


def undone(on: Stage, run_id: int) -> Run:
    return on.walk(undo.start(on.hub, run_id, now=on.clock(), actor="test"))


def back(on: Stage, run_id: int) -> None:
    for bells in redo(on.hub, run_id, now=on.clock(), actor="test"):
        for bell in bells:
            apply(on.hub, bell.ids, now=on.clock)


def imported(email: str, second: float, **fields: str) -> Fact:
    one = row(email, second, **fields)
    return Fact(
        record=one.record, fields=one.fields, claims=one.claims, observed_at=one.observed_at, kind=FactKind.IMPORT
    )


def test_what_the_run_said_is_void_and_what_came_later_stays(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example", city="Cork"))
    before = on.digest()
    run = an_import(on, imported("a@x.example", 5, city="York", plan="gold"), imported("new@x.example", 5))
    assert (on.value("1", "city"), len(on.people())) == ("York", 2)
    on.tell("csv", row("a@x.example", 9, city="Kyiv"))
    walked = undone(on, run)
    assert walked.state == "complete"
    assert on.people() == ["app:1 csv:email:a@x.example"]
    assert (on.value("1", "city"), on.value("1", "plan")) == ("Kyiv", None)
    on.run("DELETE FROM facts WHERE record IN (SELECT id FROM records WHERE connection = 'csv')")
    assert before != on.digest()


def test_a_store_without_later_edits_is_as_it_was(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example", city="Cork"))
    on.tell("csv", row("a@x.example", 2, city="Oslo"))
    before = on.digest()
    run = an_import(
        on, imported("a@x.example", 5, city="York"), imported("new@x.example", 5), imported("a@x.example", 1)
    )
    undone(on, run)
    assert on.digest() == before
    assert on.differences() == []
    assert "upkept undo" in on.rows("SELECT reason FROM runs WHERE kind = 'import'")[0][0]


def test_one_run_undone_leaves_the_same_row_of_another(on: Stage) -> None:
    first = an_import(on, imported("a@x.example", 5, city="York"))
    an_import(on, imported("a@x.example", 5, city="York"))
    undone(on, first)
    assert on.value("a@x.example", "city") == "York"


def test_the_way_back(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example", city="Cork"))
    run = an_import(on, imported("a@x.example", 5, city="York"), imported("new@x.example", 5))
    after = on.digest()
    undone(on, run)
    assert on.digest() != after
    back(on, run)
    assert on.digest() == after
    undone(on, run)
    back(on, run)
    assert on.digest() == after
    assert on.differences() == []


def test_again_changes_nothing(on: Stage) -> None:
    run = an_import(on, imported("a@x.example", 5))
    undone(on, run)
    before = on.digest()
    assert undone(on, run).changed == 0
    assert on.digest() == before


def test_a_run_under_way_is_stopped(on: Stage) -> None:
    run = an_import(on, imported("a@x.example", 5), imported("b@x.example", 5), alone=True)
    on.apply(on.waiting()[0])
    claimed = on.waiting()[0]
    on.run("UPDATE inbox SET state = 'claimed', lease_epoch = 1, lease_until = 4000000000000000")
    undone(on, run)
    assert on.people() == []
    assert (on.inbox(claimed)["state"], on.inbox(claimed)["lease_epoch"]) == ("skipped", 2)
    assert on.rows("SELECT state FROM runs WHERE kind = 'import'") == [("cancelled",)]


def test_no_undo_lifts_an_opt_out(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    ref = RecordRef("row", "email:a@x.example")
    run = an_import(
        on,
        imported("a@x.example", 2, city="York"),
        Consent(act="opt_out", record=ref, address="a@x.example", at=at(3), reason="column unsubscribed"),
    )
    assert preview(on.hub, run, now=on.now).opt_outs == 1
    walked = undone(on, run)
    assert "1 opt-outs" in (walked.reason or "")
    assert (on.consent("1"), on.value("1", "city")) == ("unsubscribed", None)
    assert on.rows("SELECT DISTINCT consent FROM people") == [("unsubscribed",)]


def test_nor_one_that_was_not_applied_yet(on: Stage) -> None:
    """What a walk lists goes into the inbox alone, so its opt-outs wait there for a worker."""
    on.tell("app", user("1", 1, "a@x.example"))
    said = Consent(act="opt_out", record=RecordRef("row", "email:a@x.example"), address="a@x.example", at=at(3))
    run = an_import(on, imported("a@x.example", 2, city="York"), said, alone=True)
    on.run("DELETE FROM consent")
    walked = undone(on, run)
    assert on.waiting() == []
    assert "1 opt-outs" in (walked.reason or "")
    assert (on.consent("1"), on.value("1", "city")) == ("unsubscribed", None)
    assert on.rows("SELECT DISTINCT consent FROM people") == [("unsubscribed",)]


def test_nor_that_of_a_person_who_moved_to_a_clean_address(on: Stage) -> None:
    """The file's record was what still bound them: what is left of the person goes on being bound."""
    on.tell("app", user("1", 1, "a@x.example"))
    ref = RecordRef("row", "email:a@x.example")
    run = an_import(on, imported("a@x.example", 2), Consent(act="opt_out", record=ref, address="a@x.example", at=at(3)))
    on.tell("app", user("1", 4, "clean@x.example"))
    assert on.consent("1") == "unsubscribed"
    undone(on, run)
    assert on.people() == ["app:1", "csv:email:a@x.example"]
    assert on.consent("1") == "unsubscribed"


def test_whom_only_the_run_kept_apart_is_one_person_again(on: Stage) -> None:
    """The file's row held the address first, under another user id; without it the customer is the user's."""
    one = imported("a@x.example", 1)
    claims = {"email": "a@x.example", "user_id": "1"}
    run = an_import(on, Fact(record=one.record, fields=one.fields, claims=claims, observed_at=one.observed_at))
    on.tell("app", user("2", 2, "a@x.example"))
    on.tell("shop", customer("cus_1", 3, "a@x.example"))
    unmerge(on.hub, "shop:cus_1", "csv:email:a@x.example", now=on.clock(), actor="test")
    assert on.people() == ["app:2", "csv:email:a@x.example", "shop:cus_1"]
    undone(on, run)
    assert on.people() == ["app:2 shop:cus_1", "csv:email:a@x.example"]
    assert on.differences() == []


def test_what_raised_consent_is_withdrawn(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    run = an_import(on, Consent(act="opt_in", address="a@x.example", at=at(3), reason="column subscribed"))
    assert on.consent("1") == "subscribed"
    undone(on, run)
    assert on.consent("1") == "unknown"
    assert on.rows("SELECT DISTINCT consent FROM people") == [("unknown",)]
    back(on, run)
    assert on.consent("1") == "subscribed"


def test_what_happened_is_taken_back_with_its_counts(on: Stage) -> None:
    on.tell("app", user("1", 1), happened("e1", "bought"))
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "import", "app", {}, on.now)
    on.tell("app", happened("e1", "bought"), happened("e2", "bought"), happened("e3", "left"), run=run.id)
    assert on.explain("1")["timeline"] == {"bought": 2, "left": 1}
    undone(on, run.id)
    assert on.explain("1")["timeline"] == {"bought": 1}


def test_a_run_that_does_not_exist_or_said_nothing_is_refused(on: Stage) -> None:
    with pytest.raises(NoSuchRun, match="upkept runs"):
        preview(on.hub, 99, now=on.now)
    run = an_import(on, imported("a@x.example", 5))
    walked = undone(on, run)
    with pytest.raises(NoSuchRun, match="kind undo"):
        undo.start(on.hub, walked.id, now=on.now, actor="test")
