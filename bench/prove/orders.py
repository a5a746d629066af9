"""Random histories, every one in many orders of arrival: the store's digest must never differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from bench.prove.world import World
from tests.model import reference
from tests.model.histories import History, arrivals, history


@dataclass(frozen=True)
class Divergence:
    """Enough to see it again: the history's seed, which of its arrivals, and what differed."""

    seed: int
    arrival: int
    what: str


def divergences(world: World, seeds: range, *, permutations: int) -> Iterator[Divergence | None]:
    """Play every history in its own order and in `permutations` others; yields once per order, None if it agreed.

    The first order is compared with the reference model, person by person, the others with the first's digest.
    """
    for seed in seeds:
        told = history(seed)
        expected = world.play(list(told), Random(seed))
        yield None if _agrees(world, told) else Divergence(seed, 0, "the reference model has other people")
        random = Random(seed)
        for arrival in range(1, permutations):
            arrived = world.play(arrivals(told, random), random)
            yield None if arrived == expected else Divergence(seed, arrival, "another digest")


def _agrees(world: World, told: History) -> bool:
    model = [{"person": doc["person"], "consent": doc["consent"]["*"]} for doc in reference.people(told)]
    return world.sound and bool(reference.encoded(_plain(world.people())) == reference.encoded(_plain(model)))


def _plain(value: Any) -> Any:
    """JSONB keeps a number, not whether it was written as 1e21 or -0.0; the digest and `explain` do not read it."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return float(value) + 0.0 if isinstance(value, int | float) and not isinstance(value, bool) else value
