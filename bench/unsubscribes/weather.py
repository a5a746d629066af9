"""Everything that goes wrong meanwhile: at the vendors, on the way, in the hub, and by people who know better."""

from __future__ import annotations

import random
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from bench.crash.cluster import Hub
from bench.unsubscribes.vendors import NAMES, Name, Vendors

ON_THE_WAY: Final[Mapping[Name, Mapping[str, float]]] = {
    "mailchimp": {"drop": 0.5, "duplicate": 0.2, "delay": 0.5, "reorder": 4.0},
    "marketo": {"drop": 0.8, "duplicate": 0.2, "delay": 0.5, "reorder": 4.0},
    "salesforce": {"drop": 0.8, "duplicate": 0.2, "delay": 0.5, "reorder": 4.0},
}
"""What befalls webhooks. Each that arrives costs the hub a call of the vendor's quota to read what it is about, so
more would take longer than a run may: of Marketo's quota the hub takes 2.5 calls a second."""

ANSWERS: Final[Mapping[Name, tuple[Any, ...]]] = {
    "mailchimp": (429, 500, 503, "html", "reset", "nothing", "empty", "garbage", "array", "stranger"),
    "marketo": (500, 502, "601", "602", "608", "611", "615", "713", "html", "reset", "login", "garbage", "array"),
    "salesforce": (500, 503, "UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE", "QUERY_TIMEOUT", "html", "reset", "garbage",
                   "array"),
}  # fmt: skip
TIMED_OUT: Final = 21.0
"""Seconds that our clients do not wait. What was asked for is done all the same."""
TOGETHER: Final = 5
"""People whom an adversary takes up at once."""


class Mischief(threading.Thread, ABC):
    """Something that goes on until it is stopped; `done` counts what it did."""

    def __init__(self, every: float, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self.every, self.dice = every, dice
        self.done: Counter[str] = Counter()
        self._over = threading.Event()

    def run(self) -> None:
        while not self.wait(self.dice.uniform(0.5, 1.5) * self.every):
            self.act()

    @abstractmethod
    def act(self) -> None:
        """Do it once."""

    def wait(self, seconds: float) -> bool:
        """True if it was stopped meanwhile."""
        return self._over.wait(seconds)

    def stop(self) -> None:
        self._over.set()
        self.join()


class Outages(Mischief):
    """One vendor's API answers with errors, slowly, too late or not at all, forgets sessions and locks rows."""

    def __init__(self, vendors: Vendors, at: Name, every: float, dice: random.Random, *, timeouts: bool) -> None:
        super().__init__(every, dice)
        self.vendors, self.at = vendors, at
        self.kinds = {"errors": 6, "slow": 2, "away": 1, "session ends": 1, "rows locked": 1, "times out": timeouts}

    def act(self) -> None:
        what = self.dice.choices(list(self.kinds), list(self.kinds.values()))[0]
        match what:
            case "errors":
                self._set(fail_next=[self.dice.choice(ANSWERS[self.at]) for _ in range(self.dice.randint(1, 6))])
            case "slow":
                self._for(3 * self.every, slow=self.dice.uniform(0.3, 1.5))
            case "away":
                self._for(self.dice.uniform(3, 6) * self.every, fail_next=["reset"] * 10_000)
            case "times out":
                self._for(self.every / 2, slow=TIMED_OUT)
            case "session ends" if self.at == "marketo":
                self.vendors.marketo.control("POST", "/_expire")
            case "session ends" if self.at == "salesforce":
                self._set(fail_next=["expired"])
            case "rows locked" if self.at == "salesforce":
                self._set(locked=dict.fromkeys(self.dice.choices(self.vendors.rows, k=200), 1))
            case _:
                return
        self.done[what] += 1

    def _set(self, **faults: Any) -> None:
        self.vendors.faults(self.at, **faults)

    def _for(self, seconds: float, **faults: Any) -> None:
        self._set(**faults)
        self.wait(seconds)
        self._set(fail_next=[], slow=0.0)


class Killer(Mischief):
    """Kills a worker or a courier, and starts it again as the supervisor would."""

    def __init__(self, hub: Hub, every: float, dice: random.Random) -> None:
        super().__init__(every, dice)
        self.hub = hub

    def act(self) -> None:
        role = self.dice.choice(("worker", "courier"))
        self.hub.kill(role, self.dice)
        self.wait(self.dice.uniform(0.3, 1.5))
        self.hub.revive()
        self.done[f"{role} killed"] += 1


class Adversary(Mischief):
    """Says of people whom the hub knows as unsubscribed (`known`) that they may be mailed; notes them in `touched`.

    Not of others: who unticks a box before anybody has seen it ticked leaves no trace that a hub could find.
    """

    def __init__(
        self, vendors: Vendors, known: Callable[[], Collection[int]], touched: Mapping[Name, set[int]], every: float,
        dice: random.Random,
    ) -> None:  # fmt: skip
        super().__init__(every, dice)
        self.vendors, self.known, self.touched = vendors, known, touched

    def act(self) -> None:
        known = sorted(self.known())
        at = self.dice.choice(NAMES)
        for person in self.dice.sample(known, min(TOGETHER, len(known))):
            if self.vendors.is_out(at, person):
                self.touched[at].add(person)
                self.vendors.reverse(at, person, self.dice)
                self.done[f"said to be subscribed at {at}"] += 1


@contextmanager
def bad(vendors: Vendors, mischiefs: Collection[Mischief]) -> Iterator[None]:
    """Bad weather for a block; with it every fault ends."""
    with ExitStack() as over:
        for name in NAMES:
            over.callback(vendors.faults, name)
            vendors.faults(name, **ON_THE_WAY[name])
        for one in mischiefs:
            one.start()
            over.callback(one.stop)
        yield
