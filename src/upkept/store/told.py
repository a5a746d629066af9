"""What each record at a vendor was told last; `people.owed` says what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import orjson
from sqlalchemy import Connection

from upkept.people.facts import canonical
from upkept.people.owed import Told
from upkept.store import bulk
from upkept.store.tables import told


def of(connection: Connection, record_ids: Iterable[str]) -> dict[str, Told]:
    """By record id; a record that was never told anything is absent."""
    rows = bulk.within(connection, "SELECT record, doc FROM told WHERE record {set}", record_ids)
    return {record: Told.load(orjson.loads(doc)) for record, doc in rows}


def keep(connection: Connection, tellings: Mapping[str, Told]) -> None:
    """Remember these in place of what stood there."""
    rows = [(record, canonical(one.dump()).decode()) for record, one in sorted(tellings.items())]
    bulk.insert(connection, told, ("record", "doc"), rows, conflict="(record) DO UPDATE SET doc = excluded.doc")


def remove(connection: Connection, record_ids: Iterable[str]) -> None:
    """Forget what these records were told (erasure, forget)."""
    bulk.change_within(connection, "DELETE FROM told WHERE record {set}", list(record_ids))
