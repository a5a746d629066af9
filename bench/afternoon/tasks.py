"""One task per event."""

from __future__ import annotations

import os
from typing import Any

from bench.afternoon.models import Contact, StripeEvent, open_database
from celery import Celery
from celery.signals import worker_process_init
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

app = Celery("afternoon", broker=os.environ.get("AFTERNOON_BROKER_URL"))
sessions: sessionmaker[Session] = sessionmaker()


@worker_process_init.connect  # type: ignore[untyped-decorator]
def connect(**_: Any) -> None:
    sessions.configure(bind=open_database(os.environ["AFTERNOON_DATABASE_URL"]))


@app.task(name="afternoon.handle", ignore_result=True)  # type: ignore[untyped-decorator]
def handle(event: dict[str, Any]) -> None:
    """Find or make the contact, set what the event says, note the event."""
    seen = event["data"]["object"]
    stripe_id = seen["id"] if seen["object"] == "customer" else seen["customer"]
    with sessions() as session:
        if session.get(StripeEvent, event["id"]) is not None:
            return
        contact = session.scalars(select(Contact).where(Contact.stripe_id == stripe_id)).one_or_none()
        if contact is None:
            contact = Contact(stripe_id=stripe_id, attributes={})
            session.add(contact)
            session.flush()
        attributes = dict(contact.attributes)
        match event["type"]:
            case "customer.created":
                contact.email, contact.name = seen["email"], seen["name"]
            case "customer.subscription.updated":
                item = seen["items"]["data"][0]
                attributes["stripe_subscription_status"] = seen["status"]
                attributes["stripe_subscription_period_end_at"] = item["current_period_end"]
                attributes["stripe_plan"] = item["price"]["nickname"]
                attributes["stripe_plan_price"] = item["price"]["unit_amount"] / 100
            case "charge.succeeded":
                attributes["stripe_last_charge_amount"] = seen["amount"] / 100
                attributes["stripe_last_charge_at"] = seen["created"]
            case "invoice.paid":
                attributes["stripe_last_invoice_amount"] = seen["amount_paid"] / 100
        contact.attributes = attributes
        session.add(StripeEvent(id=event["id"], contact_id=contact.id, type=event["type"], created=event["created"]))
        session.commit()
