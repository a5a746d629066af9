"""`upkept worker`: the worker (prefork: consent, inbound, bulk) or the courier (threads: outbound and vendor reads).

Consent is served promptly although no process serves it alone: the worker looks at `consent` before any other
queue, a step of any task takes at most seconds, and `bulk` never holds all children (`upkept.queue.Lanes`). An
opt-out itself does not wait for any of this: it is in force when its delivery is answered.
"""

from __future__ import annotations

import os
import warnings
from socket import gethostname
from typing import Final

from celery.platforms import SecurityWarning
from celery.signals import worker_process_init

from upkept import queue
from upkept.collector import collect_seldom
from upkept.orphans import die_with
from upkept.settings import Settings, load
from upkept.worker import beat
from upkept.worker.consumer import Consumer
from upkept.worker.process import process

CHILDREN: Final = 2
THREADS: Final = 8
COLLECT_AFTER: Final = (50_000, 20, 50)
"""A batch holds some 50,000 objects, none of them in a cycle: looking through them every 700 cost a tenth of it."""


def run(*, courier: bool, settings: Settings | None = None) -> int:
    """Work until SIGTERM (tasks get 15 s) or SIGINT; the exit status, 0 for an end that was asked for."""
    process.settings = settings or load(os.environ)
    app = queue.connect(process.settings.effective_broker_url)
    from upkept.worker import tasks  # noqa: F401  # registers the tasks

    # It warns of pickle as root; we take JSON only.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    clock = beat.Clock(beat.OF_THE_COURIER if courier else beat.OF_THE_WORKER)
    if courier:
        process.threads = THREADS
    else:
        queue.Lanes.children = CHILDREN
    worker = app.Worker(
        hostname=f"{'courier' if courier else 'worker'}@{gethostname()}",
        pool="threads" if courier else "prefork",
        concurrency=THREADS if courier else CHILDREN,
        queues=["outbound"] if courier else ["consent", "inbound", "bulk"],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="INFO",
        consumer_cls=Consumer,
    )
    if not courier:
        me = os.getpid()
        worker_process_init.connect(lambda **_: die_with(me), weak=False)
    clock.start()
    collect_seldom(*COLLECT_AFTER)
    try:
        worker.start()
    finally:
        clock.stop()
    return int(worker.exitcode or 0)


def run_beat(settings: Settings | None = None) -> int:
    """`upkept beat`: only the clock, for those who want it apart. Any number of clocks is safe."""
    process.settings = settings or load(os.environ)
    queue.connect(process.settings.effective_broker_url)
    clock = beat.Clock(beat.OF_THE_COURIER)
    clock.start()
    try:
        clock.join()
    except KeyboardInterrupt:
        clock.stop()
    return 0
