"""An unsubscribe goes round: Mailchimp, Marketo and Salesforce beside the hub, as stand-ins of our own.

They are in threads of the demo's process, for no sandbox of these vendors can be installed; what they answer and how
they fail is told at the head of each (`upkept.testing.fake_mailchimp.server` and its like).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from bench.processes import Failed
from bench.three import AUDIENCE, TOKEN, before, config
from rich import box
from rich.table import Table

from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept.testing.fake_marketo import FakeMarketo
from upkept.testing.fake_salesforce import FakeSalesforce

RULES: Final = """
[connections.mailchimp.fields]
"member.merge_fields.PLAN" = { attribute = "stripe_plan", convert = "text", direction = "out" }
"""
GONE: Final = "maybe@example.com"
"""Who unsubscribes: user 103."""
STAYS: Final = "owner@example.com"
WITHIN: Final = 60.0


@dataclass(frozen=True, slots=True)
class Vendors:
    """The three, and what each knows of the two people."""

    mailchimp: FakeMailchimp
    marketo: FakeMarketo
    salesforce: FakeSalesforce

    @property
    def config(self) -> str:
        """Their connections, for `upkept.toml`."""
        return config(self.mailchimp, self.marketo, self.salesforce, poll=0) + RULES

    def tell(self, hooks: str) -> None:
        """Have Mailchimp tell the hub at `hooks` what its members do."""
        self.mailchimp.control("POST", "/_hooks", audience=AUDIENCE, url=f"{hooks}/mailchimp/{TOKEN}")

    def unsubscribe(self) -> None:
        """Somebody follows the link at the end of a mail of Mailchimp's."""
        self.mailchimp.act("unsubscribe", GONE, audience=AUDIENCE)

    def import_again(self) -> None:
        """Somebody imports an old list at Marketo: it says that all of them may be mailed."""
        self.marketo.do("change", self._lead(GONE), fields={"unsubscribed": False}, source="List import")

    def plan(self, email: str) -> str:
        return str(self._member(email)["merge_fields"]["PLAN"])

    def may_mail(self, email: str) -> Mapping[str, bool]:
        """Whether each of them would mail this address."""
        return {
            "Mailchimp": self._member(email)["status"] == "subscribed",
            "Marketo": not self.marketo.lead(self._lead(email))["unsubscribed"],
            "Salesforce": not next(r for r in self.salesforce.rows("Lead") if r["Email"] == email)[
                "HasOptedOutOfEmail"
            ],
        }

    def table(self) -> Table:
        """Who is mailed by whom."""
        shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
        for column in ("address", "plan there", *self.may_mail(STAYS)):
            shown.add_column(column, no_wrap=True)
        for email in (STAYS, GONE):
            mailed = ("mails" if may else "opted out" for may in self.may_mail(email).values())
            shown.add_row(email, self.plan(email) or "-", *mailed)
        return shown

    def _member(self, email: str) -> Mapping[str, Any]:
        members = self.mailchimp.world.audiences[AUDIENCE].members.values()
        return next(one for one in members if one["email_address"] == email)

    def _lead(self, email: str) -> int:
        return next(id for id, lead in self.marketo.world.leads.items() if lead["email"] == email)


@contextmanager
def running() -> Iterator[Vendors]:
    """The three on free ports; the same two people stand in each."""
    with FakeMailchimp() as mailchimp, FakeMarketo() as marketo, FakeSalesforce() as salesforce:
        mailchimp.audience(AUDIENCE, merge_fields={"PLAN": "text"})
        with before(mailchimp, marketo, salesforce):
            for email in (STAYS, GONE):
                mailchimp.act("subscribe", email, audience=AUDIENCE)
                marketo.do("create", fields={"email": email})
                salesforce.make("Lead", {"LastName": "Doe", "Company": "Example", "Email": email})
        yield Vendors(mailchimp, marketo, salesforce)


def within(what: str, reached: Callable[[], bool]) -> float:
    """Wait until it is so; how many seconds that took. Raises `Failed` if it does not come about."""
    began = time.monotonic()
    while not reached():
        if time.monotonic() - began > WITHIN:
            raise Failed(f"{what} did not come about within {WITHIN:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began
