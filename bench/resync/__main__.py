"""`make resync`: 100,000 unchanged people, then kills at random pages; the exit status says whether all was right."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.processes import Failed
from bench.resync.bugs import BUGS, SHORT_LEASES
from bench.resync.hub import Standing, running
from bench.resync.kills import FAILPOINTS, Killer
from bench.resync.sandboxes import VENDORS, sandbox
from bench.resync.story import Kills, divergences, play
from bench.resync.unchanged import resync, take_in, told

from bench import databases

LONG_ENOUGH = 20_000
"""People from whom on a walk lasts long enough to judge its memory."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make resync", description=__doc__)
    parser.add_argument("--vendor", action="append", choices=VENDORS, help="default: mailchimp")
    parser.add_argument("--database", choices=("postgresql", "sqlite"), default="postgresql")
    parser.add_argument("--people", type=int, default=100_000, help="0: only the kills")
    parser.add_argument("--shaken", type=int, default=3_000, help="people of the walks that are disturbed; 0: no kills")
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--bug", choices=sorted(BUGS), help="plant a wrong design: the command must fail")
    chosen = parser.parse_args(arguments)
    code = BUGS.get(chosen.bug, "")
    wrong: list[str] = []
    try:
        if chosen.database == "postgresql" and (reason := databases.postgres_answers()):
            raise Failed(f"no PostgreSQL at UPKEPT_TEST_POSTGRES ({reason}); or choose --database sqlite")
        for vendor in chosen.vendor or ["mailchimp"]:
            if chosen.people:
                wrong += unchanged(vendor, chosen.database, chosen.people, code)
            if chosen.shaken:
                wrong += shaken(vendor, chosen.database, chosen.shaken, chosen.kills, chosen.seed, code)
    except Failed as error:
        wrong.append(str(error))
    for line in wrong:
        print(f"WRONG: {line}", flush=True)
    print("nothing written, nothing lost" if not wrong else f"FAILED; again with --seed {chosen.seed}", flush=True)
    return 1 if wrong else 0


def unchanged(vendor: str, database: str, people: int, code: str) -> list[str]:
    """A first walk and a resync of the unchanged, printed; what was wrong."""
    print(f"{vendor}, {database}: {people:,} people", flush=True)
    with _standing("unchanged", vendor, database, people, code) as standing:
        first = take_in(standing, people)
        standing.database.analyze()
        found = resync(standing, people, judge_memory=people >= LONG_ENOUGH)
        calls = standing.hub.connections[vendor].connector.api_calls
        for line in told(standing.sandbox, calls, first, found):
            print(f"  {line}", flush=True)
    return found.mistakes


def shaken(vendor: str, database: str, people: int, kills: int, seed: int, code: str) -> list[str]:
    """The same story undisturbed and disturbed, printed; in what they ended apart."""
    print(f"{vendor}, {database}: {people:,} people, {kills} kills, seed {seed}", flush=True)
    now = int(time.time())
    with _standing("calm", vendor, database, people, code) as standing:
        calm = play(standing, people, now=now)
    killer = Killer(random.Random(seed))
    third = kills // 3
    with _standing("shaken", vendor, database, people, SHORT_LEASES + code, failpoints=FAILPOINTS) as standing:
        began = time.monotonic()
        plan = Kills(killer, walk=third, pushes=kills - 2 * third, resync=third)
        other = play(standing, people, now=now, kills=plan)
        died = standing.cluster.kills
        took = time.monotonic() - began
    print(f"  kills in {took:.0f} s: {killer.done}; who died: {dict(sorted(died.items()))}", flush=True)
    scanned = ", ".join(f"{run.scanned:,}" for run in other.walks)
    print(f"  walks scanned {scanned}; changed {', '.join(f'{run.changed:,}' for run in other.walks)}", flush=True)
    print(f"  writes at the vendor: {calm.writes.total()} undisturbed, {other.writes.total()} disturbed, "
          f"of those {other.twice} again", flush=True)  # fmt: skip
    print(f"  digest {calm.digest.hash[:16]} and {other.digest.hash[:16]}", flush=True)
    wrong = divergences(calm, other)
    if sum(killer.done.values()) < kills:
        wrong.append(f"only {killer.done} of {kills} kills found their moment")
    return wrong


@contextmanager
def _standing(
    name: str, vendor: str, database: str, people: int, code: str, failpoints: str = ""
) -> Iterator[Standing]:
    made = sandbox(vendor, people)
    with (
        tempfile.TemporaryDirectory(prefix="upkept-resync-") as folder,
        made.fake,
        running(Path(folder) / name, database, made, code=code, failpoints=failpoints) as standing,
    ):
        yield standing


if __name__ == "__main__":
    sys.exit(main())
