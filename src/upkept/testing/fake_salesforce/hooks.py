"""Outbound messages of the Salesforce stand-in: at least once, in no order, until somebody acknowledges.

As at Salesforce a message carries what the record is *when it is sent*, whatever changed meanwhile, and up to 100
changes of one object; a record that is gone by then sends a notification without data. Deletes send nothing. A
message counts as taken only if the answer is 200 and holds `<Ack>true</Ack>`.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final
from xml.sax.saxutils import escape

from upkept.testing.fake_salesforce.org import ORGANIZATION, Org
from upkept.testing.fake_salesforce.shapes import SCHEMAS, Row, made_id
from upkept.testing.post import TIMEOUT, asked

MOST: Final = 100
FIELDS: Final = ("Id", "Email", "FirstName", "LastName", "HasOptedOutOfEmail", "SystemModstamp")
SENT: Final = frozenset({"Lead", "Contact", "Task", "Event", "CampaignMember"})


@dataclass(slots=True)
class Notification:
    """A change on its way. Its id stays the same in every try."""

    due: float
    id: str
    table: str
    record: str
    tries: int = 0


@dataclass
class Postman:
    """Sends from a thread of its own. `url` None sends nothing. `needs_ack` False takes any 2xx for an
    acknowledgement."""

    org: Org
    url: str | None = None
    needs_ack: bool = True
    counts: Counter[str] = field(default_factory=Counter)
    _waiting: list[Notification] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _random: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311
    _sending: int = 0
    _stopping: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(TIMEOUT)

    def note(self, table: str, record: str) -> None:
        """A row was written."""
        faults = self.org.faults
        if self.url is None or table not in SENT:
            return
        with self._changed:
            if self._random.random() < faults.drop:
                self.counts["dropped"] += 1
                return
            id = made_id("04l", next(self._numbers))
            for _ in range(2 if self._random.random() < faults.duplicate else 1):
                due = time.monotonic() + faults.delay + self._random.random() * faults.reorder
                self._waiting.append(Notification(due, id, table, record))
            self._changed.notify_all()

    def drain(self, timeout: float = 10.0) -> bool:
        """Wait until nothing is on its way, tries again included."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._waiting or self._sending:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    def _run(self) -> None:
        while some := self._due():
            taken = self._post(message([(one.id, one.table, self._row(one)) for one in some]))
            with self._changed:
                self._settle(some, taken)
                self._sending = 0
                self._changed.notify_all()

    def _row(self, one: Notification) -> Row | None:
        row = self.org.tables[one.table].get(one.record)
        return None if row is None or row["IsDeleted"] else row

    def _due(self) -> list[Notification]:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                due = [one for one in self._waiting if one.due <= now]
                if due:
                    some = [one for one in due if one.table == due[0].table][:MOST]
                    self._waiting = [one for one in self._waiting if all(one is not other for other in some)]
                    self._sending = len(some)
                    return some
                self._changed.wait(min((one.due - now for one in self._waiting), default=None))
        return []

    def _settle(self, some: list[Notification], taken: bool) -> None:
        self.counts["messages"] += 1
        if taken:
            self.counts["acknowledged"] += len(some)
            return
        delays = self.org.faults.retry_delays
        for one in some:
            if one.tries >= len(delays):
                self.counts["given_up"] += 1
                continue
            one.due = time.monotonic() + delays[one.tries]
            one.tries += 1
            self.counts["retried"] += 1
            self._waiting.append(one)

    def _post(self, body: bytes) -> bool:
        headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}
        status, said = asked("POST", self.url or "", body, headers)
        self.counts[f"status_{status}" if status else "unanswered"] += 1
        return status == 200 and (b"<Ack>true</Ack>" in said or not self.needs_ack)


def message(changes: list[tuple[str, str, Row | None]], *, organization: str = ORGANIZATION) -> bytes:
    """An outbound message: (id of the notification, object, its row or None if it is gone)."""
    notifications = "".join(_notification(*change) for change in changes)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
        '<soapenv:Body><notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
        f"<OrganizationId>{organization}</OrganizationId><ActionId>{made_id('04k', 1)}</ActionId>"
        '<SessionId xsi:nil="true"/><EnterpriseUrl>https://acme.my.salesforce.com/services/Soap/c/62.0</EnterpriseUrl>'
        "<PartnerUrl>https://acme.my.salesforce.com/services/Soap/u/62.0</PartnerUrl>"
        f"{notifications}</notifications></soapenv:Body></soapenv:Envelope>"
    ).encode()


def _notification(id: str, table: str, row: Row | None) -> str:
    shown = "".join(
        f"<sf:{name}>{_text(row[name])}</sf:{name}>"
        for name in (FIELDS if row else ())
        if row is not None and name in SCHEMAS[table] and row.get(name) is not None
    )
    return (
        f'<Notification><Id>{id}</Id><sObject xsi:type="sf:{table}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">'
        f"{shown}</sObject></Notification>"
    )


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(str(value).replace("+0000", "Z"))
