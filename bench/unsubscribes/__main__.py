"""`make unsubscribes`: the exit status says whether an unsubscribe was lost, taken back, or late."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.crash.cluster import Hub as Processes
from bench.processes import Failed, await_port
from bench.three import BEFORE, VARIABLES
from bench.unsubscribes import judge, report, watch, weather
from bench.unsubscribes.vendors import NAMES, Name, Vendors, running

from bench import databases
from upkept import queue
from upkept.flow.hub import Hub
from upkept.flow.opening import open_hub
from upkept.flow.runs import Mode
from upkept.queue import Ringer
from upkept.settings import load

ANALYZED_EVERY: Final = 10.0
SECOND: Final = 2.0
"""A poll leaves the present second of the vendor's clock to the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much. `people` unsubscribe, the first `steady` of them at `rate` a second, the others within `seconds`.

    `others` never do. The vendors are polled every `poll` seconds. `mischief` is how often something goes wrong at each
    vendor, `kills` how often a process dies (0: never), both in seconds. `walks`: each vendor is walked over meanwhile.
    `timeouts`: some calls are answered too late.
    """

    people: int = 10_000
    others: int = 100
    steady: int = 300
    rate: float = 1.5
    seconds: float = 240.0
    poll: float = 60.0
    mischief: float = 2.0
    kills: float = 25.0
    walks: bool = True
    timeouts: bool = True


class Keeper(threading.Thread):
    """Lets the planner see what has come, as autovacuum does where it is on."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self._database, self._over = databases.connect(url), threading.Event()

    def run(self) -> None:
        while not self._over.wait(ANALYZED_EVERY):
            self._database.analyze()

    def stop(self) -> None:
        self._over.set()
        self.join()
        self._database.close()


def main(arguments: list[str] | None = None) -> int:
    size = Size()
    parser = argparse.ArgumentParser(prog="make unsubscribes", description=__doc__)
    parser.add_argument("--people", type=int, default=size.people)
    parser.add_argument("--steady", type=int, default=size.steady, help="of them without faults, timed")
    parser.add_argument("--rate", type=float, default=size.rate, help="of those, a second")
    parser.add_argument("--seconds", type=float, default=size.seconds, help="in which the others unsubscribe")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = parser.parse_args(arguments)
    size = Size(people=chosen.people, steady=chosen.steady, rate=chosen.rate, seconds=chosen.seconds)
    os.environ |= VARIABLES
    with tempfile.TemporaryDirectory(prefix="upkept-unsubscribes-") as folder:
        try:
            wrong = unsubscribes(Path(folder), size, database=chosen.database, seed=chosen.seed)
        except Failed as error:
            wrong = [str(error)]
    for line in wrong:
        print(f"WRONG: {line}")
    print("nothing lost, nothing taken back" if not wrong else f"FAILED; again with --seed {chosen.seed}", flush=True)
    return 1 if wrong else 0


def unsubscribes(folder: Path, size: Size, *, database: str, seed: int, planted: str = "") -> list[str]:
    """Run it all and print the tables; what was wrong, a line each. `planted` is Python that every process of the hub
    runs when it starts: a bug to be caught."""
    with databases.empty(database, "unsubscribes", folder) as url, running(size.people + size.others) as vendors:
        processes = Processes(folder, url, vendors.config(poll=size.poll))
        processes.site.mkdir()
        (processes.site / "sitecustomize.py").write_text(planted)
        try:
            with _hub(processes, vendors, url, size) as (hub, ringer):
                return _through(vendors, processes, hub, ringer, size, random.Random(seed))
        finally:
            processes.stop()


