"""Pruning: old deliveries and events go, their counts stay, and whatever comes again changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.flow.stage import Consent, Link, RecordRef, Stage, at, customer, happened, plan, row, stage, us, user

from upkept.contract import Fact, Statement
from upkept.flow import prune
from upkept.flow.compact import compact
from upkept.flow.erase import erase
from upkept.flow.rebuild import check
from upkept.store import inbox, pruning, runs
from upkept.store.engine import Store

DAY = 86_400
REF = RecordRef("customer", "cus_1")
DATED: list[tuple[str, str, list[Statement]]] = [
    ("app", "a", [user("1", 1, "a@x.example", plan="gold"), happened("e1", "bought", 2)]),
    ("shop", "b", [customer("cus_1", 3, "a@x.example"), plan("p1", "cus_1", 5, 3)]),
    ("shop", "c", [Consent(act="opt_out", record=REF, address="a@x.example", at=at(4))]),
    ("shop", "d", [Link(a=REF, b=RecordRef("customer", "cus_2"), at=at(5))]),
    ("shop", "e", [Consent(act="opt_in", record=REF, address="b@x.example", at=at(1), qualified=True, evidence="x")]),
]


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    made = stage(store, tmp_path, inbox_days=180, timeline_days=365)
    made.now = us(100)
    return made


def told(on: Stage) -> None:
    for connection, key, said in DATED:
        on.tell(connection, *said, key=key, received=on.now)


def pass_days(on: Stage, days: int) -> None:
    on.now += days * DAY * 1_000_000


def all_of(step: Callable[..., int], on: Stage, limit: int = 2) -> None:
    while step(on.hub, now=on.now, limit=limit):
        pass


def events_gone(on: Stage) -> None:
    """Two walks: the first announces up to where the second prunes."""
    for _ in range(2):
        all_of(prune.events, on)
        pass_days(on, 1)


def counted(on: Stage) -> list[tuple[object, ...]]:
    return on.rows("SELECT name, n, first_at, last_at FROM counters ORDER BY record, name")


def pruned(on: Stage) -> dict[str, int]:
    with on.hub.store.read() as connection:
        return pruning.counts(connection)


def sound(on: Stage) -> None:
    assert [one for page in check(on.hub, now=on.clock) for one in page] == []


def test_old_deliveries_go_and_coming_again_change_nothing(on: Stage) -> None:
    told(on)
    pass_days(on, 170)
    young = on.tell("app", user("9", 100, "z@x.example"), received=on.now)
    before, shown = on.digest(), on.explain("1")
    all_of(prune.deliveries, on)
    assert on.count_of("inbox") == 6
    pass_days(on, 11)
    all_of(prune.deliveries, on)
    assert [row[0] for row in on.rows("SELECT id FROM inbox")] == [young]
    assert pruned(on) == {"deliveries": 5, "events": 0}
    for _ in range(2):
        while compact(on.hub, now=on.now, limit=9):
            pass
        told(on)
        assert (on.digest(), on.count_of("timeline")) == (before, 1)
        assert on.consent("1") == "unsubscribed"
    assert on.explain("1") == shown
    sound(on)


@pytest.mark.parametrize(
    "said",
    [
        [Fact(record=RecordRef("user", "1"), fields={"plan": "gold"}, claims={"user_id": "1"})],
        [user("1", 9_000, plan="gold")],
        [Consent(act="opt_in", record=RecordRef("user", "1"), address="a@x.example", qualified=True, evidence="form")],
        [replace(happened("e1", "bought"), at=None)],
    ],
)
def test_what_has_only_the_time_of_its_arrival_is_known_for_ever(on: Stage, said: list[Statement]) -> None:
    """Taken for new it would be newer than all that was said since."""
    on.tell("app", *said, key="undated", received=on.now)
    pass_days(on, 200)
    on.tell("app", user("1", 100 * DAY, "a@x.example", plan="silver"), received=on.now)
    on.tell("app", Consent(act="opt_out", record=RecordRef("user", "1"), at=at(100 * DAY)), received=on.now)
    before = on.digest()
    all_of(prune.deliveries, on)
    assert on.rows("SELECT length(body) FROM inbox WHERE dedup_key = 'undated'") == [(0,)]
    assert on.tell("app", *said, key="undated", received=on.now) == 0
    with on.hub.store.write() as connection:
        assert inbox.replay(connection, now=on.now, state="done", name="shop") == []
    assert on.digest() == before
    all_of(prune.deliveries, on)
    assert pruned(on)["deliveries"] == 1


def test_what_is_not_over_or_can_be_undone_stays(on: Stage) -> None:
    on.mapping.broken = {"dead"}
    dead = on.say("shop", customer("cus_3", 1), key="dead", received=on.now)
    on.run("UPDATE inbox SET lane = 'inbound' WHERE dedup_key = 'dead'")
    on.apply()
    pass_days(on, 200)
    waiting = on.say("shop", customer("cus_4", 1), received=on.now - 200 * DAY * 1_000_000)
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "import", "csv", {}, on.now)
    mine = on.say("csv", row("b@x.example", 2), received=on.now - 200 * DAY * 1_000_000, run=run.id)
    on.apply(mine)
    all_of(prune.deliveries, on)
    assert [one[0] for one in on.rows("SELECT id FROM inbox WHERE length(body) > 0 ORDER BY id")] == [
        dead, waiting, mine,
    ]  # fmt: skip
    pass_days(on, 50)
    all_of(prune.deliveries, on)
    assert on.inbox(mine)["body"] == b""  # the run may have been undone: it is not said again, ever
    assert bytes(on.inbox(dead)["body"]) != b""


def test_who_said_it_too_is_known_still(on: Stage) -> None:
    """A replay of the first takes back only what nobody else said."""
    first = on.tell("shop", customer("cus_1", 1, "a@x.example"), key="first", received=on.now)
    on.tell("shop", customer("cus_1", 1, "a@x.example"), key="again", received=on.now)
    on.run("UPDATE inbox SET received_at = received_at + 17280000000000 WHERE dedup_key = 'first'")  # 200 days
    pass_days(on, 200)
    before = on.digest()
    all_of(prune.deliveries, on)
    assert on.rows("SELECT dedup_key, length(body) = 0 FROM inbox ORDER BY id")[1] == ("again", True)
    on.mapping.silent = {"first"}
    with on.hub.store.write() as connection:
        inbox.replay(connection, now=on.now, ids=[first])
    on.apply()
    assert on.digest() == before


def test_old_events_go_and_their_counts_stay(on: Stage) -> None:
    told(on)
    on.tell("app", happened("e2", "bought", 300 * DAY), received=us(300 * DAY))
    before, counts = on.digest(), counted(on)
    pass_days(on, 370)
    events_gone(on)
    assert on.rows("SELECT id FROM timeline") == [("e2",)]
    assert (counted(on), on.digest(), pruned(on)["events"]) == (counts, before, 1)
    all_of(prune.deliveries, on)
    told(on)
    on.tell("app", happened("e1", "bought", 2), key="in other words", received=on.now)
    assert (counted(on), on.digest(), on.count_of("repeats", "kind = 'event'")) == (counts, before, 0)
    sound(on)


def test_an_event_is_not_counted_twice_between_announcement_and_pruning(on: Stage) -> None:
    told(on)
    counts = counted(on)
    pass_days(on, 370)
    all_of(prune.events, on)
    assert on.count_of("timeline") == 1
    on.tell("app", happened("e1", "bought", 2), received=on.now)
    on.tell("app", happened("never seen", "bought", 3), received=on.now)
    assert counted(on) == counts
    on.tell("app", happened("late", "bought", 100 * DAY), received=on.now)
    assert counted(on)[0][1] == 2


@pytest.mark.parametrize("days", [0, 3_000])
def test_what_was_pruned_stays_so_when_more_is_to_be_kept(on: Stage, days: int) -> None:
    told(on)
    pass_days(on, 370)
    events_gone(on)
    counts = counted(on)
    on.hub = replace(on.hub, settings=replace(on.hub.settings, timeline_days=days))
    events_gone(on)
    on.tell("app", happened("e1", "bought", 2), key="again", received=on.now)
    assert counted(on) == counts


def test_a_replay_of_a_delivery_whose_event_was_pruned_counts_nothing_anew(on: Stage) -> None:
    on.hub = replace(on.hub, settings=replace(on.hub.settings, inbox_days=0))
    told(on)
    counts = counted(on)
    pass_days(on, 370)
    events_gone(on)
    all_of(prune.deliveries, on)
    with on.hub.store.write() as connection:
        assert len(inbox.replay(connection, now=on.now, state="done")) == 5
    on.apply()
    assert counted(on) == counts
    assert on.count_of("timeline") == 0
    sound(on)


def test_whoever_was_pruned_can_be_erased(on: Stage) -> None:
    told(on)
    pass_days(on, 800)
    all_of(prune.deliveries, on)
    events_gone(on)
    erase(on.hub, "1", now=on.clock(), actor="test")
    assert on.people() == []
    told(on)
    assert on.people() == []
