"""The benchmark still runs, and its judge still sees what is wrong: a sample of seconds. Nothing here is timed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from bench.events import DAY, KINDS, Run, requests
from bench.load import Report
from bench.phases import Sent
from bench.run import Outcome, Size

from bench import broker_down, judge, phases, report, run, systems
from upkept.contract import Request
from upkept.people.facts import from_us
from upkept_stripe.config import StripeConfig
from upkept_stripe.webhook import split, verify

CUSTOMERS = 30
SMALL = Size(rounds=1, seconds=0.3, customers=CUSTOMERS, history=1)


def test_events_are_new_signed_and_of_the_promised_size() -> None:
    made = Run("r1", CUSTOMERS, 1_760_000_000)
    numbers = range(CUSTOMERS, CUSTOMERS + 300)
    config = StripeConfig(api_key="sk_test_x", webhook_secret="whsec_" + "b" * 32)
    ids, sizes = set(), []
    for n, sent in zip(
        numbers, requests(made, numbers, path="/hooks/stripe", host="h", now=1_760_100_000), strict=True
    ):
        head, _, body = sent.partition(b"\r\n\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:])
        request = Request(body=body, headers=headers, token="")
        verify(request, config, now=from_us(1_760_100_000_000_000))
        (event,) = split(request, config)
        assert (event.id, event.kind) == made.event(n)[:2]
        ids.add(event.id)
        sizes.append(len(body))
    assert len(ids) == 300
    assert {made.event(n).kind for n in numbers} == set(KINDS)
    assert 2_200 < sum(sizes) / len(sizes) < 2_800


def test_a_round_is_measured_and_judged(tmp_path: Path) -> None:
    with (
        systems.bare(tmp_path) as port,
        systems.upkept("sqlite", tmp_path / "upkept") as hub,
        systems.afternoon("sqlite", tmp_path / "afternoon") as plain,
    ):
        sent = {system.name: Sent(Run("small", CUSTOMERS, int(time.time()) - DAY)) for system in (hub, plain)}
        for system in (hub, plain):
            run.warm(system, sent[system.name], SMALL)
        made = run.one_round(port, hub, plain, sent, SMALL)
        verdicts = {system.name: judge.judge(system, sent[system.name], seed=1) for system in (hub, plain)}
        _catches(hub, sent["upkept"])

    assert verdicts["upkept"].right, verdicts
    outcome = Outcome("sqlite", [made], {}, verdicts)
    assert outcome.mistakes == []
    assert made.hub is not None
    assert {"web", "worker", "courier", "broker"} <= made.hub.cost.cpu.keys()
    assert made.hub.cost.memory["web"].rss > made.hub.cost.memory["web"].pss > 1
    assert made.accept.keys() == made.bare.keys() == {32, 128}
    assert "x the afternoon's" in report.short(made)
    table = report.table(outcome)
    assert "times the afternoon's version" in table
    assert f"store of upkept, {CUSTOMERS} customers sampled" in table
    assert orjson.dumps(outcome, option=orjson.OPT_NON_STR_KEYS)


@pytest.mark.usefixtures("postgres_server")  # skips or fails where there is none
def test_a_broker_that_freezes_on_postgresql(tmp_path: Path) -> None:
    with systems.upkept("postgresql", tmp_path / "upkept") as hub:
        sent = Sent(Run("frozen", CUSTOMERS, int(time.time()) - DAY))
        hub.start_web()
        hub.start_workers()
        outage = broker_down.frozen(hub, sent, hub.processes["broker"].running.pid, posts=50)
        verdict = judge.judge(hub, sent, seed=1)
        assert hub.database.pids()
    assert outage.accept.accepted == 50
    assert outage.left == 0
    assert verdict.right, verdict


def _catches(hub: systems.Upkept, sent: Sent) -> None:
    """An accepted event that is not there, and one whose value is not the last, are seen."""
    missing = replace(sent, accepted=sent.accepted + 1)
    assert judge.judge(hub, missing, seed=1).missing == 1
    beyond = replace(sent, next=sent.next + 300)
    verdict = judge.judge(hub, beyond, seed=1)
    assert verdict.wrong > 0
    assert not verdict.right


def test_a_sender_who_is_turned_away_is_no_event_that_counts(tmp_path: Path) -> None:
    """The generator against a server that refuses: numbers that were not accepted are not expected in the store."""
    with systems.upkept("sqlite", tmp_path / "upkept") as hub:
        hub.env["BENCH_STRIPE_SECRET"] = "whsec_" + "another" * 5
        hub.start_web()
        sent = Sent(Run("refused", CUSTOMERS, int(time.time()) - DAY))
        seen: Report = phases.post(phases.job(hub, sent, connections=4, seconds=5, count=20))
        sent.add(seen)
    assert (seen.sent, seen.accepted) == (20, 0)
    assert set(seen.refused.values()) == {401}
    assert list(sent.numbers()) == []
