"""What a history of vendors holds: what was delivered, what it meant for consent, and who bears which address.

The last two are worked out beside the deliveries, from the vendors' documentation as `docs/*.md` words it and never by
a connector, so that the store's answer about consent can be compared with one that shares no code with the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final, TypeVar

from tests.model.histories import BEGIN, Cut, Erase, Key, Merge

T = TypeVar("T")

SECOND: Final = 1_000_000
ADDRESSES: Final = ("ann@x.example", "Ann@X.example", "bob@x.example", "cy@y.example", "noreply@x.example")
USER_IDS: Final = ("1", "2")
NAMES: Final = ("Ann", "Bob", "Cy")
NEWS: Final = "news"
"""The topic of the one audience that has one."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a vendor, or one of our doors, tells once. Without a `kind` it is the body of a webhook.

    `received_at` (microseconds) is fixed where the time of arrival is part of what is told: a read without a version
    is what stood when it was read, and a webhook without a time happened when it came. Else any time will do.
    """

    connection: str
    body: bytes
    kind: str = ""
    id: str = ""
    received_at: int | None = None
    run: int | None = None


Element = Delivery | Merge | Cut | Erase


@dataclass(frozen=True, slots=True)
class Act:
    """What a delivery means for consent, as the documentation has it. `at` is in microseconds, `address` folded."""

    act: str
    at: int
    clock: str
    record: Key | None
    address: str | None
    topic: str = "*"
    qualified: bool = False
    lifts: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """`bears` is the address that each record holds in the end, where it holds one; `bore` are all it ever held."""

    elements: list[Element]
    acts: list[Act]
    bears: dict[Key, str]
    bore: dict[Key, set[str]]


@dataclass
class Log:
    """The clock and the dice of one history, and what it has come to so far."""

    random: Random
    now: int = BEGIN
    elements: list[Element] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    bears: dict[Key, str] = field(default_factory=dict)
    stated: dict[Key, set[tuple[str, str]]] = field(default_factory=dict)
    spoken_of: dict[Key, int] = field(default_factory=dict)
    _numbers: int = 0

    @property
    def second(self) -> int:
        return self.now // SECOND

    @property
    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.second, UTC)

    def number(self) -> int:
        """One more than the last time, for ids."""
        self._numbers += 1
        return self._numbers

    def chance(self, likely: float) -> bool:
        return self.random.random() < likely

    def one(self, of: Sequence[T]) -> T:
        return self.random.choice(of)

    def webhook(self, connection: str, body: bytes, *, undated: bool = False) -> None:
        self.elements.append(Delivery(connection, body, received_at=self.now if undated else None))

    def event(
        self, connection: str, kind: str, id: str, body: bytes, *, undated: bool = False, run: int | None = None
    ) -> None:
        """What a pull or a fetch brings, or one of our own doors."""
        self.elements.append(Delivery(connection, body, kind, id, self.now if undated else None, run))

    def act(
        self, act: str, clock: str, record: Key | None, address: str | None, *, at: int | None = None, **more: Any
    ) -> None:
        folded = address.lower() if address else None
        self.acts.append(Act(act, self.now if at is None else at, clock, record, folded, **more))

    def holds(self, key: Key, address: str | None, user_id: str | None = None) -> None:
        """A delivery of now says that this record bears these, and no others."""
        self.spoken_of[key] = self.now
        said = self.stated.setdefault(key, set())
        if address:
            self.bears[key] = address.lower()
            said.add(("email", address.lower()))
        else:
            self.bears.pop(key, None)
        if user_id:
            said.add(("user_id", user_id))

    def ends(self, key: Key) -> None:
        """The vendor has deleted it."""
        self.holds(key, None)

    def may_change(self, key: Key) -> bool:
        """Whether its address may be another one from now on.

        Two addresses of one record and one second are a tie that only a read-back settles (R7): what the record bears
        is then nothing that a history could know.
        """
        return self.spoken_of.get(key, 0) < self.now