@contextmanager
def _hub(processes: Processes, vendors: Vendors, url: str, size: Size) -> Iterator[tuple[Hub, Ringer]]:
    """A running hub that knows everybody, open for looking; and a bell to ring."""
    processes.start()
    await_port(processes.processes["web"], processes.port, seconds=120)
    settings = load({**os.environ, **processes.env})
    hub = open_hub(settings)
    queue.connect(settings.effective_broker_url)
    ringer = Ringer(settings.effective_broker_url)
    began = time.time()
    keeper = Keeper(url)
    keeper.start()
    try:
        # Marketo's walks wait for its exports, which is long for a hundred people and short for thousands.
        of_marketo: Mode = "full" if size.walks else "since"
        wanted: dict[Name, Mode] = {"mailchimp": "full", "marketo": of_marketo, "salesforce": "full"}
        judge.pulled(hub, ringer, wanted, since=began - 2 * BEFORE)
        judge.await_people(hub, size.people + size.others)
        print(f"{size.people + size.others:,} people at three vendors are known after {time.time() - began:.0f} s\n")
        vendors.tell(f"http://127.0.0.1:{processes.port}/hooks")
        yield hub, ringer
    finally:
        keeper.stop()
        ringer.close()
        hub.store.close()


def _through(
    vendors: Vendors, processes: Processes, hub: Hub, ringer: Ringer, size: Size, dice: random.Random
) -> list[str]:
    people = list(range(size.people + size.others))
    dice.shuffle(people)
    leaving, others = people[: size.people], people[size.people :]
    clicks = watch.steady(vendors, hub, leaving[: size.steady], rate=size.rate)
    print(report.steady_table(clicks, rate=size.rate), flush=True)

    touched: dict[Name, set[int]] = {name: set() for name in NAMES}
    looking = watch.Watch(vendors, hub, people, touched)
    adversary = weather.Adversary(vendors, looking.known, touched, size.mischief / 2, _dice(dice))
    outages = [weather.Outages(vendors, name, size.mischief, _dice(dice), timeouts=size.timeouts) for name in NAMES]
    killer = weather.Killer(processes, size.kills, _dice(dice))
    looking.start()
    with weather.bad(vendors, [adversary, *outages, *([killer] if size.kills else [])]):
        clicked = _bursts(vendors, hub, leaving[size.steady :], size, dice)
    processes.revive()
    over = time.time()
    time.sleep(SECOND)
    judge.pulled(hub, ringer, dict.fromkeys(NAMES, "incremental"))
    judge.await_quiet(hub)
    looking.stop()
    happened = [*((f"at {one.at}", one.done) for one in outages), ("in the hub", killer.done),
                ("adversaries", adversary.done)]  # fmt: skip
    print(report.faults_table(vendors, happened))
    lost = judge.lost(vendors, hub, leaving)
    print(f"The end: {size.people:,} unsubscribed, {len(clicked):,} of them under faults; {time.time() - over:.0f} s "
          "after the last fault\n")  # fmt: skip
    told_again: dict[str, int] = {name: adversary.done[f"said to be subscribed at {name}"] for name in NAMES}
    print(report.end_table(clicked, looking.first, lost, looking.reverted, told_again), flush=True)
    return [*report.too_slow(clicks), *judge.wrong(vendors, hub, leaving, others, looking.reverted, _dice(dice))]


def _bursts(vendors: Vendors, hub: Hub, people: list[int], size: Size, dice: random.Random) -> dict[int, float]:
    """Unsubscribe these within so many seconds, hundreds at a time, each at some vendor; when each was."""
    clicked: dict[int, float] = {}
    began = time.time()
    walks = list(NAMES) if size.walks else []
    while len(clicked) < len(people):
        share = (time.time() - began) / size.seconds
        due = people[len(clicked) : max(int(share * len(people)), len(clicked) + 1)]
        for person in due:
            clicked[person] = time.time()
            vendors.unsubscribe(dice.choices(NAMES, (4, 2, 4))[0], person)
        if walks and share > (len(NAMES) - len(walks) + 1) / (len(NAMES) + 1):
            judge.walked_afresh(hub, walks.pop())
        time.sleep(dice.uniform(0.5, 1.5) * size.seconds / 40)
    return clicked


def _dice(dice: random.Random) -> random.Random:
    """Dice of a thread's own."""
    return random.Random(dice.random())


if __name__ == "__main__":
    sys.exit(main())
