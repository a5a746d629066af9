"""The three stand-ins of a run, which know the same people, and what is done there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from bench.three import AUDIENCE, TOKEN, before, config

from upkept.testing.fake_mailchimp import FakeMailchimp
from upkept.testing.fake_mailchimp.faults import Problem
from upkept.testing.fake_marketo import FakeMarketo
from upkept.testing.fake_salesforce import FakeSalesforce

Name = Literal["mailchimp", "marketo", "salesforce"]
NAMES: Final[tuple[Name, ...]] = ("mailchimp", "marketo", "salesforce")


def email(person: int) -> str:
    return f"p{person}@example.com"


def person_of(address: str) -> int:
    return int(address[1:].partition("@")[0])


@dataclass(frozen=True, slots=True)
class Vendors:
    """The three; by person what each has of it: Mailchimp's member, the ids of Marketo's and Salesforce's lead."""

    mailchimp: FakeMailchimp
    marketo: FakeMarketo
    salesforce: FakeSalesforce
    members: Sequence[dict[str, Any]]
    leads: Sequence[int]
    rows: Sequence[str]

    def config(self, *, poll: float) -> str:
        """Their connections, for `upkept.toml`."""
        return config(self.mailchimp, self.marketo, self.salesforce, poll=poll)

    def tell(self, hooks: str) -> None:
        """From now on they tell the hub at `hooks` what happens, as their set-up in `docs/` says: Mailchimp not of what
        its API does, Marketo of clicks only. Salesforce tells of everything, what the hub wrote included."""
        self.mailchimp.control("POST", "/_hooks", audience=AUDIENCE, url=f"{hooks}/mailchimp/{TOKEN}")
        self.marketo.webhook(f"{hooks}/marketo", TOKEN, what=["unsubscribed"])
        self.salesforce.control("POST", "/_hooks", {"url": f"{hooks}/salesforce/{TOKEN}"})

    def unsubscribe(self, at: Name, person: int) -> None:
        """The person follows the link in a mail of that vendor; at Salesforce somebody ticks the box for it."""
        match at:
            case "mailchimp":
                self.mailchimp.act("unsubscribe", email(person), audience=AUDIENCE)
            case "marketo":
                self.marketo.do("unsubscribe", self.leads[person])
            case "salesforce":
                self.salesforce.change("Lead", self.rows[person], HasOptedOutOfEmail=True)

    def reverse(self, at: Name, person: int, dice: random.Random) -> None:
        """Somebody there says that the person may be mailed: an import, a flow step, or a salesperson who
        unticks the box."""
        match at:
            case "mailchimp":
                # Over the API Mailchimp itself refuses whoever left by itself: a compliance lock.
                with suppress(Problem):
                    by = dice.choice(("admin", "api"))
                    self.mailchimp.act("subscribe", email(person), audience=AUDIENCE, by=by)
            case "marketo":
                self.marketo.do("change", self.leads[person], fields={"unsubscribed": False}, source="Flow action")
            case "salesforce":
                self.salesforce.change("Lead", self.rows[person], HasOptedOutOfEmail=False)

    def is_out(self, at: Name, person: int) -> bool:
        """Would this vendor not mail the person?"""
        match at:
            case "mailchimp":
                return bool(self.members[person]["status"] == "unsubscribed")
            case "marketo":
                return bool(self.marketo.world.leads[self.leads[person]]["unsubscribed"])
            case "salesforce":
                return bool(self.salesforce.org.tables["Lead"][self.rows[person]]["HasOptedOutOfEmail"])

    def faults(self, at: Name, **said: Any) -> None:
        """Set faults of one of them; none ends them all."""
        match at:
            case "mailchimp":
                self.mailchimp.faults(**said)
            case "marketo":
                self.marketo.faults(**said)
            case "salesforce":
                self.salesforce.set_faults(**said)

    def deliveries(self, at: Name) -> dict[str, int]:
        """What became of its webhooks."""
        counts = {
            "mailchimp": self.mailchimp.world.postman.counts, "marketo": self.marketo.world.postman.counts,
            "salesforce": self.salesforce.postman.counts,
        }  # fmt: skip
        return dict(counts[at])


@contextmanager
def running(people: int) -> Iterator[Vendors]:
    """The three on free ports; everybody stands in each and may be mailed."""
    with FakeMailchimp() as mailchimp, FakeMarketo() as marketo, FakeSalesforce() as salesforce:
        with before(mailchimp, marketo, salesforce):
            mailchimp.seed(audience=AUDIENCE, members=people, prefix="p")
            leads = [marketo.do("create", fields={"email": email(person)}) for person in range(people)]
            rows = salesforce.make("Lead", *(
                {"LastName": f"Lead {person}", "Company": "Acme", "Email": email(person)} for person in range(people)
            ))  # fmt: skip
        members = list(mailchimp.world.audiences[AUDIENCE].members.values())
        yield Vendors(mailchimp, marketo, salesforce, members, leads, rows)
