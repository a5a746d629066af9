"""The end of a run: one more poll of each vendor, and then everybody must be unsubscribed, here and everywhere."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from bench.processes import Failed
from bench.unsubscribes.vendors import NAMES, Name, Vendors, email
from bench.unsubscribes.watch import HERE, in_force, unsubscribed

from upkept.flow import runs
from upkept.flow.bells import Bell
from upkept.flow.explain import explain
from upkept.flow.hub import Hub
from upkept.flow.runs import Mode
from upkept.queue import Ringer
from upkept.store import runs as stored

PATIENCE: Final = 1_200.0
SAMPLE: Final = 50


def pulled(hub: Hub, ringer: Ringer, wanted: Mapping[Name, Mode], *, since: float = 0.0) -> None:
    """Order a pull of each and wait until all of it is applied. One that was under way began too early: it is waited
    for, and another one ordered."""
    left: dict[Name, int | None] = dict.fromkeys(wanted)
    began = time.monotonic()
    while left:
        for name, run_id in list(left.items()):
            with hub.store.read() as connection:
                run = stored.get(connection, run_id) if run_id is not None else None
            if run is not None and run.state == "complete":
                del left[name]
            elif run is None or run.state in ("failed", "cancelled"):
                now = time.time_ns() // 1000
                started = runs.start(hub, name, now=now, mode=wanted[name], since=int(since * 1_000_000))
                left[name] = None if started.joined else started.run.id
                ringer.ring([] if started.joined else [Bell("outbound", "run", (started.run.id,))])
        if time.monotonic() - began > PATIENCE:
            raise Failed(f"pulls that do not end: {', '.join(left)}")
        time.sleep(0.5)


def walked_afresh(hub: Hub, name: Name) -> None:
    """Order a full walk over a vendor, whatever was under way there; the sweeper sees to it."""
    runs.start(hub, name, now=time.time_ns() // 1000, afresh=True)


def await_quiet(hub: Hub) -> None:
    """Until nothing is owed to anybody, and nothing that may hold an opt-out waits to be applied."""
    statements = (
        "SELECT count(*) FROM outbox WHERE state = 'new'",
        "SELECT count(*) FROM inbox WHERE queue = 'open' AND lane = 'consent' AND NOT thin",
    )
    until = time.monotonic() + PATIENCE
    while True:
        with hub.store.read() as connection:
            left = [int(connection.exec_driver_sql(statement).scalar() or 0) for statement in statements]
        if not any(left):
            return
        if time.monotonic() > until:
            raise Failed(f"{left[0]} rows of the outbox and {left[1]} of the inbox were never done")
        time.sleep(0.25)


def lost(vendors: Vendors, hub: Hub, clicked: Collection[int]) -> Mapping[str, Sequence[int]]:
    """Who unsubscribed and may be mailed all the same, by system. The hub has to have it in its ledger, too."""
    held = unsubscribed(hub) & in_force(hub, clicked).keys()
    found = {HERE: sorted(set(clicked) - held)}
    for name in NAMES:
        found[name] = sorted(person for person in clicked if not vendors.is_out(name, person))
    return found


def wrong(
    vendors: Vendors, hub: Hub, clicked: Collection[int], others: Collection[int],
    reverted: Mapping[str, Collection[int]], dice: random.Random,
) -> list[str]:  # fmt: skip
    """Everything that is wrong at the end, a line each; empty if nothing is."""
    found = []
    for where, people in lost(vendors, hub, clicked).items():
        if people:
            found.append(
                f"{len(people)} unsubscribes are lost at {where}, e.g. of {email(people[0])}, whose ledger is: "
                f"{_ledger(hub, people[0])}"
            )
    for where, taken_back in reverted.items():
        if taken_back:
            found.append(f"{len(taken_back)} were taken back at {where}, e.g. of {email(min(taken_back))}")
    if said := [person for person in _sample(clicked, dice) if _explained(hub, person) != "unsubscribed"]:
        found.append(f"`explain` says otherwise of {email(said[0])} and {len(said) - 1} more of a sample")
    if gone := unsubscribed(hub) & set(others):
        found.append(f"{len(gone)} people never unsubscribed and are, e.g. {email(min(gone))}")
    with hub.store.read() as connection:
        dead = connection.exec_driver_sql("SELECT count(*) FROM outbox WHERE state = 'dead'").scalar()
    return [*found, *([f"{dead} pushes are dead"] if dead else [])]


def await_people(hub: Hub, count: int) -> None:
    """Until the hub knows so many people, each at all three vendors."""
    _until(lambda: _counted(hub, "people") == count and _counted(hub, "records") == len(NAMES) * count,
           lambda: f"the hub has {_counted(hub, 'people')} people instead of {count}")  # fmt: skip


def _until(reached: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    until = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > until:
            raise Failed(otherwise())
        time.sleep(0.25)


def _counted(hub: Hub, table: str) -> int:
    with hub.store.read() as connection:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar() or 0)  # noqa: S608


def _sample(people: Collection[int], dice: random.Random) -> list[int]:
    return dice.sample(sorted(people), min(SAMPLE, len(people)))


def _explained(hub: Hub, person: int) -> str:
    return str(explain(hub, email(person))["consent"]["email"]["state"])


def _ledger(hub: Hub, person: int) -> str:
    said = explain(hub, email(person))["consent"]["email"]["ledger"]
    return "; ".join(f"{one['at']} {one['source']} {one['act']}" for one in said)
