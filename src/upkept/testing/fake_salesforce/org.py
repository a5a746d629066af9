"""The org of the Salesforce stand-in: rows, what writing them does, the recycle bin and the log of deletes."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from upkept.testing.fake_salesforce.faults import Faults
from upkept.testing.fake_salesforce.shapes import (
    DEFAULTS,
    LONGEST,
    PREFIXES,
    READ_ONLY,
    REQUIRED,
    SCHEMAS,
    ApiError,
    Row,
    made_id,
    second_of,
    shown_time,
    whole_id,
)
from upkept.testing.fake_salesforce.soql import Query, comparable

ORGANIZATION: Final = whole_id("00D5fX000000001")
SOMEBODY: Final = whole_id("0055fX000000001")
INTEGRATION: Final = whole_id("0055fX000000002")
"""Two users: one of the sales team, and the one whom the API's calls run as."""

_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass
class Clock:
    """Seconds; `frozen` stands still, `offset` runs beside the machine's."""

    offset: float = 0.0
    frozen: float | None = None

    def now(self) -> float:
        return self.frozen if self.frozen is not None else time.time() + self.offset


@dataclass
class Org:
    """All rows by object and id. `changed` is told of every write, (object, id), `committed` what it changed:
    (object, CREATE or the like, ids, values, user)."""

    faults: Faults
    clock: Clock = field(default_factory=Clock)
    tables: dict[str, dict[str, Row]] = field(default_factory=lambda: {name: {} for name in SCHEMAS})
    deletes: list[tuple[str, str, float]] = field(default_factory=list)
    external_ids: frozenset[str] = frozenset({"User_Id__c"})
    changed: Callable[[str, str], None] = lambda _table, _id: None
    committed: Callable[[str, str, list[str], Row, str], None] = lambda _table, _type, _ids, _values, _by: None
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.tables["Organization"][ORGANIZATION] = {"Id": ORGANIZATION, "Name": "Acme", "IsDeleted": False}

    def create(self, table: str, values: Row, *, by: str = SOMEBODY) -> str:
        """The new row's id. Raises `ApiError` as Salesforce would."""
        self._valid(table, values)
        missing = [name for name in REQUIRED.get(table, ()) if not values.get(name)]
        if missing:
            message = f"Required fields are missing: [{', '.join(missing)}]"
            raise ApiError(400, "REQUIRED_FIELD_MISSING", message, fields=tuple(missing))
        self._unique(table, values, None)
        self._no_duplicate(table, values)
        self._about(values.get("WhoId"))
        id, now = made_id(PREFIXES[table], next(self._numbers)), shown_time(self.clock.now())
        row: Row = dict.fromkeys(SCHEMAS[table])
        row |= {**DEFAULTS.get(table, {}), "Id": id, "IsDeleted": False, "CreatedDate": now, "OwnerId": SOMEBODY}
        self.tables[table][id] = row
        self._write(table, row, values, by, type="CREATE")
        return id

    def update(self, table: str, id: str, values: Row, *, by: str = SOMEBODY) -> None:
        row = self.standing(table, id)
        self._valid(table, values)
        self._unique(table, values, row["Id"])
        if row.get("IsConverted"):
            raise ApiError(400, "CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead")
        self._write(table, row, values, by)

    def delete(self, table: str, id: str, *, by: str = SOMEBODY, master: str | None = None) -> None:
        row = self.standing(table, id)
        gone = {"IsDeleted": True, **({"MasterRecordId": master} if master else {})}
        self._write(table, row, gone, by, type="DELETE")
        self.deletes.append((table, row["Id"], self.clock.now()))

    def undelete(self, table: str, id: str) -> None:
        row = self.tables[table][whole_id(id)]
        self._write(table, row, {"IsDeleted": False}, SOMEBODY, type="UNDELETE")

    def purge(self) -> None:
        """Empty the recycle bin: no query shows these rows again."""
        for rows in self.tables.values():
            for id in [id for id, row in rows.items() if row.get("IsDeleted")]:
                del rows[id]

    def merge(self, table: str, winner: str, losers: Iterable[str]) -> None:
        """Losers are deleted and name their winner; what was about them is about the winner, silently."""
        for loser in losers:
            self.delete(table, loser, master=whole_id(winner))
            self._repoint(whole_id(loser), whole_id(winner), silent=True)
        self._write(table, self.standing(table, winner), {}, SOMEBODY)

    def convert(self, lead: str) -> str:
        """One transaction: an account, a contact that takes over, then the lead. The contact's id."""
        row = self.standing("Lead", lead)
        account = self.create("Account", {"Name": row["Company"]})
        shared = {name: row[name] for name in ("FirstName", "LastName", "Email", "Phone", "Title", "LeadSource")}
        contact = self.create("Contact", {**shared, "AccountId": account, "User_Id__c": None})
        self._repoint(row["Id"], contact, silent=False)
        day = shown_time(self.clock.now())[:10]
        said = {"Status": "Closed - Converted", "IsConverted": True, "ConvertedDate": day,
                "ConvertedAccountId": account, "ConvertedContactId": contact}  # fmt: skip
        self._write("Lead", row, said, SOMEBODY)
        return contact

    def standing(self, table: str, id: str) -> Row:
        row = self.tables.get(table, {}).get(whole_id(id)) if len(id) in (15, 18) else None
        if row is None:
            raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
        if row["IsDeleted"]:
            raise ApiError(404, "ENTITY_IS_DELETED", "entity is deleted")
        return row

    def found(self, query: Query, *, everything: bool) -> list[Row]:
        rows = [row for row in self.tables[query.table].values() if (everything or not row.get("IsDeleted"))]
        rows = [row for row in rows if query.test(row)]
        for name, descending in reversed(query.order):
            rows.sort(key=lambda row: (row.get(name) is not None, comparable(row.get(name)) or 0), reverse=descending)
        return rows if query.limit is None else rows[: query.limit]

    def by_external_id(self, table: str, name: str, value: str) -> list[Row]:
        if name not in self.external_ids:
            raise ApiError(400, "NOT_FOUND", "Provided external ID field does not exist or is not accessible")
        rows = self.tables[table].values()
        return [row for row in rows if not row["IsDeleted"] and str(row.get(name) or "").lower() == value.lower()]

    def deleted(self, table: str, start: int, end: int) -> Row:
        if end - start < 60:
            raise ApiError(400, "INVALID_REPLICATION_DATE", "endDate before startDate")
        now = self.clock.now()
        earliest = now - self.faults.deletes_kept
        if start < now - 15 * 86_400 - 60:
            raise ApiError(400, "INVALID_REPLICATION_DATE", "startDate before org replication enabled date")
        listed = [(id, at) for name, id, at in self.deletes if name == table and start <= at < end]
        return {
            "deletedRecords": [{"id": id, "deletedDate": shown_time(at)} for id, at in listed],
            "earliestDateAvailable": shown_time(earliest),
            "latestDateCovered": shown_time(min(end, now)),
        }

    def _write(self, table: str, row: Row, values: Row, by: str, *, type: str = "UPDATE") -> None:
        row |= {name: value for name, value in values.items() if name != "attributes"}
        now = shown_time(self.clock.now())
        row |= {"SystemModstamp": now, "LastModifiedDate": now, "LastModifiedById": by}
        if "LastName" in row:
            row["Name"] = " ".join(filter(None, (row.get("FirstName"), row.get("LastName"))))
        if table == "Task" and row["IsClosed"] != (row["Status"] == "Completed"):
            row["IsClosed"] = row["Status"] == "Completed"
            row["CompletedDateTime"] = now if row["IsClosed"] else None
        self.changed(table, row["Id"])
        told = {name: value for name, value in row.items() if value is not None} if type == "CREATE" else values
        self.committed(table, type, [row["Id"]], told, by)

    def _valid(self, table: str, values: Row) -> None:
        for name, value in values.items():
            hidden = f"{table}.{name}" in self.faults.hidden
            if name == "attributes":
                continue
            if name not in SCHEMAS[table] or hidden:
                message = f"No such column '{name}' on sobject of type {table}"
                raise ApiError(400, "INVALID_FIELD", message)
            if name in READ_ONLY and not (name == "Name" and table in ("Account", "Campaign")):
                message = f"Unable to create/update fields: {name}."
                raise ApiError(400, "INVALID_FIELD_FOR_INSERT_UPDATE", message, fields=(name,))
            if SCHEMAS[table][name] == "email" and value is not None and not _EMAIL.fullmatch(str(value)):
                message = f"Email: invalid email address: {value}"
                raise ApiError(400, "INVALID_EMAIL_ADDRESS", message, fields=(name,))
            if len(str(value)) > LONGEST.get(SCHEMAS[table][name], 1 << 20):
                raise ApiError(400, "STRING_TOO_LONG", f"{name}: data value too large", fields=(name,))
            if SCHEMAS[table][name] == "boolean" and not isinstance(value, bool):
                raise ApiError(400, "JSON_PARSER_ERROR", f"Cannot deserialize instance of boolean from {value!r}")
            if f"{table}.{name}" in self.faults.refused:
                raise ApiError(400, "FIELD_CUSTOM_VALIDATION_EXCEPTION", f"{name} is not to our taste", fields=(name,))

    def _unique(self, table: str, values: Row, id: str | None) -> None:
        for name in self.external_ids & values.keys():
            if values[name] and not self.faults.ambiguous:
                others = [row["Id"] for row in self.by_external_id(table, name, str(values[name]))]
                if [other for other in others if other != id]:
                    raise ApiError(400, "DUPLICATE_VALUE", f"duplicate value found: {name} duplicates value on record")

    def _no_duplicate(self, table: str, values: Row) -> None:
        if not self.faults.duplicate_rule or not values.get("Email"):
            return
        alike = [row for row in self.tables[table].values()
                 if not row["IsDeleted"] and comparable(row.get("Email")) == comparable(values["Email"])]  # fmt: skip
        if alike:
            matches = [{"matchRecords": [{"record": {"Id": row["Id"]}} for row in alike]}]
            raise ApiError(400, "DUPLICATES_DETECTED", "Use one of these records?",
                           more={"duplicateResult": {"matchResults": matches}})  # fmt: skip

    def _about(self, who: Any) -> None:
        """Activity is about a lead or contact that stands, and no longer about a lead that was converted."""
        if who is None:
            return
        table = next((table for table in ("Lead", "Contact") if str(who).startswith(PREFIXES[table])), "")
        row = self.tables.get(table, {}).get(whole_id(str(who)))
        if row is None:
            raise ApiError(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", fields=("WhoId",))
        if row["IsDeleted"]:
            raise ApiError(400, "ENTITY_IS_DELETED", "entity is deleted", fields=("WhoId",))
        if row.get("IsConverted"):
            raise ApiError(400, "CANNOT_UPDATE_CONVERTED_LEAD", "cannot reference converted lead", fields=("WhoId",))

    def _repoint(self, old: str, new: str, *, silent: bool) -> None:
        column = "ContactId" if new.startswith("003") else "LeadId"
        for table, name in (("Task", "WhoId"), ("Event", "WhoId"), ("CampaignMember", "LeadId")):
            for row in self.tables[table].values():
                if row.get(name) == old and not row["IsDeleted"]:
                    row[column if table == "CampaignMember" else name] = new
                    if not silent:
                        self._write(table, row, {}, SOMEBODY)


def seconds(text: Any) -> int:
    """Of a parameter; raises `ApiError` for what is no time."""
    try:
        return second_of(str(text).replace("Z", "+00:00"))
    except ValueError:
        raise ApiError(400, "INVALID_REPLICATION_DATE", "not a time") from None
