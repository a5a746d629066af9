"""`make crash`: at least 100 kills under load; the exit status says whether anything was lost or done twice."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Final

from bench.crash.cluster import Hub, Postgres
from bench.crash.judge import await_quiet, in_force, judge, open_for_judging
from bench.crash.vendor import Vendor
from bench.events import SECRET, Run
from bench.processes import Failed

CUSTOMERS: Final = 40
TARGETS: Final = ("web", "worker", "worker", "courier", "broker", "database")
FAILPOINTS: Final = (
    "receive.before_commit=0.01,receive.opt_out_inserted=0.05,receive.after_commit=0.01,publish.before=0.02,publish.after=0.02,"
    "apply.claimed=0.03,apply.before_commit=0.03,apply.after_commit=0.03"
)
CONFIG: Final = """
[connections.stripe]
connector = "stripe"
api_key = "env:STRIPE_API_KEY"
webhook_secret = "env:STRIPE_WEBHOOK_SECRET"
base_url = "http://127.0.0.1:1"
poll = 0
[connections.letters]
connector = "letters"
"""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100.0, help="deliveries a second")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    chosen = parser.parse_args(arguments)
    print(f"seed {chosen.seed}: {chosen.kills} kills at {chosen.rate:.0f} deliveries a second", flush=True)
    os.environ |= {"STRIPE_API_KEY": "sk_test_crash", "STRIPE_WEBHOOK_SECRET": SECRET}
    with tempfile.TemporaryDirectory(prefix="upkept-crash-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user and must get to its own folder
        try:
            wrong = crash(Path(folder), kills=chosen.kills, rate=chosen.rate, seed=chosen.seed)
        except Failed as error:
            wrong = [str(error)]
    for line in wrong:
        print(f"WRONG: {line}", flush=True)
    print("nothing lost, nothing twice" if not wrong else f"FAILED; again with --seed {chosen.seed}", flush=True)
    return 1 if wrong else 0


def crash(folder: Path, *, kills: int, rate: float, seed: int) -> list[str]:
    """Run the harness; what was wrong, a line each."""
    dice = random.Random(seed)
    postgres = Postgres(folder / "postgres")
    postgres.make()
    postgres.start()
    hub = Hub(folder, postgres.url, CONFIG, failpoints=FAILPOINTS)
    try:
        hub.start()
        seconds = kills * 1.2 + 6
        run = Run(f"c{seed % 10_000:04d}", CUSTOMERS, int(time.time()) - 200_000)
        vendor = Vendor(run, int(seconds * rate), hub.port, rate, partial(in_force, postgres.url))
        vendor.start()
        _kill_under_load(hub, postgres, vendor, kills, dice)
        hub.disarm()
        vendor.join()
        sys.path.append(str(hub.site))
        judging = open_for_judging({**os.environ, **hub.env})
        quiet = await_quiet(judging)
        print(f"kills: {sum(hub.kills.values())} {dict(sorted(hub.kills.items()))}", flush=True)
        print(f"answers: {dict(sorted(vendor.answers.items()))} (0: the connection broke)", flush=True)
        print(f"accepted {len(vendor.accepted)} of {vendor.count}; quiet after {quiet:.1f} s", flush=True)
        print(f"opt-outs: {len(vendor.letters)}", flush=True)
        wrong = judge(judging, vendor, folder)
        judging.store.close()
        return wrong
    finally:
        if str(hub.site) in sys.path:
            sys.path.remove(str(hub.site))
        hub.stop()
        postgres.stop()


def _kill_under_load(hub: Hub, postgres: Postgres, vendor: Vendor, kills: int, dice: random.Random) -> None:
    time.sleep(4)
    while sum(hub.kills.values()) < kills and vendor.busy:
        target = dice.choice(TARGETS)
        if target == "database":
            postgres.kill()
            hub.kills["database"] = hub.kills.get("database", 0) + 1
            time.sleep(dice.uniform(0, 0.5))
            postgres.start()
        else:
            hub.kill(target, dice)
        until = time.monotonic() + dice.uniform(0.3, 1.6)
        while time.monotonic() < until:
            time.sleep(0.1)
            hub.revive()


if __name__ == "__main__":
    sys.exit(main())
