"""What the Marketo stand-in knows: leads, the log of what happened to them, and who unsubscribed for good.

Durable unsubscribe as Marketo documents it: a hidden status of each *address*. It spreads to every lead that bears the
address, survives a delete, catches a lead that moves to the address, and lets go of one that moves away.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from upkept.testing.fake_marketo.faults import Faults, Gate, Object
from upkept.testing.fake_marketo.hooks import Postman

DAY: Final = 86_400
API: Final = "Web service API"
CLICKED: Final = "Clicked unsubscribe link"
"""What the trigger *Unsubscribes from Email* hears of; whoever else sets the field makes a *Data Value Changes*."""

TYPES: Final[Mapping[str, int]] = {
    "Visit Webpage": 1,
    "Fill Out Form": 2,
    "Click Link": 3,
    "Send Email": 6,
    "Email Delivered": 7,
    "Email Bounced": 8,
    "Unsubscribe Email": 9,
    "Open Email": 10,
    "Click Email": 11,
    "New Lead": 12,
    "Change Data Value": 13,
    "Email Bounced Soft": 27,
    "Merge Leads": 32,
    "Delete Lead": 37,
}

FIELDS: Final[Mapping[str, Any]] = {
    "email": None,
    "firstName": None,
    "lastName": None,
    "phone": None,
    "company": None,
    "title": None,
    "leadSource": None,
    "leadStatus": None,
    "leadScore": None,
    "unsubscribed": False,
    "unsubscribedReason": None,
    "marketingSuspended": False,
    "emailSuspended": False,
    "emailInvalid": False,
    "emailInvalidCause": None,
    "blackListed": False,
    "blackListedCause": None,
    "doNotCall": False,
    "appUserId": None,
    "plan": None,
}
"""The fields of a lead by REST name, two of them the subscription's own, and what a new lead has in them."""

STAMPS: Final = ("id", "createdAt", "updatedAt")
CUSTOM: Final = frozenset({"appUserId", "plan"})


@dataclass
class Clock:
    """The stand-in's time, in whole seconds as Marketo's."""

    offset: float = 0.0
    frozen: float | None = None

    def now(self) -> int:
        return int(time.time() + self.offset) if self.frozen is None else int(self.frozen)


def iso(second: float, zone: str = "Z") -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S") + zone


