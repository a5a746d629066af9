"""One event or read, opened: what `normalize` and `activity` look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from upkept_salesforce.payload import Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A row of Salesforce's, or what of it changed; `id` has 18 characters.

    `settled`: the row was read after the second of its change was over. `ours`: our own account changed it last.
    `user_id_field` is where the connection keeps its own user id. `header` is a change event's.
    """

    type: str
    id: str
    row: Row
    at: datetime | None
    settled: bool = False
    ours: bool = False
    user_id_field: str | None = None
    header: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sequence(self) -> int:
        return int(self.settled)
