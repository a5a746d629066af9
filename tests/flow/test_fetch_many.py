"""Thin rows of a vendor that shows many in one call: one call for all of them, and `fetch` for who is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.flow.small_vendor import Clock, Nothing, Vendor, arrive, heads, hub_of, inbox_states, ring

from upkept.contract import Config, Context, Permanent, RawEvent, Retryable
from upkept.flow.fetch import CLAIMED_AT_ONCE, READ_AT_ONCE, fetch
from upkept.flow.hub import Hub
from upkept.registry import Connection
from upkept.store import inbox
from upkept.store.engine import Store

PEOPLE = 3 * CLAIMED_AT_ONCE


@dataclass
class Shelf(Vendor):
    """A vendor that shows several at once, all but the `hidden`, and raises `after` so many."""

    hidden: frozenset[str] = frozenset()
    after: int = 1_000
    error: Exception | None = None

    def fetch_many(
        self, events: Sequence[RawEvent], _config: Nothing, ctx: Context, /
    ) -> Iterator[tuple[RawEvent, RawEvent]]:
        self._called(f"fetch {len(events)}", ctx)
        for number, event in enumerate(events):
            if number == self.after and self.error is not None:
                raise self.error
            if event.id not in self.hidden:
                yield event, super().fetch(event, _config, _Free(ctx))

    def connection(self, name: str = "acme") -> Connection:
        found = super().connection(name)
        return replace(found, connector=replace(found.connector, fetch_many=self.fetch_many))

    def _called(self, what: str, ctx: Context) -> None:
        if not isinstance(ctx, _Free):
            super()._called(what, ctx)


class _Free:
    """The call was paid for."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hub(store: Store, tmp_path: Path, shelf: Shelf) -> Hub:
    return hub_of(store, tmp_path, shelf.connection())


def hints(hub: Hub, shelf: Shelf, clock: Clock, people: int = PEOPLE) -> list[int]:
    told = [shelf.tell(f"cus_{number:03}", clock.at, name=f"Ann {number}") for number in range(people)]
    return [arrive(hub, {**event, "customer": {}}, clock, thin=True) for event in told]


def test_one_call_completes_all_that_wait(hub: Hub, shelf: Shelf, clock: Clock) -> None:
    ids = hints(hub, shelf, clock)
    ring(hub, fetch(hub, ids, now=clock), clock)
    assert shelf.asked == [f"fetch {PEOPLE}"]
    assert heads(hub)["cus_007"] == {"name": "Ann 7"}
    assert inbox_states(hub) == {"done": 2 * PEOPLE}


def test_the_bell_of_one_takes_the_others_along_a_hundred_at_a_time(hub: Hub, shelf: Shelf, clock: Clock) -> None:
    ids = hints(hub, shelf, clock, READ_AT_ONCE + 2)
    ring(hub, fetch(hub, ids[:1], now=clock), clock)
    assert shelf.asked == ["fetch evt_1", f"fetch {READ_AT_ONCE}", f"fetch evt_{READ_AT_ONCE + 2}"]
    assert len(heads(hub)) == READ_AT_ONCE + 2


def test_who_is_missing_is_asked_for_alone(hub: Hub, shelf: Shelf, clock: Clock) -> None:
    shelf.hidden = frozenset({"evt_3"})
    ids = hints(hub, shelf, clock)
    ring(hub, fetch(hub, ids, now=clock), clock)
    assert shelf.asked == [f"fetch {PEOPLE}", "fetch evt_3"]
    assert len(heads(hub)) == PEOPLE


@pytest.mark.parametrize("error", [Retryable("busy"), Config("the key was revoked"), Permanent("no"), ValueError("x")])
def test_an_error_loses_nobody_and_the_answers_before_it_stand(
    hub: Hub, shelf: Shelf, clock: Clock, error: Exception
) -> None:
    shelf.after, shelf.error = 5, error
    ids = hints(hub, shelf, clock)
    ring(hub, fetch(hub, ids, now=clock), clock)
    assert shelf.calls == 1 + PEOPLE - 5
    assert len(heads(hub)) == PEOPLE


def test_a_vendor_that_is_away_is_asked_twice_and_not_for_each(hub: Hub, shelf: Shelf, clock: Clock) -> None:
    shelf.fail_at = {call: Retryable("no answer") for call in range(1, 99)}
    ids = hints(hub, shelf, clock)
    ring(hub, fetch(hub, ids, now=clock), clock)
    assert shelf.calls == 2
    assert inbox_states(hub) == {"new": PEOPLE}


def test_the_time_of_an_answer_is_before_the_vendor_was_asked(hub: Hub, shelf: Shelf, clock: Clock) -> None:
    ids = hints(hub, shelf, clock)
    asked: list[int] = []
    shelf.while_asked = lambda: asked.append(clock())
    fetch(hub, ids, now=clock)
    with hub.store.read() as connection:
        answers = [row for row in inbox.listed(connection, limit=99) if row.id > max(ids)]
    assert len(answers) == PEOPLE
    assert all(row.received_at < asked[0] for row in answers)
