"""What no order of arrival can show: a lost bell, a failed commit, a worker that slept through its lease.

Each trial returns what went wrong, or an empty string.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from bench.prove.world import SAID, World

from upkept.contract import Fact, RecordRef, Retryable
from upkept.flow import apply as apply_step
from upkept.flow import receive as receive_step
from upkept.flow import sweep as sweep_step
from upkept.flow.apply import FenceBroken
from upkept.flow.normalize import normalize
from upkept.flow.receive import Received
from upkept.sources import STATEMENTS
from upkept.store import inbox, tables
from upkept.store.inbox import Arrival

_numbers = itertools.count()
WAITS: Final = 10


def a_lost_bell(world: World) -> str:
    """The broker loses every message: the sweeper alone must bring all rows to their end."""
    world.clear()
    for name in range(5):
        receive_step.keep(world.hub, [delivery(world, "mail", f"m{name}", {"name": "Ann"})], now=world.now)
    for _ in range(WAITS):
        world.now += 11_000_000
        for bell in sweep_step.look(world.hub, now=world.now).bells:
            if bell.task == "apply":
                apply_step.apply(world.hub, bell.ids, now=lambda: world.now)
    left = _states(world, "new") + _states(world, "claimed")
    return f"{left} accepted rows were never applied" if left else ""


def a_failed_commit(world: World) -> str:
    """The database fails at COMMIT: none of the requests may be answered 2xx."""
    world.clear()
    failing = replace(world.hub, store=_FailsAtCommit(world.hub.store))  # type: ignore[arg-type]
    kept = receive_step.keep(failing, [delivery(world, "mail", "m1", {"name": "Ann"})], now=world.now)
    accepted = sum(one.error is None for one in kept)
    with world.hub.store.read() as connection:
        stored = connection.execute(tables.inbox.select()).all()
    return f"{accepted} answered 2xx, {len(stored)} stored" if accepted > len(stored) else ""


def a_sleeper(world: World) -> str:
    """A worker sleeps past its lease; its row is replayed with another mapping; then it wakes up and writes."""
    world.clear()
    said = delivery(world, "mail", "m1", {"name": "by the old mapping"})
    (kept,) = receive_step.keep(world.hub, [said], now=world.now)
    (row_id,) = (id_ for bell in kept.bells for id_ in bell.ids)
    with world.hub.store.write() as connection:
        rows = inbox.claim(connection, [row_id], now=world.now)
    works, _ = normalize(world.hub, rows, now=world.now)
    world.now += inbox.LEASE + 1_000_000
    SAID[said.arrivals[0].body] = _fact("m1", {"name": "by the new mapping"})
    apply_step.apply(world.hub, [row_id], now=lambda: world.now)
    with suppress(FenceBroken):
        apply_step._take_in(world.hub, works, apply_step.Applied(), lambda: world.now)
    names = [doc["person"]["name"] for doc in world.people()]
    return "" if names == ["by the new mapping"] else f"the sleeper wrote over its successor: {names}"


TRIALS: Final[tuple[Callable[[World], str], ...]] = (a_lost_bell, a_failed_commit, a_sleeper)


class _FailsAtCommit:
    """A store whose transactions do their work and then cannot commit."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def write(self) -> Iterator[Any]:
        with self._store.write() as connection:
            yield connection
            raise Retryable("the disk is full")

    write_at_once = write


def delivery(world: World, connection: str, id_: str, fields: dict[str, Any], *, email: str = "") -> Received:
    """A delivery of its own that states one fact about a member."""
    body = f"trial {next(_numbers)}".encode()
    SAID[body] = _fact(id_, fields, email)
    arrival = Arrival(connection=connection, dedup_key=body.decode(), kind=STATEMENTS, body=body, received_at=world.now)
    return Received((arrival,))


def _fact(id_: str, fields: dict[str, Any], email: str = "") -> Fact:
    claims: dict[str, str | None] = {"email": email} if email else {}
    return Fact(
        record=RecordRef("member", id_), fields=fields, claims=claims, observed_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


def _states(world: World, state: str) -> int:
    with world.hub.store.read() as connection:
        return len(inbox.listed(connection, state=state))
