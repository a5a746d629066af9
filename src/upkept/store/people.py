"""People: derived rows. Each can be dropped and made again from its records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Connection

from upkept.people.facts import canonical
from upkept.people.values import Json
from upkept.store import bulk
from upkept.store.tables import people


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonRow:
    """A person as stored. `hash` is that of the derived document, free of ids and arrival times."""

    id: str
    role: str
    external_id: str | None
    email: str | None
    name: str | None
    attributes: dict[str, Json]
    tags: list[str]
    segments: list[str]
    companies: list[str]
    consent: str
    archived: bool
    hash: str


_COLUMNS = (
    "id", "role", "external_id", "email", "name", "attributes", "tags", "segments", "companies", "consent", "archived",
    "hash", "updated_at",
)  # fmt: skip


def lock(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Lock these people in id order; the hash of each that stands."""
    tail = " ORDER BY id FOR UPDATE" if bulk.on_postgresql(connection) else ""
    return {
        row[0]: row[1]
        for row in bulk.within(connection, f"SELECT id, hash FROM people WHERE id {{set}}{tail}", sorted(ids))
    }


def load(connection: Connection, ids: Iterable[str]) -> dict[str, PersonRow]:
    """People by id."""
    statement = f"SELECT {', '.join(_COLUMNS)} FROM people WHERE id {{set}}"
    return {row[0]: _person(row) for row in bulk.within(connection, statement, ids)}


def save(connection: Connection, changed: Iterable[PersonRow], *, now: int) -> None:
    """Insert or replace these people."""
    rows = [
        (
            p.id, p.role, p.external_id, p.email, p.name, *(
                canonical(value).decode() for value in (p.attributes, p.tags, p.segments, p.companies)
            ), p.consent, p.archived, p.hash, now,
        )
        for p in sorted(changed, key=lambda person: person.id)
    ]  # fmt: skip
    sets = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS[1:])
    bulk.insert(connection, people, _COLUMNS, rows, conflict=f"(id) DO UPDATE SET {sets}")


def remove(connection: Connection, ids: Iterable[str]) -> None:
    """Delete people who hold no record any more."""
    bulk.change_within(connection, "DELETE FROM people WHERE id {set}", ids)


def everyone(connection: Connection, *, after: str, limit: int) -> Sequence[str]:
    """Ids of people in id order, for walks over the whole store."""
    query = people.select().with_only_columns(people.c.id).where(people.c.id > after).order_by(people.c.id).limit(limit)
    return [row[0] for row in connection.execute(query)]


def _person(row: Any) -> PersonRow:
    documents = [orjson.loads(value) if isinstance(value, str) else value for value in row[5:9]]
    attributes = {name: _float_again(value) for name, value in documents[0].items()}
    return PersonRow(
        id=row[0], role=row[1], external_id=row[2], email=row[3], name=row[4], attributes=attributes,
        tags=documents[1], segments=documents[2], companies=documents[3], consent=row[9], archived=bool(row[10]),
        hash=row[11],
    )  # fmt: skip


def _float_again(value: Json) -> Json:
    """JSONB keeps numbers as decimals: a whole float comes back as an int, and only a float is beyond int64 (R1)."""
    return float(value) if value.__class__ is int and not -(1 << 63) <= value < 1 << 63 else value
