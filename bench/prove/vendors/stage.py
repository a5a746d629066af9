"""A hub with the four connectors as they are installed, and how a history of deliveries arrives at it.

A webhook passes `verify` and `split`, a read or an activity is stored as a fetch stores its answer, and what is due is
applied. No vendor is there to be asked: a thin event waits in the inbox, for what it leads to is told by a read, which
is a delivery of its own. For the same reason reads do not go through the comparison of a pull, which leaves out a read
without a version that equals what stands, and makes up for it by reading back (R5).
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

from bench.prove.ground import FIRST_NOW, KEYS, Ground
from bench.prove.vendors import mailchimp, marketo, salesforce
from bench.prove.vendors.told import NEWS, SECOND, Delivery, Element
from sqlalchemy import select
from tests.model.histories import Erase, Key

from upkept.contract import AnyConnector, RawEvent, Request
from upkept.flow import compare, opt_outs, view
from upkept.flow.apply import apply
from upkept.flow.digest import digest
from upkept.flow.hub import Hub
from upkept.flow.opening import policies
from upkept.flow.receive import keep, receive
from upkept.flow.refuse import ERASED
from upkept.people.consent import decide
from upkept.registry import Connection, load_connections
from upkept.settings import Settings
from upkept.sources import VENDOR_RANK
from upkept.store import inbox, records, tables
from upkept.store.engine import Store
from upkept.store.inbox import Arrival
from upkept.store.records import Record
from upkept_mailchimp import MailchimpConfig
from upkept_mailchimp import connector as mailchimp_connector
from upkept_marketo import MarketoConfig
from upkept_marketo import connector as marketo_connector
from upkept_salesforce import connector as salesforce_connector
from upkept_stripe import StripeConfig
from upkept_stripe import connector as stripe_connector

TOKEN: Final = "prove"
SECRET: Final = "whsec_prove"
LATEST: Final = 25 * 60 * SECOND
"""How long after the history a delivery may arrive: Mailchimp gives a webhook up after 75 minutes."""


def open_stage(store: Store, home: Path) -> Stage:
    """A hub on an open, migrated store."""
    settings = Settings(home=home, config_path=home / "upkept.toml", database_url="")
    configured: tuple[tuple[AnyConnector, Any], ...] = (
        (stripe_connector, StripeConfig(api_key="sk_test_prove", webhook_secret=SECRET)),
        (mailchimp_connector, MailchimpConfig(
            api_key="prove-us6", audiences=tuple(mailchimp.TOPICS), webhook_token=TOKEN,
            topics={mailchimp.TOPICAL: NEWS}, double_opt_in=(mailchimp.ASKING,),
        )),
        (marketo_connector, MarketoConfig(
            client_id="prove", client_secret="prove", webhook_token=TOKEN, base_url="http://127.0.0.1:1"
        )),
        (salesforce_connector, salesforce.CONFIG),
    )  # fmt: skip
    vendors = {
        connector.name: Connection(
            name=connector.name, connector=connector, config=config, fields=connector.fields, account=connector.name,
            rank=VENDOR_RANK,
        )
        for connector, config in configured
    }  # fmt: skip
    keyed = replace(marketo_connector.fields, user_id_keys=(marketo.USER_ID_FIELD,))
    vendors[marketo.NAME] = replace(vendors[marketo.NAME], fields=keyed)
    connections = {**load_connections(settings), **vendors}
    ranks = {name: connection.rank for name, connection in connections.items()}
    return Stage(
        Hub(
            store=store, connections=connections, keys=KEYS, policies=policies(settings, ranks=ranks), settings=settings
        )
    )


@dataclass
class Stage(Ground):
    """The ground for histories of deliveries. `refused` is what could not be taken in, and should have been."""

    refused: list[str] = field(default_factory=list, init=False)

    def clear(self) -> None:
        super().clear()
        self.refused.clear()

    def play(self, arrived: Sequence[Element], random: Random) -> str:
        """Let a history arrive in batches of random size; the digest of what stands in the end.

        Where nobody is erased, one connection's field map may be wrong at first, and its deliveries read anew once it
        is put right.
        """
        self.clear()
        erased = any(isinstance(element, Erase) for element in arrived)
        wrong = None if erased or random.random() < 0.5 else random.choice(sorted(VENDORS))
        with self.misread(wrong):
            self._arrive(arrived, random)
        if wrong is not None:
            self.replay(random, select(tables.inbox.c.id).where(tables.inbox.c.connection == wrong))
        self.check()
        self._look_for_refused()
        return digest(self.hub)

    @contextmanager
    def misread(self, name: str | None) -> Iterator[None]:
        """The field map of this connection lacks every other rule."""
        if name is None:
            yield
            return
        right = self.hub
        connection = right.connections[name]
        fields = replace(connection.fields, rules=connection.fields.rules[::2])
        self.hub = replace(right, connections={**right.connections, name: replace(connection, fields=fields)})
        try:
            yield
        finally:
            self.hub = right

    def _arrive(self, arrived: Sequence[Element], random: Random) -> None:
        waiting: list[Delivery] = []
        for element in arrived:
            if isinstance(element, Delivery):
                waiting.append(element)
                if random.random() < 0.85:
                    continue
            self.deliver(waiting, random)
            waiting = []
            if not isinstance(element, Delivery):
                self.act(element)
            if random.random() < 0.1:
                some = select(tables.inbox.c.id).where(tables.inbox.c.id % 7 == random.randrange(7))
                self.replay(random, some)
        self.deliver(waiting, random)

    def deliver(self, said: Sequence[Delivery], random: Random) -> None:
        """Store deliveries, then apply them in one batch. What says when it was so may arrive whenever it likes."""
        self.tick()
        ids: list[int] = []
        for one in said:
            at = FIRST_NOW + random.randrange(LATEST) if one.received_at is None else one.received_at
            ids += self._told(one, at) if one.kind else self._posted(one, at)
        random.shuffle(ids)
        apply(self.hub, ids, now=self.clock)

    def _posted(self, one: Delivery, at: int) -> list[int]:
        """A webhook comes in by the door."""
        headers = {}
        if one.connection == stripe_connector.name:
            signed = hmac.new(SECRET.encode(), b"%d.%b" % (at // SECOND, one.body), sha256).hexdigest()
            headers["stripe-signature"] = f"t={at // SECOND},v1={signed}"
        request = Request(body=one.body, headers=headers, token=TOKEN)
        (kept,) = keep(self.hub, [receive(self.hub, one.connection, request, now=at)], now=self.now)
        if kept.error is not None:
            raise kept.error
        return [id for bell in kept.bells if bell.task == "apply" for id in bell.ids]

    def _told(self, one: Delivery, at: int) -> list[int]:
        """An answer of the vendor, or an envelope of one of our own doors, is stored with its opt-outs in force."""
        connection = self.hub.connections[one.connection]
        event = RawEvent(id=one.id, kind=one.kind, body=one.body)
        arrival = Arrival(
            connection=one.connection, dedup_key=one.id, kind=one.kind, body=one.body, received_at=at,
            lowering=opt_outs.lowering(connection, one.kind), run=one.run,
        )  # fmt: skip
        said = opt_outs.read(self.hub, connection, event, arrival.lowering, received_at=at)
        with self.hub.store.write() as open_store:
            return list(compare.keep(open_store, [arrival], {one.id: said}, now=self.now))

    def replay(self, random: Random, which: Any) -> None:
        """Read deliveries anew, in two batches and in any order."""
        self.tick()
        with self.hub.store.write() as connection:
            ids = list(connection.scalars(which.where(~tables.inbox.c.thin)))
            if ids:
                inbox.replay(connection, now=self.now, ids=ids)
        random.shuffle(ids)
        cut = random.randrange(len(ids) + 1)
        for some in (ids[:cut], ids[cut:]):
            apply(self.hub, some, now=self.clock)

    def answers(self) -> Iterator[tuple[list[Key], dict[str, str]]]:
        """Who stands in the store, by record keys, and whether they are subscribed, by topic."""
        with self.hub.store.read() as connection:
            ids = [id for id, _ in records.whole(connection)]
            groups: dict[str | None, list[Record]] = {}
            for record in records.load(connection, ids).values():
                groups.setdefault(record.person, []).append(record)
            said = view.statements(connection, self.hub, list(groups.values()))
        for group, statements in zip(groups.values(), said, strict=True):
            keys: list[Key] = [record.key for record in group]
            yield sorted(keys), {topic: decide(statements, topic=topic).state for topic in ("*", NEWS)}

    def _look_for_refused(self) -> None:
        row = tables.inbox.c
        ended = (row.state == "done") | (row.reason == ERASED)
        with self.hub.store.read() as connection:
            left = connection.execute(select(row.connection, row.kind, row.state, row.reason).where(~row.thin, ~ended))
            self.refused += [f"{name} {kind} is {state}: {reason}" for name, kind, state, reason in left]


VENDORS: Final = (stripe_connector.name, mailchimp.NAME, marketo.NAME, salesforce.NAME)
