"""A small Salesforce: leads and contacts with their activity, told of by rows, change events and outbound messages.

A row that is read two seconds after its stamp, or later, is settled. A change event shows what one transaction changed;
an outbound message says at once who opted out, and all else in it waits for a read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final
from xml.sax.saxutils import escape

from bench.prove.vendors.told import ADDRESSES, NAMES, SECOND, USER_IDS, Log
from tests.model.histories import Key

from upkept_salesforce.change import HEADER, Schema, changes
from upkept_salesforce.client.rows import event, gone
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import BY_TYPE, CHANGED, OPT_OUT, Kind

NAME: Final = "salesforce"
USER_ID_FIELD: Final = "User_Id__c"
ORGANIZATION: Final = "00D000000000001EAA"
CONFIG: Final = SalesforceConfig(
    organization_id=ORGANIZATION, webhook_token="prove", external_id_field=USER_ID_FIELD
)  # fmt: skip
MOST: Final = 5
NO_FIELDS: Final = ("Id", "IsDeleted", "Name", CHANGED)
"""Of a row, what a change event has no field for, or only as a compound."""
NAME_PARTS: Final = ("FirstName", "LastName")
CONVERSION: Final = ("IsConverted", "ConvertedDate", "ConvertedContactId")

Row = dict[str, Any]


class Salesforce:
    """Rows by id, of people and of their activity."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.made = 0
        self.people: dict[str, Row] = {}
        self.activity: dict[str, tuple[Kind, Row]] = {}

    @property
    def ops(self) -> tuple[Callable[[], None], ...]:
        return (
            self.create, self.create, self.edit, self.edit, self.move, self.opt_out, self.opt_out, self.untick,
            self.bounce, self.convert, self.merge, self.delete, self.task, self.invite, self.end_activity, self.read,
        )  # fmt: skip

    def create(self) -> None:
        self._made("lead", self.log.one((*ADDRESSES, None)), opted_out=self.log.chance(0.1))

    def edit(self) -> None:
        row = self._person()
        if row is not None:
            name, value = self.log.one((("Title", "Poet"), ("Phone", "+353 1 9"), ("Phone", None), ("Rating", "Hot")))
            self._change(row, {name: value} if name in row else {"Title": "Dean"})

    def move(self) -> None:
        row = self._person()
        if row is not None and self.log.may_change(_key(row)):
            self._change(row, {"Email": self.log.one((*ADDRESSES, None))})

    def opt_out(self) -> None:
        row = self._person()
        if row is None:
            return
        with_address = self.log.chance(0.4)
        self._change(row, {OPT_OUT: True, **({"Email": row["Email"]} if with_address else {})})
        if self.log.chance(0.5):
            self._message(row)

    def untick(self) -> None:
        """The checkbox is cleared. That says nothing, as it is what every lead looks like."""
        row = self._person()
        if row is not None:
            self._change(row, {OPT_OUT: False})

    def bounce(self) -> None:
        row = self._person()
        if row is not None:
            self._change(row, {"EmailBouncedDate": self._iso()})

    def convert(self) -> None:
        """The lead becomes a contact, which bears the same address; the lead goes on as a converted one."""
        leads = [row for row in self.people.values() if row["Id"].startswith("00Q") and not row["IsConverted"]]
        if not leads:
            return
        lead = self.log.one(leads)
        contact = self._made("contact", lead["Email"], opted_out=lead[OPT_OUT])
        if contact is not None:
            day = f"{self.log.moment:%Y-%m-%d}"
            self._change(lead, {"IsConverted": True, "ConvertedDate": day, "ConvertedContactId": contact["Id"]})

    def merge(self) -> None:
        """The loser lies in the recycle bin, and its row says which one it became."""
        of = self.log.one(("00Q", "003"))
        ids = sorted(id for id in self.people if id.startswith(of))
        if len(ids) < 2:
            return
        winner, loser = self.log.random.sample(ids, 2)
        self._gone(loser, MasterRecordId=winner)

    def delete(self) -> None:
        """Into the recycle bin, or out of it as well: then the log of deletes knows no more than when it was."""
        row = self._person()
        if row is None or self.log.chance(0.5):
            return
        if self.log.chance(0.6):
            self._gone(row["Id"])
            return
        del self.people[row["Id"]]
        found = gone(_kind(row), row["Id"], at=self.log.moment, when=self._iso(), config=CONFIG)
        self.log.event(NAME, found.kind, found.id, found.body)
        self.log.ends(_key(row))

    def task(self) -> None:
        self._about("task", lambda who: {
            "WhoId": who, "Subject": "Call", "Status": self.log.one(("Open", "Completed")), "Priority": "Normal",
            "ActivityDate": f"{self.log.moment:%Y-%m-%d}", "IsClosed": self.log.chance(0.5),
            "CompletedDateTime": None,
        })  # fmt: skip

    def invite(self) -> None:
        """A campaign member; of a converted lead both are named."""
        self._about("campaign_member", lambda who: {
            "LeadId": who if who.startswith("00Q") else None, "ContactId": who if who.startswith("003") else None,
            "CampaignId": "701000000000001AAA", "Campaign": {"Name": "Fair"}, "Status": self.log.one(("Sent", "Came")),
            "HasResponded": self.log.chance(0.4), "FirstRespondedDate": None,
        })  # fmt: skip

    def end_activity(self) -> None:
        if self.activity and self.log.chance(0.4):
            id = self.log.one(sorted(self.activity))
            kind, row = self.activity.pop(id)
            self._read(kind, {**row, "IsDeleted": True, CHANGED: self._iso()})

    def read(self) -> None:
        row = self._person()
        if row is not None:
            self._read_person(row)

    def close(self) -> None:
        """The last pull reads some of them once more."""
        for row in self.people.values():
            if self.log.chance(0.5):
                self._read_person(row)

    def _made(self, of: str, address: str | None, *, opted_out: bool) -> Row | None:
        """A new person, told of by its row or by the change that made it."""
        if self.made == MOST:
            return None
        self.made += 1
        log, kind = self.log, BY_TYPE[of]
        first = log.one((*NAMES, None))
        row: Row = {
            "Id": full_id(f"{kind.prefix}00000000{self.made:04d}"), "IsDeleted": False, "CreatedDate": self._iso(),
            CHANGED: self._iso(), "LastModifiedById": None, "MasterRecordId": None, "Email": address,
            "FirstName": first, "LastName": "Lee", "Name": f"{first} Lee" if first else "Lee", "Phone": None,
            "Title": None, "LeadSource": "Web", "OwnerId": None, "DoNotCall": False, OPT_OUT: opted_out,
            "EmailBouncedDate": None, USER_ID_FIELD: log.one(USER_IDS) if log.chance(0.2) else None,
        }  # fmt: skip
        if of == "lead":
            row |= {"Company": "Acme", "Status": "Open", "Rating": None, **dict.fromkeys(CONVERSION)}
            row["IsConverted"] = False
        self.people[row["Id"]] = row
        if log.chance(0.5):
            self._read_person(row)
        else:
            self._told_of_change("CREATE", row, [name for name, value in row.items() if value is not None])
        return row

    def _change(self, row: Row, said: Row) -> None:
        """Told of by a change event, by the row, or by both."""
        row.update(said, **{CHANGED: self._iso()})
        event_first = self.log.chance(0.6)
        if event_first:
            self._told_of_change("UPDATE", row, said)
        if not event_first or self.log.chance(0.3):
            self._read_person(row)

    def _gone(self, id: str, **more: Any) -> None:
        row = self.people.pop(id)
        row.update(more, IsDeleted=True, **{CHANGED: self._iso()})
        self._read(_kind(row), row)
        self._say(row)
        self.log.ends(_key(row))

    def _about(self, of: str, made: Callable[[str], Row]) -> None:
        """Activity about a person: new, or changed and perhaps about somebody else."""
        person, kind = self._person(), BY_TYPE[of]
        if person is None:
            return
        known = [id for id, (its, _) in self.activity.items() if its is kind]
        id = self.log.one(known) if known and self.log.chance(0.5) else full_id(
            f"{kind.prefix}000000001{len(self.activity):03d}"
        )  # fmt: skip
        assert id is not None
        created = self.activity[id][1]["CreatedDate"] if id in self.activity else self._iso()
        row = {"Id": id, "IsDeleted": False, "CreatedDate": created, CHANGED: self._iso(), **made(person["Id"])}
        self.activity[id] = kind, row
        self._read(kind, row)

    def _person(self) -> Row | None:
        return self.log.one(list(self.people.values())) if self.people else None

    def _read_person(self, row: Row) -> None:
        self._read(_kind(row), row)
        self._say(row)
        self.log.holds(_key(row), row["Email"], row[USER_ID_FIELD])

    def _read(self, kind: Kind, row: Row) -> None:
        found = event(kind, row, at=self.log.moment, config=CONFIG)
        self.log.event(NAME, found.kind, found.id, found.body)

    def _say(self, row: Row) -> None:
        """What a row means: a box that is ticked is an opt-out, one that is not says nothing."""
        if row[OPT_OUT]:
            self.log.act("opt_out", NAME, _key(row), row["Email"], at=_us(row))

    def _told_of_change(self, how: str, row: Row, stated: Iterable[str]) -> None:
        """Over the Pub/Sub API every field comes along, as null where it did not change; bitmaps say which did."""
        fields = [name for name in row if name not in (*NO_FIELDS, *NAME_PARTS)]
        named = [name for name in fields if name in stated]
        schema: Schema = {HEADER: (), "Name": NAME_PARTS, **dict.fromkeys(fields, ())}
        places = list(schema)
        number = self.log.number()
        at = self.log.now // 1000 + number % 1000
        header = {
            "entityName": _kind(row).name, "recordIds": [row["Id"]], "changeType": how, "commitTimestamp": at,
            "changeOrigin": "com/salesforce/api/rest/62.0;client=browser", "sequenceNumber": 1,
            "changedFields": [hex(sum(1 << places.index(name) for name in named))] if how == "UPDATE" else [],
            "nulledFields": [],
        }  # fmt: skip
        parts = {name: row[name] for name in NAME_PARTS} if how == "CREATE" else None
        shown = {name: _in_avro(name, row) if name in named else None for name in fields}
        body = {HEADER: header, "Name": parts, **shown}
        for found in changes(f"change-{number}", body, schema, user_id_field=USER_ID_FIELD).events:
            if not found.thin:
                self.log.event(NAME, found.kind, found.id, found.body)
        if row[OPT_OUT] and OPT_OUT in named:
            address = row["Email"] if "Email" in named else None
            self.log.act("opt_out", NAME, _key(row), address, at=at * 1000)
        if "Email" in named or how == "CREATE":
            self.log.holds(_key(row), row["Email"], row[USER_ID_FIELD] if how == "CREATE" else None)

    def _message(self, row: Row) -> None:
        """What the envelope of an outbound message shows, as it is set up to."""
        shown = {"Id": row["Id"], "Email": row["Email"], OPT_OUT: "true", CHANGED: row[CHANGED]}
        fields = "".join(f"<sf:{name}>{escape(value)}</sf:{name}>" for name, value in shown.items() if value)
        of, id = _kind(row).name, f"04l{self.log.number():015d}"
        self.log.webhook(NAME, _ENVELOPE.format(organization=ORGANIZATION, id=id, of=of, fields=fields).encode())
        self.log.act("opt_out", NAME, _key(row), row["Email"], at=_us(row))

    def _iso(self) -> str:
        return f"{self.log.moment:%Y-%m-%dT%H:%M:%S.000+0000}"


_ENVELOPE: Final = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
<notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>{organization}</OrganizationId>
<Notification><Id>{id}</Id><sObject xsi:type="sf:{of}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">{fields}
</sObject></Notification></notifications></soapenv:Body></soapenv:Envelope>"""


def _kind(row: Row) -> Kind:
    return BY_TYPE["lead" if row["Id"].startswith("00Q") else "contact"]


def _key(row: Row) -> Key:
    return (NAME, _kind(row).type, row["Id"])


def _in_avro(name: str, row: Row) -> Any:
    """A value as a change event has it: dates in milliseconds."""
    value = row[name]
    return int(_time(value).timestamp()) * 1000 if name.endswith("Date") and value else value


def _us(row: Row) -> int:
    return int(_time(row[CHANGED]).timestamp()) * SECOND


def _time(value: str) -> datetime:
    found = datetime.fromisoformat(value)
    return found if found.tzinfo else found.replace(tzinfo=UTC)
