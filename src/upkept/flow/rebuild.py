"""Rebuild the derived store from records' facts and floors; or only compare (R4, SEMANTICS D).

Every record is folded again, summarized, put into its component, and its person derived. What an erasure forbids
goes: after a restore its tombstones are laid first, and a rebuild removes what the backup brought back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

from sqlalchemy import Connection

from upkept.flow import erase
from upkept.flow.bury import buried, forbidden, held_by
from upkept.flow.component import holding
from upkept.flow.hub import Hub
from upkept.flow.settle import Effect, settle
from upkept.flow.walk import REPORT, Turn, Walk
from upkept.people.facts import canonical
from upkept.people.fold import fold
from upkept.people.head import EMPTY, Cell, Head
from upkept.people.predicate import time_based
from upkept.people.values import Interval, Json, RecordKey
from upkept.store import claims, erasure, facts, people, records, tombstones
from upkept.store.people import PersonRow
from upkept.store.records import Record
from upkept.store.runs import Run

PAGE: Final = 25
"""Records, with their parts, in one transaction: some 15 ms."""
PEOPLE: Final = 1_000

BEGIN: Final = "records:"

What = Literal["head", "claims", "summary", "part", "membership", "conflicts", "person", "erased", "nobody"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is stored otherwise than the facts have it. `subject` is the id of a record or a person."""

    what: What
    subject: str
    stored: Mapping[str, Json] = field(default_factory=dict)
    rebuilt: Mapping[str, Json] = field(default_factory=dict)


class _RolledBack(Exception):
    """What a comparison found; its transaction is thrown away."""

    def __init__(self, found: list[Difference], cursor: str, _looked: int) -> None:
        super().__init__()
        self.found, self.cursor = found, cursor


def check(hub: Hub, *, now: Callable[[], int]) -> Iterator[list[Difference]]:
    """What a rebuild would change, page by page (an empty list where nothing differs). Changes nothing.

    A page is rebuilt in a transaction that is thrown away, so the comparison is the rebuild.
    """
    cursor = BEGIN
    while cursor != REPORT:
        found, cursor = holding(partial(_compared, hub, cursor, now))
        yield [one for one in found if not _drifted(hub, one)]


def _compared(hub: Hub, cursor: str, now: Callable[[], int], also: frozenset[str]) -> tuple[list[Difference], str]:
    try:
        with hub.store.write() as connection:
            raise _RolledBack(*_page(connection, hub, cursor, also, now()))
    except _RolledBack as compared:
        return compared.found, compared.cursor


def _turn(connection: Connection, hub: Hub, run: Run, also: frozenset[str], now: int) -> Turn:
    found, cursor, looked = _page(connection, hub, run.cursor or BEGIN, also, now)
    return Turn(cursor, looked, min(looked, len({one.subject for one in found})))


def _page(
    connection: Connection, hub: Hub, cursor: str, also: frozenset[str], now: int
) -> tuple[list[Difference], str, int]:
    """What differed, where to go on, and how many records were looked at."""
    phase, _, after = cursor.partition(":")
    if phase == "people":
        return _nobody(connection, after)
    ids = records.pages(connection, after=after, limit=PAGE, orphans=phase == "orphans")
    following = f"{phase}:{ids[-1]}" if len(ids) == PAGE else {"records": "orphans:", "orphans": "people:"}[phase]
    return (_again(connection, hub, ids, also, now) if ids else []), following, len(ids)


def _nobody(connection: Connection, after: str) -> tuple[list[Difference], str, int]:
    """People without a record."""
    ids = people.everyone(connection, after=after, limit=PEOPLE)
    bare = erasure.without_records(connection, ids)
    people.remove(connection, bare)
    following = f"people:{ids[-1]}" if len(ids) == PEOPLE else REPORT
    return [Difference("nobody", id_) for id_ in sorted(bare)], following, 0


@dataclass(slots=True)
class _Before:
    """What stood before a page was rebuilt."""

    heads: dict[str, Head | None]
    summaries: dict[str, Mapping[str, Cell]]
    owners: dict[str, str | None]
    persons: dict[str, str | None]
    conflicts: list[tuple[str, str, str]]
    rows: dict[str, PersonRow]


def _again(connection: Connection, hub: Hub, ids: list[str], also: frozenset[str], now: int) -> list[Difference]:
    wanted = {*ids, *records.parts_of(connection, ids), *also}
    found = _erased(connection, hub, wanted, now)
    wanted -= {one.subject for one in found}
    claims.lock_held(connection, wanted)
    effect = Effect()
    effect.take(connection, wanted)
    mine = {id_: record for id_, record in effect.records.items() if id_ in wanted}
    before = _before(connection, effect, mine)
    _fold(connection, hub, effect, mine)
    whole = {id_ for id_, record in mine.items() if not record.part}
    claimed = _wrong_claims(connection, mine, whole)
    effect.claimed |= claimed
    effect.stated = {id_: set() for id_ in whole} | effect.stated
    effect.touched |= claims.ever(connection, claimed)
    effect.owners |= whole
    effect.unsettled |= whole
    settle(connection, hub, effect, now=now)
    found += [Difference("claims", id_) for id_ in sorted(claimed)]
    found += _records_differ(hub, effect, before)
    found += _conflicts_differ(connection, sorted(mine), before)
    found += _people_differ(connection, effect, before, now)
    return found


