"""What must be true when all is quiet, read from the database alone."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import psycopg
from bench.crash.letters import event_id
from bench.crash.vendor import Vendor
from bench.events import Run, customer_id
from bench.processes import Failed

from upkept.flow.apply import apply
from upkept.flow.digest import digest
from upkept.flow.hub import Hub
from upkept.flow.opening import open_hub
from upkept.settings import load
from upkept.store import inbox
from upkept.store.engine import open_store
from upkept.store.inbox import Arrival
from upkept.store.migrations import upgrade
from upkept.store.row_key import row_key

QUIET_SECONDS: Final = 150.0


def await_quiet(hub: Hub) -> float:
    """Until nothing is left to apply; the seconds it took. Raises `Failed` if it never happens."""
    began = time.monotonic()
    while True:
        with hub.store.read() as connection:
            left = connection.exec_driver_sql("SELECT count(*) FROM inbox WHERE queue = 'open'").scalar()
        if not left:
            return time.monotonic() - began
        if time.monotonic() - began > QUIET_SECONDS:
            raise Failed(f"{left} rows of the inbox were never applied")
        time.sleep(0.25)


def judge(hub: Hub, vendor: Vendor, scratch: Path) -> list[str]:
    """Everything that is wrong, a line each; empty if nothing is."""
    wrong: list[str] = []
    run = vendor.run
    with hub.store.read() as connection:
        found = connection.exec_driver_sql("SELECT dedup_key, state FROM inbox WHERE connection = 'stripe'")
        rows: dict[str, str] = {key: state for key, state in found}  # noqa: C416
        charges = connection.exec_driver_sql("SELECT count(*) FROM timeline WHERE name = 'charge succeeded'").scalar()
        counted = connection.exec_driver_sql("SELECT sum(n) FROM counters WHERE name = 'charge succeeded'").scalar()
        found = connection.exec_driver_sql("SELECT email, attributes FROM people")
        people: dict[str, Any] = {email: attributes for email, attributes in found}  # noqa: C416
    ours = {run.event(n).id: n for n in range(vendor.count)}
    lost = [ours[id_] for id_ in ours if ours[id_] in vendor.accepted and id_ not in rows]
    if lost:
        wrong.append(f"{len(lost)} deliveries were answered 2xx and are not in the inbox, e.g. number {lost[0]}")
    undone = Counter(state for id_, state in rows.items() if id_ in ours and state != "done")
    if undone:
        wrong.append(f"accepted deliveries ended as {dict(undone)}")
    stored = {ours[id_] for id_ in rows if id_ in ours}
    expected = [n for n in stored if run.event(n).kind == "charge.succeeded"]
    if charges != len(expected) or counted != len(expected):
        wrong.append(f"{len(expected)} charges were stored; the timeline holds {charges} and counts {counted}")
    wrong += _values(run, stored, people)
    wrong += _opt_outs(hub, vendor)
    wrong += _rebuilt(hub, scratch)
    return wrong


def _values(run: Run, stored: set[int], people: dict[str, object]) -> list[str]:
    """Every customer whose creation was stored stands there once."""
    created = {run.event(n).customer for n in stored if n < run.customers}
    missing = [c for c in sorted(created) if f"{customer_id(run.name, c)}@example.com" not in people]
    return [f"{len(missing)} customers are missing"] if missing else []


def in_force(url: str, number: int) -> bool:
    """Does the opt-out of that letter stand at this moment? A database that was just killed cannot tell."""
    query = "SELECT count(*) FROM consent WHERE inbox_key = %s"
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            found = connection.execute(query, [row_key("letters", event_id(number))]).fetchone()
    except psycopg.OperationalError:
        return True
    return found == (2,)


def _opt_outs(hub: Hub, vendor: Vendor) -> list[str]:
    """What was answered 2xx is in force, once on the address and once on the record; nothing else is."""
    with hub.store.read() as connection:
        query = "SELECT inbox_key, count(*) FROM consent WHERE act = 'opt_out' GROUP BY inbox_key"
        told = {key: count for key, count in connection.exec_driver_sql(query)}  # noqa: C416
        query = "SELECT dedup_key FROM inbox WHERE connection = 'letters'"
        stored = {row_key("letters", row[0]) for row in connection.exec_driver_sql(query)}
        query = "SELECT email FROM people WHERE consent <> 'unsubscribed'"
        free = {row[0] for row in connection.exec_driver_sql(query)}
    accepted = {row_key("letters", event_id(number)) for number in vendor.letters}
    wrong = [f"{len(lost)} opt-outs were answered 2xx and are not in the inbox"] if (lost := accepted - stored) else []
    if vendor.late:
        wrong.append(f"{len(vendor.late)} opt-outs were answered 2xx and not in force at that moment")
    if told != dict.fromkeys(stored, 2):
        wrong.append(
            f"{len(stored)} opt-outs were stored; in force are {Counter(told.values())} (statements: opt-outs)"
        )
    if mailed := {vendor.unsubscribed(number) for number in vendor.letters} & free:
        wrong.append(f"{len(mailed)} people unsubscribed and may be written to")
    return wrong


def _rebuilt(hub: Hub, scratch: Path) -> list[str]:
    """The same rows, applied once and in order on a fresh store, give the same digest."""
    url = f"sqlite:///{scratch / 'fresh.sqlite3'}"
    upgrade(url)
    fresh = Hub(
        store=open_store(url), connections=hub.connections, keys=hub.keys, policies=hub.policies, settings=hub.settings
    )
    names = ("connection", "dedup_key", "kind", "body", "received_at", "lane", "lowering", "thin", "run")
    with hub.store.read() as source:
        query = f"SELECT {', '.join(names)} FROM inbox WHERE state = 'done' ORDER BY id"  # noqa: S608
        arrivals = [Arrival(**dict(zip(names, row, strict=True))) for row in source.exec_driver_sql(query)]
    with fresh.store.write() as target:
        ids = sorted(inbox.store(target, arrivals).values())
    for start in range(0, len(ids), 200):
        apply(fresh, ids[start : start + 200], now=lambda: time.time_ns() // 1000)
    same = digest(fresh) == digest(hub)
    fresh.store.close()
    return [] if same else ["the digest differs from that of the same rows applied once, in order, without a crash"]


def open_for_judging(env: dict[str, str]) -> Hub:
    """The hub of the run, for reading."""
    return open_hub(load(env))
