"""Who is unsubscribed where, looked at again and again: when it was seen first, and whether it was ever taken back."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bench.unsubscribes.vendors import NAMES, Name, Vendors, email, person_of

from upkept.flow.hub import Hub

HERE: Final = "hub"
LOOK: Final = 0.01
LATEST: Final = 60.0
"""Seconds after the last click, when who is still missing is given up."""


@dataclass(slots=True)
class Click:
    """One unsubscribe: who, where and when; `seen` is when each other system had it."""

    person: int
    at: float
    source: Name
    seen: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """Seconds, of so many."""

    count: int
    p50: float
    p99: float
    longest: float

    @staticmethod
    def of(seconds: Iterable[float]) -> Spread:
        """By nearest rank."""
        found = sorted(seconds)
        if not found:
            return Spread(0, 0.0, 0.0, 0.0)
        p50, p99 = (found[max(-(-len(found) * percent // 100), 1) - 1] for percent in (50, 99))
        return Spread(len(found), p50, p99, found[-1])


def in_force(hub: Hub, people: Iterable[int]) -> dict[int, float]:
    """When the hub took in the first opt-out of each, which it answers as soon as that is committed."""
    subjects = {hub.subject("address", email(person)): person for person in people}
    query = "SELECT subject, min(recorded_at) FROM consent WHERE act = 'opt_out' GROUP BY subject"
    with hub.store.read() as connection:
        found = connection.exec_driver_sql(query).all()
    return {subjects[subject]: at / 1_000_000 for subject, at in found if subject in subjects}


def unsubscribed(hub: Hub) -> set[int]:
    """Whom the hub takes for unsubscribed."""
    with hub.store.read() as connection:
        found = connection.exec_driver_sql("SELECT email FROM people WHERE consent = 'unsubscribed'").all()
    return {person_of(row[0]) for row in found}


def steady(vendors: Vendors, hub: Hub, people: Sequence[int], *, rate: float) -> list[Click]:
    """Unsubscribe these at `rate` a second, in turn at each vendor, and see when every other one knows."""
    clicks: list[Click] = []
    missing: set[tuple[int, Name]] = set()
    began = time.time()
    while len(clicks) < len(people) or (missing and time.time() - clicks[-1].at < LATEST):
        if len(clicks) < len(people) and time.time() >= began + len(clicks) / rate:
            source = NAMES[len(clicks) % len(NAMES)]
            missing |= {(len(clicks), name) for name in NAMES if name != source}
            clicks.append(Click(people[len(clicks)], time.time(), source))
            vendors.unsubscribe(source, clicks[-1].person)
        reached = {(n, name) for n, name in missing if vendors.is_out(name, clicks[n].person)}
        for n, name in reached:
            clicks[n].seen[name] = time.time()
        missing -= reached
        time.sleep(LOOK)
    for click, at in ((click, at) for at in [in_force(hub, people)] for click in clicks):
        if click.person in at:
            click.seen[HERE] = at[click.person]
    return clicks


class Watch(threading.Thread):
    """Looks at everybody once a second. `first` is when each was first seen unsubscribed, by system; `reverted` who was
    so and is no more, but for those whom an adversary touched at that vendor."""

    def __init__(self, vendors: Vendors, hub: Hub, people: Collection[int],
                 touched: Mapping[Name, set[int]]) -> None:  # fmt: skip
        super().__init__(daemon=True)
        self.vendors, self.hub, self.people, self.touched = vendors, hub, people, touched
        self.first: dict[str, dict[int, float]] = {name: {} for name in (HERE, *NAMES)}
        self.reverted: dict[str, set[int]] = {name: set() for name in (HERE, *NAMES)}
        self.out: dict[str, set[int]] = {name: set() for name in (HERE, *NAMES)}
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(1.0):
            self.look()

    def look(self) -> None:
        self._note(HERE, unsubscribed(self.hub), set())
        for name in NAMES:
            out = {person for person in self.people if self.vendors.is_out(name, person)}
            self._note(name, out, self.touched[name])

    def known(self) -> set[int]:
        """Whom the hub took for unsubscribed when it was last looked at."""
        return self.out[HERE]

    def stop(self) -> None:
        """Look a last time and end."""
        self._over.set()
        self.join()
        self.look()

    def _note(self, where: str, out: set[int], touched: set[int]) -> None:
        now = time.time()
        for person in out - self.first[where].keys():
            self.first[where][person] = now
        self.reverted[where] |= self.out[where] - out - touched
        self.out[where] = out
