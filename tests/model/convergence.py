"""Any arrival of a history gives the store that the reference model gives. Used by the tests and by `make prove`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from tests.model import reference
from tests.model.histories import arrivals, history
from tests.model.pure import Hub, readied


@dataclass(frozen=True)
class Divergence:
    """Enough to see it again: the history's seed, and which of its arrivals."""

    seed: int
    arrival: int


def divergences(
    seeds: range, *, permutations: int, hub: type[Hub] = Hub, enforced: bool = False
) -> Iterator[Divergence]:
    """Every arrival, of every seed's history, after which the pure core and the reference model differ."""
    for seed in seeds:
        told = history(seed)
        expected = reference.encoded(reference.people(told, enforced=enforced))
        ready = {id(element): readied(element) for element in told}
        random = Random(seed)
        for arrival in range(permutations):
            arrived = told if arrival == 0 else arrivals(told, random)
            store = hub(enforced=enforced)
            for element in arrived:
                store.take(ready[id(element)])
            if reference.encoded(store.people()) != expected:
                yield Divergence(seed, arrival)
