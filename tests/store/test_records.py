"""A record's working copy: what it holds as text is read when somebody asks, and goes back as it came."""

from __future__ import annotations

import pytest

from upkept.people.facts import canonical
from upkept.people.head import Cell, Head
from upkept.people.values import RecordKey, Stamp
from upkept.store import records
from upkept.store.engine import Contended, Store
from upkept.store.records import Record

KEY = RecordKey("shop", "customer", "1")
PART = ("part", RecordKey("shop", "charge", "9"), True, 7)
FIRST, SECOND = Stamp(1, 1, 0, "a"), Stamp(2, 1, 0, "b")


def stored(store: Store, change: dict[str, Cell] | None = None, head: Head | None = None) -> Record:
    """The record of `KEY`, changed and written back where that is asked for, as it stands then."""
    with store.write() as connection:
        records.insert_missing(connection, [("id", KEY, 5)])
        record = records.lock(connection, ["id"])["id"]
        if change is not None:
            record.summarize(change)
        if head is not None:
            record.head = head
        records.save(connection, [record])
        return records.load(connection, ["id"])["id"]


def test_a_summary_is_read_as_it_was_written(store: Store) -> None:
    said = {"b": Cell(True, FIRST, FIRST), "a": Cell({"$t": 7}, SECOND, SECOND), "c": Cell(None, FIRST, FIRST)}
    assert stored(store).summary == {}
    assert stored(store, said).summary == said
    assert stored(store, {}).summary == {}


def test_a_summary_that_says_the_same_is_no_other_one(store: Store) -> None:
    said = {"a": Cell(True, FIRST, FIRST), "b": Cell(2, SECOND, SECOND)}
    assert stored(store).summarize({}) is False
    assert stored(store).summarize(said) is True
    record = stored(store, said)
    assert record.summarize(dict(reversed(said.items()))) is False
    assert record.summarize(said | {"a": Cell(1, FIRST, FIRST)}) is True  # true is not 1
    assert record.summarize(said | {"a": Cell(1, SECOND, SECOND)}) is True
    assert record.summarize({}) is True


def test_a_head_is_written_when_it_is_another_one(store: Store) -> None:
    head = Head({"name": Cell("Ann", FIRST, FIRST)}, newest=FIRST)
    changed = Head({"name": Cell("Bea", SECOND, SECOND)}, newest=SECOND)
    assert stored(store).head is None
    record = stored(store, head=head)
    assert record.head == head
    record.head = changed
    with store.write() as connection:
        records.save(connection, [record])
    again = stored(store)
    assert again.head == changed
    assert canonical(again.head.dump()) == canonical(changed.dump())


def test_a_fresh_part_is_written_whole(store: Store) -> None:
    part = records.fresh(*PART)
    part.owner, part.known, part.head = "id", True, Head({"paid": Cell(5, FIRST, FIRST)}, newest=FIRST)
    with store.write() as connection:
        records.save(connection, [part])
    with store.read() as connection:
        (again,) = records.parts_of(connection, ["id"]).values()
    assert (again.id, again.key, again.part, again.issued_at) == PART
    assert (again.known, again.head, again.fresh) == (True, part.head, False)


def test_a_part_that_another_worker_brought_meanwhile_asks_for_another_try(store: Store) -> None:
    with store.write() as connection:
        records.save(connection, [records.fresh(*PART)])
    late = records.fresh(*PART)
    late.known = True
    with pytest.raises(Contended), store.write() as connection:
        records.save(connection, [late])
    with store.read() as connection:
        assert not records.load(connection, ["part"])["part"].known
