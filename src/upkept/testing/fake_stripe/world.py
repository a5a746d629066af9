"""Everything behind the Stripe stand-in's address: its accounts in both modes, its clock, faults and endpoints."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Final

from upkept.testing.fake_stripe.faults import Faults, Gate
from upkept.testing.fake_stripe.hooks import Endpoint, Postman
from upkept.testing.fake_stripe.ledger import DAY, Clock, Ledger
from upkept.testing.fake_stripe.shapes import NEW_VERSION
from upkept.testing.fake_stripe.table import ApiError, Object

OWN_ACCOUNT: Final = "acct_fake"
SEED_PRICES: Final = ((1900, "month"), (4900, "month"), (49000, "year"))


class World:
    """The state. `lock` is held for each call, so a call sees and leaves a consistent world."""

    def __init__(self, *, version: str = NEW_VERSION, seed: int = 0) -> None:
        self.version = version
        self.seed = seed
        self.lock = threading.RLock()
        self.clock = Clock()
        self.faults = Faults()
        self.gate = Gate(self.faults)
        self.postman = Postman(self.faults, seed=seed)
        self.born = 0
        self.ledgers: dict[tuple[str, bool], Ledger] = {}
        self.clear()

    def clear(self) -> None:
        """Forget all objects; endpoints and faults stay."""
        self.ledgers.clear()
        self.born = self.clock.now() - 365 * DAY
        self.connect(OWN_ACCOUNT)

    def connect(self, account: str) -> None:
        """Add an account; all but the first are connected accounts of its platform."""
        for live in (False, True):
            self.ledgers.setdefault(
                (account, live),
                Ledger(
                    account=account,
                    livemode=live,
                    clock=self.clock,
                    announce=self.announce,
                    version=self.version,
                    born=self.born,
                    connected=account != OWN_ACCOUNT,
                    seed=self.seed,
                ),
            )

    def ledger(self, account: str | None, *, live: bool, key: str = "") -> Ledger:
        found = self.ledgers.get((account or OWN_ACCOUNT, live))
        if found is None:
            raise ApiError(
                403,
                f"The provided key '{key[:8]}********{key[-4:]}' does not have access to account '{account}' "
                "(or that account does not exist). Application access may have been revoked.",
                code="account_invalid",
            )
        return found

    def announce(self, ledger: Ledger, event: Object) -> None:
        """Send a new event to the endpoints that want it; there, and not when read, a Connect event names `account`."""
        wanted = [
            endpoint
            for endpoint in self.postman.endpoints.values()
            if endpoint.wants(event["type"], connected=ledger.connected)
        ]
        event["pending_webhooks"] = len(wanted)
        for endpoint in wanted:
            origin = {"account": ledger.account} if ledger.connected else {}
            shown = notification(ledger, event) if endpoint.thin else {**ledger.view("event", event), **origin}
            self.postman.tell(event["id"], endpoint, shown, ledger.undelivered)

    def add_endpoint(self, said: Object, id: str) -> Endpoint:
        url, secret, events = said.get("url"), said.get("secret"), said.get("events")
        if not isinstance(url, str) or not url.startswith("http") or not secret:
            raise ApiError(400, "an endpoint needs url and secret")
        endpoint = Endpoint(
            id=id,
            url=url,
            secrets=(secret,) if isinstance(secret, str) else tuple(secret),
            events=None if events is None else frozenset(events),
            thin=bool(said.get("thin")),
            connect=bool(said.get("connect")),
        )
        self.postman.endpoints[id] = endpoint
        return endpoint

    def seed_objects(self, said: Object) -> Object:
        """Many objects at once, made evenly over the last `days`, without events unless `events` says so."""
        ledger = self.ledger(said.get("account"), live=bool(said.get("live")))
        now, days = self.clock.now(), int(said.get("days", 300))
        customers, start = int(said.get("customers", 0)), now - days * DAY
        if "days" in said:
            for one in self.ledgers.values():
                one.born = min(one.born, start)
        prices = _seed_prices(ledger, start) if said.get("subscriptions") else []
        first = len(ledger.tables["customer"].rows)
        ids = []
        for number in range(customers):
            row = ledger.create(
                "customer",
                created=start + number * days * DAY // max(customers, 1),
                email=f"customer{first + number}@example.com",
                name=f"Customer {first + number}",
                metadata={"user_id": str(first + number)},
            )
            ids.append(row["id"])
            if said.get("events"):
                ledger.emit("customer.created", "customer", row)
        made = {"customers": customers}
        for of in ("subscription", "invoice", "charge"):
            count = int(said.get(f"{of}s", 0))
            for number in range(count):
                created = start + number * days * DAY // count
                _seed_one(ledger, of, ids[number % len(ids)], created, prices[number % len(prices)] if prices else None)
            made[f"{of}s"] = count
        return made


def _seed_prices(ledger: Ledger, created: int) -> list[Object]:
    product = ledger.create("product", created=created, name="Seeded", updated=created)
    return [
        ledger.create(
            "price", created=created, product=product["id"], currency="usd", unit_amount=amount,
            recurring={"interval": interval, "interval_count": 1, "meter": None, "trial_period_days": None,
                       "usage_type": "licensed"},
        )
        for amount, interval in SEED_PRICES
    ]  # fmt: skip


def _seed_one(ledger: Ledger, of: str, customer: str, created: int, price: Object | None) -> None:
    if of == "charge":
        ledger.create("charge", created=created, amount=1900, amount_captured=1900, currency="usd", customer=customer)
    elif of == "subscription" and price:
        now = ledger.clock.now()
        ledger.create(
            "subscription", created=created, customer=customer, currency="usd", status="active", start_date=created,
            billing_cycle_anchor=created, current_period_start=now - 10 * DAY, current_period_end=now + 20 * DAY,
            items=[{"id": ledger.new_id("si"), "price": price["id"], "quantity": 1, "created": created}],
        )  # fmt: skip
    elif of == "invoice":
        moments = {"finalized_at": created, "marked_uncollectible_at": None, "paid_at": created, "voided_at": None}
        ledger.create(
            "invoice", created=created, customer=customer, currency="usd", lines=[], amount_due=1900,
            amount_remaining=0, amount_paid=1900, subtotal=1900, subtotal_excluding_tax=1900, total=1900,
            total_excluding_tax=1900, period_start=created, period_end=created, status="paid",
            status_transitions=moments,
        )  # fmt: skip


def thin_id(event_id: str) -> str:
    """The id of the thin twin of a snapshot event."""
    return f"evt_65{event_id.removeprefix('evt_')}"


def notification(ledger: Ledger, event: Object) -> Object:
    """The thin notification of an event (https://docs.stripe.com/event-destinations#thin-payload)."""
    shown = event["data"]["object"]
    of, created = shown["object"], datetime.fromtimestamp(event["created"], UTC)
    return {
        "id": thin_id(event["id"]),
        "object": "v2.core.event",
        "context": ledger.account if ledger.connected else None,
        "created": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "livemode": ledger.livemode,
        "reason": {"type": "request", "request": event["request"]} if event["request"]["id"] else None,
        "related_object": {"id": shown["id"], "type": of, "url": f"/v1/{of}s/{shown['id']}"},
        "type": f"v1.{event['type']}",
    }


def thin_event(ledger: Ledger, event: Object) -> Object:
    """The event a notification points at, as `GET /v2/core/events/{id}` shows it."""
    before = event["data"].get("previous_attributes")
    after = {key: event["data"]["object"].get(key) for key in before} if before else None
    changes = {"before": before, "after": after} if before else None
    return {**notification(ledger, event), "changes": changes, "snapshot_event": event["id"]}
