"""Any arrival of a history gives the store that the reference model gives. Used by the tests and by `make prove`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from tests.model import reference
from tests.model.encoding import encoded
from tests.model.histories import History, arrivals, history
from tests.model.pure import Hub, readied


def shrunk(told: History, diverges: Callable[[History], bool]) -> History:
    """A smallest part of a history that still diverges: leave one element out while one can be left out."""
    for n in range(len(told)):
        fewer = told[:n] + told[n + 1 :]
        if diverges(fewer):
            return shrunk(fewer, diverges)
    return told


def diverges(arrived: History, *, hub: type[Hub] = Hub, enforced: bool = False) -> bool:
    """Whether the pure core, taking these elements in this order, differs from the reference model."""
    store = hub(enforced=enforced)
    for element in arrived:
        store.take(readied(element))
    return encoded(store.people()) != encoded(reference.people(arrived, enforced=enforced))


@dataclass(frozen=True)
class Divergence:
    """Enough to see it again: the history's seed, and what arrived, shrunk to what still diverges."""

    seed: int
    arrived: History


def divergences(
    seeds: range, *, permutations: int, hub: type[Hub] = Hub, enforced: bool = False
) -> Iterator[Divergence]:
    """Every arrival, of every seed's history, after which the pure core and the reference model differ."""
    for seed in seeds:
        told = history(seed)
        expected = encoded(reference.people(told, enforced=enforced))
        ready = {id(element): readied(element) for element in told}
        random = Random(seed)
        for arrival in range(permutations):
            arrived = told if arrival == 0 else arrivals(told, random)
            store = hub(enforced=enforced)
            for element in arrived:
                store.take(ready[id(element)])
            if encoded(store.people()) != expected:
                smaller = shrunk(arrived, lambda some: diverges(some, hub=hub, enforced=enforced))
                yield Divergence(seed, smaller)
