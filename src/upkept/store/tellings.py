"""Which events of the timeline a destination is told of, each once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson
from sqlalchemy import Connection

from upkept.people.facts import DAY
from upkept.people.values import Json
from upkept.store import bulk
from upkept.store.tables import tellings


class Place(NamedTuple):
    """An event, and who is told of it."""

    record: str
    id: str
    destination: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """An event that a destination was not told of yet; `source` is the connection that brought it, `whole` the record
    that it is about, or its owner. `target` is the destination's record that it was bound to."""

    place: Place
    whole: str
    source: str
    name: str
    at: int
    metadata: Mapping[str, Json]
    target: str | None


def add(connection: Connection, fresh: Sequence[tuple[Place, int]]) -> None:
    """To be told: places, each with the time of its event. What stands already stays as it is, told or not."""
    rows = [(*place, at) for place, at in sorted(fresh)]
    bulk.insert(connection, tellings, ("record", "id", "destination", "at"), rows, conflict="DO NOTHING")


def counts(connection: Connection, record_ids: Iterable[str], *, since: int) -> dict[tuple[str, str, int], int]:
    """(record, destination, day) to the events since then that stand here, told or not."""
    statement = (
        f"SELECT record, destination, at / {DAY}, count(*) FROM tellings WHERE at >= {int(since)} AND record {{set}} "
        f"GROUP BY record, destination, at / {DAY}"
    )
    return {(row[0], row[1], row[2]): row[3] for row in bulk.within(connection, statement, sorted(record_ids))}


def untold(connection: Connection, record_ids: Iterable[str]) -> list[Telling]:
    """What of these records and their parts nobody was told yet and still stands, oldest first."""
    statement = """
        WITH mine AS (SELECT value FROM {rows}),
        theirs AS (SELECT value AS id, value AS whole FROM mine
            UNION ALL SELECT p.id, p.owner FROM mine JOIN records p ON p.owner = mine.value)
        SELECT t.record, t.id, t.destination, theirs.whole, r.connection, e.name, e.at, e.metadata, t.target
        FROM theirs JOIN tellings t ON t.record = theirs.id AND t.told_at IS NULL
        JOIN timeline e ON e.record = t.record AND e.id = t.id JOIN records r ON r.id = t.record
        ORDER BY e.at, t.record, t.id, t.destination
    """
    return [
        Telling(place=Place(*row[:3]), whole=row[3], source=row[4], name=row[5], at=row[6],
                metadata=orjson.loads(row[7]), target=row[8])
        for row in bulk.within(connection, statement, sorted(set(record_ids)))
    ]  # fmt: skip


def bind(connection: Connection, targets: Iterable[tuple[Place, str]]) -> None:
    """From now on these are owed to just that record."""
    rows = [(*place, target) for place, target in sorted(targets)]
    bulk.update(connection, tellings, ("record", "id", "destination"), ("target",), rows)


def keep(connection: Connection, place: Place, *, target: str, now: int) -> None:
    """The destination took it, on that record."""
    key = ("record", "id", "destination")
    bulk.update(connection, tellings, key, ("target", "told_at"), [(*place, target, now)])


def remove(connection: Connection, record_ids: Iterable[str]) -> None:
    """Forget what of these records others were told (erasure, forget)."""
    bulk.change_within(connection, "DELETE FROM tellings WHERE record {set}", list(record_ids))


def prune(connection: Connection, *, before: int) -> None:
    """What happened before then is not taken again, so it need not be known as told."""
    connection.execute(tellings.delete().where(tellings.c.at < before))
