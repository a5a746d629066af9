"""Compaction: old facts become a floor, and nothing that anybody sees changes (R4)."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flow.stage import RecordRef, Stage, at, customer, plan, row, stage, us, user

from upkept.contract import Consent
from upkept.flow import forget, undo
from upkept.flow.compact import compact
from upkept.flow.erase import erase
from upkept.store import records, runs
from upkept.store.engine import Store

DAY = 86_400
MONTHS = 100 * DAY


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    made = stage(store, tmp_path, floor_days=45)
    made.now = us(MONTHS)
    return made


def said(on: Stage, connection: str, *facts: object) -> None:
    on.tell(connection, *facts, received=us(MONTHS))  # type: ignore[arg-type]


def history(on: Stage) -> None:
    for day in range(0, 100, 20):
        said(on, "app", user("1", day * DAY, f"u{day // 40}@x.example", plan=f"p{day}", last_seen_at=day))
        said(on, "shop", customer("cus_1", day * DAY, "u0@x.example", score=day), plan("p1", "cus_1", day, day * DAY))


def all_of_it(on: Stage) -> int:
    done = []
    while n := compact(on.hub, now=on.now, limit=1):
        done.append(n)
    return sum(done)


def test_nothing_changes_and_old_facts_are_gone(on: Stage) -> None:
    history(on)
    before, told = on.digest(), on.explain("1")
    held = on.count_of("claims")
    facts = on.count_of("facts")
    assert all_of_it(on) == 9
    assert on.count_of("facts") == facts - 9
    assert on.count_of("records", "floor IS NOT NULL") == 3
    assert (on.digest(), on.count_of("claims")) == (before, held)
    assert on.explain("1") == told
    assert on.differences() == []


def test_it_ends_and_again_it_has_nothing_to_do(on: Stage) -> None:
    history(on)
    assert compact(on.hub, now=on.now, limit=100) == 9
    assert compact(on.hub, now=on.now, limit=100) == 0


def test_a_late_fact_above_the_floor_folds_into_its_place(on: Stage) -> None:
    history(on)
    all_of_it(on)
    said(on, "app", user("1", 70 * DAY, plan="late", city="Cork"))
    assert (on.value("1", "plan"), on.value("1", "city")) == ("p80", "Cork")


def test_a_late_fact_below_the_floor_fills_only_what_was_never_stated(on: Stage) -> None:
    history(on)
    all_of_it(on)
    said(on, "app", user("1", 30 * DAY, plan="late", city="Cork"))
    assert (on.value("1", "plan"), on.value("1", "city")) == ("p80", "Cork")
    said(on, "app", user("1", 41 * DAY, plan="later", name="Ann"))
    assert (on.value("1", "plan"), on.value("1", "name")) == ("p80", "Ann")
    before = on.digest()
    assert all_of_it(on) == 2
    assert on.digest() == before
    assert on.differences() == []


def test_what_was_compacted_and_comes_again_changes_nothing(on: Stage) -> None:
    history(on)
    before = on.digest()
    all_of_it(on)
    history(on)
    assert on.digest() == before


def test_new_facts_upon_a_floor(on: Stage) -> None:
    history(on)
    all_of_it(on)
    on.now = us(2 * MONTHS)
    said(on, "app", user("1", 99 * DAY, plan="newest"))
    before = on.digest()
    assert all_of_it(on) > 0
    assert on.count_of("facts", "record IN (SELECT id FROM records WHERE connection = 'shop')") == 0
    assert on.digest() == before
    assert on.value("1", "plan") == "newest"


def test_consent_is_never_compacted(on: Stage) -> None:
    said(on, "shop", customer("cus_1", 1, "a@x.example"))
    said(on, "shop", Consent(act="opt_out", record=RecordRef("customer", "cus_1"), address="a@x.example", at=at(1)))
    all_of_it(on)
    assert on.count_of("consent") == 2
    assert on.consent("shop:cus_1") == "unsubscribed"


def test_a_run_that_can_be_undone_keeps_its_facts(on: Stage) -> None:
    said(on, "csv", row("a@x.example", 1, city="Oslo"))
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "import", "csv", {}, on.now)
    on.tell("csv", row("a@x.example", 2, city="York"), received=us(MONTHS), run=run.id)
    said(on, "csv", row("a@x.example", 3, city="Cork"))
    assert all_of_it(on) == 1
    assert on.count_of("facts") == 2
    on.now = us(2 * MONTHS)
    assert all_of_it(on) == 2
    assert on.value("a@x.example", "city") == "Cork"


def an_old_import(on: Stage) -> int:
    """A run so old that two of its three facts are compacted by now."""
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "import", "csv", {}, on.now)
    on.now = us(150 * DAY)
    for day, said_ in ((2, {"city": "Oslo"}), (4, {"city": "York"}), (120, {"plan": "gold"})):
        on.tell("csv", row("a@x.example", day * DAY, **said_), received=us(max(day, 100) * DAY), run=run.id)
    assert all_of_it(on) == 2
    return run.id


def test_what_an_undo_cannot_void_is_counted_with_its_cure(on: Stage) -> None:
    run = an_old_import(on)
    planned = undo.preview(on.hub, run, now=on.now)
    assert (planned.facts, planned.compacted, planned.pruned) == (1, 2, False)
    walked = on.walk(undo.start(on.hub, run, now=on.clock(), actor="test"))
    assert (walked.reason or "").startswith("up to 2 facts that it brought are compacted, no undo voids them; ")
    assert (on.value("a@x.example", "city"), on.value("a@x.example", "plan")) == ("York", None)
    on.tell("csv", row("a@x.example", 149 * DAY, city="Cork"))
    assert on.value("a@x.example", "city") == "Cork"
    forgotten = on.walk(forget.start(on.hub, "csv", now=on.clock(), actor="test"))
    assert forgotten.state == "complete"
    assert undo.preview(on.hub, run, now=on.now).compacted == 0
    assert on.people() == []


def test_a_run_whose_deliveries_may_be_pruned_is_told_as_such(on: Stage) -> None:
    run = an_old_import(on)
    assert undo.preview(on.hub, run, now=us(281 * DAY)).pruned


def test_an_erased_person_is_found_in_deliveries_whose_facts_were_compacted(on: Stage) -> None:
    said(on, "shop", customer("cus_1", 1, "a@x.example", note="secret"))
    said(on, "shop", customer("cus_1", 2, note="secret"))
    all_of_it(on)
    assert erase(on.hub, "shop:cus_1", now=on.clock(), actor="test").rows == 2
    assert on.count_of("inbox", "length(body) > 0") == 0


def test_a_copy_read_before_it_does_not_put_the_old_floor_back(on: Stage) -> None:
    """On PostgreSQL a person's other records are read under the lock of the person; compaction takes the record's."""
    history(on)
    with on.hub.store.read() as connection:
        stale = records.load(connection, [id_ for (id_,) in on.rows("SELECT id FROM records")])
    all_of_it(on)
    floors = on.rows("SELECT id, floor FROM records ORDER BY id")
    with on.hub.store.write() as connection:
        records.save(connection, stale.values())
    assert on.rows("SELECT id, floor FROM records ORDER BY id") == floors
    assert on.differences() == []
