"""What a page of a pull says that the store does not know yet (R5): the rest never reaches the inbox.

Only reads (`read.<type>`) are compared, with the heads of their records. An event's own id tells whether it is
known. A read that cannot be understood goes on to the inbox, where it fails visibly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection as Store

from upkept.contract import Consent, Fact, Link, RawEvent, Skipped, Statement
from upkept.flow.bells import Bell, bells_for
from upkept.flow.hub import Hub
from upkept.people.facts import Admitted, admit, from_us
from upkept.people.fold import Head, says_nothing_new
from upkept.people.values import Json
from upkept.registry import Connection
from upkept.store import inbox, records
from upkept.store.inbox import Arrival

READ = "read."


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one record as the store has it and as the vendor does. Absent values are None.

    `new` if the store knows nothing of the record yet.
    """

    record: str
    type: str
    source_id: str
    new: bool
    field: str
    ours: Json
    theirs: Json


@dataclass(slots=True)
class Compared:
    """A page, compared: `news` go to the inbox; `shown` are the records (id -> type) that the page listed."""

    news: list[RawEvent] = field(default_factory=list)
    known: int = 0
    shown: dict[str, str] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


def compare(hub: Hub, connection: Connection, events: Sequence[RawEvent], *, received_at: int) -> Compared:
    """Sort a page into news and what is known. Reads only."""
    compared = Compared()
    said: list[tuple[RawEvent, list[Admitted], bool]] = []
    for event in events:
        if not event.kind.startswith(READ) or event.thin:
            compared.news.append(event)
            continue
        try:
            statements = _statements(connection, event, received_at)
        except Skipped:
            compared.known += 1
            continue
        except Exception:
            compared.news.append(event)
            continue
        facts = [admit(connection.name, one, received_at=received_at) for one in statements if isinstance(one, Fact)]
        # Consent and links have no head to be compared with; what happened to an object is told with its facts.
        comparable = bool(facts) and not any(isinstance(one, Consent | Link) for one in statements)
        said.append((event, facts, comparable))
    heads = _heads(hub, (fact for _, facts, _ in said for fact in facts))
    for event, facts, comparable in said:
        compared.shown.update((hub.record_id(fact.key), fact.key.type) for fact in facts if _is_whole(connection, fact))
        if comparable and all(says_nothing_new(heads.get(hub.record_id(fact.key)), fact.fact) for fact in facts):
            compared.known += 1
            continue
        compared.news.append(event)
        for fact in facts:
            compared.differences.extend(_differences(hub.record_id(fact.key), fact, heads))
    return compared


def _statements(connection: Connection, event: RawEvent, received_at: int) -> list[Statement]:
    received = replace(event, received_at=from_us(received_at))
    return list(connection.connector.normalize(received, connection.fields))


def _heads(hub: Hub, facts: Iterable[Admitted]) -> dict[str, Head]:
    ids = sorted({hub.record_id(fact.key) for fact in facts})
    if not ids:
        return {}
    with hub.store.read() as open_store:
        return records.heads(open_store, ids)


def _is_whole(connection: Connection, fact: Admitted) -> bool:
    """A record, not a part of one: parts come and go with their owners."""
    return fact.owner is None and fact.key.type not in connection.connector.parts


def _differences(record: str, fact: Admitted, heads: dict[str, Head]) -> Iterator[Difference]:
    new = record not in heads
    head = heads.get(record, Head())
    doc, key = fact.fact.doc, fact.key
    for name, theirs in sorted(doc.get("f", {}).items()):
        cell = head.cells.get(name)
        if cell is None or cell.value != theirs:
            yield Difference(record, key.type, key.id, new, name, None if cell is None else cell.value, theirs)
    for kind, theirs in sorted(doc.get("c", {}).items()):
        if head.held(kind) != theirs:
            yield Difference(record, key.type, key.id, new, kind, head.held(kind), theirs)
    if doc.get("d") is not None and doc["d"] != head.deleted:
        yield Difference(record, key.type, key.id, new, "deleted", head.deleted, doc["d"])


def keep(open_store: Store, arrivals: Sequence[Arrival]) -> dict[int, Arrival]:
    """Store what a vendor was asked for; the new rows by id.

    A read whose id was seen before says something new all the same (the comparison found so, or it was asked for
    just now): it is kept under an id of its own.
    """
    by_key = {(one.connection, one.dedup_key): one for one in arrivals}
    new = inbox.store(open_store, arrivals)
    again = [
        replace(one, dedup_key=f"{one.dedup_key}@{one.received_at}")
        for key, one in by_key.items()
        if key not in new and one.kind.startswith(READ)
    ]
    if again:
        by_key |= {(one.connection, one.dedup_key): one for one in again}
        new |= inbox.store(open_store, again)
    return {row: by_key[key] for key, row in new.items()}


def bells(new: Mapping[int, Arrival]) -> tuple[Bell, ...]:
    """Who is to be rung for new rows: `apply`, or `fetch` for thin ones."""
    plain = bells_for((row, one.lane) for row, one in sorted(new.items()) if not one.thin)
    thin = bells_for(((row, "outbound") for row, one in sorted(new.items()) if one.thin), task="fetch")
    return (*plain, *thin)
