"""The stand-ins for the three vendors that are read and written to, behind one face.

A sandbox has people by number, each with an address of its own; most may be mailed, some opted out. Its clock stands
where it was set, so that two runs of the same story find the same times.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Final, Protocol

from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept.testing.fake_marketo import FakeMarketo
from upkept.testing.fake_marketo.server import SECRET
from upkept.testing.fake_salesforce import FakeSalesforce
from upkept.testing.fake_salesforce.org import INTEGRATION
from upkept.testing.fake_salesforce.server import ALWAYS_GOOD

OPTED_OUT: Final = 20
"""One of so many opted out at the vendor."""
TAGGED: Final = 10


class Sandbox(Protocol):
    """What the run needs of a vendor. `rows` is how many people one call of a walk shows; `secret` is what opens it."""

    name: str
    rows: int
    secret: str

    @property
    def fake(self) -> AbstractContextManager[object]: ...

    @property
    def config(self) -> str:
        """The connection's section of upkept.toml, with rules for what goes out; the secret in VENDOR_SECRET."""

    def seed(self, people: int, at: int) -> None:
        """So many people, made before the second `at`; the clock stands there."""

    def set_clock(self, at: int) -> None: ...

    def set_slow(self, seconds: float) -> None:
        """Wait so long before each answer."""

    def address(self, number: int) -> str: ...

    def change(self, number: int) -> None:
        """Something of that person changes at the vendor; of every third it is the consent."""

    def asked(self) -> int:
        """How many calls came so far. Counts a few thousand, no more."""

    def writes(self) -> list[str]:
        """What was asked to be written so far, each record by itself, as text."""

    def state(self) -> Any:
        """Everything it holds of its people, to compare."""


