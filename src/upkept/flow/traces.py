"""Search the inbox for what still tells of somebody: duplicates, dead rows, and rows whose facts were compacted.

A row is found if its bytes hold an address or number of theirs (as it is, percent-encoded or JSON-escaped, in any
case), or if it speaks of a record of theirs. What it says is asked of the connector, because a short id such as
`42` stands in many bodies that are about somebody else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection

from upkept.contract import Fact, RawEvent, Statement
from upkept.flow.hub import Hub
from upkept.people.facts import from_us, record_key
from upkept.people.identifiers import EMAIL, PHONE, identifier_key
from upkept.people.values import RecordKey
from upkept.sources import named_by
from upkept.store import traces
from upkept.store.claims import Identifier
from upkept.store.traces import Body

WINDOW: Final = 500
"""Rows looked through in one transaction."""
TELLING: Final = 5
"""An id of so many characters names something wherever it stands; a shorter one only where a connector reads it."""

BEFORE: Final = rb"(?:(?<=%[0-9a-f]{2})|(?<=\\[nrtbf])|(?<![\w.+-]))"
AFTER: Final = rb"(?![\w-]|\.\w)"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose traces are looked for."""

    keys: frozenset[RecordKey]
    identifiers: frozenset[Identifier]

    def covers(self, other: Wanted) -> bool:
        """Is all that `other` looks for looked for here?"""
        return self.keys >= other.keys and self.identifiers >= other.identifiers


def search(hub: Hub, wanted: Wanted) -> tuple[list[int], int]:
    """Ids of the rows that tell of them, and the last row that was looked at. Many short looks, no long one."""
    looking = _Search(hub, wanted)
    found: list[int] = []
    after, more = 0, True
    while more:
        with hub.store.read() as connection:
            rows, last = looking.window(connection, after)
        found += rows
        after, more = last, last != after
    return found, after


def search_rest(connection: Connection, hub: Hub, wanted: Wanted, *, after: int) -> list[int]:
    """The same behind row `after`, within one transaction."""
    looking = _Search(hub, wanted)
    found: list[int] = []
    while True:
        rows, last = looking.window(connection, after)
        found += rows
        if last == after:
            return found
        after = last


def says(hub: Hub, row: Body) -> list[Statement] | None:
    """What a row says; None if nobody can tell."""
    known = hub.connections.get(row.connection)
    if known is None:
        return None
    event = RawEvent(id=row.dedup_key, kind=row.kind, body=row.body, received_at=from_us(row.received_at))
    try:
        return list(known.connector.normalize(event, known.fields))
    except Exception:
        return None


class _Search:
    """What is looked for, made ready once for many rows."""

    def __init__(self, hub: Hub, wanted: Wanted) -> None:
        self.hub, self.wanted = hub, wanted
        self.contacts = _Words(value for kind, value in wanted.identifiers if kind in (EMAIL, PHONE))
        self.user_ids = {value for kind, value in wanted.identifiers if kind not in (EMAIL, PHONE)}
        self.ids: dict[str, set[str]] = {}
        for key in wanted.keys:
            self.ids.setdefault(key.connection, set()).add(key.id)

    def window(self, connection: Connection, after: int) -> tuple[list[int], int]:
        """Those of the next rows that tell of them; and the last of these rows, `after` if there are none."""
        found: list[int] = []
        for row in traces.bodies(connection, after=after, limit=WINDOW):
            after = row.id
            if self.tells(row):
                found.append(row.id)
        return found, after

    def tells(self, row: Body) -> bool:
        lowered = row.body.lower()
        if self.contacts.stand_in(lowered):
            return True
        ids = self.user_ids | self.ids.get(row.connection, set())
        if not any(id_.lower().encode() in lowered for id_ in ids):
            return False
        said = says(self.hub, row)
        if said is None:
            return _Words(id_ for id_ in ids if len(id_) >= TELLING).stand_in(lowered)
        return any(self._about(row.connection, statement) for statement in said)

    def _about(self, name: str, statement: Statement) -> bool:
        if any(record_key(name, ref) in self.wanted.keys for ref in named_by(statement)):
            return True
        claims = statement.claims if isinstance(statement, Fact) else {}
        stated = {(kind, identifier_key(kind, value)) for kind, value in claims.items() if value is not None}
        return bool(stated & self.wanted.identifiers)


class _Words:
    """Whole words, in the forms in which a body may hold them."""

    def __init__(self, words: Iterable[str]) -> None:
        forms = {form for word in words for form in (word, quote(word, safe=""), json.dumps(word)[1:-1])}
        self.forms = [form.lower().encode() for form in sorted(forms)]
        self.pattern = re.compile(BEFORE + b"(?:" + b"|".join(map(re.escape, self.forms)) + b")" + AFTER)

    def stand_in(self, lowered: bytes) -> bool:
        return any(form in lowered for form in self.forms) and self.pattern.search(lowered) is not None
