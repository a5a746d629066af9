"""The clock and the sweeper, in one process, on both databases: what is due is offered, claimed once, worked inline."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.till.site import SECRET
from tests.till.upkept_till import TillConfig, connector

from upkept.cli.standing import standing
from upkept.contract import Retryable
from upkept.doors.health import _exposition
from upkept.flow import sweep
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.flow.opening import policies
from upkept.flow.runs import holder
from upkept.keys import ensure_keys
from upkept.registry import Connection
from upkept.settings import load
from upkept.store import due, gauges, inbox, jobs, outbox, readbacks, runs, tables
from upkept.store.engine import Store
from upkept.worker import beat, pulse
from upkept.worker.process import clock, process
from upkept.worker.retry import attempt
from upkept.worker.steps import applied

SECOND = 1_000_000


class Bells:
    """A ringer that writes down what it rings, as long as its broker is well."""

    def __init__(self) -> None:
        self.rung: list[Bell] = []
        self.pulses: list[tuple[str, str]] = []
        self.well = True
        self.sick = 0.0

    def ring(self, bells: Any) -> bool:
        if self.well:
            self.rung.extend(bells)
        return self.well

    def ring_one(self, task: str, queue: str, arguments: list[Any]) -> bool:
        if self.well:
            self.pulses.append((queue, arguments[0]))
        return self.well

    def sick_seconds(self) -> float:
        return self.sick


@pytest.fixture
def hub(store: Store, tmp_path: Path) -> Hub:
    settings = load({"UPKEPT_HOME": str(tmp_path)}, cwd=tmp_path)
    till = Connection(
        name="till", connector=connector, config=TillConfig(webhook_secret=SECRET), fields=connector.fields,
        account="till", rank=0,
    )  # fmt: skip
    return Hub(store, {"till": till}, ensure_keys(tmp_path), policies(settings, ranks={}), settings)


@pytest.fixture
def bells() -> Bells:
    return Bells()


def arrive(hub: Hub, *numbers: int, age: float, lane: Any = "inbound", thin: bool = False) -> list[int]:
    """Rows that came `age` seconds ago and that no bell told of."""
    at = clock() - int(age * SECOND)
    arrivals = [
        inbox.Arrival(
            connection="till", dedup_key=f"{lane}{number}", kind="customer.updated", received_at=at, lane=lane,
            body=b'{"customer": "cus_%d", "plan": "gold", "at": 1790000000}' % number, thin=thin,
        )
        for number in numbers
    ]  # fmt: skip
    with hub.store.write() as connection:
        return sorted(inbox.store(connection, arrivals).values())


def states(hub: Hub) -> dict[int, str]:
    with hub.store.read() as connection:
        return {row[0]: row[1] for row in connection.exec_driver_sql("SELECT id, state FROM inbox")}


def swept(hub: Hub, bells: Bells) -> list[Bell]:
    bells.rung.clear()
    list(beat.sweeping(hub, bells))  # type: ignore[arg-type]
    return list(bells.rung)


def test_a_fresh_row_is_left_to_its_own_bell(hub: Hub, bells: Bells) -> None:
    arrive(hub, 1, age=1)
    assert swept(hub, bells) == []


def test_what_no_bell_told_of_is_offered_once_a_while(hub: Hub, bells: Bells) -> None:
    plain = arrive(hub, 1, 2, age=11)
    first = arrive(hub, 3, age=11, lane="consent")
    thin = arrive(hub, 4, age=11, lane="bulk", thin=True)
    assert set(swept(hub, bells)) == {
        Bell("consent", "apply", tuple(first)), Bell("inbound", "apply", tuple(plain)),
        Bell("outbound", "fetch", tuple(thin)),
    }  # fmt: skip
    assert swept(hub, bells) == []
    assert sweep.look(hub, now=clock() + due.AGAIN + due.QUIET + SECOND).ids == tuple(sorted(first + plain + thin))


def test_what_the_broker_did_not_take_is_offered_at_the_next_sweep(hub: Hub, bells: Bells) -> None:
    ids = arrive(hub, 1, age=11)
    bells.well = False
    assert swept(hub, bells) == []
    bells.well = True
    assert swept(hub, bells) == [Bell("inbound", "apply", tuple(ids))]


def test_a_dead_lease_is_offered_again_and_a_living_one_is_not(hub: Hub, bells: Bells) -> None:
    ids = arrive(hub, 1, age=11)
    with hub.store.write() as connection:
        claimed = inbox.claim(connection, ids, now=clock())
    assert len(claimed) == 1
    assert swept(hub, bells) == []
    later = clock() + inbox.LEASE + due.QUIET + SECOND
    assert sweep.look(hub, now=later).ids == tuple(ids)


def test_a_retry_is_offered_when_its_time_comes(hub: Hub, bells: Bells) -> None:
    ids = arrive(hub, 1, age=11)
    with hub.store.write() as connection:
        rows = inbox.claim(connection, ids, now=clock())
        inbox.finish(connection, [inbox.Outcome(rows[0], "new", "away", retry_at=clock() + 60 * SECOND)])
    assert swept(hub, bells) == []
    assert sweep.look(hub, now=clock() + 61 * SECOND).ids == tuple(ids)


def test_a_row_worked_on_meanwhile_keeps_its_own_time(hub: Hub) -> None:
    ids = arrive(hub, 1, age=11)
    found = sweep.look(hub, now=clock())
    retry = clock() + 3600 * SECOND
    with hub.store.write() as connection:
        rows = inbox.claim(connection, ids, now=clock())
        inbox.finish(connection, [inbox.Outcome(rows[0], "new", "away", retry_at=retry)])
    sweep.offered(hub, found, now=clock())
    with hub.store.read() as connection:
        assert connection.exec_driver_sql("SELECT next_attempt_at FROM inbox").scalar() == retry


def test_a_worker_that_hears_a_bell_at_once_finds_its_rows_free(
    hub: Hub, bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL it passes over a locked row, and a bell is heard once."""
    ids = arrive(hub, *range(450), age=11)
    noting = due.inbox_offered

    def hears(connection: Any, *arguments: Any, **named: Any) -> None:
        noting(connection, *arguments, **named)
        if hub.store.dialect == "postgresql":  # on SQLite nobody writes while this does
            for bell in bells.rung:
                applied(hub, bell.ids)
            bells.rung.clear()

    monkeypatch.setattr(due, "inbox_offered", hears)
    list(beat.sweeping(hub, bells))  # type: ignore[arg-type]
    for bell in bells.rung:
        applied(hub, bell.ids)
    assert states(hub) == dict.fromkeys(ids, "done")


