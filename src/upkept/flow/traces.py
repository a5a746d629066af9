"""Search the inbox for what still tells of somebody: duplicates, dead rows, and rows whose facts were compacted.

A row is found if its bytes hold an address or number of theirs (as it is, percent-encoded or JSON-escaped, in any
case), or if it speaks of a record of theirs. What it says is asked of the connector, because a short id such as
`42` stands in many bodies that are about somebody else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

from sqlalchemy import Connection

from upkept.contract import LOWERING_ACTS, Consent, Fact, Skipped, Statement
from upkept.flow.hub import Hub
from upkept.flow.normalize import said_by
from upkept.people.facts import record_key
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


@dataclass(slots=True)
class Found:
    """Rows that tell of them, by id. `over`: their work is over; `waiting`: they wait, and nobody can read (or fetch)
    them.

    `unread` are those of both that may hold an opt-out nobody has read. What waits and can be read is not among them:
    it is refused when its turn comes.
    """

    over: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    unread: list[int] = field(default_factory=list)


def search(hub: Hub, wanted: Wanted) -> tuple[Found, int]:
    """The rows that tell of them, and the last row that was looked at. Many short looks, no long one."""
    looking = _Search(hub, wanted)
    after, more = 0, True
    while more:
        with hub.store.read() as connection:
            last = looking.window(connection, after)
        after, more = last, last != after
    return looking.found, after


def search_rest(connection: Connection, hub: Hub, wanted: Wanted, found: Found, *, after: int) -> None:
    """Add to what was found the rows behind `after`, within one transaction."""
    looking = _Search(hub, wanted, found)
    while (last := looking.window(connection, after)) != after:
        after = last


def may_lower(hub: Hub, row: Body) -> bool:
    """May this row hold an opt-out? Its kind may have been declared since it was stored."""
    known = hub.connections.get(row.connection)
    return row.lowering != "no" or (known is not None and row.kind in known.connector.lowering)


def says(hub: Hub, row: Body) -> list[Statement] | None:
    """What a row says; None if nobody can tell."""
    known = hub.connections.get(row.connection)
    if known is None:
        return None
    try:
        return said_by(known, row)
    except Exception:
        return None


def opts_out(hub: Hub, row: Body) -> list[Consent] | None:
    """What a row says that takes consent away; None if nobody can read it (yet): then it may say anything."""
    known = hub.connections.get(row.connection)
    if known is None or row.thin:
        return None
    try:
        return [one for one in said_by(known, row) if isinstance(one, Consent) and one.act in LOWERING_ACTS]
    except Skipped:
        return []
    except Exception:
        return None


class _Search:
    """What is looked for, made ready once for many rows."""

    def __init__(self, hub: Hub, wanted: Wanted, found: Found | None = None) -> None:
        self.hub, self.wanted = hub, wanted
        self.found = found or Found()
        self.contacts = _Words(value for kind, value in wanted.identifiers if kind in (EMAIL, PHONE))
        self.user_ids = {value for kind, value in wanted.identifiers if kind not in (EMAIL, PHONE)}
        self.ids: dict[str, set[str]] = {}
        for key in wanted.keys:
            self.ids.setdefault(key.connection, set()).add(key.id)

    def window(self, connection: Connection, after: int) -> int:
        """Note those of the next rows that tell of them; the last of these rows, `after` if there are none."""
        for row in traces.bodies(connection, after=after, limit=WINDOW):
            after = row.id
            if self.tells(row):
                self._note(row)
        return after

    def _note(self, row: Body) -> None:
        over = row.state in ("done", "skipped")
        unread = not over and (row.attempts > 0 or not row.thin) and opts_out(self.hub, row) is None
        if unread and may_lower(self.hub, row):
            self.found.unread.append(row.id)
        if not row.waits:
            self.found.over.append(row.id)
        elif unread:
            self.found.waiting.append(row.id)

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
