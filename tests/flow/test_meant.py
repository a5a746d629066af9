"""An opt-out that names a record and no address binds the addresses which that record holds (R9), in any order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from tests.flow.stage import Consent, RecordRef, Stage, at, customer, row, stage, us, user

from upkept.contract import Fact, FactKind, Statement
from upkept.flow import forget, undo, walk
from upkept.flow.erase import erase
from upkept.flow.rebuild import BEGIN
from upkept.store import runs
from upkept.store.engine import Store
from upkept.store.tables import metadata

CUSTOMER = RecordRef("customer", "cus_1")
OUT = Consent(act="opt_out", record=CUSTOMER, at=at(5), evidence="form 9")
DELETED = Fact(record=CUSTOMER, deleted=True, observed_at=at(7))


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


def signed_up(on: Stage, id_: str = "1", address: str = "ann@x.example") -> str:
    """The state of somebody who signs up in our own application now."""
    on.now += 10_000_000
    on.tell("app", user(id_, on.now / 1_000_000 - us(0) / 1_000_000, address))
    assert on.differences() == []
    return on.consent(f"app:{id_}")


def clear(on: Stage) -> None:
    with on.hub.store.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())


def in_every_order(on: Stage, *told: tuple[str, Statement]) -> None:
    """Told in any order, one by one, these end in one store; nothing is news the second time."""
    digests = set()
    for order in permutations(told):
        clear(on)
        for connection, said in order:
            on.tell(connection, said)
        assert on.differences() == []
        digests.add(on.digest())
        on.replay(*[id_ for (id_,) in on.rows("SELECT id FROM inbox ORDER BY id")])
        digests.add(on.digest())
    assert len(digests) == 1


def test_the_address_is_bound_whatever_comes_first(on: Stage) -> None:
    in_every_order(
        on, ("shop", customer("cus_1", 1, "ann@x.example")), ("shop", OUT), ("shop", DELETED),
        ("app", user("1", 20, "ann@x.example")),
    )  # fmt: skip
    assert on.people() == ["app:1", "shop:cus_1"], "they held it at different times: no link"
    assert on.consent("app:1") == "unsubscribed"
    assert on.rows("SELECT DISTINCT consent FROM people") == [("unsubscribed",)], "the cached answer follows"
    (entry,) = on.explain("app:1")["consent"]["email"]["ledger"]
    assert (entry["binds"], entry["source"], entry["evidence"]) == (["address"], "shop", "form 9")
    (entry,) = on.explain("shop:cus_1")["consent"]["email"]["ledger"]
    assert entry["binds"] == ["record"], "a deleted record holds no address"


def test_what_it_had_let_go_before_is_not_meant(on: Stage) -> None:
    in_every_order(
        on, ("shop", customer("cus_1", 1, "old@x.example")), ("shop", customer("cus_1", 3, "ann@x.example")),
        ("shop", OUT), ("shop", customer("cus_1", 9, "new@x.example")),
    )  # fmt: skip
    assert signed_up(on, "1", "old@x.example") == "unknown"
    assert signed_up(on, "2", "ann@x.example") == "unsubscribed"
    assert signed_up(on, "3", "new@x.example") == "unsubscribed"


def test_what_it_held_last_is_meant_if_it_held_nothing(on: Stage) -> None:
    out = Consent(act="complaint", record=CUSTOMER, at=at(8))
    in_every_order(on, ("shop", customer("cus_1", 1, "ann@x.example")), ("shop", DELETED), ("shop", out))
    assert signed_up(on) == "unsubscribed"


def test_an_address_that_was_merely_asserted_is_nobodys(on: Stage) -> None:
    on.tell("app", user("9", 1, "victim@x.example", verified=False))
    on.tell("app", Consent(act="opt_out", record=RecordRef("user", "9"), at=at(5)))
    assert (on.consent("app:9"), on.count_of("consent", "subject_kind = 'address'")) == ("unsubscribed", 0)
    on.tell("app", Consent(act="opt_out", record=RecordRef("user", "8"), at=at(5), verified=False))
    on.tell("app", user("8", 1, "other@x.example"))
    assert (on.consent("app:8"), on.count_of("consent", "subject_kind = 'address'")) == ("unsubscribed", 0)


def test_of_an_address_that_links_nobody_the_holders_are_bound(on: Stage) -> None:
    for first, second in ((OUT, customer("cus_1", 1, "noreply@x.example")),
                          (customer("cus_1", 1, "noreply@x.example"), OUT)):  # fmt: skip
        clear(on)
        on.tell("app", user("1", 2, "noreply@x.example"))
        on.tell("shop", first)
        on.tell("shop", second)
        assert on.rows("SELECT consent FROM people") == [("unsubscribed",)] * 2


def test_it_outlives_the_erasure(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1, "ann@x.example"), OUT)
    erase(on.hub, "shop:cus_1", now=on.clock(), actor="test")
    assert on.rows("SELECT DISTINCT evidence, inbox_key FROM consent") == [("", "")]
    assert signed_up(on) == "unsubscribed"


def test_it_outlives_an_erasure_that_came_before_it_was_applied(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1, "ann@x.example"))
    on.say("shop", OUT)
    erase(on.hub, "shop:cus_1", now=on.clock(), actor="test")
    on.apply()
    assert on.rows("SELECT DISTINCT evidence FROM consent") == [("",)]
    assert signed_up(on) == "unsubscribed"


def test_it_outlives_what_is_refused(on: Stage) -> None:
    on.tell("shop", customer("cus_2", 1, "ann@x.example"))
    erase(on.hub, "shop:cus_2", now=on.clock(), actor="test")
    on.tell("shop", OUT)
    on.tell("shop", customer("cus_1", 1, "ann@x.example"))
    assert on.people() == []
    assert signed_up(on) == "unsubscribed"


def test_it_outlives_the_forgetting_of_its_connection(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1, "ann@x.example"))
    on.say("shop", OUT)
    on.walk(forget.start(on.hub, "shop", now=on.clock(), actor="test"))
    assert on.people() == []
    assert signed_up(on) == "unsubscribed"


def test_a_rebuild_brings_back_what_is_missing(on: Stage) -> None:
    on.tell("shop", customer("cus_1", 1, "ann@x.example"), OUT, DELETED)
    assert signed_up(on) == "unsubscribed"
    before = on.digest()
    on.run("DELETE FROM consent WHERE subject_kind = 'address'")
    on.walk(walk.start(on.hub, "rebuild", "", {}, cursor=BEGIN, total=0, actor="test", now=on.clock())[0])
    assert (on.digest(), on.consent("app:1")) == (before, "unsubscribed")


def test_no_undo_lifts_it(on: Stage) -> None:
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "import", "csv", {}, on.now)
    on.tell("csv", replace(row("ann@x.example", 1), kind=FactKind.IMPORT), run=run.id)
    on.run("UPDATE runs SET state = 'complete', finished_at = 1")
    on.tell("csv", Consent(act="opt_out", record=RecordRef("row", "email:ann@x.example"), at=at(5)))
    on.walk(undo.start(on.hub, run.id, now=on.clock(), actor="test"))
    on.tell("csv", Fact(record=RecordRef("row", "email:ann@x.example"), fields={"name": "Ann"}, observed_at=at(9)))
    assert signed_up(on) == "unsubscribed"
