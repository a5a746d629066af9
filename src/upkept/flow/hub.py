"""The hub: everything a step needs, opened once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from upkept.keys import Keys
from upkept.people.derive import Policies
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

    def label(self, connection: str, field: str) -> str:
        """The name by which people know a field of that connection."""
        known = self.connections.get(connection)
        return known.connector.labels.get(field, field) if known else field

    def survives(self, connection: str) -> frozenset[str]:
        """The fields of that connection that outlive a vendor delete (R12)."""
        known = self.connections.get(connection)
        return known.connector.survives if known else frozenset()


def _keyed(secret: bytes, kind: str, value: str) -> str:
    return hashlib.blake2b(f"{kind}\0{value}".encode(), key=secret[:64], digest_size=16).hexdigest()
