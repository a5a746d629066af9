"""What happens at Stripe during the demo, told to the sandbox by Stripe's own SDK."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import stripe

GOOD_CARD: Final = "4242424242424242"
EMPTY_CARD: Final = "4000000000000341"
"""Can be put on file; every charge to it is declined."""

PEOPLE: Final = ("101", "102", "103", "104", "105", "twice@example.com")
"""Under what each is found in the end: the user id, or where there is none the address."""


@dataclass(slots=True)
class Story:
    """The customers of one Stripe account, and by person the id of a subscription."""

    client: stripe.StripeClient
    subscriptions: dict[str, str] = field(default_factory=dict)

    def happen(self) -> Iterator[str]:
        """One thing after the other, each told in a line once it is done."""
        self._plan("team", "Team", 4_900, "eur", "month")
        self._plan("business", "Business", 9_900, "eur", "month")
        self._plan("yearly", "Yearly", 120_000, "jpy", "year")
        yield "three plans: Team 49 EUR and Business 99 EUR a month, Yearly 120,000 JPY a year"
        self._subscribe("101", self._customer("owner@example.com", "101"), "team", seats=3)
        yield "user 101 takes 3 seats of Team and pays"
        self._subscribe("102", self._customer("billing@example.com", "102"), "yearly")
        yield "user 102 pays a year in yen, a currency without decimals"
        self._subscribe("103", self._customer("maybe@example.com", "103"), "business")
        yield "user 103 takes Business"
        self._subscribe("104", self._customer("leaving@example.com", "104"), "team")
        self.client.v1.subscriptions.cancel(self.subscriptions["104"])
        yield "user 104 takes Team, then cancels"
        self._subscribe("105", self._customer("declined@example.com", "105", card=EMPTY_CARD), "team")
        yield "user 105 takes Team, and the card is declined"
        self._customer("twice@example.com")
        self._subscribe("twice", self._customer("Twice@Example.com"), "team")
        yield "two customers bear one address, written differently, and no user id"

    def change_unheard(self) -> Iterator[str]:
        """What no webhook tells of: this sandbox sends none when a subscription is updated or a charge refunded."""
        update = self.client.v1.subscriptions.update
        update(self.subscriptions["101"], {"items": [{"plan": "business", "quantity": 3}]})
        yield "user 101 moves to Business"
        update(self.subscriptions["103"], {"cancel_at_period_end": True})
        yield "user 103 will not renew"

    def _plan(self, id: str, name: str, amount: int, currency: str, interval: str) -> None:
        every = "year" if interval == "year" else "month"
        self.client.v1.plans.create({
            "id": id, "nickname": name, "product": {"name": name}, "amount": amount, "currency": currency,
            "interval": every,
        })  # fmt: skip

    def _customer(self, email: str, user_id: str | None = None, *, card: str = GOOD_CARD) -> str:
        metadata = {"user_id": user_id} if user_id else {}
        customer = self.client.v1.customers.create({"email": email, "metadata": metadata}).id
        method = self.client.v1.payment_methods.create(
            {"type": "card", "card": {"number": card, "exp_month": 12, "exp_year": 2034, "cvc": "123"}}
        ).id
        self.client.v1.payment_methods.attach(method, {"customer": customer})
        self.client.v1.customers.update(customer, {"invoice_settings": {"default_payment_method": method}})
        return customer

    def _subscribe(self, who: str, customer: str, plan: str, *, seats: int = 1) -> None:
        self.subscriptions[who] = self.client.v1.subscriptions.create(
            {"customer": customer, "items": [{"plan": plan, "quantity": seats}]}
        ).id


def story(sandbox: str, key: str) -> Story:
    """A story at the API at `sandbox`; no call takes longer than ten seconds."""
    stripe.enable_telemetry = False
    http = stripe.RequestsClient(timeout=10)
    return Story(stripe.StripeClient(key, base_addresses={"api": sandbox}, http_client=http))
