"""A replay replaces all that its row said (R1), not its facts alone; what another row said too stays.

Every test runs on both databases. `silent` rows say nothing any more under the fixed mapping.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import sleep

import pytest
from sqlalchemy import event
from tests.flow.stage import RecordRef, Stage, at, customer, happened, stage, us, user

from upkept.contract import Consent, Link, Statement, TimelineEvent
from upkept.flow import forget, undo
from upkept.flow.compact import compact
from upkept.flow.effect import write
from upkept.flow.erase import erase
from upkept.flow.link import merge
from upkept.flow.normalize import normalize
from upkept.flow.plan import plan
from upkept.people.facts import DAY
from upkept.sources.envelope import encode
from upkept.store import inbox, runs
from upkept.store.engine import Store

ONE, OTHER = RecordRef("customer", "cus_1"), RecordRef("customer", "cus_2")
JOINED = Link(a=ONE, b=OTHER, at=at(3), reason="merged at the shop")
BOUGHT = TimelineEvent(record=ONE, name="bought", id="e1", at=at(3))
WANTS = Consent(act="opt_in", record=ONE, address="ann@x.example", at=at(3), qualified=True, evidence="form 7")
LEFT = Consent(act="opt_out", record=ONE, address="ann@x.example", at=at(2))
GOLD = customer("cus_1", 3, tier="gold")


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    made = stage(store, tmp_path)
    made.tell("shop", customer("cus_1", 1, "ann@x.example", name="Ann"), customer("cus_2", 1, name="Anna"))
    return made


def replay(on: Stage, *ids: int, silent: bool = False) -> None:
    if silent:
        on.mapping.silent |= {str(on.inbox(id_)["dedup_key"]) for id_ in ids}
    on.replay(*ids)


def joined(on: Stage) -> bool:
    return on.people() == ["shop:cus_1 shop:cus_2"]


def bought(on: Stage) -> bool:
    return bool(on.explain("shop:cus_1")["timeline"] == {"bought": 1})


def subscribed(on: Stage) -> bool:
    with on.hub.store.read() as connection:
        cached = connection.exec_driver_sql("SELECT count(*) FROM people WHERE consent = 'subscribed'").scalar_one()
    stated = on.explain("shop:cus_1")["consent"]["email"]["state"] == "subscribed"
    assert bool(cached) == stated
    return bool(stated)


def gold(on: Stage) -> bool:
    return bool(on.value("shop:cus_1", "tier") == "gold")


EVERY = pytest.mark.parametrize(
    ("said", "stands"),
    [(GOLD, gold), (JOINED, joined), (BOUGHT, bought), (WANTS, subscribed)],
    ids=["fact", "link", "event", "opt-in"],
)


@EVERY
def test_what_a_row_does_not_say_any_more_goes(on: Stage, said: Statement, stands: Callable[[Stage], bool]) -> None:
    before = on.digest()
    id_ = on.tell("shop", said)
    assert stands(on)
    after = on.digest()
    replay(on, id_)
    assert on.digest() == after
    replay(on, id_, silent=True)
    assert not stands(on)
    assert on.digest() == before
    assert on.differences() == []


@EVERY
@pytest.mark.parametrize("first", [0, 1])
def test_what_two_rows_said_stays_until_neither_does(
    on: Stage, said: Statement, stands: Callable[[Stage], bool], first: int
) -> None:
    before = on.digest()
    rows = [on.tell("shop", said), on.tell("shop", said)]
    after = on.digest()
    replay(on, rows[first], silent=True)
    assert stands(on)
    assert on.digest() == after
    replay(on, rows[1 - first], silent=True)
    assert not stands(on)
    assert on.digest() == before
    assert on.differences() == []


@EVERY
def test_two_rows_of_one_batch_said_it(on: Stage, said: Statement, stands: Callable[[Stage], bool]) -> None:
    rows = [on.say("shop", said), on.say("shop", said), on.say("shop", said)]
    on.apply()
    for row in rows[:-1]:
        replay(on, row, silent=True)
        assert stands(on)
    replay(on, rows[-1], silent=True)
    assert not stands(on)


@EVERY
def test_rows_replayed_together_go_together(on: Stage, said: Statement, stands: Callable[[Stage], bool]) -> None:
    before = on.digest()
    rows = [on.tell("shop", said), on.tell("shop", said)]
    replay(on, *rows, silent=True)
    assert not stands(on)
    assert on.digest() == before


@EVERY
@pytest.mark.parametrize("first", [0, 1])
def test_of_rows_replayed_together_one_says_it_still(
    on: Stage, said: Statement, stands: Callable[[Stage], bool], first: int
) -> None:
    rows = [on.tell("shop", said), on.tell("shop", said)]
    after = on.digest()
    on.mapping.silent.add(str(on.inbox(rows[first])["dedup_key"]))
    replay(on, *rows)
    assert stands(on)
    assert on.digest() == after
    replay(on, rows[1 - first], silent=True)
    assert not stands(on)


def test_what_passes_on_counts_from_when_the_other_row_came(on: Stage) -> None:
    """A vendor's clock was ahead: the time of arrival counts, and that is each row's own (R3)."""
    ahead = 200_000
    want = replace(WANTS, at=at(ahead))
    early = on.tell("shop", customer("cus_1", ahead, tier="gold"), want, received=us(5))
    on.tell("shop", customer("cus_1", ahead, tier="gold"), want, received=us(50))
    on.tell("shop", customer("cus_1", 20, tier="iron"), replace(LEFT, at=at(20)))
    assert (on.value("shop:cus_1", "tier"), subscribed(on)) == ("iron", False)
    replay(on, early, silent=True)
    assert (on.value("shop:cus_1", "tier"), subscribed(on)) == ("gold", True)
    assert on.differences() == []


def test_of_two_deliveries_of_one_batch_the_first_gives_the_time(on: Stage) -> None:
    """The vendor's clock was ahead, and each row says when it came (R3): the head has the one time that is stored."""
    ahead = customer("cus_1", 200_000, tier="gold")
    ids = [on.say("shop", ahead, received=us(second)) for second in (5, 50)]
    on.apply(*ids)
    assert on.differences() == []
    on.tell("shop", customer("cus_1", 20, tier="iron"))
    assert on.value("shop:cus_1", "tier") == "iron"
    assert on.differences() == []


