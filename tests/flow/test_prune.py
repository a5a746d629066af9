"""Pruning: old deliveries and events go, their counts stay, and whatever comes again changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Connection
from tests.flow.stage import Consent, Link, RecordRef, Stage, at, customer, happened, plan, row, stage, us, user

from upkept.contract import Fact, Statement, TimelineEvent
from upkept.flow import prune, undo
from upkept.flow.compact import compact
from upkept.flow.erase import erase
from upkept.flow.rebuild import check
from upkept.flow.refuse import ERASED
from upkept.store import inbox, pruning, runs, traces
from upkept.store.engine import Store
from upkept.store.traces import Body

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


def announced(on: Stage) -> None:
    """A year and more later: what was told is from before the horizon, and nothing of it is pruned yet."""
    on.hub = replace(on.hub, settings=replace(on.hub.settings, inbox_days=0))
    pass_days(on, 370)
    all_of(prune.events, on)
    assert on.count_of("timeline") == 1


def bought(key: str, on: Stage, *, run: int | None = None) -> int:
    event = TimelineEvent(record=REF, name="bought", id="e1", at=at(2))
    return on.tell("shop", customer("cus_1", 1), event, key=key, received=on.now, run=run)


@pytest.mark.parametrize("silent", [False, True])
def test_a_replay_leaves_events_from_before_the_horizon_as_they_are(on: Stage, silent: bool) -> None:
    first = bought("first", on)
    again = bought("again", on)
    announced(on)
    before, counts = on.digest(), counted(on)
    on.mapping.silent = {"first", "again"} if silent else set()
    on.mapping.moved = {"cus_1": "cus_2"}
    for _ in range(2):
        on.replay(again)
        on.replay(first)
        assert on.rows("SELECT id, inbox FROM timeline") == [("e1", first)]
        assert on.rows("SELECT inbox FROM repeats WHERE kind = 'event'") == [(again,)]
        assert counted(on) == counts
    on.mapping.moved = {}
    if not silent:
        on.replay(first, again)
        assert on.digest() == before
    sound(on)
    events_gone(on)
    assert (on.count_of("timeline"), counted(on)) == (0, counts)


def a_run(on: Stage) -> runs.Run:
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "resync", "shop", {}, on.now)
    on.run("UPDATE runs SET state = 'complete', finished_at = 1")
    return run


def test_an_undo_withdraws_events_of_any_age_that_stand(on: Stage) -> None:
    run = a_run(on)
    bought("first", on, run=run.id)
    announced(on)
    on.walk(undo.start(on.hub, run.id, now=on.clock(), actor="test"))
    assert (on.count_of("timeline"), counted(on)) == (0, [])
    for bells in undo.redo(on.hub, run.id, now=on.clock(), actor="test"):
        on.apply(*(id_ for bell in bells for id_ in bell.ids))
    assert counted(on) == []  # closed: nobody knows any more whether it was counted
    sound(on)


def test_an_undo_leaves_what_a_replayed_row_told_too_before_the_horizon(on: Stage) -> None:
    run = a_run(on)
    bought("first", on, run=run.id)
    again = bought("again", on)
    announced(on)
    counts = counted(on)
    on.replay(again)
    on.walk(undo.start(on.hub, run.id, now=on.clock(), actor="test"))
    assert on.rows("SELECT id, inbox FROM timeline") == [("e1", again)]
    assert counted(on) == counts
    sound(on)


def test_without_pruning_an_event_of_any_age_is_taken_and_withdrawn(on: Stage) -> None:
    event = TimelineEvent(record=REF, name="born", id="e1", at=datetime(1949, 5, 1, tzinfo=UTC))
    id_ = on.tell("shop", customer("cus_1", 1), event, received=on.now, key="born")
    assert on.count_of("timeline") == 1
    on.mapping.silent = {"born"}
    on.replay(id_)
    assert (on.count_of("timeline"), counted(on)) == (0, [])


@pytest.mark.parametrize("erased", [False, True])
def test_an_event_that_is_too_old_to_be_taken_makes_nobody(on: Stage, erased: bool) -> None:
    """Nor where a refusal, which locks the records of its batch by making them, goes before."""
    told(on)
    if erased:
        on.tell("app", user("5", 5), received=on.now)
        erase(on.hub, "5", now=on.clock(), actor="test")
    announced(on)
    before, held = on.digest(), on.count_of("records")
    old = TimelineEvent(record=RecordRef("customer", "cus_9"), name="bought", id="e9", at=at(2))
    id_ = on.say("shop", old, plan("p1", "cus_1", 5, 3), received=on.now)
    on.say("app", happened("e8", "bought", 2, of="8"), user("1", 1, "a@x.example", plan="gold"), received=on.now)
    if erased:
        on.say("app", user("5", 5), received=on.now)
    assert on.apply().skipped == erased
    assert (on.digest(), on.count_of("records")) == (before, held)
    assert on.count_of("readbacks", "source_id = 'cus_9'") == 0
    on.replay(id_)
    assert (on.inbox(id_)["state"], on.digest()) == ("done", before)


NINTH = RecordRef("customer", "cus_9")


@pytest.mark.parametrize(
    "said",
    [
        customer("cus_9", 400 * DAY),
        plan("p9", "cus_9", 5, 400 * DAY),
        Consent(act="opt_out", record=NINTH, at=at(400 * DAY)),
        Link(a=RecordRef("customer", "cus_8"), b=NINTH, at=at(400 * DAY)),
        TimelineEvent(record=NINTH, name="bought", id="late", at=at(369 * DAY)),
    ],
    ids=["fact", "owner", "consent", "link", "event"],
)
def test_what_else_names_a_record_lets_it_stand(on: Stage, said: Statement) -> None:
    told(on)
    announced(on)
    old = TimelineEvent(record=NINTH, name="bought", id="e9", at=at(2))
    on.tell("shop", old, said, received=on.now)
    assert on.count_of("records", "source_id = 'cus_9'") == 1
    assert on.count_of("timeline", "id = 'e9'") == 0
    sound(on)


def test_an_old_event_of_whoever_was_erased_is_refused(on: Stage) -> None:
    told(on)
    announced(on)
    erase(on.hub, "1", now=on.clock(), actor="test")
    id_ = on.tell("app", happened("e7", "bought", 3), received=on.now)
    assert (on.inbox(id_)["state"], on.inbox(id_)["body"], on.inbox(id_)["reason"]) == ("skipped", b"", ERASED)
    assert on.people() == []


def test_no_row_gets_the_number_of_one_that_was_pruned(on: Stage) -> None:
    """What a row said goes by its number: a second try of another one would take it back."""
    told(on)
    (last,) = on.rows("SELECT max(id) FROM inbox")[0]
    pass_days(on, 200)
    all_of(prune.deliveries, on)
    assert on.count_of("inbox") == 0
    new = [on.tell("app", user("9", number), received=on.now) for number in range(len(DATED))]
    assert min(new) > last
    stands = [on.count_of(table) for table in ("facts", "links", "timeline", "counters", "consent")]
    before = on.digest()
    on.replay(*new)
    assert (on.digest(), [on.count_of(table) for table in ("facts", "links", "timeline", "counters", "consent")]) == (
        before, stands,
    )  # fmt: skip


def test_deliveries_that_are_forgotten_between_two_looks_are_passed_over(
    on: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(on)
    pass_days(on, 200)
    look = traces.told

    def forgotten_before(connection: Connection, ids: Iterable[int]) -> list[Body]:
        with on.hub.store.write() as other:
            inbox.remove(other, list(ids)[:1])
        with on.hub.store.read() as fresh:  # as PostgreSQL shows it: each statement sees what is committed
            return look(fresh, ids)

    monkeypatch.setattr(traces, "told", forgotten_before)
    all_of(prune.deliveries, on)
    assert on.count_of("inbox") == 0


def test_whoever_was_pruned_can_be_erased(on: Stage) -> None:
    told(on)
    pass_days(on, 800)
    all_of(prune.deliveries, on)
    events_gone(on)
    erase(on.hub, "1", now=on.clock(), actor="test")
    assert on.people() == []
    told(on)
    assert on.people() == []