@dataclass
class World:
    """The state. `lock` is held for each call, so a call sees and leaves a consistent world."""

    shift: int = 0
    clock: Clock = field(default_factory=Clock)
    faults: Faults = field(default_factory=Faults)
    lock: threading.RLock = field(default_factory=threading.RLock)
    leads: dict[int, Object] = field(default_factory=dict)
    log: list[Object] = field(default_factory=list)
    durable: set[str] = field(default_factory=set)
    jobs: dict[str, Object] = field(default_factory=dict)
    token: tuple[str, float] = ("", 0.0)
    token_seconds: float = 3600.0

    def __post_init__(self) -> None:
        self.gate = Gate(self.faults)
        self.postman = Postman(self.faults)
        self._ids = itertools.count(1)
        self._numbers = itertools.count(1001)
        self._by_email: dict[str, set[int]] = {}

    def type_id(self, name: str) -> int:
        """Activity types have other numbers in other subscriptions: `shift` says by how much."""
        return TYPES[name] + self.shift

    def clear(self) -> None:
        for table in (self.leads, self.log, self.durable, self.jobs, self._by_email):
            table.clear()

    def create(self, said: Mapping[str, Any], *, source: str = "Web form", created: int | None = None) -> int:
        id, now = next(self._ids), self.clock.now() if created is None else created
        lead = {**FIELDS, **said, "id": id, "createdAt": now, "updatedAt": now}
        if lead["unsubscribed"] and lead["email"]:
            self.durable.add(lead["email"].lower())
        lead["unsubscribed"] = bool(lead["unsubscribed"]) or str(lead["email"]).lower() in self.durable
        self.leads[id] = lead
        self._index(id, None, lead["email"])
        self.note("New Lead", id, attributes={"Source Type": source}, at=now)
        self._announce("created", id)
        return id

    def change(self, id: int, said: Mapping[str, Any], *, source: str = API, reason: str | None = None) -> None:
        """Change fields of a lead, with everything that durable unsubscribe makes of it."""
        lead = self.leads[id]
        wanted = dict(said)
        before, email = lead["email"], wanted.get("email", lead["email"])
        if "email" in wanted and (before or "").lower() != (email or "").lower():
            wanted.setdefault("unsubscribed", (email or "").lower() in self.durable)
        self._set(id, wanted, source, reason or source)
        if "unsubscribed" in wanted and email:
            (self.durable.add if wanted["unsubscribed"] else self.durable.discard)(email.lower())
            for other in self.of_address(email):
                if other != id:
                    self._set(other, {"unsubscribed": wanted["unsubscribed"]}, "Durable unsubscribe", "Same address")

    def _set(self, id: int, said: Mapping[str, Any], source: str, reason: str) -> None:
        lead = self.leads[id]
        changed = {name: value for name, value in said.items() if lead.get(name) != value}
        if not changed:
            return
        if "email" in changed:
            self._index(id, lead["email"], changed["email"])
        listed = [
            {"id": number, "name": name, "oldValue": _worded(lead.get(name)), "newValue": _worded(value)}
            for number, (name, value) in enumerate(sorted(changed.items()), 40)
        ]
        lead.update(changed)
        if changed.keys() - CUSTOM:
            lead["updatedAt"] = self.clock.now()
        self.note("Change Data Value", id, fields=listed, attributes={"Source": source, "Reason": reason})
        clicked = source == CLICKED and changed.get("unsubscribed")
        self._announce("unsubscribed" if clicked else "changed", id)

    def unsubscribe(self, id: int, mail: str = "Newsletter") -> None:
        """The person clicks the link in a mail."""
        self.note("Unsubscribe Email", id, about=mail, attributes={"Webform ID": 7})
        self.change(id, {"unsubscribed": True, "unsubscribedReason": mail}, source=CLICKED)

    def bounce(self, id: int, *, hard: bool = True) -> None:
        about: Object = {"Email": self.leads[id]["email"], "Details": "550 5.1.1 unknown user"}
        if hard:
            self.note("Email Bounced", id, about="Newsletter", attributes={**about, "Category": "2"})
            self._set(id, {"emailInvalid": True, "emailInvalidCause": "550 5.1.1"}, "Bounce", "Email Bounced")
        else:
            self.note("Email Bounced Soft", id, about="Newsletter", attributes={**about, "Category": "3"})

    def fill_out(self, id: int, form: str, said: Mapping[str, Any]) -> None:
        attributes = {"Client IP Address": "10.0.19.252", "Webpage ID": 12, "Form Fields": "…"}
        self.note("Fill Out Form", id, about=form, attributes=attributes)
        self.change(id, said, source="Web form fillout", reason=f"Filled out {form}")

    def delete(self, id: int) -> None:
        lead = self.leads.pop(id)
        self._index(id, lead["email"], None)
        self.note("Delete Lead", id, about=" ".join(filter(None, (lead["firstName"], lead["lastName"]))) or None)

    def merge(self, winner: int, losers: Iterable[int]) -> None:
        """The losers disappear without a Delete Lead; what they opted out of, the winner is opted out of."""
        ids = sorted(losers)
        gone = [self.leads.pop(id) for id in ids]
        for lead in gone:
            self._index(lead["id"], lead["email"], None)
        self.note(
            "Merge Leads", winner, attributes={"Master Updated": True, "Merge IDs": f"[{', '.join(map(str, ids))}]"}
        )
        if any(lead["unsubscribed"] for lead in gone):
            self.change(winner, {"unsubscribed": True}, source="Merge Leads")

    def note(
        self,
        type: str,
        lead: int,
        *,
        fields: list[Object] | None = None,
        about: str | None = None,
        attributes: Mapping[str, Any] | None = None,
        at: int | None = None,
    ) -> None:
        """Log an activity. Those with `at` are as old as the lead they tell of."""
        number = next(self._numbers)
        self.log.append(
            {"number": number, "lead": lead, "at": self.clock.now() if at is None else at, "type": type,
             "fields": fields, "about": about, "attributes": dict(attributes or {})}
        )  # fmt: skip

    def of_address(self, email: str) -> list[int]:
        return sorted(self._by_email.get(email.lower(), ()))

    def seed(self, leads: int, *, days: int = 100, unsubscribed: int = 0, domain: str = "example.com") -> list[int]:
        """Many leads at once, made evenly over the last days; the first of them unsubscribed."""
        now = self.clock.now()
        ids = []
        for number in range(leads):
            said = {"email": f"lead{number}@{domain}", "firstName": "Lead", "lastName": f"Number {number}",
                    "leadScore": number % 50, "unsubscribed": number < unsubscribed}  # fmt: skip
            ids.append(
                self.create(said, source="Import", created=now - days * DAY + number * days * DAY // max(leads, 1))
            )
        self.log.sort(key=lambda one: (one["at"], one["number"]))
        return ids

    def _index(self, id: int, before: str | None, after: str | None) -> None:
        if before:
            self._by_email.get(before.lower(), set()).discard(id)
        if after:
            self._by_email.setdefault(after.lower(), set()).add(id)

    def _announce(self, what: str, id: int) -> None:
        self.postman.tell(what, id, self.leads[id]["email"], iso(self.clock.now()))


def _worded(value: Any) -> Any:
    """How a change words a value: text, whatever the field's type."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else None if value is None else str(value)
