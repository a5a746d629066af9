"""Apply alone: events straight into the inbox, `flow.apply` in this one process. Where its time goes.

    python -m bench.apply_only [--database sqlite|postgresql] [--events N] [--customers N] [--batch N] [--profile FILE]

Prints process time and wall time per event, our process's and the database's apart.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.configuration import CONNECTION, environment
from bench.events import DAY, Run
from bench.processes import cpu_seconds, used

from bench import databases
from upkept.collector import collect_seldom
from upkept.flow.apply import Applied, apply
from upkept.flow.hub import Hub
from upkept.flow.opening import open_hub
from upkept.settings import load
from upkept.store import inbox
from upkept.store.inbox import Arrival
from upkept.store.migrations import upgrade
from upkept.worker.main import COLLECT_AFTER

CHUNK = 1_000


def clock() -> int:
    return time.time_ns() // 1000


def fill(hub: Hub, run: Run, numbers: range) -> list[int]:
    """Store these events as the web process would; their inbox ids, oldest first."""
    ids: list[int] = []
    for start in range(numbers.start, numbers.stop, CHUNK):
        arrivals = [
            Arrival(
                connection=CONNECTION, dedup_key=(event := run.event(n)).id, kind=event.kind, body=run.body(n),
                received_at=clock(),
            )
            for n in range(start, min(start + CHUNK, numbers.stop))
        ]  # fmt: skip
        with hub.store.write() as connection:
            ids.extend(sorted(inbox.store(connection, arrivals).values()))
    return ids


def drain(hub: Hub, ids: Sequence[int], batch: int) -> Applied:
    """Apply them batch by batch; raises if any did not become done."""
    total = Applied()
    for start in range(0, len(ids), batch):
        applied = apply(hub, ids[start : start + batch], now=clock)
        total.done += applied.done
        total.people += applied.people
    if total.done != len(ids):
        raise SystemExit(f"only {total.done} of {len(ids)} events were applied; see the log above")
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.apply_only")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="postgresql")
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--history", type=int, default=2, help="events of each customer before the measurement")
    parser.add_argument("--batch", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--profile", type=Path)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, databases.empty(args.database, "apply", Path(folder)) as url:
        upgrade(url)
        hub = open_hub(load(environment(Path(folder), url)))
        look = databases.connect(url)
        run = Run(f"{random.randrange(1 << 32):08x}", args.customers, int(time.time()) - 20 * DAY)
        known = args.customers * (1 + args.history)
        drain(hub, fill(hub, run, range(known)), args.batch)
        look.analyze()
        collect_seldom(*COLLECT_AFTER)
        for again in range(args.repeat):
            first = known + again * args.events
            ids = fill(hub, run, range(first, first + args.events))
            profiler = cProfile.Profile() if args.profile and again == args.repeat - 1 else None
            pids = {os.getpid(), *look.pids()}
            before, began, ours = cpu_seconds(pids), time.perf_counter(), time.process_time()
            if profiler:
                profiler.enable()
            applied = drain(hub, ids, args.batch)
            if profiler:
                profiler.disable()
            ours, wall = time.process_time() - ours, time.perf_counter() - began
            database = used(before, cpu_seconds(look.pids())) if look.pids() else 0.0
            each = 1e6 / args.events
            print(
                f"{args.database}: {args.events / wall:,.0f} events/s; per event {wall * each:.0f} us wall, "
                f"{ours * each:.0f} us ours, {database * each:.0f} us the database's; {applied.people} people written"
            )
            if profiler:
                profiler.dump_stats(args.profile)
                pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        look.close()
        hub.store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