class Mailchimp:
    """Several audiences, as many people in each; tags and an interest group, which are dated by the read alone."""

    name = "mailchimp"
    rows = 500
    secret = "resync-us6"

    def __init__(self, audiences: int) -> None:
        self.fake = FakeMailchimp()
        self.audiences = [f"a{number}" for number in range(audiences)]

    @property
    def config(self) -> str:
        return f"""
[connections.mailchimp]
connector = "mailchimp"
api_key = "env:VENDOR_SECRET"
audiences = {json.dumps(self.audiences)}
base_url = "{self.fake.url}"
poll = 0
[connections.mailchimp.fields]
"member.merge_fields.FNAME" = {{ attribute = "first_name", convert = "text", direction = "both" }}
"member.merge_fields.PHONE" = {{ attribute = "phone", convert = "text", direction = "both" }}
"""

    def seed(self, people: int, at: int) -> None:
        self.set_clock(at)
        each = people // len(self.audiences)
        groups = {"g1": {"title": "Topics", "interests": {"i1": "Cats"}}}
        statuses = {"unsubscribed": each // OPTED_OUT, "cleaned": each // OPTED_OUT // 2}
        for id in self.audiences:
            self.fake.audience(id, groups=groups)
            self.fake.seed(audience=id, members=each, prefix=f"{id}m", statuses=statuses)
            audience = self.fake.world.audiences[id]
            for member in list(audience.members.values())[::TAGGED]:
                self.fake.world.tag(audience, member, "VIP", on=True)

    def set_clock(self, at: int) -> None:
        self.fake.set_clock(at)

    def set_slow(self, seconds: float) -> None:
        self.fake.faults(slow=seconds)

    def address(self, number: int) -> str:
        return f"{self._audience(number)}m{number // len(self.audiences)}@example.com"

    def change(self, number: int) -> None:
        act: Mapping[str, Any] = {"act": "unsubscribe"} if number % 3 == 0 else {"act": "profile", **_renamed(number)}
        self.fake.act(email=self.address(number), audience=self._audience(number), **act)

    def asked(self) -> int:
        return len(self.fake.world.requests)

    def writes(self) -> list[str]:
        found: list[str] = []
        for one in self.fake.requests():
            if one["method"] != "GET":
                operations = one["body"].get("operations") or [one]
                found += [f"{op['method']} {op['path']} {_plain(op['body'])}" for op in operations]
        return found

    def state(self) -> Any:
        with self.fake.world.lock:
            return copy.deepcopy({id: one.members for id, one in self.fake.world.audiences.items()})

    def _audience(self, number: int) -> str:
        return self.audiences[number % len(self.audiences)]


class Marketo:
    """Leads made evenly over the last years, so that a walk takes many extracts."""

    name = "marketo"
    rows = 900
    secret = SECRET
    YEARS: ClassVar = 3

    def __init__(self) -> None:
        self.fake = FakeMarketo()

    @property
    def config(self) -> str:
        return f"""
[connections.marketo]
connector = "marketo"
client_id = "client"
client_secret = "env:VENDOR_SECRET"
base_url = "{self.fake.url}"
poll = 0
[connections.marketo.fields]
"lead.phone" = {{ attribute = "phone", convert = "wording", direction = "both" }}
"""

    def seed(self, people: int, at: int) -> None:
        self.set_clock(at)
        self.fake.seed(people, days=365 * self.YEARS, unsubscribed=people // OPTED_OUT)

    def set_clock(self, at: int) -> None:
        self.fake.control("POST", "/_clock", frozen=at)

    def set_slow(self, seconds: float) -> None:
        self.fake.faults(slow=seconds)

    def address(self, number: int) -> str:
        return f"lead{number}@example.com"

    def change(self, number: int) -> None:
        (id,) = self.fake.world.of_address(self.address(number))
        if number % 3 == 0:
            self.fake.do("unsubscribe", id)
        else:
            self.fake.do("change", id, fields={"company": f"Company {number}"})

    def asked(self) -> int:
        return len(self.fake.world.gate.requests)

    def writes(self) -> list[str]:
        posts = [one for one in self.fake.requests() if one["path"].startswith("/rest/v1/leads") and one["body"]]
        return [f"{one['path']} {_plain(row)}" for one in posts for row in one["body"]["input"]]

    def state(self) -> Any:
        with self.fake.world.lock:
            return copy.deepcopy(self.fake.world.leads)


class Salesforce:
    """Leads."""

    name = "salesforce"
    secret = ALWAYS_GOOD

    def __init__(self, rows: int) -> None:
        self.fake = FakeSalesforce()
        self.rows = rows
        self.fake.set_faults(page=min(rows, 2_000))
        self._written: list[str] = []
        self._ids: list[str] = []
        self.fake.org.committed = self._note

    @property
    def config(self) -> str:
        return f"""
[connections.salesforce]
connector = "salesforce"
access_token = "env:VENDOR_SECRET"
base_url = "{self.fake.url}"
poll = 0
[connections.salesforce.fields]
"lead.Phone" = {{ attribute = "phone", convert = "text", direction = "both" }}
"""

    def seed(self, people: int, at: int) -> None:
        self.set_clock(at)
        self._ids = self.fake.seed(leads=people)
        for id in self._ids[::OPTED_OUT]:
            self.fake.change("Lead", id, HasOptedOutOfEmail=True)

    def set_clock(self, at: int) -> None:
        self.fake.org.clock.frozen = float(at)

    def set_slow(self, seconds: float) -> None:
        self.fake.set_faults(slow=seconds)

    def address(self, number: int) -> str:
        return f"lead{number}@example.com"

    def change(self, number: int) -> None:
        said = {"HasOptedOutOfEmail": True} if number % 3 == 0 else {"Title": f"Title {number}"}
        self.fake.change("Lead", self._ids[number], **said)

    def asked(self) -> int:
        return len(self.fake.gate.requests)

    def writes(self) -> list[str]:
        with self.fake.lock:
            return list(self._written)

    def state(self) -> Any:
        return self.fake.rows("Lead")

    def _note(self, table: str, type: str, ids: list[str], values: dict[str, Any], by: str) -> None:
        if by == INTEGRATION:
            self._written += [f"{type} {table} {id} {_plain(values)}" for id in ids]


def sandbox(vendor: str, people: int) -> Mailchimp | Marketo | Salesforce:
    """A vendor by its name. A small population is spread over many pages."""
    if vendor == "mailchimp":
        return Mailchimp(audiences=2 if people > 20_000 else 10)
    return Marketo() if vendor == "marketo" else Salesforce(rows=5_000 if people > 20_000 else 100)


VENDORS: Final = ("mailchimp", "marketo", "salesforce")


def _renamed(number: int) -> dict[str, Any]:
    return {"merge_fields": {"FNAME": f"Renamed {number}"}}


def _plain(body: Any) -> str:
    said = json.loads(body) if isinstance(body, str) else body
    return json.dumps(said, sort_keys=True)
