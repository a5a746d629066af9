"""A small Stripe: customers with subscriptions, invoices, charges and cards, told of by signed events and by reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from bench.prove.vendors.told import ADDRESSES, NAMES, USER_IDS, Log
from tests.model.histories import Key

from upkept_stripe.client.read import envelope, snapshot

NAME = "stripe"
HOUR = 3_600
MONTH = 720 * HOUR

Object = dict[str, Any]


class Stripe:
    """Every event shows its whole object as it is after the change; a read shows it as it was in that second."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.made = 0
        self.customers: dict[str, Object] = {}
        self.subscriptions: dict[str, Object] = {}
        self.invoices: dict[str, Object] = {}
        self.charges: dict[str, Object] = {}

    @property
    def ops(self) -> tuple[Callable[[], None], ...]:
        return (
            self.create, self.change, self.change, self.subscribe, self.resubscribe, self.bill, self.charge,
            self.attach, self.delete, self.read,
        )  # fmt: skip

    def create(self) -> None:
        log = self.log
        if self.made == 3:
            return
        self.made += 1
        id = f"cus_{self.made}"
        self.customers[id] = {
            "id": id, "object": "customer", "created": log.second, "email": log.one((*ADDRESSES, None)),
            "name": log.one((*NAMES, None)), "phone": None, "balance": 0, "currency": "usd", "delinquent": False,
            "discount": None, "default_source": None, "invoice_settings": {"default_payment_method": None},
            "livemode": False, "metadata": self._metadata(),
        }  # fmt: skip
        self._tell_customer("customer.created", id)

    def change(self) -> None:
        log = self.log
        found = self._customer()
        if found is None:
            return
        changes: Object = log.one(
            (
                {"name": log.one((*NAMES, None))},
                {"balance": log.one((0, -500))},
                {"delinquent": log.one((True, False))},
                {"phone": log.one(("+353 1 234 5678", None))},
                {"email": log.one((*ADDRESSES, None))},
                {"metadata": self._metadata()},
            )
        )
        if changes.keys() & {"email", "metadata"} and not log.may_change(_key(found["id"])):
            return
        before = {name: found[name] for name in changes}
        found.update(changes)
        self._tell_customer("customer.updated", found["id"], before)

    def delete(self) -> None:
        found = self._customer()
        if found is None or self.log.chance(0.5):
            return
        del self.customers[found["id"]]
        for one in self.subscriptions.values():
            if one["customer"] == found["id"] and one["status"] != "canceled":
                one.update(status="canceled", ended_at=self.log.second)
                self._tell("customer.subscription.deleted", one)
        self._tell("customer.deleted", found)
        self.log.ends(_key(found["id"]))

    def subscribe(self) -> None:
        log = self.log
        found = self._customer()
        if found is None:
            return
        id = f"sub_{len(self.subscriptions) + 1}"
        price = {
            "id": "price_pro", "object": "price", "currency": "usd", "nickname": log.one(("Pro", "Team")),
            "unit_amount": log.one((1999, 4900)), "billing_scheme": "per_unit",
            "recurring": {"interval": log.one(("month", "year")), "interval_count": 1, "usage_type": "licensed"},
        }  # fmt: skip
        item = {
            "id": f"si_{id}", "price": price, "quantity": log.one((1, 3)), "discounts": [],
            "current_period_start": log.second, "current_period_end": log.second + MONTH,
        }  # fmt: skip
        self.subscriptions[id] = {
            "id": id, "object": "subscription", "customer": found["id"], "created": log.second, "currency": "usd",
            "status": log.one(("active", "trialing", "incomplete")), "cancel_at_period_end": False, "cancel_at": None,
            "trial_end": None, "discounts": [], "default_payment_method": None,
            "items": {"object": "list", "data": [item]},
        }  # fmt: skip
        self._tell("customer.subscription.created", self.subscriptions[id])

    def resubscribe(self) -> None:
        """A subscription becomes another one: overdue, paid again, to be cancelled, cancelled."""
        log = self.log
        running = [one for one in self.subscriptions.values() if one["status"] != "canceled"]
        if not running:
            return
        found = log.one(running)
        if log.chance(0.2):
            found.update(status="canceled", ended_at=log.second)
            self._tell("customer.subscription.deleted", found)
            return
        changes: Object = log.one(
            (
                {"status": "past_due"},
                {"status": "active"},
                {"cancel_at_period_end": not found["cancel_at_period_end"]},
            )
        )
        before = {name: found[name] for name in changes}
        found.update(changes)
        self._tell("customer.subscription.updated", found, before)

    def bill(self) -> None:
        """An invoice is made, or comes one step further."""
        log = self.log
        found = self._customer()
        waiting = [one for one in self.invoices.values() if one["status"] in ("draft", "open")]
        if waiting and log.chance(0.7):
            invoice = log.one(waiting)
            if invoice["status"] == "draft":
                invoice.update(status="open", effective_at=log.second)
                self._tell("invoice.finalized", invoice)
            elif log.chance(0.3):
                invoice["attempt_count"] += 1
                self._tell("invoice.payment_failed", invoice)
            else:
                invoice.update(status="paid", amount_paid=invoice["amount_due"])
                invoice["status_transitions"] = {"paid_at": log.second}
                for kind in ("invoice.paid", "invoice.payment_succeeded"):  # Stripe tells it twice
                    self._tell(kind, invoice)
        elif found is not None:
            id = f"in_{len(self.invoices) + 1}"
            mine = [one["id"] for one in self.subscriptions.values() if one["customer"] == found["id"]]
            self.invoices[id] = {
                "id": id, "object": "invoice", "customer": found["id"], "created": log.second, "currency": "usd",
                "status": "draft", "amount_due": 1999, "amount_paid": 0, "attempt_count": 0, "number": f"N-{id}",
                "due_date": None, "status_transitions": {}, "lines": {"object": "list", "data": []},
                "parent": {"subscription_details": {"subscription": log.one([*mine, None])}},
            }  # fmt: skip
            self._tell("invoice.created", self.invoices[id])

    def charge(self) -> None:
        log = self.log
        found = self._customer()
        taken = [one for one in self.charges.values() if one["status"] == "succeeded"]
        if taken and log.chance(0.3):
            charge = log.one(taken)
            before = {"amount_refunded": charge["amount_refunded"]}
            charge["amount_refunded"] = min(charge["amount_refunded"] + 500, charge["amount"])
            self._tell("charge.refunded", charge, before)
        elif found is not None:
            id = f"ch_{len(self.charges) + 1}"
            good = log.chance(0.7)
            self.charges[id] = {
                "id": id, "object": "charge", "customer": found["id"], "created": log.second, "currency": "usd",
                "amount": 1999, "amount_captured": 1999 if good else 0, "amount_refunded": 0, "captured": good,
                "paid": good, "status": "succeeded" if good else "failed", "payment_intent": f"pi_{id}",
                "failure_code": None if good else "card_declined", "payment_method": "pm_1",
                "payment_method_details": {"type": "card", "card": {"brand": "visa", "exp_month": 8, "exp_year": 2030}},
            }  # fmt: skip
            self._tell("charge.succeeded" if good else "charge.failed", self.charges[id])

    def attach(self) -> None:
        found = self._customer()
        if found is not None:
            card = {
                "id": f"pm_{found['id']}", "object": "payment_method", "created": self.log.second, "type": "card",
                "customer": found["id"], "card": {"brand": self.log.one(("visa", "amex")), "exp_month": 1,
                                                  "exp_year": 2031},
            }  # fmt: skip
            self._tell("payment_method.attached", card)

    def read(self) -> None:
        """A read of a customer carries its subscriptions, as a resync's does."""
        found = self._customer()
        if found is None:
            return
        mine = [one for one in self.subscriptions.values() if one["customer"] == found["id"]]
        shown = {**found, "subscriptions": {"object": "list", "data": mine}}
        event = envelope(shown, read_at=self.log.second, account=None)
        self.log.event(NAME, event.kind, event.id, event.body)
        self._say(found)

    def _customer(self) -> Object | None:
        return self.log.one(list(self.customers.values())) if self.customers else None

    def _metadata(self) -> Object:
        return {"user_id": self.log.one(USER_IDS)} if self.log.chance(0.3) else {}

    def _tell_customer(self, kind: str, id: str, before: Object | None = None) -> None:
        self._tell(kind, self.customers[id], before)
        self._say(self.customers[id])

    def _say(self, customer: Object) -> None:
        self.log.holds(_key(customer["id"]), customer["email"], customer["metadata"].get("user_id"))

    def _tell(self, kind: str, shown: Object, before: Object | None = None) -> None:
        """By a webhook, and sometimes by a pull as well. A clock that is ahead counts as that of the arrival (R3)."""
        ahead = self.log.chance(0.04)
        data = {"object": shown} if before is None else {"object": shown, "previous_attributes": before}
        event = {
            "id": f"evt_{self.log.number()}", "object": "event", "api_version": "2026-10-28.endive",
            "created": self.log.second + HOUR * ahead, "livemode": False, "type": kind, "data": data,
        }  # fmt: skip
        self.log.webhook(NAME, json.dumps(event).encode(), undated=ahead)
        if self.log.chance(0.1):
            pulled = snapshot(event, account=None)
            self.log.event(NAME, pulled.kind, pulled.id, pulled.body, undated=ahead)


def _key(id: str) -> Key:
    return (NAME, "customer", id)
