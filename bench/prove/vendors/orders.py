"""Histories of vendors' deliveries, every one in many orders of arrival.

What may be permuted: every delivery. Each says by itself when what it says was so, or has a time of arrival that is
part of it (`told.Delivery`); a read is what stood in the second in which it was made, whenever it is stored. The
vendors' hints, which lead to a read, are permuted too, but nothing follows from them: what a read-back would bring
depends on when it is made, so it is no part of what any order must give.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from bench.prove.orders import Divergence
from bench.prove.vendors.stage import Stage
from bench.prove.vendors.story import history
from bench.prove.vendors.told import NEWS, Act, History
from tests.model import reference
from tests.model.histories import Key, arrivals


def divergences(stage: Stage, seeds: range, *, permutations: int) -> Iterator[Divergence | None]:
    """Play every history in its own order and in `permutations - 1` others; yields once per order, None if it held.

    After each the digest is the first one's, a rebuild would change nothing, every delivery was taken in, and
    everybody's consent is what the history alone says.
    """
    for seed in seeds:
        told, expected = history(seed), ""
        for arrival in range(permutations):
            random = Random(f"arrival {seed} {arrival}")
            arrived = told.elements if arrival == 0 else arrivals(told.elements, random)
            found = stage.play(arrived, random)
            expected = expected or found
            what = _wrong(stage, told) or ("" if found == expected else "another digest")
            yield Divergence(seed, arrival, what) if what else None


def _wrong(stage: Stage, told: History) -> str:
    if stage.refused:
        return f"not taken in: {stage.refused[0]}"
    if not stage.sound:
        return "a rebuild would have changed something"
    acts = [_doc(act) for act in told.acts]
    surely = acts + _meant(acts, {key: {value} for key, value in told.bears.items()})
    perhaps = acts + _meant(acts, told.bore)
    for keys, answers in stage.answers():
        held = [{"kind": "email", "value": told.bears[key], "end": None} for key in keys if key in told.bears]
        person = [{"key": key, "held": held} for key in keys]
        for topic in ("*", NEWS):
            wanted = reference.consent(person, surely, topic)
            if answers[topic] not in (wanted, reference.consent(person, perhaps, topic)):
                who = " + ".join("/".join(key) for key in keys)
                return f"{who}: {answers[topic]} for {topic!r}, and should be {wanted}"
    return ""


def _meant(acts: Sequence[dict[str, Any]], held: Mapping[Key, set[str]]) -> list[dict[str, Any]]:
    """R9: what opt-outs that name a record and no address are for the addresses it holds.

    Which of those that it let go are meant too depends on times that a history does not know of a read: the histories
    of statements prove that, and here both answers will do.
    """
    return [
        {**act, "address": value, "record": None}
        for act in acts
        if act["act"] in reference.LOWERING and act["address"] is None
        for value in sorted(held.get(act["record"], ()))
    ]


def _doc(act: Act) -> dict[str, Any]:
    """As the reference model has a statement."""
    return {
        "act": act.act, "at": act.at, "clock": act.clock, "record": act.record, "address": act.address,
        "topic": act.topic, "qualified": act.qualified, "lifts": act.lifts,
    }  # fmt: skip
