"""Rates, delays and memory of the hub, beside a bare endpoint and an afternoon's version: `make bench`.

Interleaved rounds, medians, ratios. The run fails (exit status 1) if anything that was accepted is missing or wrong.

    python -m bench.run [--database sqlite|postgresql …] [--rounds 3] [--seconds 4] [--customers 20000] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import orjson
from bench.broker_down import Outage
from bench.events import DAY, Run
from bench.judge import Verdict
from bench.load import Report
from bench.phases import Delay, EndToEnd, Sent
from bench.processes import Failed
from bench.systems import Afternoon, System, Upkept

from bench import broker_down, databases, judge, phases, report, systems

CONNECTIONS: Final = (32, 128)
FIFTH: Final = 0.2
"""The share of saturation at which delays are measured."""
WITHIN: Final = 60.0
"""Seconds after which everything must be applied although the broker was away, or still is."""
BUDGET: Final = {"accept": 20_000, "end_to_end": 12_000, "afternoon": 1_500}
"""Requests prepared per second of a phase: more than any phase can send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured."""

    rounds: int = 3
    seconds: float = 4.0
    customers: int = 20_000
    history: int = 2
    """Events of each customer before the first measurement."""


@dataclass(slots=True)
class Round:
    """One round's measurements; by number of connections where there are several."""

    bare: dict[int, Report] = field(default_factory=dict)
    accept: dict[int, Report] = field(default_factory=dict)
    drained: float = 0.0
    hub: EndToEnd | None = None
    hub_delay: Delay | None = None
    afternoon: EndToEnd | None = None
    afternoon_delay: Delay | None = None


@dataclass(slots=True)
class Outcome:
    """All rounds on one kind of database, and whether the stores are right."""

    database: str
    rounds: list[Round]
    outages: dict[str, Outage]
    verdicts: dict[str, Verdict]

    @property
    def mistakes(self) -> list[str]:
        """What must not be: an accepted event that is missing or wrong, a sender who was turned away."""
        verdict = self.verdicts["upkept"]
        found = [] if verdict.right else [f"the store is wrong: {verdict}"]
        for how, outage in self.outages.items():
            if outage.accept.refused:
                found.append(f"broker {how}: {len(outage.accept.refused)} posts were not answered 2xx")
            if outage.left or outage.applied_after > WITHIN:
                found.append(f"broker {how}: {outage.left} events open, after {outage.applied_after:.0f} s")
        return [f"{self.database}: {mistake}" for mistake in found]


def measure(kind: str, size: Size, folder: Path, say: report.Say) -> Outcome:
    """Every round on one kind of database."""
    rounds: list[Round] = []
    with ExitStack() as stack:
        port = stack.enter_context(systems.bare(folder))
        hub = stack.enter_context(systems.upkept(kind, folder / "upkept"))
        plain = stack.enter_context(systems.afternoon(kind, folder / "afternoon"))
        sent = {system.name: Sent(_new_run(size)) for system in (hub, plain)}
        say(f"{kind}: {size.customers:,} customers and their history")
        warm(hub, sent["upkept"], size)
        warm(plain, sent["afternoon"], size)
        for number in range(size.rounds):
            say(f"{kind}: round {number + 1} of {size.rounds}")
            rounds.append(one_round(port, hub, plain, sent, size))
            say(report.short(rounds[-1]))
        say(f"{kind}: the broker is frozen, then gone")
        hub.start_workers()
        interrupted = broker_down.outages(hub, sent["upkept"])
        verdicts = {
            system.name: judge.judge(system, sent[system.name], seed=random.randrange(1 << 30))
            for system in (hub, plain)
        }
    return Outcome(kind, rounds, interrupted, verdicts)


def _new_run(size: Size) -> Run:
    """Ids nobody has seen; times that are past whatever is sent, and too young to be compacted while we measure."""
    return Run(f"{random.randrange(1 << 32):08x}", size.customers, int(time.time()) - 20 * DAY)


def warm(system: Upkept | Afternoon, sent: Sent, size: Size) -> None:
    """Bring the customers in, let the planner see them, and warm what is slow the first time."""
    prepared = system.prepare(sent.run)
    sent.next, sent.accepted = prepared, prepared
    system.start_web()
    system.start_workers()
    if not prepared:
        numbers = size.customers * (1 + size.history)
        sent.add(phases.post(phases.job(system, sent, connections=32, seconds=300, count=numbers)))
    else:
        sent.add(phases.post(phases.job(system, sent, connections=8, seconds=3, count=min(500, size.customers))))
    if sent.refused:
        raise Failed(f"{system.name} refused {len(sent.refused)} events; see its logs")
    _, left = systems.await_applied(system, sent.accepted)
    if left and system.name == "upkept":
        raise Failed(f"{left} of {sent.accepted} events were not applied; see the logs")
    system.database.analyze()
    system.stop("worker", "courier")


def one_round(port: int, hub: Upkept, plain: Afternoon, sent: dict[str, Sent], size: Size) -> Round:
    """Every phase once, the contenders in turn. Workers run only where they are measured."""
    made, ours, theirs = Round(), sent["upkept"], sent["afternoon"]
    short = size.seconds / 2
    for connections in CONNECTIONS:
        made.bare[connections] = phases.ceiling(port, ours.run, connections=connections, seconds=short)
        made.accept[connections] = phases.accept(
            hub, ours, connections=connections, seconds=short, count=int(short * BUDGET["accept"])
        )
    hub.start_workers()
    made.drained = phases.drain(hub, ours)
    made.hub = _loaded(hub, ours, size, BUDGET["end_to_end"])
    made.hub_delay = _delayed(hub, ours, made.hub, size)
    hub.stop("worker", "courier")
    plain.start_workers()
    made.afternoon = _loaded(plain, theirs, size, BUDGET["afternoon"])
    made.afternoon_delay = _delayed(plain, theirs, made.afternoon, size)
    plain.stop("worker")
    return made


def _loaded(system: System, sent: Sent, size: Size, budget: int) -> EndToEnd:
    return phases.end_to_end(system, sent, connections=32, seconds=size.seconds, count=int(size.seconds * budget))


def _delayed(system: System, sent: Sent, found: EndToEnd, size: Size) -> Delay:
    rate = max(1.0, found.applied * FIFTH)
    return phases.delay(system, sent, rate=rate, connections=32, seconds=size.seconds * 2)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument("--database", action="append", choices=("sqlite", "postgresql"))
    usual = Size()
    parser.add_argument("--rounds", type=int, default=usual.rounds)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of one phase")
    parser.add_argument("--customers", type=int, default=usual.customers)
    parser.add_argument("--json", type=Path, help="write every figure into this file as well")
    args = parser.parse_args(arguments)
    size = Size(rounds=args.rounds, seconds=args.seconds, customers=args.customers)
    outcomes = []
    try:
        for kind in args.database or ("postgresql", "sqlite"):
            if kind == "postgresql" and (reason := databases.postgres_answers()):
                raise Failed(f"no PostgreSQL at UPKEPT_TEST_POSTGRES ({reason}); or choose --database sqlite")
            with tempfile.TemporaryDirectory(prefix="upkept-bench-") as folder:
                outcomes.append(measure(kind, size, Path(folder), report.say))
            gc.collect()
            print(report.table(outcomes[-1]))
    except Failed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if args.json:
        args.json.write_bytes(orjson.dumps(outcomes, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_INDENT_2))
    mistakes = [mistake for outcome in outcomes for mistake in outcome.mistakes]
    for mistake in mistakes:
        print(f"bench: {mistake}", file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
