"""The hub: everything a step needs, opened once per process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from upkept.people.derive import Policies
from upkept.registry import Connection
from upkept.settings import Keys, Settings
from upkept.store.engine import Store


@dataclass(frozen=True, slots=True)
class Hub:
    """An open store, the configured connections, the installation's keys and the field policies."""

    store: Store
    connections: Mapping[str, Connection]
    keys: Keys
    policies: Policies
    settings: Settings
