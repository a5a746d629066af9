"""A hub of test connectors on a real store, and how a history arrives at it.

The vendors `bill`, `mail` and `crm` of the model's histories are connectors whose events are envelopes of
statements; our own doors are the product's. Every element takes the product's way: the inbox, claim, normalize,
apply; the operator's acts go through the functions the commands call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from bench.prove.ground import KEYS, Ground
from sqlalchemy import select
from tests.model.histories import SURVIVES, Element, Say, combine, misreadings, summarize

from upkept.contract import AnyConnector, Connector, FieldMap, RawEvent, Statement
from upkept.flow.apply import apply
from upkept.flow.digest import digest
from upkept.flow.hub import Hub
from upkept.flow.opening import policies
from upkept.flow.receive import Received, keep
from upkept.registry import Connection, load_connections
from upkept.settings import Settings
from upkept.sources import STATEMENTS, VENDOR_RANK
from upkept.store import inbox, people, tables
from upkept.store.engine import Store
from upkept.store.inbox import Arrival


@dataclass(frozen=True)
class Nothing:
    """The test vendors have nothing to configure."""


SAID: dict[bytes, Statement] = {}
"""What each body stands for: histories hold values that JSON cannot (integers beyond 64 bits)."""


def _normalize(event: RawEvent, _fields: FieldMap, /) -> Iterator[Statement]:
    yield SAID[event.body]


def _vendor(name: str) -> AnyConnector:
    return Connector(
        name=name,
        config=Nothing,
        kinds=frozenset({STATEMENTS}),
        fields=FieldMap(rules=()),
        normalize=_normalize,
        lowering=frozenset({STATEMENTS}),
        survives=SURVIVES.get(name, frozenset()),
        summarize=(lambda fields, parts: summarize(fields, parts)) if name == "bill" else None,
        combine=(lambda records: combine(records)) if name == "bill" else None,
        parts=frozenset({"plan"}) if name == "bill" else frozenset(),
    )


def open_world(store: Store, home: Path) -> World:
    """A hub on an open, migrated store."""
    settings = Settings(home=home, config_path=home / "upkept.toml", database_url="")
    vendors = {
        name: Connection(
            name=name, connector=_vendor(name), config=Nothing(), fields=FieldMap(rules=()), account=name,
            rank=VENDOR_RANK,
        )
        for name in ("bill", "mail", "crm")
    }  # fmt: skip
    doors = {
        name: replace(door, connector=replace(door.connector, normalize=_normalize))
        for name, door in load_connections(settings).items()
    }
    connections = {**doors, **vendors}
    ranks = dict.fromkeys(connections, 0)  # the model knows no ranks: of one moment the fact's id decides
    return World(
        Hub(
            store=store, connections=connections, keys=KEYS, policies=policies(settings, ranks=ranks), settings=settings
        )
    )


@dataclass
class World(Ground):
    """The ground for histories of statements."""

    delivered: int = field(default=0, init=False)
    misread: dict[str, Statement] = field(default_factory=dict, init=False)

    def clear(self) -> None:
        super().clear()
        self.delivered = 0
        self.misread.clear()
        SAID.clear()

    def play(self, arrived: list[Element], random: Random) -> str:
        """Let a history arrive in batches of random size; the digest of what stands in the end.

        Some deliveries are misread at first, and read anew once the field map is fixed.
        """
        self.clear()
        misread = misreadings(arrived, random)
        waiting: list[tuple[Say, Say]] = []
        for place, element in enumerate(arrived):
            if isinstance(element, Say):
                waiting.append((element, misread.get(place, element)))
                if random.random() < 0.7:
                    continue
            self.deliver(waiting, random)
            waiting = []
            if not isinstance(element, Say):
                self.act(element)
            if random.random() < 0.2:
                self.replay(random)
        self.deliver(waiting, random)
        self.replay(random, everything=True)
        return digest(self.hub) if self.sound else "a rebuild would have changed something"

    def people(self) -> list[dict[str, Any]]:
        """Who stands in the store, as the reference model tells it: documents by record keys, with their consent."""
        keys: dict[str, list[list[str]]] = {}
        with self.hub.store.read() as connection:
            whole = "SELECT person, connection, type, source_id FROM records WHERE NOT part"
            for person, *key in connection.exec_driver_sql(whole):
                keys.setdefault(person, []).append(key)
            rows = people.load(connection, keys)
        found = []
        for id_, row in rows.items():
            names = ("role", "external_id", "email", "name", "attributes", "tags", "companies", "archived")
            person = {"keys": sorted(keys[id_]), **{name: getattr(row, name) for name in names}}
            found.append({"person": person, "consent": row.consent})
        return sorted(found, key=lambda doc: doc["person"]["keys"])

    def deliver(self, said: list[tuple[Say, Say]], random: Random) -> None:
        """Store statements, each a delivery of its own and with what it is taken for; apply them in one batch."""
        if not said:
            return
        received = []
        for one, read in said:
            self.delivered += 1
            key = str(self.delivered)
            SAID[key.encode()] = read.statement
            if read is not one:
                self.misread[key] = one.statement
            arrival = Arrival(
                connection=one.connection, dedup_key=key, kind=STATEMENTS, body=key.encode(),
                received_at=one.received_at, run=one.run,
            )  # fmt: skip
            received.append(Received((arrival,)))
        self.tick()
        kept = keep(self.hub, received, now=self.now)
        ids = [id_ for each in kept for bell in each.bells for id_ in bell.ids]
        random.shuffle(ids)
        apply(self.hub, ids, now=lambda: self.now)

    def replay(self, random: Random, *, everything: bool = False) -> None:
        """Fix the field map, and read some of the deliveries anew that it concerns, or all; others too."""
        keys = [key for key in self.misread if everything or random.random() < 0.5]
        for key in keys:
            SAID[key.encode()] = self.misread.pop(key)
        keys += [str(random.randrange(1, self.delivered + 1))] if self.delivered else []
        self.tick()
        with self.hub.store.write() as connection:
            query = select(tables.inbox.c.id).where(tables.inbox.c.dedup_key.in_(keys))
            ids = list(connection.scalars(query))
            if ids:
                inbox.replay(connection, now=self.now, ids=ids)
        random.shuffle(ids)
        cut = random.randrange(len(ids) + 1)
        for some in (ids[:cut], ids[cut:]):
            apply(self.hub, some, now=lambda: self.now)
