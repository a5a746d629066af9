"""What every history is played on: a hub on a real store, emptied between two arrivals, and an operator's acts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import delete
from tests.model.histories import Cut, Erase, Merge

from upkept.flow import erase, link, rebuild, walk
from upkept.flow.hub import Hub
from upkept.flow.steps import step
from upkept.keys import Keys
from upkept.people.erasure import tombstones
from upkept.people.values import LinkFact, RecordKey
from upkept.store.tables import metadata

KEYS: Final = Keys(public_id=b"p" * 32, tombstone=b"t" * 32, consent=b"c" * 32, secret=b"s" * 32)
FIRST_NOW: Final = 1_767_229_200_000_000
"""The clock of a history: later than every time in it."""


@dataclass
class Ground:
    """One hub, used for one arrival of a history after the other.

    `sound` until a rebuild would have changed what stands.
    """

    hub: Hub
    now: int = FIRST_NOW
    sound: bool = field(default=True, init=False)

    def clear(self) -> None:
        """An empty store for the next arrival."""
        with self.hub.store.write() as connection:
            for table in metadata.sorted_tables:
                connection.execute(delete(table))
        self.now = FIRST_NOW
        self.sound = True

    def act(self, element: Merge | Cut | Erase) -> None:
        """An operator's act, as the command does it."""
        self.tick()
        match element:
            case Merge(a, b, at):
                link.state(self.hub, _link(a, b, at, cut=False), now=self.now)
            case Cut(a, b, at):
                link.state(self.hub, _link(a, b, at, cut=True), now=self.now)
            case Erase(keys, identifiers, at):
                self.erase([RecordKey(*key) for key in keys], identifiers, at)

    def erase(self, keys: list[RecordKey], identifiers: Collection[tuple[str, str]], at: int) -> None:
        """Have these erased elsewhere, as after a restore: lay the tombstones, then rebuild.

        A rebuild puts right what stands wrong: nothing may, before it.
        """
        self.check()
        erase.lay(self.hub, tombstones(keys, identifiers, at=at, subject=self.hub.tombstone), now=self.now, actor="")
        run, _ = walk.start(self.hub, "rebuild", "", {}, cursor=rebuild.BEGIN, total=None, actor="", now=self.now)
        while step(self.hub, run.id, now=self.clock):
            pass

    def check(self) -> None:
        """Would a rebuild change anything?"""
        self.sound = self.sound and not any(rebuild.check(self.hub, now=self.clock))

    def clock(self) -> int:
        return self.now

    def tick(self) -> None:
        self.now += 1_000_000


def _link(a: tuple[str, str, str], b: tuple[str, str, str], at: int, *, cut: bool) -> LinkFact:
    return link.admin_link(RecordKey(*a), RecordKey(*b), at=at, cut=cut)
