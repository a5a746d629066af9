"""Records that come or go while another transaction brings a word about them: nothing of it is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.flow.race import race
from tests.flow.stage import Consent, RecordRef, Stage, at, customer, plan, stage, user

from upkept.contract import Fact, Statement, TimelineEvent
from upkept.flow import forget, walk
from upkept.store import inbox
from upkept.store.engine import open_store

REF = RecordRef("customer", "cus_1")


@pytest.fixture
def on(with_tables: Callable[[str], str], tmp_path: Path) -> Iterator[Stage]:
    store = open_store(with_tables("postgresql"), pool_size=4)
    yield stage(store, tmp_path)
    store.close()


PAIRS = {
    "one owner": (plan("p1", "cus_1", 5, 2), plan("p1", "cus_1", 7, 3)),
    "two owners": (plan("p1", "cus_1", 5, 2), plan("p1", "cus_2", 7, 3)),
    "no owner": (plan("p1", None, 5, 2), plan("p1", "cus_1", 7, 3)),
    "the same": (plan("p1", "cus_1", 5, 2), plan("p1", "cus_1", 5, 2)),
}


@pytest.mark.parametrize("turn", [1, -1], ids=["in order", "late last"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS.keys())
def test_two_bring_the_same_new_part(
    on: Stage, pair: tuple[Fact, Fact], turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row stands that could be locked: the second must try again, and not take its part for the whole."""
    on.tell("shop", customer("cus_1", 1), customer("cus_2", 1))
    ids = [on.say("shop", said) for said in pair[::turn]]
    tries = race(on, monkeypatch, *(partial(on.apply, id_) for id_ in ids))
    assert [(on.inbox(id_)["state"], on.inbox(id_)["attempts"]) for id_ in ids] == [("done", 0)] * 2
    assert on.differences() == []
    totals = sorted(on.value(f"shop:{id_}", "shop_total") or 0 for id_ in ("cus_1", "cus_2"))
    assert totals == [0, max(said.fields["_a"] for said in pair)]  # type: ignore[type-var]
    assert tries[:3] == [0, 1, 1]  # where the owner moves, once more for it


SAID = {
    "a fact": customer("cus_1", 5, name="Ann"),
    "an event": TimelineEvent(record=REF, name="bought", id="e1", at=at(5)),
    "consent": Consent(act="opt_in", record=REF, at=at(5), qualified=True, evidence="form 7"),
}


@pytest.mark.parametrize("how", ["forgotten", "replayed"])
@pytest.mark.parametrize("said", SAID.values(), ids=SAID.keys())
def test_a_word_about_a_record_that_goes(on: Stage, how: str, said: Statement, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stood when the word was looked at, and was gone when it could be locked: it is made again."""
    old = on.tell("shop", customer("cus_1", 1, "ann@x.example"), key="old")
    goes: Callable[[], object] = partial(on.apply, old)
    if how == "replayed":
        on.mapping.silent = {"old"}
        with on.hub.store.write() as connection:
            assert inbox.replay(connection, now=on.now, ids=[old])
    else:
        goes = partial(on.walk, forget.start(on.hub, "shop", now=on.clock(), actor="test"))
        monkeypatch.setattr(forget, "_inbox", lambda *_: walk.Turn(walk.REPORT))  # the word itself would go too
    new = on.say("shop", said)
    race(on, monkeypatch, goes, partial(on.apply, new))
    row = on.inbox(new)
    assert (row["state"], row["attempts"], row["reason"]) == ("done", 0, None)
    assert on.people() == ["shop:cus_1"]
    assert on.differences() == []


def test_one_comes_to_hold_an_address_whose_consent_goes(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the address only a hash is known, and who will hold it is not committed yet: the forget waits for it."""
    on.tell("shop", Consent(act="opt_in", address="z@x.example", at=at(3), qualified=True, evidence="form"))
    new = on.say("app", user("9", 5, "z@x.example"))
    run = forget.start(on.hub, "shop", now=on.clock(), actor="test")
    race(on, monkeypatch, partial(on.apply, new), partial(on.walk, run))
    assert on.consent("9") == "unknown"
    assert on.differences() == []
