"""The hub: everything a step needs, opened once per process."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from upkept.keys import Keys
from upkept.people.derive import Policies
from upkept.people.facts import MAILS
from upkept.people.identifiers import blocklisted, public_id
from upkept.people.values import RecordKey
from upkept.registry import Connection
from upkept.settings import Settings
from upkept.store.engine import Store


@dataclass(frozen=True, slots=True)
class Hub:
    """An open store, the configured connections, the installation's keys and the field policies."""

    store: Store
    connections: Mapping[str, Connection]
    keys: Keys
    policies: Policies
    settings: Settings

    @property
    def destinations(self) -> list[Connection]:
        """The connections that are written to."""
        return [one for one in self.connections.values() if one.connector.push is not None]

    def record_id(self, key: RecordKey) -> str:
        """The public id a record gets at birth (R15)."""
        return public_id(key, self.keys.public_id)

    def subject(self, kind: str, value: str) -> str:
        """The keyed hash under which consent about an address or a record stands."""
        return _keyed(self.keys.consent, kind, value)

    def tombstone(self, kind: str, value: str) -> str:
        """The keyed hash under which an erased identifier or record key stands; its key never rotates."""
        return _keyed(self.keys.tombstone, kind, value)

    def blocked(self, kind: str, value: str) -> bool:
        """Does this identifier stand for nobody (a role box, a placeholder, an operator's blocked address)?"""
        return blocklisted(kind, value, frozenset(self.settings.identity.blocked_addresses))

    def is_part(self, key: RecordKey) -> bool:
        """Is this a part of some owner, whether or not the owner is known yet (R2)?"""
        known = self.connections.get(key.connection)
        return known is not None and key.type in known.connector.parts

    def labels(self, connection: str, names: Iterable[str]) -> dict[str, str]:
        """The names by which people know these fields of that connection, each its own.

        A field whose label is the name of another one, or of one that the field map makes, keeps its raw name.
        """
        own = set(names)
        known = self.connections.get(connection)
        if known is None:
            return {name: name for name in own}
        mailed = {name: f"mails about {name.removeprefix(MAILS)}" for name in own if name.startswith(MAILS)}
        shown = {name: known.connector.labels.get(name, name) for name in own} | mailed
        times = Counter(shown.values())
        taken = own | {rule.attribute for rule in known.fields.rules}
        return {name: name if label in taken or times[label] > 1 else label for name, label in shown.items()}

    def survives(self, connection: str) -> frozenset[str]:
        """The fields of that connection that outlive a vendor delete (R12)."""
        known = self.connections.get(connection)
        return known.connector.survives if known else frozenset()


def _keyed(secret: bytes, kind: str, value: str) -> str:
    return hashlib.blake2b(f"{kind}\0{value}".encode(), key=secret[:64], digest_size=16).hexdigest()
