"""One account of the Stripe stand-in, in one mode: its tables, its events, and its objects as the API shows them."""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from upkept.testing.fake_stripe.shapes import NEW_VERSION, list_of, shaped
from upkept.testing.fake_stripe.table import ApiError, Object, Table

DAY: Final = 86_400
EVENTS_KEPT: Final = 30 * DAY
PREFIXES: Final = {
    "customer": "cus", "product": "prod", "price": "price", "payment_method": "pm", "subscription": "sub",
    "invoice": "in", "charge": "ch", "refund": "re", "dispute": "dp", "card": "card", "event": "evt",
}  # fmt: skip
_TYPE_OF_PREFIX: Final = {prefix: of for of, prefix in PREFIXES.items()}
_ALPHABET: Final = string.ascii_letters + string.digits


class Clock:
    """The stand-in's time: the machine's plus `offset`, or `frozen` at one second."""

    def __init__(self) -> None:
        self.offset = 0.0
        self.frozen: float | None = None

    def now(self) -> int:
        return int(time.time() + self.offset) if self.frozen is None else int(self.frozen)

    def set(self, when: float | None) -> None:
        self.frozen = when


@dataclass(frozen=True, slots=True)
class Cause:
    """The request that made a change, for `event.request`."""

    id: str | None = None
    idempotency_key: str | None = None