@EVERY
def test_a_row_that_says_it_again_holds_it(on: Stage, said: Statement, stands: Callable[[Stage], bool]) -> None:
    """Read anew, it says the same; then the other one, that had said it too, says nothing any more."""
    first, second = on.tell("shop", said), on.tell("shop", said)
    replay(on, first)
    replay(on, second, silent=True)
    assert stands(on)
    replay(on, first, silent=True)
    assert not stands(on)


def test_no_replay_lifts_an_opt_out(on: Stage) -> None:
    id_ = on.tell("shop", LEFT)
    replay(on, id_, silent=True)
    assert on.explain("shop:cus_1")["consent"]["email"]["state"] == "unsubscribed"


def test_an_opt_out_is_bare_once_the_opt_in_after_it_goes(on: Stage) -> None:
    on.tell("shop", LEFT)
    id_ = on.tell("shop", Consent(act="opt_in", record=ONE, address="ann@x.example", at=at(900), qualified=True,
                                  evidence="form 7"))  # fmt: skip
    assert subscribed(on)
    replay(on, id_, silent=True)
    assert on.explain("shop:cus_1")["consent"]["email"]["state"] == "unsubscribed"
    assert not subscribed(on)


def test_an_opt_in_of_an_address_that_only_others_hold(on: Stage) -> None:
    """The row said nothing but the address; who holds it now is found by its hash."""
    on.tell("app", user("7", 2, "bob@x.example"))
    id_ = on.tell("shop", Consent(act="opt_in", address="bob@x.example", at=at(3), qualified=True, evidence="form 7"))
    assert on.explain("7")["consent"]["email"]["state"] == "subscribed"
    replay(on, id_, silent=True)
    assert on.explain("7")["consent"]["email"]["state"] == "unknown"
    assert on.differences() == []


def test_a_record_that_nothing_speaks_of_any_more_is_gone(on: Stage) -> None:
    third = RecordRef("customer", "cus_3")
    rows = [
        on.tell("shop", Link(a=third, b=ONE, at=at(3))),
        on.tell("shop", TimelineEvent(record=third, name="bought", id="e3", at=at(3))),
    ]
    assert on.count_of("records") == 3
    replay(on, *rows, silent=True)
    assert on.count_of("records") == 2
    assert on.people() == ["shop:cus_1", "shop:cus_2"]


