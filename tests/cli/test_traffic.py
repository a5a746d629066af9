"""resync, runs, status, inbox, replay: against a stand-in for Stripe, on both databases."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from upkept import log
from upkept.cli import context, main
from upkept.store import inbox, jobs, runs
from upkept.store.engine import open_store
from upkept.store.inbox import Arrival
from upkept.testing.fake_stripe import FakeStripe

CUSTOMERS = 12


@dataclass
class Answer:
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Upkept = Callable[..., Answer]


@pytest.fixture
def stripe() -> Iterator[FakeStripe]:
    with FakeStripe() as stripe:
        yield stripe


@pytest.fixture
def env(tmp_path: Path, store_url: str, stripe: FakeStripe) -> dict[str, str]:
    config = tmp_path / "upkept.toml"
    config.write_text(
        '[connections.stripe]\nconnector = "stripe"\napi_key = "env:STRIPE_API_KEY"\n'
        f'webhook_secret = "env:STRIPE_WEBHOOK_SECRET"\nbase_url = "{stripe.url}"\n'
    )
    return {
        "UPKEPT_HOME": str(tmp_path / "var"), "UPKEPT_CONFIG": str(config), "UPKEPT_DATABASE_URL": store_url,
        "STRIPE_API_KEY": "sk_test_traffic", "STRIPE_WEBHOOK_SECRET": "whsec_traffic",
    }  # fmt: skip


@pytest.fixture
def upkept(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Upkept]:
    """The command line, in this process; its logs are tested elsewhere."""
    monkeypatch.setattr(log, "setup", lambda _settings: None)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    context.current_settings.cache_clear()

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["upkept", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        status = ended.value.code
        return Answer(status if isinstance(status, int) else 0, said.out, said.err)

    with capture_logs():
        yield run
    context.current_settings.cache_clear()


def started(env: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """A command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "upkept.cli", *arguments],
        env={**os.environ, **env, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def until(look: Callable[[], bool], *, seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < give_up, "it did not come to that"
        time.sleep(0.02)


def test_a_resync_reports_and_a_second_one_changes_nothing(upkept: Upkept, stripe: FakeStripe) -> None:
    stripe.seed(customers=CUSTOMERS, subscriptions=5)
    first = upkept("resync", "stripe")
    assert first.status == 0
    assert "is complete" in first.out
    assert "failed 0" in first.out
    second = upkept("resync", "stripe", "--wait", "--json")
    assert second.status == 0
    run = second.document
    assert (run["state"], run["changed"], run["failed"]) == ("complete", 0, 0)
    assert run["scanned"] == run["unchanged"] == run["total"] >= CUSTOMERS + 5
    assert [one["id"] for one in upkept("runs", "--json").document["runs"]] == [2, 1]


def test_status_and_check_ask_for_the_first_walk(upkept: Upkept, stripe: FakeStripe) -> None:
    def told() -> tuple[bool, bool, list[str]]:
        (one,) = upkept("status", "--json").document["connections"]
        cures = [finding["cure"] for finding in upkept("check", "--json").document["findings"]]
        said = upkept("status").out
        assert ("nothing waits for you" in said) is not one["never_walked"]
        return one["never_walked"], "run upkept resync stripe once" in said, [
            cure for cure in cures if "resync" in cure
        ]  # fmt: skip

    stripe.seed(customers=1)
    assert told() == (True, True, ["run upkept resync stripe once"])
    upkept("resync", "stripe", "--since", "1d")
    assert told()[0], "a pull of some days is no walk over everything"
    upkept("resync", "stripe")
    assert told() == (False, False, [])


def test_status_says_how_far_the_last_walk_found_us_from_the_vendor(upkept: Upkept, stripe: FakeStripe) -> None:
    stripe.seed(customers=CUSTOMERS)
    upkept("resync", "stripe")
    client = _client(stripe)
    for customer in client.v1.customers.list(params={"limit": 3}).data:
        client.v1.customers.update(customer.id, params={"name": "Changed Unseen"})
    for differing in (3, 0):
        upkept("resync", "stripe")
        (drift,) = [one["drift"] for one in upkept("status", "--json").document["connections"]]
        assert drift.pop("at") is not None
        assert drift == {"sampled": CUSTOMERS, "differing": differing, "repaired": differing}
        told = f"stripe: {CUSTOMERS} compared, {differing} differed, {differing} put right ("
        assert told in upkept("status").out
    assert upkept("explain", "stripe:" + customer.id, "name", "--json").document["value"] == "Changed Unseen"


def test_a_dry_run_names_the_differences_and_stores_nothing(upkept: Upkept, stripe: FakeStripe) -> None:
    stripe.seed(customers=CUSTOMERS)
    fresh = upkept("resync", "stripe", "--dry-run")
    assert (fresh.status, fresh.out.count("is new")) == (0, CUSTOMERS)
    assert upkept("runs", "--json").document == {"runs": []}
    upkept("resync", "stripe")
    _rename(stripe, "Somebody Else")
    report = upkept("resync", "stripe", "--dry-run", "--json")
    (difference,) = [one for one in report.document["differences"] if one["field"] == "name"]
    assert difference["theirs"] == "Somebody Else"
    assert (report.document["would_change"], report.document["unchanged"]) == (1, CUSTOMERS - 1)
    assert "Somebody Else" not in report.err
    said = upkept("resync", "stripe", "--dry-run").out
    assert '-> "Somebody Else"' in said
    assert upkept("resync", "stripe", "--json").document["changed"] == 1


def test_a_dry_run_calls_what_a_part_keeps_by_names_that_people_know(upkept: Upkept, stripe: FakeStripe) -> None:
    stripe.seed(customers=1, subscriptions=1)
    upkept("resync", "stripe")
    client = _client(stripe)
    subscription = client.v1.subscriptions.list().data[0]
    client.v1.subscriptions.update(subscription.id, params={"cancel_at_period_end": True})
    said = upkept("resync", "stripe", "--dry-run").out
    assert f"subscription {subscription.id}  cancel_at_period_end: false -> true\n" in said
    told = upkept("resync", "stripe", "--dry-run", "--json").document["differences"]
    assert "cancel_at_period_end" in {one["field"] for one in told}
    assert not [one["field"] for one in told if one["field"].startswith("_")]


def test_a_dry_run_tells_once_what_a_vendor_lists_twice(upkept: Upkept, stripe: FakeStripe) -> None:
    """A subscription is listed with its customer, and again among the subscriptions."""
    stripe.seed(customers=2, subscriptions=2)
    lines = upkept("resync", "stripe", "--dry-run").out.splitlines()
    assert len(lines) == len(set(lines))
    assert sum(line.startswith("subscription ") for line in lines) == 2
    told = upkept("resync", "stripe", "--dry-run", "--json").document["differences"]
    assert len({(one["record"], one["field"]) for one in told}) == len(told)


def test_a_revoked_key_fails_names_the_cure_and_its_cure_resumes(upkept: Upkept, stripe: FakeStripe) -> None:
    stripe.seed(customers=CUSTOMERS)
    stripe.faults(revoked=True)
    failed = upkept("resync", "stripe", "--json")
    assert (failed.status, failed.document["state"]) == (1, "failed")
    assert "upkept resync stripe" in failed.document["reason"]
    assert "sk_test_traffic" not in failed.out + failed.err
    (alert,) = upkept("status", "--json").document["alerts"]
    assert (alert["connection"], alert["key"]) == ("stripe", "paused:stripe")
    assert upkept("status", "--json").document["connections"][0]["paused"]
    assert "cure:" in upkept("status").out
    stripe.faults()
    assert upkept("resync", "stripe").status == 0
    report = upkept("status", "--json").document
    assert (report["alerts"], report["connections"][0]["paused"]) == ([], None)


def test_a_busy_vendor_is_waited_for(upkept: Upkept, stripe: FakeStripe) -> None:
    stripe.seed(customers=CUSTOMERS)
    stripe.faults(rate_limit={"after": 2, "retry_after": 1, "times": 1})
    run = upkept("resync", "stripe", "--json")
    assert (run.status, run.document["scanned"], run.document["failed"]) == (0, CUSTOMERS, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("resync", "strype"), "can be pulled: stripe"),
        (("resync", "stripe", "--since", "2999-01-01"), "future"),
        (("resync", "stripe", "--since", "soon"), "2026-11-24"),
        (("resync", "stripe", "--since", "7d", "--full"), "exclude"),
        (("inbox", "--state", "lost"), "dead"),
        (("replay",), "--state dead"),
        (("replay", "1", "--state", "dead"), "--state dead"),
    ],
)
def test_wrong_usage_is_status_2_and_says_what_is_right(upkept: Upkept, arguments: tuple[str, ...], says: str) -> None:
    answer = upkept(*arguments)
    assert (answer.status, answer.out) == (2, "")
    assert says in answer.err