@dataclass
class Ledger:
    """The objects of one account and mode. `announce` is called with each new event.

    `undelivered` are events no endpoint took, `declining` payment methods that do not pay, `warned` trials that
    were told they end, `answers` the first answers to idempotency keys.
    """

    account: str
    livemode: bool
    clock: Clock
    announce: Callable[[Ledger, Object], None]
    version: str = NEW_VERSION
    born: int = 1_500_000_000
    connected: bool = False
    seed: int = 0
    tables: dict[str, Table] = field(default_factory=lambda: {of: Table(of) for of in PREFIXES})
    subscriptions_of: dict[str, list[str]] = field(default_factory=dict)
    cause: Cause = Cause()
    undelivered: set[str] = field(default_factory=set)
    declining: set[str] = field(default_factory=set)
    warned: set[str] = field(default_factory=set)
    answers: dict[str, tuple[str, tuple[int, dict[str, str], bytes]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.seed}{self.account}{self.livemode}")  # noqa: S311

    def new_id(self, prefix: str, length: int = 14) -> str:
        return f"{prefix}_" + "".join(self._random.choices(_ALPHABET, k=length))

    def create(self, of: str, id: str | None = None, *, created: int | None = None, **values: Any) -> Object:
        """A stored object, with its id, its creation second and its mode."""
        id = id or self.new_id(PREFIXES[of], 24 if of in ("charge", "price", "payment_method", "event") else 14)
        if id in self.tables[of].rows:
            raise ApiError(400, f"{of.capitalize()} already exists.", code="resource_already_exists")
        row = {"id": id, "created": self.clock.now() if created is None else created, "livemode": self.livemode}
        if of == "subscription":
            self.subscriptions_of.setdefault(values["customer"], []).append(id)
        return self.tables[of].add({**row, **values})

    def get(self, of: str, id: Any, **error: Any) -> Object:
        return self.tables[of].get(id, **error)

    def view(self, of: str, row: Object, version: str | None = None, expand: tuple[str, ...] = ()) -> Object:
        """The object as an account on `version` (default: this account's) sees it, with paths expanded."""
        version = version or self.version
        full = shaped(of, row, version, self.get)
        if of == "customer" and version < "2020-08-27" and not row.get("deleted"):
            full |= {name: self._inner_list(full, name, version) for name in ("sources", "subscriptions")}
        if of == "charge" and version < "2022-11-15":
            full["refunds"] = self._inner_list(full, "refunds", version)
        for path in expand:
            if path.count(".") >= 4:
                raise ApiError(400, "You cannot expand more than 4 levels of a property", param="expand")
            self.expand(full, path, version)
        return full

    def expand(self, holder: Object, path: str, version: str) -> None:
        head, _, rest = path.partition(".")
        value = holder.get(head)
        if head not in holder:
            value = self._inner_list(holder, head, version)
        elif isinstance(value, str):
            of = _TYPE_OF_PREFIX.get(value.partition("_")[0], "")
            if not of:
                raise ApiError(400, f"This property cannot be expanded ({head}).", param="expand")
            value = self.view(of, self.get(of, value), version)
        elif isinstance(value, dict):
            value = dict(value)
        holder[head] = value
        if not rest:
            return
        if isinstance(value, list):
            copies = [dict(one) for one in value]
            holder[head] = copies
            for one in copies:
                self.expand(one, rest, version)
        elif isinstance(value, dict):
            if isinstance(value.get("data"), list) and rest.startswith("data."):
                value["data"] = [dict(one) for one in value["data"]]
                for one in value["data"]:
                    self.expand(one, rest.removeprefix("data."), version)
            else:
                self.expand(value, rest, version)

    def _inner_list(self, holder: Object, name: str, version: str) -> Object:
        of, id = holder.get("object"), holder["id"]
        url = f"/v1/{of}s/{id}/{name}"
        if (of, name) == ("customer", "subscriptions"):
            subs = [self.get("subscription", one) for one in self.subscriptions_of.get(id, ())]
            current = [one for one in reversed(subs) if one["status"] not in ("canceled", "incomplete_expired")]
            shown = [self.view("subscription", one, version) for one in current[:10]]
            return list_of(shown, url, has_more=len(current) > 10)
        if (of, name) == ("customer", "sources"):
            cards = [one for one in self.tables["card"].rows.values() if one.get("customer") == id]
            return list_of([self.view("card", one, version) for one in cards[:10]], url, has_more=len(cards) > 10)
        if (of, name) == ("charge", "refunds"):
            refunds = [one for one in self.tables["refund"].rows.values() if one["charge"] == id]
            return list_of([self.view("refund", one, version) for one in refunds[::-1]], url)
        if (of, name) == ("invoice", "payments"):
            return list_of(self._payments(self.get("invoice", id)), url)
        raise ApiError(400, f"This property cannot be expanded ({name}).", param="expand")

    def _payments(self, invoice: Object) -> list[Object]:
        paid = invoice.get("payment")
        if not paid:
            return []
        return [
            {
                "id": f"inpay_{invoice['id'][3:]}", "object": "invoice_payment", "amount_paid": invoice["amount_paid"],
                "amount_requested": invoice["total"], "created": invoice["created"], "currency": invoice["currency"],
                "invoice": invoice["id"], "is_default": True, "livemode": self.livemode, "status": "paid",
                "payment": {"payment_intent": paid["payment_intent"], "type": "payment_intent"},
                "status_transitions": {"canceled_at": None, "paid_at": invoice["status_transitions"]["paid_at"]},
            }
        ]  # fmt: skip

    def emit(self, type: str, of: str, row: Object, before: Object | None = None) -> Object:
        """Record an event: a frozen snapshot in this account's version, and tell the endpoints."""
        now_shown = json.loads(json.dumps(self.view(of, row)))
        data: Object = {"object": now_shown}
        if before is not None:
            data["previous_attributes"] = previous_attributes(before, now_shown)
        event = self.create(
            "event",
            type=type,
            api_version=self.version,
            data=data,
            pending_webhooks=0,
            request={"id": self.cause.id, "idempotency_key": self.cause.idempotency_key},
        )
        event["object"] = "event"
        self.announce(self, event)
        return event

    def change(self, of: str, row: Object, type: str, **values: Any) -> Object:
        """Change a stored object and emit `type` with what was there before; no event if nothing changed."""
        before = json.loads(json.dumps(self.view(of, row)))
        row.update(values)
        if json.loads(json.dumps(self.view(of, row))) != before:
            self.emit(type, of, row, before)
        return row

    def events_kept(self, event: Object) -> bool:
        return bool(event["created"] >= self.clock.now() - EVENTS_KEPT)


def previous_attributes(before: Object, after: Object) -> Object:
    """What Stripe puts into `data.previous_attributes`: old values of what changed; of hashes only what changed."""
    changed: Object = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict) and key != "items":
            changed[key] = previous_attributes(old, new)
        else:
            changed[key] = old
    return changed