def test_a_record_that_is_named_still_stays(on: Stage) -> None:
    """A bounce is the address's alone, yet its record stands as it would if the row had said no more from the start."""
    third = RecordRef("customer", "cus_3")
    bounced = Consent(act="bounce_hard", record=third, address="cy@x.example", at=at(3))
    id_ = on.tell("shop", bounced, TimelineEvent(record=third, name="bought", id="e3", at=at(3)))
    on.body(id_, encode([bounced]))
    replay(on, id_)
    assert on.people() == ["shop:cus_1", "shop:cus_2", "shop:cus_3"]


def test_a_replay_moves_an_event_and_its_count(on: Stage) -> None:
    id_ = on.tell("shop", BOUGHT)
    on.mapping.moved = {"cus_1": "cus_2"}
    replay(on, id_)
    assert on.explain("shop:cus_1")["timeline"] == {}
    assert on.explain("shop:cus_2")["timeline"] == {"bought": 1}


def test_an_event_is_called_as_the_rows_call_it_now(on: Stage) -> None:
    """Between the two replays the other row still calls it by its old name."""
    one, other = on.tell("shop", BOUGHT), on.tell("shop", BOUGHT)
    on.mapping.renamed = {"bought": "purchased"}
    replay(on, one)
    replay(on, other)
    assert on.explain("shop:cus_1")["timeline"] == {"purchased": 1}
    replay(on, other, silent=True)
    assert on.explain("shop:cus_1")["timeline"] == {"purchased": 1}
    replay(on, one, silent=True)
    assert on.explain("shop:cus_1")["timeline"] == {}


def test_a_link_that_passes_on_has_the_reason_of_the_other_row(on: Stage) -> None:
    one = on.tell("shop", JOINED)
    on.tell("shop", replace(JOINED, reason="one address"))
    replay(on, one, silent=True)
    assert on.rows("SELECT reason FROM links") == [("one address",)]


def test_a_row_that_the_fixed_mapping_skips_says_nothing_any_more(on: Stage) -> None:
    before = on.digest()
    id_ = on.tell("shop", GOLD, JOINED, BOUGHT, WANTS)
    on.run("UPDATE inbox SET kind = 'of no use' WHERE kind <> 'of no use' AND id = (SELECT max(id) FROM inbox)")
    replay(on, id_)
    assert on.digest() == before
    assert (on.inbox(id_)["state"], on.inbox(id_)["reason"]) == ("skipped", "unknown kind of no use")


def test_a_teammates_merge_came_in_no_row_and_stays(on: Stage) -> None:
    id_ = on.tell("shop", GOLD)
    merge(on.hub, "shop:cus_1", "shop:cus_2", now=on.clock(), actor="test")
    replay(on, id_, silent=True)
    assert joined(on)


def test_a_worker_that_died_costs_one_look(on: Stage) -> None:
    """A row that was claimed before and never applied: its second claim looks for what it said, in one statement."""
    fresh = on.say("shop", customer("cus_1", 5, score=1), BOUGHT)
    alone = _statements(on, fresh)
    again = on.say("shop", customer("cus_1", 6, score=2), replace(BOUGHT, id="e2"))
    on.run("UPDATE inbox SET lease_epoch = 1 WHERE state = 'new'")
    assert _statements(on, again) == alone + 1
    assert (on.value("shop:cus_1", "score"), on.explain("shop:cus_1")["timeline"]) == (2, {"bought": 2})


def test_what_is_said_again_while_it_is_withdrawn_stands(on: Stage) -> None:
    """The other row's transaction is open, and the address nobody's: no lock but the statement's own is in between."""
    said = replace(WANTS, record=None, address="nobody@x.example")
    first, second = on.tell("shop", said), on.say("shop", said)
    with on.hub.store.write() as connection:
        rows = inbox.claim(connection, [second], now=on.clock())
    works, _ = normalize(on.hub, rows, now=on.now)
    with ThreadPoolExecutor(1) as beside:
        with on.hub.store.write() as connection:
            write(connection, on.hub, plan(on.hub, works), now=on.now)
            replaying = beside.submit(replay, on, first, silent=True)
            sleep(0.3)  # long enough to be in the way; whoever is slower only makes the test easier
            inbox.finish(connection, [work.end for work in works])
        replaying.result()
    assert on.count_of("consent") == 1
    replay(on, second, silent=True)
    assert on.count_of("consent") == 0


