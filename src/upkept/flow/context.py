"""What the hub lends a connector that talks to its vendor: quota, slots, tokens, time, log."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection as Store

from upkept.contract import Log, Retryable
from upkept.flow.hub import Hub
from upkept.flow.normalize import waiting
from upkept.flow.runs import holder, is_gone
from upkept.people.facts import from_us
from upkept.registry import Connection
from upkept.store import quotas, tokens

SECOND: Final = 1_000_000
BLOCK: Final = SECOND
"""The longest stretch of calls, in microseconds, that a worker owns before it has used it."""
PATIENCE: Final = 8 * SECOND
"""How long a call waits for its turn, and for a slot: with the call itself, less than the 45 s of a task."""
EXPIRY_MARGIN: Final = 60 * SECOND
"""A token this near to its end counts as expired: a call takes time."""

STEP: Final = 10 * SECOND
"""After so long a task begins no further row; a call may take as long again."""
PAUSED_AGAIN: Final = 900 * SECOND
"""When a row of a paused connection is looked at again."""

Sleep = Callable[[float], object]


@dataclass(slots=True)
class Stretch:
    """Call times on an account's line that this worker owns: `start`, then one each `interval` microseconds."""

    start: int = 0
    interval: float = 1.0
    calls: int = 0
    used: int = 0

    def next(self, now: int) -> int | None:
        """The earliest of the times that is not over; a time that passed unused is never made up for."""
        passed = int(max(now - self.start, 0) // self.interval)
        number = max(self.used, passed)
        if number >= self.calls:
            return None
        self.used = number + 1
        return self.start + round(number * self.interval)


@dataclass(slots=True)
class VendorContext:
    """The `contract.Context` of one connection, for one step of the flow. Not for several threads at once."""

    hub: Hub
    connection: Connection
    clock: Callable[[], int]
    sleep: Sleep = time.sleep
    _stretch: Stretch = field(default_factory=Stretch)

    @property
    def now(self) -> datetime:
        return from_us(self.clock())

    @property
    def log(self) -> Log:
        log: Log = structlog.get_logger("upkept.connector").bind(
            connection=self.connection.name, connector=self.connection.connector.name
        )
        return log

    def permit(self, n: int = 1) -> None:
        """Wait for `n` calls of the account's quota; `Retryable` if their turn is further off than `PATIENCE`."""
        for _ in range(n):
            self._wait_until(self._turn())

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one of the account's concurrent calls; `Retryable` if none comes free within `PATIENCE`."""
        held = self._slot()
        try:
            yield
        finally:
            # What the call brought is worth more than the slot, which comes free by itself.
            with suppress(Retryable), self.hub.store.write() as open_store:
                quotas.give_back(open_store, held)

    def token(self, name: str) -> str | None:
        """A cached access token, or None if it is absent, about to expire, or sealed with another key."""
        with self.hub.store.read() as open_store:
            valid_at = self.clock() + EXPIRY_MARGIN
            sealed = tokens.read(open_store, self.connection.name, name, valid_at=valid_at)
        if sealed is None:
            return None
        try:
            opened = _seal(self.hub).decrypt(sealed).decode()
        except InvalidToken:
            return None
        owner, _, value = opened.partition("\0")
        return value if owner == self._owner(name) else None

    def keep_token(self, name: str, value: str, *, seconds: float) -> None:
        """Cache an access token for all workers, encrypted at rest and bound to its place."""
        sealed = _seal(self.hub).encrypt(f"{self._owner(name)}\0{value}".encode())
        expires_at = self.clock() + int(seconds * SECOND)
        with self.hub.store.write() as open_store:
            tokens.keep(open_store, self.connection.name, name, sealed=sealed, expires_at=expires_at)

    def _owner(self, name: str) -> str:
        # The account is part of it, so changed credentials never meet a token of the old ones.
        return f"{self.connection.account}/{name}"

    def _turn(self) -> int:
        """When the next call may be made. Who uses a stretch up gets one twice as long, so that a walk does not
        cost a transaction for each call; so does one whose stretch was over before it could begin."""
        stretch, limit = self._stretch, self.connection.connector.api_calls
        longest = max(int(limit * BLOCK / SECOND), 1)
        longer = stretch.calls > 0 and stretch.used == stretch.calls
        while (turn := stretch.next(self.clock())) is None:
            calls = min(stretch.calls * 2, longest) if longer else 1
            self._lease(stretch, SECOND / limit, calls)
            longer = True
        return turn

    def _lease(self, stretch: Stretch, interval: float, calls: int) -> None:
        account = self.connection.account
        with self.hub.store.write() as open_store:
            now = self.clock()
            start = quotas.lease(open_store, account, calls=calls, interval=interval, now=now, latest=now + PATIENCE)
            free_at = quotas.free_at(open_store, account) if start is None else now
        if start is None:
            raise Retryable(
                f"{self.connection.name}: the vendor's quota is used up for now; the hub goes on by itself",
                after=(free_at - now) / SECOND,
            )
        stretch.start, stretch.interval, stretch.calls, stretch.used = start, interval, calls, 0

    def _wait_until(self, turn: int) -> None:
        while (ahead := turn - self.clock()) > 0:
            self.sleep(min(ahead / SECOND, 0.25))

    def _slot(self) -> quotas.Slot:
        limit = self.connection.connector.api_slots
        give_up = self.clock() + PATIENCE
        pause = 0.01
        while True:
            now = self.clock()
            with self.hub.store.write() as open_store:
                held = take_slot(open_store, self.connection.account, limit=limit, now=now)
            if held is not None:
                return held
            if now >= give_up:
                raise Retryable(
                    f"{self.connection.name}: all {limit} concurrent calls of the account are taken", after=5
                )
            self.sleep(pause)
            pause = min(pause * 2, 0.25)


def take_slot(open_store: Store, account: str, *, limit: int, now: int) -> quotas.Slot | None:
    """One of `limit` slots, if any is free; those that a killed process of this machine held are, at once."""
    mine = f"{secrets.token_hex(8)}@{holder()}"
    found = quotas.take_slot(open_store, account, limit=limit, holder=mine, now=now)
    if found is None:
        gone = [who for who in quotas.holders(open_store, account) if is_gone(who.partition("@")[2])]
        quotas.take_away(open_store, account, gone)
        found = quotas.take_slot(open_store, account, limit=limit, holder=mine, now=now) if gone else None
    return found


def hold(hub: Hub, connection: Connection, error: Retryable, *, now: int) -> None:
    """The vendor said when to come back; no worker asks before, or for a minute if that is less."""
    if error.after is not None:
        with hub.store.write() as open_store:
            quotas.hold(open_store, connection.account, until=now + min(waiting(0, error.after), 60 * SECOND))


def _seal(hub: Hub) -> Fernet:
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"upkept tokens v1").derive(hub.keys.secret)
    return Fernet(base64.urlsafe_b64encode(key))
