"""Our own doors, which alone tell of a person's own wish: the application, the API, a file, a teammate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bench.prove.vendors.told import ADDRESSES, NAMES, NEWS, USER_IDS, Log
from tests.model.histories import Key

from upkept.contract import Consent, Fact, FactKind, RecordRef, Statement
from upkept.sources import STATEMENTS
from upkept.sources.envelope import encode

CONTACT: Final = "00000000000000000000000a"


class Doors:
    """Statements as the doors put them into the inbox, with their own time or that of their arrival."""

    def __init__(self, log: Log) -> None:
        self.log = log

    @property
    def ops(self) -> tuple[Callable[[], None], ...]:
        return (
            self.seen, self.seen, self.registered, self.imported, self.opt_in, self.opt_in, self.opt_in, self.opt_out,
            self.public, self.lift,
        )  # fmt: skip

    def seen(self) -> None:
        """Our application names a user."""
        id = self.log.one(USER_IDS)
        self._stated(("app", "user", id), id, makes_user=True, verified=self.log.chance(0.8))

    def registered(self) -> None:
        self._stated(("api", "contact", CONTACT), None)

    def imported(self) -> None:
        """A file that claims all its people are subscribed. It may turn nobody who opted out."""
        address = self.log.one(ADDRESSES)
        key: Key = ("csv", "row", f"email:{address.lower()}")
        fact = Fact(
            record=_ref(key), fields={"email": address, "city": self.log.one(("Cork", "Kyiv"))},
            claims={"email": address}, kind=FactKind.IMPORT, observed_at=self.log.moment,
        )  # fmt: skip
        self._tell("csv", fact, self._consent("opt_in", key, address), run=self.log.one((7, 8)))
        self.log.holds(key, address)

    def opt_in(self) -> None:
        """The person's own act, with evidence: in the preference centre, or written down by a teammate."""
        door = self.log.one(("api", "console"))
        topic = self.log.one(("*", "*", NEWS))
        key, address = (door, "contact", CONTACT), self.log.one(sorted({*self.log.bears.values(), ADDRESSES[0]}))
        self._tell(door, self._consent("opt_in", key, address, topic=topic, qualified=True, evidence="form 9"))

    def opt_out(self) -> None:
        door = self.log.one(("api", "app"))
        key: Key = ("api", "contact", CONTACT) if door == "api" else ("app", "user", self.log.one(USER_IDS))
        topic = self.log.one(("*", NEWS))
        self._tell(door, self._consent("opt_out", key, self.log.one((*ADDRESSES, None)), topic=topic))

    def public(self) -> None:
        """What a public key says: an opt-out of its record at most, and never evidence."""
        key: Key = ("app", "user", self.log.one(USER_IDS))
        act = self.log.one(("opt_in", "opt_out"))
        said = {"qualified": True, "evidence": "a click"} if act == "opt_in" else {}
        self._tell("app", self._consent(act, key, self.log.one(ADDRESSES), verified=False, **said))

    def lift(self) -> None:
        """A teammate ends a complaint or a block, and says why; an opt-out stands."""
        key: Key = ("console", "contact", CONTACT)
        self._tell("console", self._consent("lift", key, self.log.one(ADDRESSES), reason="asked by phone"))

    def _stated(self, key: Key, user_id: str | None, **more: Any) -> None:
        """A fact about a record: who it is, and some of what it bears."""
        log = self.log
        claims: dict[str, str | None] = {} if user_id is None else {"user_id": user_id}
        fields: dict[str, Any] = {"name": log.one((*NAMES, None))}
        if log.chance(0.6) and log.may_change(key):
            claims["email"] = fields["email"] = log.one((*ADDRESSES, None))
            log.holds(key, claims["email"], user_id)
        undated = log.chance(0.3)
        at = None if undated else log.moment
        self._tell(key[0], Fact(record=_ref(key), fields=fields, claims=claims, observed_at=at, **more),
                   undated=undated)  # fmt: skip

    def _consent(self, act: Any, key: Key, address: str | None, **more: Any) -> Consent:
        verified = more.get("verified", True)
        self.log.act(
            act, key[0], key, address if verified else None, topic=more.get("topic", "*"),
            qualified=verified and bool(more.get("evidence")), lifts=verified and bool(more.get("reason")),
        )  # fmt: skip
        return Consent(act=act, record=_ref(key), address=address, at=self.log.moment, **more)

    def _tell(self, door: str, *said: Statement, undated: bool = False, run: int | None = None) -> None:
        id = f"{door}-{self.log.number()}"
        self.log.event(door, STATEMENTS, id, encode(said), undated=undated, run=run)


def _ref(key: Key) -> RecordRef:
    return RecordRef(key[1], key[2])