@EVERY
def test_an_undo_leaves_what_another_row_said_too(on: Stage, said: Statement, stands: Callable[[Stage], bool]) -> None:
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "resync", "shop", {}, on.now)
    mine = [on.tell("shop", said, run=run.id), on.tell("shop", said, run=run.id)]
    theirs = on.tell("shop", said)
    on.run("UPDATE runs SET state = 'complete', finished_at = 1")
    after = on.digest()
    _undo(on, run.id)
    assert stands(on)
    assert on.digest() == after
    for row in mine:  # as the way back offers them
        replay(on, row)
    replay(on, theirs, silent=True)
    assert stands(on)


@EVERY
def test_an_undo_takes_all_that_only_its_run_said(on: Stage, said: Statement, stands: Callable[[Stage], bool]) -> None:
    before = on.digest()
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "resync", "shop", {}, on.now)
    for _ in range(2):
        on.tell("shop", said, run=run.id)
    on.run("UPDATE runs SET state = 'complete', finished_at = 1")
    assert stands(on)
    _undo(on, run.id)
    assert not stands(on)
    assert on.digest() == before
    assert on.differences() == []


@EVERY
def test_an_erased_person_leaves_no_trace_of_who_said_it(
    on: Stage, said: Statement, stands: Callable[[Stage], bool]
) -> None:
    rows = [on.tell("shop", said), on.tell("shop", said)]
    assert stands(on)
    assert on.count_of("repeats") > 0
    erase(on.hub, "shop:cus_1", now=on.clock(), actor="test")
    assert on.count_of("repeats") == 0
    assert [on.inbox(row)["body"] for row in rows] == [b"", b""]


@EVERY
def test_a_forgotten_connection_leaves_none_either(on: Stage, said: Statement, stands: Callable[[Stage], bool]) -> None:
    on.tell("shop", said), on.tell("shop", said)
    assert stands(on)
    assert on.walk(forget.start(on.hub, "shop", now=on.clock(), actor="test")).state == "complete"
    assert on.count_of("repeats") == 0


def test_nor_does_a_fact_that_a_floor_stands_for(on: Stage) -> None:
    on.tell("shop", GOLD), on.tell("shop", GOLD)
    assert on.count_of("repeats") == 1
    assert compact(on.hub, now=on.now + 100 * DAY, limit=10) > 0
    assert on.count_of("repeats") == 0
    assert gold(on)


def test_what_is_told_once_costs_no_row(on: Stage) -> None:
    on.tell("shop", GOLD, JOINED, BOUGHT, WANTS)
    on.tell("app", user("1", 1), happened("e1", "signed up"))
    assert on.count_of("repeats") == 0


def _undo(on: Stage, run: int) -> None:
    assert on.walk(undo.start(on.hub, run, now=on.clock(), actor="test")).state == "complete"


def _statements(on: Stage, id_: int) -> int:
    """How many SQL statements the application of a row takes."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        seen.append(statement)

    event.listen(on.hub.store.engine, "before_cursor_execute", note)
    try:
        on.apply(id_)
    finally:
        event.remove(on.hub.store.engine, "before_cursor_execute", note)
    return len(seen)


def test_holders_of_an_address_that_links_nobody_lose_what_it_was_opted_in_with(on: Stage) -> None:
    """A role box is near to no record, and bound by what is said of it all the same."""
    on.tell("app", user("7", 1, "noreply@x.example"), user("8", 1, "noreply@x.example"))
    id_ = on.tell("shop", replace(WANTS, address="noreply@x.example"))
    assert (on.consent("7"), on.consent("8")) == ("subscribed", "subscribed")
    replay(on, id_, silent=True)
    assert (on.consent("7"), on.consent("8")) == ("unknown", "unknown")
    assert on.differences() == []