def test_without_its_tables_status_names_the_cure_and_resync_makes_them(
    upkept: Upkept, stripe: FakeStripe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPKEPT_DATABASE_URL", f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    answer = upkept("status")
    assert answer.status == 3
    assert "upkept migrate" in answer.err
    stripe.seed(customers=1)
    assert upkept("resync", "stripe").status == 0


def test_with_a_living_worker_and_nobody_watching_the_run_is_handed_over(
    upkept: Upkept, stripe: FakeStripe, store_url: str
) -> None:
    stripe.seed(customers=1)
    assert upkept("status", "--json").document["worker"] == "not heard of"
    store = open_store(store_url)
    with store.write() as connection:
        jobs.rung(connection, "worker", now=time.time_ns() // 1000)
        jobs.heard(connection, "worker", now=time.time_ns() // 1000)
    answer = upkept("resync", "stripe")
    assert answer.status == 0
    assert "has begun" in answer.out
    with store.read() as connection:
        run = runs.latest(connection, "stripe")
    store.close()
    assert run is not None
    assert (run.state, run.scanned) == ("pulling", 0)
    report = upkept("status", "--json").document
    assert (report["worker"], [one["id"] for one in report["runs"]]) == ("alive", [run.id])
    assert upkept("resync", "stripe", "--wait", "--json").document["id"] == run.id


def test_dead_rows_are_shown_and_replayed(upkept: Upkept, store_url: str) -> None:
    assert upkept("replay", "--state", "dead").status == 4
    assert upkept("replay", "7").status == 4
    store = open_store(store_url)
    with store.write() as connection:
        arrivals = [
            Arrival(connection="stripe", dedup_key=key, kind="customer.created", body=body, received_at=1)
            for key, body in (("evt_bad", b"no json"), ("evt_good", _event("evt_good")))
        ]
        ids = inbox.store(connection, arrivals)
        connection.exec_driver_sql("UPDATE inbox SET state = 'dead', reason = 'a bug since fixed'")
    store.close()
    shown = upkept("inbox", "--state", "dead", "--connection", "stripe", "--json").document["rows"]
    assert {row["id"] for row in shown} == set(ids.values())
    assert "a bug since fixed" in upkept("inbox").out
    report = upkept("status", "--json").document
    assert (report["dead"], report["connections"][0]["dead"]) == (2, 2)
    assert upkept("replay", "--state", "dead", "--connection", "other").status == 4
    good = upkept("replay", str(ids["stripe", "evt_good"]), "--json")
    assert (good.status, good.document) == (0, {"replayed": 1, "done": 1})
    bad = upkept("replay", "--state", "dead")
    assert (bad.status, "1 dead" in bad.out) == (1, True)
    assert "upkept inbox --state dead" in bad.err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_resync_goes_on_where_it_was(
    upkept: Upkept, env: dict[str, str], stripe: FakeStripe, store_url: str, how: signal.Signals
) -> None:
    stripe.seed(customers=600)
    stripe.faults(slow=0.3)
    store = open_store(store_url)

    def scanned() -> int:
        with store.read() as connection:
            found = runs.latest(connection, "stripe")
        return found.scanned if found else 0

    process = started(env, "resync", "stripe", "--wait")
    try:
        until(lambda: scanned() >= 200)
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    store.close()
    if how is signal.SIGINT:
        assert process.returncode == 130
        assert "upkept resync stripe" in said
        assert "Traceback" not in said
    stripe.faults()
    answer = upkept("resync", "stripe", "--wait", "--json")
    run = answer.document
    assert (answer.status, run["id"], run["scanned"], run["changed"], run["failed"]) == (0, 1, 600, 600, 0)
    assert stripe.stats()["calls"]["GET /v1/customers"] <= 8


def _client(stripe: FakeStripe) -> Any:
    import stripe as sdk

    return sdk.StripeClient("sk_test_traffic", base_addresses={"api": stripe.url})


def _rename(stripe: FakeStripe, name: str) -> None:
    client = _client(stripe)
    customer = client.v1.customers.list(params={"limit": 1}).data[0]
    client.v1.customers.update(customer.id, params={"name": name})


def _event(id: str) -> bytes:
    customer = {"id": "cus_replayed", "object": "customer", "email": "ann@example.com", "created": 1, "livemode": False}
    event = {
        "id": id, "object": "event", "type": "customer.created", "created": 1, "livemode": False,
        "api_version": "2026-10-28.endive", "data": {"object": customer},
    }  # fmt: skip
    return json.dumps(event).encode()