def test_a_sick_broker_makes_the_sweeper_work_itself(hub: Hub, bells: Bells) -> None:
    arrive(hub, *range(450), age=11)
    bells.well, bells.sick = False, beat.BROKER_SICK - 1
    swept(hub, bells)
    assert set(states(hub).values()) == {"new"}
    bells.sick = beat.BROKER_SICK + 1
    swept(hub, bells)
    assert set(states(hub).values()) == {"done"}


def test_a_deaf_worker_makes_the_sweeper_work_itself(hub: Hub, bells: Bells) -> None:
    """What was offered just now was offered to nobody, and what has just arrived waits for nobody either."""
    arrive(hub, 1, age=11)
    swept(hub, bells)
    arrive(hub, 2, age=0)
    assert set(states(hub).values()) == {"new"}
    with hub.store.write() as connection:
        jobs.rung(connection, "worker", now=clock() - int((beat.WORKER_DEAF + 1) * SECOND))
    swept(hub, bells)
    assert set(states(hub).values()) == {"done"}


def test_nobody_hurries_a_row_whose_next_try_is_yet_to_come(hub: Hub, bells: Bells) -> None:
    ids = arrive(hub, 1, age=11)
    with hub.store.write() as connection:
        rows = inbox.claim(connection, ids, now=clock())
        inbox.finish(connection, [inbox.Outcome(rows[0], "new", "away", retry_at=clock() + 3600 * SECOND)])
    bells.well, bells.sick = False, beat.BROKER_SICK + 1
    swept(hub, bells)
    assert set(states(hub).values()) == {"new"}


def test_only_the_courier_reads_from_a_vendor_inline(hub: Hub, bells: Bells) -> None:
    thin = arrive(hub, 1, age=11, thin=True)
    bells.well, bells.sick = False, beat.BROKER_SICK + 1
    swept(hub, bells)
    assert states(hub)[thin[0]] == "new"
    list(beat.sweeping_vendors_too(hub, bells))  # type: ignore[arg-type]
    assert states(hub)[thin[0]] == "done"


def test_what_stays_unclaimed_is_applied_whatever_the_pulse_says(hub: Hub, bells: Bells) -> None:
    ids = arrive(hub, 1, age=sweep.UNCLAIMED / SECOND + 1)
    bulk = arrive(hub, 2, age=sweep.UNCLAIMED / SECOND + 1, lane="bulk")
    assert len(swept(hub, bells)) >= 2
    assert states(hub) == {ids[0]: "done", bulk[0]: "new"}


