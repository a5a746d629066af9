"""Pull: resumable at any page, unchanged records write nothing, errors never advance the cursor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.flow.small_vendor import START, Clock, Vendor, arrive, follow, get, heads, hub_of, inbox_states, people, ring

from upkept.contract import Config, Permanent, Retryable
from upkept.flow import runs as flow_runs
from upkept.flow.bells import Bell
from upkept.flow.fetch import read_back
from upkept.flow.hub import Hub
from upkept.flow.pull import BUG_TRIES, PATIENT_TRIES, preview, step
from upkept.store import alerts, connections, readbacks, runs
from upkept.store.engine import Store

CUSTOMERS = 23


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def vendor() -> Vendor:
    vendor = Vendor()
    for number in range(CUSTOMERS):
        vendor.put(f"cus_{number:02}", name=f"Customer {number}", plan="free", email=f"c{number}@example.com")
    return vendor


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(store: Store, tmp_path: Path, vendor: Vendor) -> Hub:
    return hub_of(store, tmp_path, vendor.connection())


def resync(hub: Hub, clock: Clock, **options: object) -> runs.Run:
    started = flow_runs.start(hub, "acme", now=clock(), **options)  # type: ignore[arg-type]
    return follow(hub, started.run.id, clock)


def test_a_full_walk_ends_in_a_report_and_people(hub: Hub, clock: Clock) -> None:
    run = resync(hub, clock)
    assert (run.state, run.scanned, run.changed, run.unchanged, run.failed) == ("complete", CUSTOMERS, CUSTOMERS, 0, 0)
    assert run.total == CUSTOMERS
    assert len(people(hub)) == CUSTOMERS
    with hub.store.read() as connection:
        standing = connections.standing(connection, "acme")
        left = connection.exec_driver_sql("SELECT count(*) FROM walked").scalar_one()
    assert standing.cursor is not None
    assert standing.cursor.startswith("since:")
    assert standing.walked_at is not None
    assert standing.pulled_at is not None
    assert standing.pulled_at < standing.walked_at
    assert left == 0


def test_a_second_walk_writes_nothing(hub: Hub, clock: Clock) -> None:
    resync(hub, clock)
    before = inbox_states(hub)
    run = resync(hub, clock)
    assert (run.state, run.scanned, run.changed, run.unchanged) == ("complete", CUSTOMERS, 0, CUSTOMERS)
    assert inbox_states(hub) == before


def test_a_second_walk_over_opt_outs_writes_nothing(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.put("cus_01", unsubscribed=True, changed=clock.at)
    assert resync(hub, clock).changed == CUSTOMERS
    again = resync(hub, clock)
    assert (again.scanned, again.admitted, again.unchanged) == (CUSTOMERS, 0, CUSTOMERS)
    vendor.put("cus_02", unsubscribed=True, changed=clock.at)
    assert resync(hub, clock).admitted == 1


def test_only_what_changed_is_admitted(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    resync(hub, clock)
    vendor.put("cus_07", plan="pro")
    run = resync(hub, clock)
    assert (run.admitted, run.changed, run.unchanged) == (1, 1, CUSTOMERS - 1)
    assert heads(hub)["cus_07"]["plan"] == "pro"


def test_a_value_that_comes_back_is_news_again(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    for plan in ("pro", "free", "pro"):
        vendor.put("cus_07", plan=plan)
        resync(hub, clock)
        assert heads(hub)["cus_07"]["plan"] == plan


@pytest.mark.parametrize("page", range(1, 6))
@pytest.mark.parametrize("failure", [Killed, Retryable("busy", after=3), Retryable("away")])
def test_a_failure_at_any_page_ends_in_the_same_store(
    hub: Hub, clock: Clock, vendor: Vendor, page: int, failure: type[BaseException] | Exception
) -> None:
    vendor.fail_at[page] = failure
    clock.tick = 900_000  # a page is a step
    started = flow_runs.start(hub, "acme", now=clock())
    cursors = set()
    for _ in range(60):
        try:
            ring(hub, step(hub, started.run.id, now=clock), clock)
        except Killed:
            before = get(hub, started.run.id)
        run = get(hub, started.run.id)
        cursors.add(run.cursor)
        if not run.open:
            break
        clock.pass_seconds(2)
    assert (run.state, run.scanned, run.changed, run.unchanged, run.failed) == ("complete", CUSTOMERS, CUSTOMERS, 0, 0)
    assert len(cursors) >= 4
    assert vendor.calls == 6
    assert heads(hub) == {c["id"]: {"name": c["name"], "plan": "free"} for c in vendor.customers.values()}
    if failure is Killed:
        assert before.scanned == (page - 1) * 5


def test_the_run_of_a_killed_process_is_free_at_once(hub: Hub, clock: Clock) -> None:
    started = flow_runs.start(hub, "acme", now=clock())
    dead = flow_runs.holder().rpartition(":")[0] + ":4194305"  # above every pid there can be
    with hub.store.write() as connection:
        assert runs.claim(connection, started.run.id, holder=dead, now=clock())
    assert step(hub, started.run.id, now=clock)


def test_a_run_somebody_works_on_is_left_alone_until_its_lease_ends(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    started = flow_runs.start(hub, "acme", now=clock())
    with hub.store.write() as connection:
        assert runs.claim(connection, started.run.id, holder="another-machine:1", now=clock())
    assert step(hub, started.run.id, now=clock) == ()
    assert vendor.calls == 0
    clock.pass_seconds(61)
    assert step(hub, started.run.id, now=clock)


def test_a_process_that_lost_its_lease_cannot_write(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    started = flow_runs.start(hub, "acme", now=clock())

    def taken_over() -> None:
        vendor.while_asked = lambda: None
        clock.pass_seconds(61)
        with hub.store.write() as connection:
            assert runs.claim(connection, started.run.id, holder="another-machine:1", now=clock())

    vendor.while_asked = taken_over
    assert step(hub, started.run.id, now=clock) == ()
    run = get(hub, started.run.id)
    assert (run.scanned, run.cursor, run.holder) == (0, None, "another-machine:1")
    assert inbox_states(hub) == {}


def test_who_asks_twice_joins(hub: Hub, clock: Clock) -> None:
    first = flow_runs.start(hub, "acme", now=clock())
    second = flow_runs.start(hub, "acme", now=clock())
    assert (second.run.id, second.joined) == (first.run.id, True)
    follow(hub, first.run.id, clock)
    assert not flow_runs.start(hub, "acme", now=clock()).joined


def test_full_afresh_cancels_what_is_under_way(hub: Hub, clock: Clock) -> None:
    clock.tick = 900_000
    first = flow_runs.start(hub, "acme", now=clock())
    step(hub, first.run.id, now=clock)
    second = flow_runs.start(hub, "acme", now=clock(), afresh=True)
    assert second.run.id != first.run.id
    assert get(hub, first.run.id).state == "cancelled"
    assert step(hub, first.run.id, now=clock) == ()
    assert follow(hub, second.run.id, clock).scanned == CUSTOMERS


def test_a_vendor_that_is_busy_is_left_alone_as_long_as_it_said(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.fail_at[1] = Retryable("busy", after=40)
    started = flow_runs.start(hub, "acme", now=clock())
    assert step(hub, started.run.id, now=clock) == ()
    run = get(hub, started.run.id)
    assert 39 <= (run.next_attempt_at - clock.at) / 1_000_000 <= 40
    assert (run.state, run.cursor, run.reason, run.lease_until) == ("pulling", None, "busy", None)
    # Whoever asks too early, whatever for, waits for the account's line.
    step(hub, started.run.id, now=clock)
    assert vendor.calls == 1


def test_a_vendor_that_stays_away_is_told_and_the_alert_ends_with_it(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.fail_at = {call: Retryable("no answer") for call in range(1, PATIENT_TRIES + 1)}
    started = flow_runs.start(hub, "acme", now=clock())
    for _ in range(PATIENT_TRIES):
        assert standing_alerts(hub) == []
        step(hub, started.run.id, now=clock)
    assert standing_alerts(hub) == ["pull:acme"]
    follow(hub, started.run.id, clock)
    assert standing_alerts(hub) == []


def test_a_wrong_key_pauses_the_connection_and_its_cure_goes_on_where_it_stood(
    hub: Hub, clock: Clock, vendor: Vendor
) -> None:
    vendor.fail_at[3] = Config("the key was revoked; set ACME_KEY")
    run = resync(hub, clock)
    assert run.state == "failed"
    assert run.reason is not None
    assert "ACME_KEY" in run.reason
    assert "upkept resync acme" in run.reason
    assert standing_alerts(hub) == ["paused:acme"]
    with hub.store.read() as connection:
        assert connections.paused(connection) == {"acme"}
        assert connections.standing(connection, "acme").walked_at is None
    again = flow_runs.start(hub, "acme", now=clock())
    assert again.resumed
    assert again.run.id == run.id
    assert standing_alerts(hub) == []
    run = follow(hub, run.id, clock)
    assert (run.state, run.scanned, run.changed) == ("complete", CUSTOMERS, CUSTOMERS)
    assert vendor.calls == 6


def test_what_a_stopped_walk_noted_is_forgotten_once_another_one_ended(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.fail_at[3] = Config("the key was revoked")
    stopped = resync(hub, clock)
    assert stopped.cursor is not None
    assert resync(hub, clock, afresh=True).state == "complete"
    assert get(hub, stopped.id).cursor is None
    with hub.store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM walked").scalar_one() == 0


def test_what_never_succeeds_fails_the_run_and_the_next_begins_afresh(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.fail_at[3] = Permanent("that cursor is of another version")
    run = resync(hub, clock)
    assert (run.state, run.scanned, run.cursor) == ("failed", 10, None)
    assert standing_alerts(hub) == ["pull:acme"]
    again = flow_runs.start(hub, "acme", now=clock())
    assert not again.resumed
    assert follow(hub, again.run.id, clock).state == "complete"
    assert standing_alerts(hub) == []


def test_a_bug_is_tried_again_and_then_fails_without_what_it_held(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.fail_at = {call: ValueError("c1@example.com") for call in range(2, 2 + BUG_TRIES)}
    run = resync(hub, clock)
    assert run.state == "failed"
    assert run.reason == "ValueError in connector 'small'; see the log"
    assert run.scanned == 5


def test_a_run_with_a_failure_is_never_complete(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.put("cus_03", broken=True)
    run = resync(hub, clock)
    assert (run.state, run.scanned, run.changed, run.failed) == ("failed", CUSTOMERS, CUSTOMERS - 1, 1)
    assert run.reason is not None
    assert "upkept replay --state dead --connection acme" in run.reason
    with hub.store.read() as connection:
        assert readbacks.waiting(connection) == []


def test_nothing_listed_is_a_warning(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.customers.clear()
    run = resync(hub, clock)
    assert (run.state, run.scanned) == ("complete", 0)
    assert run.reason is not None
    assert "nothing" in run.reason


def test_what_a_walk_does_not_show_is_read_back(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    resync(hub, clock)
    for gone in ("cus_01", "cus_20"):
        del vendor.customers[gone]
    run = resync(hub, clock)
    assert (run.state, run.missing) == ("complete", 2)
    clock.pass_seconds(5)
    ring(hub, read_back(hub, now=clock), clock)
    assert len([one for one in people(hub) if not one[2]]) == CUSTOMERS - 2
    assert resync(hub, clock).missing == 0


def test_what_appeared_while_it_was_walked_is_not_missing(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    clock.tick = 900_000
    started = flow_runs.start(hub, "acme", now=clock())
    for _ in range(2):
        ring(hub, step(hub, started.run.id, now=clock), clock)
    row = arrive(hub, vendor.tell("aaa_new", clock.at, name="New"), clock)
    ring(hub, (bell(row),), clock)
    assert follow(hub, started.run.id, clock).missing == 0


def test_an_empty_account_does_not_delete_everybody(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    resync(hub, clock)
    kept = dict(vendor.customers)
    vendor.customers = {"cus_00": kept["cus_00"]}
    run = resync(hub, clock)
    assert (run.state, run.missing) == ("complete", CUSTOMERS - 1)
    assert standing_alerts(hub) == ["missing:acme"]
    with hub.store.read() as connection:
        assert readbacks.waiting(connection) == []
    run = resync(hub, clock, allow_deletes=True)
    with hub.store.read() as connection:
        assert readbacks.waiting(connection) == [("acme", CUSTOMERS - 1)]
    assert standing_alerts(hub) == []


def test_an_incremental_pull_begins_where_the_last_one_ended(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    resync(hub, clock)
    clock.pass_seconds(10)
    vendor.tell("cus_05", clock.at, plan="pro")
    clock.pass_seconds(10)
    run = resync(hub, clock, mode="incremental", scheduled=True)
    assert (run.scanned, run.changed) == (1, 1)
    assert heads(hub)["cus_05"]["plan"] == "pro"
    clock.pass_seconds(10)
    run = resync(hub, clock, mode="incremental", scheduled=True)
    assert (run.state, run.scanned, run.reason) == ("complete", 0, None)


def test_an_event_that_came_by_webhook_is_known(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    resync(hub, clock)
    clock.pass_seconds(10)
    row = arrive(hub, vendor.tell("cus_05", clock.at, plan="pro"), clock)
    ring(hub, (bell(row),), clock)
    run = resync(hub, clock, mode="incremental", scheduled=True)
    assert (run.scanned, run.admitted, run.unchanged) == (1, 0, 1)


def test_a_pull_since_later_than_the_last_one_leaves_no_gap_behind(hub: Hub, clock: Clock) -> None:
    resync(hub, clock)
    with hub.store.read() as connection:
        before = connections.standing(connection, "acme")
    clock.pass_seconds(3600)
    run = resync(hub, clock, mode="since", since=clock.at - 60_000_000)
    assert run.state == "complete"
    with hub.store.read() as connection:
        assert connections.standing(connection, "acme") == before
    resync(hub, clock, mode="since", since=START - 60_000_000)
    with hub.store.read() as connection:
        assert connections.standing(connection, "acme").cursor != before.cursor


def test_a_stale_read_does_not_beat_a_change_made_while_it_was_read(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    resync(hub, clock)
    vendor.put("cus_03", name="Changed before")
    moment: list[int] = []

    def changed_meanwhile() -> None:
        vendor.while_asked = lambda: None
        clock.pass_seconds(1)
        moment.append(clock.at)
        clock.pass_seconds(1)

    started = flow_runs.start(hub, "acme", now=clock())
    vendor.while_asked = changed_meanwhile
    clock.tick = 1
    ring(hub, step(hub, started.run.id, now=clock), clock)
    row = arrive(hub, vendor.tell("cus_03", moment[0], name="Changed after"), clock)
    ring(hub, (bell(row),), clock)
    assert heads(hub)["cus_03"]["name"] == "Changed after"


def test_a_dry_run_stores_nothing_and_names_the_differences(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    resync(hub, clock)
    vendor.put("cus_07", plan="pro")
    vendor.put("cus_99", name="New")
    with hub.store.read() as connection:
        before = [connections.standing(connection, "acme"), inbox_states(hub), runs.listed(connection)]
    pages = list(preview(hub, hub.connections["acme"], None, now=clock))
    found = {(d.source_id, d.field): (d.ours, d.theirs) for page in pages for d in page.compared.differences}
    assert found["cus_07", "plan"] == ("free", "pro")
    assert found["cus_99", "name"] == (None, "New")
    assert {id for id, _ in found} == {"cus_07", "cus_99"}
    assert sum(page.scanned for page in pages) == CUSTOMERS + 1
    assert sum(page.news for page in pages) == 2
    with hub.store.read() as connection:
        assert [connections.standing(connection, "acme"), inbox_states(hub), runs.listed(connection)] == before


def test_the_last_full_walk_is_the_estimate_where_the_vendor_gives_none(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    vendor.states_total = False
    resync(hub, clock)
    clock.tick = 900_000
    started = flow_runs.start(hub, "acme", now=clock())
    step(hub, started.run.id, now=clock)
    run = get(hub, started.run.id)
    assert run.total == CUSTOMERS
    assert run.seconds_left is not None
    assert run.seconds_left > 0


def test_pulls_are_due_by_schedule_and_never_uninvited(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    assert flow_runs.due(hub, clock()) == ()
    vendor.put("cus_50", name="Old")
    clock.pass_seconds(600)
    vendor.tell("cus_60", clock.at, name="New")
    assert flow_runs.due(hub, clock()) == ()
    clock.pass_seconds(301)
    (due,) = flow_runs.due(hub, clock())
    assert (due.queue, due.task) == ("outbound", "run")
    assert flow_runs.due(hub, clock()) == ()
    run = follow(hub, due.ids[0], clock)
    assert (run.scanned, run.changed) == (1, 1)
    assert set(heads(hub)) == {"cus_60"}
    assert flow_runs.due(hub, clock()) == ()


def test_after_an_outage_a_pull_begins_whatever_the_schedule_says(store: Store, tmp_path: Path, clock: Clock) -> None:
    slow = Vendor(poll=86_400.0)
    hub = hub_of(store, tmp_path, slow.connection(), replace(Vendor(poll=0.0).connection("silent"), poll=0.0))
    assert flow_runs.due(hub, clock()) == ()
    for _ in range(20):
        clock.pass_seconds(120)
        assert flow_runs.due(hub, clock()) == ()
    clock.pass_seconds(1_900)
    (due,) = flow_runs.due(hub, clock())
    assert get(hub, due.ids[0]).connection == "acme"


def test_a_failed_pull_waits_for_its_next_turn_and_a_paused_one_longer(hub: Hub, clock: Clock, vendor: Vendor) -> None:
    flow_runs.due(hub, clock())
    clock.pass_seconds(901)
    vendor.fail_at[1] = Config("wrong key")
    (due,) = flow_runs.due(hub, clock())
    follow(hub, due.ids[0], clock)
    for _ in range(3):
        assert flow_runs.due(hub, clock()) == ()
        clock.pass_seconds(901)
    (due,) = flow_runs.due(hub, clock() + 900_000_000)
    clock.pass_seconds(901)
    assert follow(hub, due.ids[0], clock).state == "complete"
    assert standing_alerts(hub) == []


def test_a_connection_nobody_knows_names_those_there_are(hub: Hub, clock: Clock) -> None:
    with pytest.raises(Config, match="acme"):
        flow_runs.start(hub, "acne", now=clock())


def standing_alerts(hub: Hub) -> list[str]:
    with hub.store.read() as connection:
        return [alert.key for alert in alerts.unresolved(connection)]


def bell(row: int) -> Bell:
    return Bell("inbound", "apply", (row,))
