"""Locks are taken in one order everywhere: identifiers, records, people. So no two transactions wait for each other.

SQLite has one writer; so these look at what is sent to PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from tests.flow.stage import LATER, Link, RecordRef, Stage, at, customer, plan, stage, user

from upkept.contract import Consent
from upkept.flow import forget, undo
from upkept.flow.erase import erase
from upkept.flow.link import merge
from upkept.flow.rebuild import check
from upkept.flow.steps import step
from upkept.store import inbox, runs
from upkept.store.engine import open_store
from upkept.store.migrations import upgrade_store

ORDER = ("INSERT INTO identifiers", "FROM records WHERE id = ANY", "FROM people WHERE id = ANY")
JOINED = Link(a=RecordRef("customer", "cus_1"), b=RecordRef("customer", "cus_2"), at=at(3))


@pytest.fixture
def on(postgres_url: str, tmp_path: Path) -> Iterator[Stage]:
    store = open_store(postgres_url)
    upgrade_store(store)
    yield stage(store, tmp_path)
    store.close()


@contextmanager
def in_order(on: Stage) -> Iterator[list[int]]:
    """Every transaction in here must ask for what it does not hold yet in the one order; the kinds it asked for."""
    asked: list[int] = []
    held: dict[int, set[str]] = {}

    def begin(_connection: object) -> None:
        held.clear()

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        kind = next((n for n, words in enumerate(ORDER) if words in statement), None)
        if kind is None or not (kind == 0 or "FOR UPDATE" in statement):
            return
        wanted = {one for value in parameters for one in (value if isinstance(value, list) else [value])}
        new = wanted - held.setdefault(kind, set())
        if not new:
            return
        assert kind >= max((k for k, rows in held.items() if rows), default=0), f"{statement[:60]}… asks late for {new}"
        held[kind] |= wanted
        asked.append(kind)

    engine = on.hub.store.engine
    event.listen(engine, "begin", begin)
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "begin", begin)
        event.remove(engine, "before_cursor_execute", note)


def people(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1, "ann@x.example", name="Ann"), customer("cus_2", 1, "bob@x.example"))
    on.tell("mailer", customer("m1", 1, "ann@x.example"), customer("m2", 1, "cy@x.example"))
    on.tell("app", user("1", 2, "cy@x.example"))


def test_a_refusal_and_the_rest_of_its_batch(on: Stage) -> None:
    people(on)
    erase(on.hub, "shop:cus_1", now=on.clock(), actor="test")
    on.say("shop", customer("cus_2", 9, "ann@x.example"))
    on.say("app", user("2", 9, "aa@x.example"), user("3", 9, "zz@x.example"))
    on.say("mailer", Consent(act="opt_in", address="ab@x.example", at=at(9), qualified=True, evidence="form 7"))
    with in_order(on) as asked:
        on.apply()
    assert {0, 1, 2} <= set(asked)
    assert on.people() == ["app:1 mailer:m2", "app:2", "app:3"]


@pytest.mark.parametrize("refused", [False, True])
def test_a_new_part_is_made_when_all_locks_are_held(on: Stage, refused: bool) -> None:
    """Whoever made it before would hold it while waiting for its owner, whom another maker of it may hold."""
    people(on)
    if refused:
        erase(on.hub, "shop:cus_1", now=on.clock(), actor="test")
    on.say("shop", customer("cus_1", 9, "ann@x.example"), plan("new", "cus_2", 5, 9))
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if "INSERT INTO records" in statement and "new" in str(parameters):
            asked.append("part")
        elif ORDER[0] in statement or "FOR UPDATE" in statement:
            asked.append("lock")

    event.listen(on.hub.store.engine, "before_cursor_execute", note)
    on.apply()
    event.remove(on.hub.store.engine, "before_cursor_execute", note)
    assert asked[-1] == "part"
    assert asked.count("part") == 1
    assert on.value("shop:cus_2", "shop_total") == 5


def test_a_batch_that_lets_go_of_addresses(on: Stage) -> None:
    people(on)
    on.say("shop", customer("cus_1", 9, "zz@x.example"), customer("cus_2", 9, "aa@x.example"))
    on.say("mailer", replace(customer("m2", 9), claims={"email": None}), replace(customer("m1", 9), deleted=True))
    on.say("shop", customer("cus_3", 8), replace(customer("cus_3", 7, "ab@x.example"), deleted=True))
    on.say("shop", replace(customer("cus_3", 7.5), deleted=False))
    with in_order(on) as asked:
        on.apply()
    assert {0, 1, 2} <= set(asked)
    assert on.differences() == []


def test_forgetting_a_connection(on: Stage) -> None:
    people(on)
    with in_order(on) as asked:
        on.walk(forget.start(on.hub, "mailer", now=on.clock(), actor="test"))
    assert {0, 1, 2} <= set(asked)
    assert on.people() == ["app:1", "shop:cus_1", "shop:cus_2"]


def test_a_replay_whose_links_go(on: Stage) -> None:
    people(on)
    id_ = on.tell("shop", JOINED, customer("cus_3", 3, "di@x.example"))
    on.mapping.silent.add(str(on.inbox(id_)["dedup_key"]))
    with on.hub.store.write() as connection:
        inbox.replay(connection, now=on.now, ids=[id_])
    on.say("app", user("4", 9, "aa@x.example"))
    with in_order(on) as asked:
        on.apply()
    assert {0, 1, 2} <= set(asked)
    assert "shop:cus_2" in on.people()


def test_an_undo(on: Stage) -> None:
    people(on)
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "resync", "shop", {}, on.now)
    said = Consent(act="opt_in", address="ann@x.example", at=at(4), qualified=True, evidence="form 7")
    on.tell("shop", JOINED, said, customer("cus_1", 5, "di@x.example"), run=run.id)
    on.say("shop", Consent(act="opt_out", address="bob@x.example", at=at(5)), run=run.id)
    with in_order(on) as asked:
        walked = undo.start(on.hub, run.id, now=on.clock(), actor="test")
        step(on.hub, walked.id, now=on.clock)
    assert {0, 1, 2} <= set(asked)
    assert on.consent("shop:cus_2") == "unsubscribed"
    assert "shop:cus_2" in on.people()


def test_a_rebuild_that_buries(on: Stage) -> None:
    people(on)
    erase(on.hub, "shop:cus_1", now=on.clock(), actor="test")
    stones = on.rows("SELECT kind, subject, at FROM tombstones")
    on.run("DELETE FROM tombstones")
    people(on)
    merge(on.hub, "shop:cus_1", "shop:cus_2", now=on.clock(), actor="test")
    for kind, subject, laid in stones:
        on.run(f"INSERT INTO tombstones VALUES ('{kind}', '{subject}', {max(laid, LATER)})")  # noqa: S608
    with in_order(on) as asked:
        found = [one for page in check(on.hub, now=on.clock) for one in page]
    assert {0, 1, 2} <= set(asked)
    assert "erased" in {one.what for one in found}
