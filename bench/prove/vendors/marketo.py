"""A small Marketo: leads, told of by the activities of a poll, by reads and by the hints of its webhooks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from bench.prove.vendors.told import ADDRESSES, NAMES, SECOND, USER_IDS, Log
from tests.model.histories import Key

from upkept_marketo.client.read import envelope
from upkept_marketo.normalize import TYPES
from upkept_marketo.payload import written

NAME: Final = "marketo"
USER_ID_FIELD: Final = "appUserId"
MOST: Final = 4

Lead = dict[str, Any]


class Marketo:
    """Activities are numbered as they happen; a read shows a lead as it was in the second of the read."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.made = 0
        self.leads: dict[int, Lead] = {}

    @property
    def ops(self) -> tuple[Callable[[], None], ...]:
        return (
            self.create, self.create, self.edit, self.move, self.unsubscribe, self.unsubscribe, self.take_back,
            self.click, self.hint, self.block, self.bounce, self.merge, self.delete, self.fill_out, self.read,
            self.read,
        )  # fmt: skip

    def create(self) -> None:
        log = self.log
        if self.made == MOST:
            return
        self.made += 1
        self.leads[self.made] = lead = {
            "id": self.made, "email": log.one((*ADDRESSES, None)), "firstName": log.one(NAMES), "lastName": "Lee",
            "phone": None, "leadScore": 0, "unsubscribed": False, "unsubscribedReason": None, "blackListed": False,
            "emailInvalid": False, "createdAt": self._iso(), "updatedAt": self._iso(),
            USER_ID_FIELD: log.one(USER_IDS) if log.chance(0.2) else None,
        }  # fmt: skip
        self._activity("New Lead", lead, {"Source Type": "Web form fillout"})
        self._read(lead)

    def edit(self) -> None:
        lead = self._lead()
        if lead is not None:
            name, value = self.log.one((("firstName", self.log.one(NAMES)), ("leadScore", self.log.one((5, 9)))))
            self._change(lead, {name: value})

    def move(self) -> None:
        """To another address. Marketo opts the lead in where that one is clean."""
        lead = self._lead()
        if lead is None or not self.log.may_change(_key(lead)):
            return
        changes: Lead = {"email": self.log.one((*ADDRESSES, None))}
        if lead["unsubscribed"] and self.log.chance(0.5):
            changes["unsubscribed"] = False
        self._change(lead, changes)
        self.log.holds(_key(lead), lead["email"])

    def unsubscribe(self) -> None:
        lead = self._lead()
        if lead is not None:
            self._change(lead, {"unsubscribed": True, "unsubscribedReason": "asked us"})

    def take_back(self) -> None:
        """A word without evidence: it lifts nothing."""
        lead = self._lead()
        if lead is not None:
            self._change(lead, {"unsubscribed": False})

    def click(self) -> None:
        """The link in a mail."""
        lead = self._lead()
        if lead is not None:
            told = self._activity("Unsubscribe Email", lead, {}, about="Newsletter")
            self.log.act("opt_out", NAME, _key(lead), told)
            self._set(lead, {"unsubscribed": True})

    def hint(self) -> None:
        """A webhook of a campaign: its opt-out counts at once, at the time that its template gives, if it does."""
        lead = self._lead()
        if lead is None:
            return
        said = {"lead_id": lead["id"], "email": lead["email"], "event": "unsubscribe"}
        timed = self.log.chance(0.6)
        if timed:
            said["at"] = self._iso()
        else:
            said["reason"] = f"campaign {self.log.number()}"  # two that say the same to the letter are one
        self.log.webhook(NAME, json.dumps(said).encode(), undated=not timed)
        self.log.act("opt_out", NAME, _key(lead), lead["email"])
        self._set(lead, {"unsubscribed": True})

    def block(self) -> None:
        lead = self._lead()
        if lead is not None and self.log.chance(0.2):
            self._change(lead, {"blackListed": True})

    def bounce(self) -> None:
        lead = self._lead()
        if lead is not None:
            said = {"Category": self.log.one(("1", "2")), "Email": lead["email"], "Details": "550 no such user"}
            self._activity("Email Bounced", lead, said)

    def merge(self) -> None:
        """The loser is deleted; what is told of it later, or arrives later, is still its own."""
        if len(self.leads) < 2:
            return
        winner, *losers = self.log.random.sample(sorted(self.leads), min(len(self.leads), self.log.one((2, 2, 3))))
        for loser in losers:
            del self.leads[loser]
            self.log.ends((NAME, "lead", str(loser)))
        self._activity("Merge Leads", self.leads[winner], {"Merge IDs": losers})

    def delete(self) -> None:
        lead = self._lead()
        if lead is None or self.log.chance(0.5):
            return
        del self.leads[lead["id"]]
        if self.log.chance(0.5):
            self._activity("Delete Lead", lead, {})
        else:
            event = envelope([], read_at=self.log.second, gone=[str(lead["id"])])
            self.log.event(NAME, event.kind, event.id, event.body)
        self.log.ends(_key(lead))

    def fill_out(self) -> None:
        lead = self._lead()
        if lead is not None:
            self._activity("Fill Out Form", lead, {"Webpage ID": 12}, about="Contact us")

    def read(self) -> None:
        lead = self._lead()
        if lead is not None:
            self._read(lead)

    def close(self) -> None:
        """The last poll reads them once more, some or all at once."""
        if self.leads and self.log.chance(0.5):
            self._read(*self.leads.values())
        elif lead := self._lead():
            self._read(lead)

    def _lead(self) -> Lead | None:
        return self.log.one(list(self.leads.values())) if self.leads else None

    def _set(self, lead: Lead, changes: Mapping[str, Any]) -> None:
        lead.update(changes, updatedAt=self._iso())

    def _change(self, lead: Lead, changes: Mapping[str, Any]) -> None:
        fields = [{"name": name, "oldValue": lead[name], "newValue": value} for name, value in changes.items()]
        self._set(lead, changes)
        source = self.log.one(("Web form fillout", "Salesforce.com", "Web service API"))
        told = self._activity("Change Data Value", lead, {"Source": source}, fields=fields)
        for name, act in (("unsubscribed", "opt_out"), ("blackListed", "block")):
            if changes.get(name) is True:
                self.log.act(act, NAME, _key(lead), told)
        if changes.get("unsubscribed") is False:
            self.log.act("opt_in", NAME, _key(lead), None)

    def _activity(
        self, name: str, lead: Lead, attributes: Mapping[str, Any], *, about: str | None = None,
        fields: list[dict[str, Any]] | None = None,
    ) -> str | None:  # fmt: skip
        """Tell of it; the address that it is told with."""
        number = self.log.number()
        activity = {
            "id": number, "marketoGUID": str(number), "leadId": lead["id"], "activityDate": self._iso(),
            "primaryAttributeValue": about,
            "attributes": [{"name": name, "value": value} for name, value in attributes.items()],
        }  # fmt: skip
        if fields is not None:
            activity["fields"] = fields
        kind = TYPES.get(name, "activity")
        body: dict[str, Any] = {"type": name, "activity": activity}
        knows = kind not in ("activity", "new_lead") and lead["email"] is not None and self.log.chance(0.8)
        if knows:
            body["email"] = lead["email"]
        if kind == "change_data_value":
            body["lead"] = {"firstName": lead["firstName"], "lastName": lead["lastName"]}
        self.log.event(NAME, kind, f"{kind}:{number}", written(body))
        return lead["email"] if knows else None

    def _read(self, *leads: Lead) -> None:
        event = envelope(leads, read_at=self.log.second)
        self.log.event(NAME, event.kind, event.id, event.body)
        for lead in leads:
            self._say(lead)

    def _say(self, lead: Lead) -> None:
        """What a read of this lead means: a flag that is set is as old as the lead's last change."""
        self.log.holds(_key(lead), lead["email"], lead[USER_ID_FIELD])
        changed = datetime.fromisoformat(lead["updatedAt"])
        for name, act in (("unsubscribed", "opt_out"), ("blackListed", "block")):
            if lead[name]:
                self.log.act(act, NAME, _key(lead), lead["email"], at=int(changed.timestamp()) * SECOND)

    def _iso(self) -> str:
        return f"{self.log.moment:%Y-%m-%dT%H:%M:%SZ}"


def _key(lead: Lead) -> Key:
    return (NAME, "lead", str(lead["id"]))
