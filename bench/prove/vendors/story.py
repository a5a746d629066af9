"""A small seeded world: what happens to a few people at four vendors and at our own doors, within some 40 seconds.

The seconds lie in groups of five, seven minutes between the groups: some things happen in one second, some in the next,
and some so much later that another clock may answer them (R8).
"""

from __future__ import annotations

from random import Random
from typing import Final

from bench.prove.vendors.doors import Doors
from bench.prove.vendors.mailchimp import Mailchimp
from bench.prove.vendors.marketo import Marketo
from bench.prove.vendors.salesforce import Salesforce
from bench.prove.vendors.stripe import Stripe
from bench.prove.vendors.told import SECOND, History, Log
from tests.model.histories import BEGIN, Cut, Erase, Merge

from upkept.contract import LOWERING_ACTS

GROUP: Final = 5
APART: Final = 420
MOST_SECONDS: Final = 40
MOST_TRIES: Final = 8
LATER: Final = 360
"""Seconds after which somebody thinks better of it, whom any clock must believe."""
AFTER: Final = 10
"""Seconds after which whoever pulls does so once more."""


def history(seed: int) -> History:
    """The history of this seed, in the order in which it happened; each vendor told of all that it did."""
    return _Story(seed).tell()


class _Story:
    def __init__(self, seed: int) -> None:
        self.log = log = Log(Random(f"vendors {seed}"))
        self.doors = Doors(log)
        stripe, mailchimp, marketo, salesforce = Stripe(log), Mailchimp(log), Marketo(log), Salesforce(log)
        self.pulled = (mailchimp, marketo, salesforce)
        self.first = (stripe.create, mailchimp.add, mailchimp.confirm, marketo.create, marketo.create,
                      salesforce.create, salesforce.create)  # fmt: skip
        self.ops = (self.doors.ops, stripe.ops, *(vendor.ops for vendor in self.pulled * 2))
        self.rarely = (self.merge, self.cut) if log.chance(0.75) else (self.merge, self.cut, self.erase, self.erase)

    def tell(self) -> History:
        log = self.log
        seconds = log.one((3, 10, MOST_SECONDS))
        for create in self.first:
            if log.chance(0.8):
                create()
        for second in sorted(log.random.choices(range(seconds), k=log.random.randrange(8, 31))):
            log.now = BEGIN + (second // GROUP * APART + second % GROUP) * SECOND
            self._something()
        if log.chance(0.6):
            log.now += LATER * SECOND
            self.doors.opt_in()
        log.now += AFTER * SECOND
        for vendor in self.pulled:
            vendor.close()
        bore = {key: {value for kind, value in said if kind == "email"} for key, said in log.stated.items()}
        # Nobody knows what an erased record held: whether its opt-out without an address comes before or after counts.
        unnamed = any(act.address is None and act.act in LOWERING_ACTS for act in log.acts)
        elements = [one for one in log.elements if not (unnamed and isinstance(one, Erase))]
        return History(elements, log.acts, log.bears, bore)

    def _something(self) -> None:
        """Whatever can happen now: nobody leaves a list on which nobody stands."""
        happened = len(self.log.elements)
        for _ in range(MOST_TRIES):
            ops = self.rarely if self.log.chance(len(self.rarely) / 60) else self.log.one(self.ops)
            self.log.one(ops)()
            if len(self.log.elements) > happened:
                return

    def merge(self) -> None:
        """A teammate's word that two records are one person."""
        if len(self.log.stated) > 1:
            a, b = self.log.random.sample(sorted(self.log.stated), 2)
            self.log.elements.append(Merge(a, b, self.log.now))

    def cut(self) -> None:
        if len(self.log.stated) > 1:
            a, b = self.log.random.sample(sorted(self.log.stated), 2)
            self.log.elements.append(Cut(a, b, self.log.now))

    def erase(self) -> None:
        """One or two records, and all that they had stated so far."""
        if self.log.stated:
            known = sorted(self.log.stated)
            keys = tuple(sorted(self.log.random.sample(known, min(len(known), self.log.one((1, 1, 2))))))
            said = sorted({claim for key in keys for claim in self.log.stated[key]})
            self.log.elements.append(Erase(keys, tuple(said), self.log.now))