def test_runs_and_readbacks_that_are_due_are_rung(hub: Hub, bells: Bells) -> None:
    now = clock()
    with hub.store.write() as connection:
        run, _ = runs.start(connection, "resync", "till", {"mode": "full"}, now - SECOND)
        rebuild, _ = runs.start(connection, "rebuild", "", {}, now - SECOND)
        readbacks.wish(connection, [("till", "customer", "cus_1", "tie", now - SECOND)])
    assert set(swept(hub, bells)) == {
        Bell("outbound", "run", (run.id,)), Bell("bulk", "run", (rebuild.id,)), Bell("outbound", "read_back", ()),
    }  # fmt: skip
    with hub.store.write() as connection:
        for one in (run, rebuild):
            runs.claim(connection, one.id, holder="somebody:1", now=clock())
        readbacks.claim(connection, now=clock(), limit=1)
    assert swept(hub, bells) == []


def test_a_walk_that_waits_is_offered_a_little_at_a_time_and_hides_nobody(
    hub: Hub, bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own bells are still to come; offered whole again and again it would fill the queue with what is done."""
    monkeypatch.setattr(sweep, "LIMIT_OF_BULK", 3)
    monkeypatch.setattr(sweep, "LIMIT", 4)
    walk = arrive(hub, *range(8), age=40, lane="bulk")
    webhook = arrive(hub, 1, age=11)
    assert set(swept(hub, bells)) == {Bell("bulk", "apply", tuple(walk[:3])), Bell("inbound", "apply", tuple(webhook))}
    assert swept(hub, bells) == [Bell("bulk", "apply", tuple(walk[3:6]))]


def test_a_run_whose_holder_was_killed_is_rung_at_once(hub: Hub, bells: Bells) -> None:
    with hub.store.write() as connection:
        run, _ = runs.start(connection, "resync", "till", {"mode": "full"}, clock() - SECOND)
        runs.claim(connection, run.id, holder=holder(), now=clock())
    assert swept(hub, bells) == []
    gone = f"{holder().rpartition(':')[0]}:4194305"  # above every pid there can be
    with hub.store.write() as connection:
        connection.execute(tables.runs.update().values(holder=gone))
    assert swept(hub, bells) == [Bell("outbound", "run", (run.id,))]


@pytest.mark.parametrize(("who", "free"), [("a killed one", True), ("a living one", False), ("one elsewhere", False)])
def test_pushes_that_a_killed_courier_had_claimed_are_rung_at_once(
    hub: Hub, bells: Bells, who: str, free: bool
) -> None:
    gone = f"{holder().rpartition(':')[0]}:4194305"  # above every pid there can be
    held_by = {"a killed one": gone, "a living one": holder(), "one elsewhere": "somebody:4194305"}[who]
    with hub.store.write() as connection:
        (row,) = outbox.write(connection, [outbox.Wish(destination="till", subject="p_1")], now=clock() - SECOND)
        (due,) = outbox.claim(connection, "till", holder=held_by, now=clock(), limit=9)
    assert swept(hub, bells) == ([Bell("outbound", "push", (row,))] if free else [])
    with hub.store.read() as connection:
        assert outbox.lost(connection, [due]) == ({row} if free else set()), "who comes back late is fenced off"


def test_a_slot_is_claimed_once_by_any_number_of_clocks(hub: Hub) -> None:
    with hub.store.write() as connection:
        assert jobs.claim(connection, {"sweep": 7, "pulse": 3}, now=1) == {"sweep", "pulse"}
        assert jobs.claim(connection, {"sweep": 7, "pulse": 4}, now=2) == {"pulse"}
        assert jobs.claim(connection, {"sweep": 6}, now=3) == set()
        assert jobs.claim(connection, {"sweep": 8}, now=4) == {"sweep"}


def test_a_pulse_is_heard_or_the_silence_grows(hub: Hub, bells: Bells) -> None:
    def age(since: int = 0) -> float:
        return pulse.pulse_age(hub.store, now=clock() + 70 * SECOND, since=since)

    assert age() == 0
    list(beat.pulsing(hub, bells))  # type: ignore[arg-type]
    assert set(bells.pulses) == {("consent", "worker"), ("outbound", "courier")}
    assert 69 < age() < 75
    assert age(since=clock() + 60 * SECOND) < 11
    list(beat.pulsing(hub, bells))  # type: ignore[arg-type]
    assert age() > 69
    with hub.store.write() as connection:
        jobs.heard(connection, "worker", now=clock())
    assert age() == 0
    list(beat.pulsing(hub, bells))  # type: ignore[arg-type]
    assert age() > 69
    bells.well = False
    list(beat.pulsing(hub, bells))  # type: ignore[arg-type]
    assert age() == 0, "a broker that is away is no deaf worker"


def test_a_worker_whose_clock_is_behind_is_heard(hub: Hub) -> None:
    with hub.store.write() as connection:
        jobs.rung(connection, "worker", now=1000)
        jobs.heard(connection, "worker", now=900)
        assert jobs.unheard_since(connection, "worker") is None


@pytest.fixture
def one_process(hub: Hub, bells: Bells, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks of the test find this hub and this ringer in their process."""
    monkeypatch.setattr(process, "hub", lambda: hub)
    monkeypatch.setattr(process, "ringer", lambda: bells)


@pytest.mark.usefixtures("one_process")
def test_a_long_job_shares_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat, "SHARE", 0.05)
    done: list[str] = []

    def long(_hub: Hub, _ringer: Any) -> Iterator[None]:
        while True:
            time.sleep(0.01)
            done.append("long")
            yield

    def short(_hub: Hub, _ringer: Any) -> Iterator[None]:
        done.append("short")
        yield

    one = beat.Clock([beat.Job("long", 86_400, long), beat.Job("short", 0.001, short)])
    one.tick()
    assert (done[0], done[-1], len(done) < 10) == ("long", "short", True)
    one.tick()
    assert done.count("short") == 2