def _erased(connection: Connection, hub: Hub, ids: Iterable[str], now: int) -> list[Difference]:
    if not tombstones.standing(connection):
        return []
    stored = records.load(connection, sorted(ids))
    whole = {id_: record for id_, record in stored.items() if not record.part}
    gone = forbidden(connection, hub, held_by(connection, whole))
    gone |= buried(connection, hub, {id_: record.key for id_, record in stored.items() if record.part})
    if gone:
        doomed = {id_: (stored[id_].key, stored[id_].part) for id_ in gone}
        erase.remove(connection, hub, doomed, now=now, also=ids)
    return [Difference("erased", id_) for id_ in sorted(gone)]


def _before(connection: Connection, effect: Effect, mine: Mapping[str, Record]) -> _Before:
    shown = {record.person for record in effect.records.values() if record.person is not None}
    return _Before(
        heads={id_: record.head for id_, record in mine.items()},
        summaries={id_: record.summary for id_, record in mine.items()},
        owners={id_: record.owner for id_, record in mine.items()},
        persons={id_: record.person for id_, record in effect.records.items() if not record.part},
        conflicts=claims.conflicts_of(connection, sorted(mine)),
        rows=people.load(connection, sorted(shown)),
    )


def _fold(connection: Connection, hub: Hub, effect: Effect, mine: Mapping[str, Record]) -> None:
    said = facts.of(connection, sorted(mine))
    for id_, record in sorted(mine.items()):
        if record.head is None and id_ not in said and record.floor is None:
            continue
        head = fold(said.get(id_, []), record.floor, policies=hub.policies)
        if record.head is None or _text(record.head) != _text(head) or _owner(hub, record) != record.owner:
            effect.fold(hub, record, head)


def _owner(hub: Hub, record: Record) -> str | None:
    owner = record.head.owner if record.head is not None else None
    return hub.record_id(RecordKey(record.key.connection, *owner)) if owner is not None and record.part else None


def _wrong_claims(connection: Connection, mine: Mapping[str, Record], whole: Iterable[str]) -> set[str]:
    stored = claims.of(connection, sorted(whole))
    held = {id_: record.head.claims if record.head is not None else () for id_, record in mine.items()}
    return {id_ for id_ in whole if _rows(stored.get(id_, ())) != _rows(held[id_])}


def _rows(intervals: Iterable[Interval]) -> dict[tuple[str, str, int], Interval]:
    """Intervals by the key of the claims table."""
    return {(i.kind, i.value, i.start): i for i in intervals}


def _records_differ(hub: Hub, effect: Effect, before: _Before) -> Iterator[Difference]:
    for id_, head in sorted(before.heads.items()):
        record = effect.records.get(id_)
        if record is None or record.head is None:
            continue
        if head is None or _text(head) != _text(record.head):
            stored, rebuilt = _values(hub, record, (head or EMPTY).cells, record.head.cells)
            changed = {name for name in {*stored, *rebuilt} if stored.get(name) != rebuilt.get(name)}
            yield Difference("head", id_, _only(stored, changed), _only(rebuilt, changed))
        if record.summary != before.summaries[id_]:
            stored, rebuilt = _values(hub, record, before.summaries[id_], record.summary)
            yield Difference("summary", id_, stored, rebuilt)
        if record.owner != before.owners[id_]:
            yield Difference("part", id_, {"owner": before.owners[id_]}, {"owner": record.owner})
    for id_, person in sorted(before.persons.items()):
        record = effect.records.get(id_)
        if record is not None and record.person != person:
            yield Difference("membership", id_, {"person": person}, {"person": record.person})


def _conflicts_differ(connection: Connection, ids: list[str], before: _Before) -> Iterator[Difference]:
    after = claims.conflicts_of(connection, ids)
    for a, b, reason in sorted(set(before.conflicts) ^ set(after)):
        side = {"with": b, "reason": reason}
        stood = (a, b, reason) in before.conflicts
        yield Difference("conflicts", a, side if stood else {}, {} if stood else side)


def _people_differ(connection: Connection, effect: Effect, before: _Before, now: int) -> Iterator[Difference]:
    """Whom the derivation gives otherwise than they stand; those whose hash hides it are written here."""
    shown = {row.id for row in effect.people}
    for row in sorted(effect.derived, key=lambda one: one.id):
        stored = before.rows.get(row.id)
        if stored == row:
            continue
        was, is_ = _columns(stored), _columns(row)
        changed = {name for name in is_ if was.get(name) != is_[name]}
        if row.id not in shown:
            people.save(connection, [row], now=now)
        yield Difference("person", row.id, _only(was, changed), _only(is_, changed))


def _drifted(hub: Hub, one: Difference) -> bool:
    """Segments that ask for the time change by themselves; `flow.segments` follows them by schedule."""
    if one.what != "person" or set(one.rebuilt) != {"segments"}:
        return False
    timed = {name for name, predicate in hub.settings.segments.items() if time_based(predicate)}
    return set(one.stored.get("segments") or ()) ^ set(one.rebuilt["segments"]) <= timed


def _columns(row: PersonRow | None) -> dict[str, Json]:
    return {} if row is None else {name: getattr(row, name) for name in PersonRow.__slots__}


def _values(hub: Hub, of: Record, *held: Mapping[str, Cell]) -> Iterator[dict[str, Json]]:
    labels = hub.labels(of.key.connection, {name for cells in held for name in cells})
    return ({labels[name]: cell.value for name, cell in cells.items()} for cells in held)


def _only(values: Mapping[str, Json], names: Iterable[str]) -> dict[str, Json]:
    return {name: values[name] for name in sorted(names) if name in values}


def _text(head: Head) -> bytes:
    return canonical(head.dump())


def _report(_connection: Connection, _run: Run) -> str | None:
    return None


WALK: Final = Walk(_turn, _report)
