"""Correctness first: every accepted event is in the store once, and sampled customers have their last values."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bench.events import MONTH
from bench.phases import Sent
from bench.systems import System

SAMPLE: Final = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong; nothing, if both are zero."""

    missing: int
    wrong: int
    sampled: int
    example: str = ""

    @property
    def right(self) -> bool:
        return self.missing == 0 and self.wrong == 0


def judge(system: System, sent: Sent, *, seed: int) -> Verdict:
    """Compare the store with what was accepted."""
    sample = random.Random(seed).sample(range(sent.run.customers), min(SAMPLE, sent.run.customers))
    expected = expectations(sent, frozenset(sample))
    stored = system.values(sent.run, sample)
    wrong = [
        f"customer {customer}: {name} is {stored.get(customer, {}).get(name)!r}, must be {value!r}"
        for customer, values in sorted(expected.items())
        for name, value in values.items()
        if stored.get(customer, {}).get(name) != value
    ]
    missing = sent.accepted - system.counted()
    return Verdict(missing, len(wrong), len(sample), wrong[0] if wrong else "")


def expectations(sent: Sent, customers: frozenset[int]) -> Mapping[int, Mapping[str, Any]]:
    """The attributes of these customers after everything that was accepted, by the time of the events."""
    expected: dict[int, dict[str, Any]] = {}
    for n in sent.numbers():
        event = sent.run.event(n)
        if event.customer not in customers:
            continue
        said = expected.setdefault(event.customer, {})
        match event.kind:
            case "customer.subscription.updated":
                said["stripe_subscription_status"] = "active"
                said["stripe_subscription_period_end_at"] = event.created + MONTH
                said["stripe_plan"] = f"Plan {event.amount}"
                said["stripe_plan_price"] = event.amount / 100
            case "charge.succeeded":
                said["stripe_last_charge_amount"] = event.amount / 100
                said["stripe_last_charge_at"] = event.created
    return expected