def test_a_clock_that_is_ahead_is_counted(hub: Hub) -> None:
    ahead = b'{"customer": "cus_1", "plan": "gold", "at": %d}' % (clock() // SECOND + 3600)
    for number in range(2):
        arrival = inbox.Arrival(
            connection="till", dedup_key=str(number), kind="customer.updated", body=ahead, received_at=clock()
        )
        with hub.store.write() as connection:
            ids = list(inbox.store(connection, [arrival]).values())
        applied(hub, ids)
    with hub.store.read() as connection:
        assert gauges.gauges(connection).clock_clamped == 2


@pytest.mark.usefixtures("one_process")
def test_every_job_of_the_courier_runs_on_an_empty_store(bells: Bells) -> None:
    one = beat.Clock(beat.OF_THE_COURIER)
    with structlog.testing.capture_logs() as lines:
        one.tick()
    assert not [line for line in lines if line["log_level"] == "error"]
    assert len(bells.pulses) == 2


@pytest.mark.usefixtures("one_process")
def test_a_tick_does_what_has_come_once_and_outlives_a_failing_job(hub: Hub) -> None:
    done: list[str] = []

    def well(_hub: Hub, _ringer: Any) -> Iterator[None]:
        done.append("step")
        yield
        done.append("end")

    def ill(_hub: Hub, _ringer: Any) -> Iterator[None]:
        raise Retryable("away")
        yield

    known = [beat.Job("ill", 3600, ill), beat.Job("well", 3600, well)]
    clocks = [beat.Clock(known), beat.Clock(known)]
    for one in clocks * 2:
        one.tick()
    assert done == ["step", "end"]


@pytest.mark.usefixtures("one_process")
def test_a_courier_whose_threads_all_wait_for_a_vendor_is_not_deaf(
    hub: Hub, bells: Bells, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pulse queues up behind the tasks. Only vendors that never answer are a case for a restart."""
    answered = threading.Event()
    asking: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ask(_hub: Hub) -> tuple[Bell, ...]:
        asking.put(None)
        answered.wait(60)
        return ()

    def deaf_seconds() -> float:
        one.tick()
        return pulse.pulse_age(hub.store, "courier", now=clock() + 70 * SECOND)

    monkeypatch.setattr(process, "threads", 2)
    one = beat.Clock([])
    list(beat.pulsing(hub, bells))  # type: ignore[arg-type]
    with ThreadPoolExecutor(2) as threads:
        calls = [threads.submit(attempt, "fetch", ask)]
        asking.get(timeout=60)
        assert deaf_seconds() > 69, "a thread is free and hears nothing"
        calls.append(threads.submit(attempt, "fetch", ask))
        asking.get(timeout=60)
        assert deaf_seconds() == 0
        list(beat.pulsing(hub, bells))  # type: ignore[arg-type]
        monkeypatch.setattr(pulse, "STUCK", 0.0)
        assert deaf_seconds() > 69, "they wait too long"
        answered.set()
    assert all(call.result() for call in calls)
    assert not process.has_its_hands_full(within=60)


@pytest.mark.usefixtures("one_process")
def test_old_deliveries_are_pruned_by_the_clock_and_counted(hub: Hub, bells: Bells) -> None:
    ids = arrive(hub, 1, age=200 * 86_400) + arrive(hub, 3, age=60)
    with hub.store.write() as connection:
        connection.execute(tables.inbox.update().values(body=b'{"customer": "cus_1", "plan": "gold", "at": 1}'))
    applied(hub, ids)
    list(beat.pruning(hub, bells))  # type: ignore[arg-type]
    with hub.store.read() as connection:
        assert len(inbox.listed(connection)) == 1
        found = gauges.gauges(connection)
    assert b'upkept_pruned_rows_total{what="deliveries"} 1.0' in _exposition(found, 0.0)
    assert standing(hub)["pruned"] == {"deliveries": 1, "events": 0}
