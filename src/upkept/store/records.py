"""Source records: what each connection says, folded, and which person they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection

from upkept.people.facts import canonical
from upkept.people.head import Cell, Glance, Head, glance_at
from upkept.people.values import RecordKey
from upkept.store import bulk
from upkept.store.bulk import AnyRow
from upkept.store.engine import Contended
from upkept.store.tables import records


@dataclass(slots=True)
class Record:
    """A stored record or part, as a transaction works on it.

    `known` says it has facts of its own; an owner may first be heard of through its parts. `fresh` says that no row
    stands yet. What is stored as JSON stays text until it is asked for: of most parts only a glance is needed, of most
    floors nothing.
    """

    id: str
    key: RecordKey
    part: bool
    owner: str | None
    person: str | None
    user_id: str | None
    issued_at: int
    deleted: bool
    known: bool
    _head: Head | str | None
    _floor: Head | str | None
    _summary: str | None
    fresh: bool = False
    _summary_cells: Mapping[str, Cell] | None = None
    _head_text: str | None = None

    @property
    def head(self) -> Head | None:
        """None until a fact was folded."""
        if isinstance(self._head, str):
            self._head_text, self._head = self._head, _loaded(self._head)
        return self._head

    @head.setter
    def head(self, head: Head | None) -> None:
        self._head, self._head_text = head, None

    @property
    def floor(self) -> Head | None:
        """What was compacted (R4)."""
        if isinstance(self._floor, str):
            self._floor = _loaded(self._floor)
        return self._floor

    @floor.setter
    def floor(self, floor: Head | None) -> None:
        self._floor = floor

    @property
    def summary(self) -> Mapping[str, Cell]:
        """The fields summarized from its parts. They are stored as a head is, which writes each stamp once."""
        if self._summary_cells is None:
            head = _loaded(self._summary or "")
            self._summary_cells = head.cells if head is not None else {}
        return self._summary_cells

    def summarize(self, summary: Mapping[str, Cell]) -> bool:
        """Take a summary; whether it is another one than before."""
        text = _text(Head(summary)) if summary else None
        changed = text != self._summary
        self._summary, self._summary_cells = text, summary
        return changed

    def glance(self) -> Glance | None:
        """The values of its head and their newest stamp, without the head; None if there is no head."""
        if isinstance(self._head, str):
            return glance_at(orjson.loads(self._head)) if self._head else None
        return None if self._head is None else self._head.glance()


_COLUMNS = (
    "id", "connection", "type", "source_id", "part", "owner", "person", "user_id", "issued_at", "deleted", "known",
    "head", "floor", "summary",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM records"


def insert_missing(connection: Connection, fresh: Sequence[tuple[str, RecordKey, int]]) -> None:
    """Make sure a row stands for each (id, key, issued_at) of a whole record, in id order: inserts cannot deadlock."""
    # Most stand: asking for them costs a third of offering each to ON CONFLICT.
    standing = people_of(connection, [row[0] for row in fresh])
    rows = [
        (id_, *key, False, issued_at, "")
        for id_, key, issued_at in sorted(fresh, key=lambda row: row[0])
        if id_ not in standing
    ]
    columns = ("id", "connection", "type", "source_id", "part", "issued_at", "head")
    bulk.insert(connection, records, columns, rows, conflict="(id) DO NOTHING")


def fresh(id_: str, key: RecordKey, part: bool, issued_at: int) -> Record:
    """A working copy of what does not stand yet."""
    return Record(id_, key, part, None, None, None, issued_at, False, False, None, None, None, fresh=True)


def lock(connection: Connection, ids: Iterable[str]) -> dict[str, Record]:
    """The rows of `ids`, locked in id order until the transaction ends."""
    tail = " ORDER BY id FOR UPDATE" if bulk.on_postgresql(connection) else ""
    return _records(bulk.within(connection, f"{_SELECT} WHERE id {{set}}{tail}", sorted(ids)))


def load(connection: Connection, ids: Iterable[str]) -> dict[str, Record]:
    """The rows of `ids`, not locked."""
    return _records(bulk.within(connection, f"{_SELECT} WHERE id {{set}}", ids))


def of_people(connection: Connection, people: Iterable[str]) -> dict[str, Record]:
    """Every record of these people; parts are not among them."""
    return _records(bulk.within(connection, f"{_SELECT} WHERE person {{set}}", people))


def ids_of_people(connection: Connection, people: Iterable[str]) -> set[str]:
    """The ids of every record of these people."""
    return {row[0] for row in bulk.within(connection, "SELECT id FROM records WHERE person {set}", people)}


def parts_of(connection: Connection, owners: Iterable[str]) -> dict[str, Record]:
    """Every part of these owners."""
    return _records(bulk.within(connection, f"{_SELECT} WHERE owner {{set}}", owners))


def people_of(connection: Connection, ids: Iterable[str]) -> dict[str, str | None]:
    """Which person each record belongs to."""
    return {row[0]: row[1] for row in bulk.within(connection, "SELECT id, person FROM records WHERE id {set}", ids)}


def heads(connection: Connection, ids: Iterable[str]) -> dict[str, Head]:
    """The folded heads of `ids`, for comparing before the inbox (R5)."""
    rows = bulk.within(connection, "SELECT id, head FROM records WHERE known AND id {set}", ids)
    return {row[0]: Head.load(orjson.loads(row[1])) for row in rows}


def named(connection: Connection, connection_name: str, source_id: str) -> list[str]:
    """Ids of the records that one connection calls `source_id`, parts left out."""
    rows = connection.execute(
        records.select()
        .with_only_columns(records.c.id)
        .where(records.c.source_id == source_id, records.c.connection == connection_name, records.c.part.is_(False))
        .order_by(records.c.id)
    )
    return [row[0] for row in rows]


def whole(connection: Connection) -> Iterator[tuple[str, RecordKey]]:
    """(id, key) of every record that is no part."""
    query = "SELECT id, connection, type, source_id FROM records WHERE NOT part"
    for id_, *key in connection.exec_driver_sql(query, execution_options={"yield_per": 5_000}):
        yield id_, RecordKey(*key)


def count(connection: Connection) -> int:
    """How many records stand; parts are counted with their owner, if they have one."""
    query = "SELECT count(*) FROM records WHERE NOT part OR owner IS NULL"
    return int(connection.exec_driver_sql(query).scalar_one())


def pages(connection: Connection, *, after: str, limit: int, orphans: bool = False) -> list[str]:
    """Ids of records in id order, for walks over the whole store; `orphans`: of parts whose owner is not known."""
    one = records.c.part & records.c.owner.is_(None) if orphans else records.c.part.is_(False)
    query = records.select().with_only_columns(records.c.id).where(records.c.id > after, one)
    return [row[0] for row in connection.execute(query.order_by(records.c.id).limit(limit))]


def of_connection(connection: Connection, name: str, *, after: str, limit: int) -> list[str]:
    """Ids of all that a connection speaks of, parts too, in id order."""
    query = records.select().with_only_columns(records.c.id).where(records.c.connection == name, records.c.id > after)
    return [row[0] for row in connection.execute(query.order_by(records.c.id).limit(limit))]


def save(connection: Connection, changed: Iterable[Record]) -> None:
    """Write working copies back, all but their floors.

    A record may be read without its own lock, under that of its person, and a floor moves under the record's alone:
    a copy read before a compaction must not put the old floor back, for the facts behind the new one are gone. Raises
    `Contended` if another transaction brought what is fresh here.
    """
    new: list[tuple[object, ...]] = []
    rows: list[tuple[object, ...]] = []
    for r in sorted(changed, key=lambda record: record.id):
        row = (r.owner, r.person, r.user_id, r.deleted, r.known, r._head_text or _text(r._head) or "", r._summary)
        if r.fresh:
            new.append((r.id, *r.key, r.part, r.issued_at, *row))
        else:
            rows.append((r.id, *row))
    columns = ("owner", "person", "user_id", "deleted", "known", "head", "summary")
    bulk.update(connection, records, ("id",), columns, rows)
    born = ("id", "connection", "type", "source_id", "part", "issued_at", *columns)
    found = bulk.insert(connection, records, born, new, conflict="(id) DO NOTHING", returning="id")
    if len(found) < len(new):
        raise Contended("another transaction brought the same parts; try again")


def save_floors(connection: Connection, changed: Iterable[Record]) -> None:
    """Write the floors of locked records, and nothing else of them."""
    rows = [(r.id, _text(r._floor)) for r in sorted(changed, key=lambda record: record.id)]
    bulk.update(connection, records, ("id",), ("floor",), rows)


def remove(connection: Connection, ids: Iterable[str]) -> None:
    """Delete rows for good (erasure, forget)."""
    bulk.change_within(connection, "DELETE FROM records WHERE id {set}", ids)


def _records(rows: Iterable[AnyRow]) -> dict[str, Record]:
    return {row[0]: _record(row) for row in rows}


def _record(row: AnyRow) -> Record:
    id_, connection, type_, source, part, owner, person, user_id, issued, deleted, known, head, floor, summary = row
    return Record(
        id_, RecordKey(connection, type_, source), bool(part), owner, person, user_id, issued, bool(deleted),
        bool(known), head, floor, summary,
    )  # fmt: skip


def _loaded(text: str) -> Head | None:
    return Head.load(orjson.loads(text)) if text else None


def _text(held: Head | str | None) -> str | None:
    """As stored; what nobody looked at goes back as it came."""
    return canonical(held.dump()).decode() if isinstance(held, Head) else held
