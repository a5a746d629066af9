"""A delivery that may hold an opt-out and cannot be read is never lost: not by forgetting, not by undoing; an erasure
tells of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flow.stage import RecordRef, Stage, at, customer, row, stage, user
from tests.flow.test_forget import forgotten
from tests.flow.test_undo import an_import, back, imported, undone

from upkept.contract import Consent
from upkept.flow import erase, forget, undo, walk
from upkept.flow.hub import Hub
from upkept.store.engine import Store
from upkept.store.runs import Run

HOUR = 3_600_000_000


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    """A user whose opt-out stands in a delivery of the shop, among others that cannot be read either."""
    return at_the_shop(store, tmp_path)


def at_the_shop(store: Store, home: Path) -> Stage:
    """A user who is a customer of the shop."""
    made = stage(store, home)
    made.tell("app", user("1", 1, "a@x.example", city="Cork"))
    made.tell("shop", customer("cus_1", 2, "a@x.example", city="York"))
    return made


def broken(on: Stage, connection: str, email: str, run: int | None = None) -> int:
    """A delivery that opts out and cannot be read, as nobody could read it at the door."""
    key = f"broken {email}"
    on.mapping.broken.add(key)
    said = Consent(act="opt_out", address=email, at=at(5))
    id_ = on.say(connection, customer("cus_9", 5, email, city="Kyiv"), said, key=key, run=run, lowering="may")
    on.run("DELETE FROM consent WHERE act = 'opt_out'")
    on.apply()
    return id_


def mended(on: Stage) -> None:
    """The connector is fixed, and the hour of the next try has come."""
    on.mapping.broken.clear()
    on.now += 2 * HOUR
    on.apply()
    assert on.differences() == []


def test_forgetting_keeps_it_until_it_is_read(on: Stage) -> None:
    id_ = broken(on, "shop", "a@x.example")
    on.say("shop", customer("cus_2", 5), kind="a kind that is not for us", lowering="may")
    assert forget.preview(on.hub, "shop").unread == (id_,)
    run = forgotten(on)
    assert f"cannot be read and may hold an opt-out: 1 of the inbox ({id_});" in (run.reason or "")
    assert on.rows("SELECT id, state, lowering FROM inbox WHERE connection = 'shop'") == [(id_, "new", "forgotten")]
    assert on.consent("1") == "unknown"
    assert forgotten(on).state == "complete"
    on.apply()
    assert on.rows("SELECT key FROM alerts WHERE resolved_at IS NULL") == [("opt_out:shop",)]
    mended(on)
    assert (on.consent("1"), on.value("1", "city"), on.people()) == ("unsubscribed", "Cork", ["app:1"])
    assert on.count_of("inbox", "connection = 'shop'") == on.count_of("records", "connection = 'shop'") == 0
    assert on.rows("SELECT key FROM alerts WHERE resolved_at IS NULL") == []


def test_forgetting_again_after_a_fix_takes_the_opt_out_out_of_it(on: Stage) -> None:
    broken(on, "shop", "a@x.example")
    forgotten(on)
    on.mapping.broken.clear()
    forgotten(on)
    assert on.consent("1") == "unsubscribed"
    assert on.count_of("inbox", "connection = 'shop'") == 0


def test_what_comes_while_it_is_forgotten_is_kept_too(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: list[int] = []
    turn = walk._turn

    def late(hub: Hub, run: Run, *args: object) -> Run:
        if not arrived and str(run.cursor).startswith("consent"):
            arrived.append(on.say("shop", Consent(act="opt_out", address="b@x.example"), key="late", lowering="may"))
            on.mapping.broken.add("late")
        return turn(hub, run, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(walk, "_turn", late)
    forgotten(on)
    assert on.rows("SELECT id, lowering FROM inbox WHERE connection = 'shop'") == [(arrived[0], "forgotten")]


def test_what_cannot_hold_one_goes_unread(on: Stage) -> None:
    id_ = on.say("shop", customer("cus_9", 5), kind="unheard of")
    on.body(id_, b"not an envelope")
    forgotten(on)
    assert on.count_of("inbox", "connection = 'shop'") == 0


def test_a_thin_one_is_kept_until_it_is_fetched(on: Stage) -> None:
    id_ = on.say("shop", customer("cus_9", 5), key="thin", lowering="may")
    on.run("UPDATE inbox SET thin = true WHERE dedup_key = 'thin'")
    forgotten(on)
    assert on.rows("SELECT id, lowering FROM inbox WHERE connection = 'shop'") == [(id_, "forgotten")]


def test_undoing_keeps_it_on_the_queue_for_its_opt_out_alone(on: Stage) -> None:
    run = an_import(on, imported("b@x.example", 2, city="York"), alone=True)
    id_ = broken(on, "shop", "a@x.example", run)
    assert undo.preview(on.hub, run, now=on.now).unread == (id_,)
    walked = undone(on, run)
    assert f"cannot be read and may hold an opt-out: 1 of the inbox ({id_});" in (walked.reason or "")
    assert on.waiting() == [id_]
    mended(on)
    assert (on.consent("1"), on.people()) == ("unsubscribed", ["app:1 shop:cus_1"])
    assert (on.waiting(), on.inbox(id_)["state"], on.value("1", "city")) == ([], "skipped", "York")


def test_an_undo_ends_though_all_that_it_takes_at_once_is_kept(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undo, "STOPPED", 2)
    run = an_import(on, imported("z@x.example", 1), alone=True)
    kept = [broken(on, "shop", f"{name}@x.example", run) for name in "bcd"]
    assert undo.preview(on.hub, run, now=on.now).unread == tuple(kept)
    assert undone(on, run).state == "complete"
    assert on.waiting() == kept


def test_and_the_way_back_applies_it_whole(on: Stage) -> None:
    run = an_import(on, imported("b@x.example", 2), alone=True)
    broken(on, "shop", "b@x.example", run)
    undone(on, run)
    on.mapping.broken.clear()
    back(on, run)
    assert (on.value("b@x.example", "city"), on.consent("b@x.example")) == ("Kyiv", "unsubscribed")


def test_an_erasure_blanks_it_and_tells_so(on: Stage) -> None:
    id_ = broken(on, "shop", "a@x.example")
    other = broken(on, "shop", "b@x.example")
    assert erase.preview(on.hub, "1").unread == (id_,)
    erased = erase.erase(on.hub, "1", now=on.clock(), actor="test")
    assert erased.unread == (id_,)
    assert (on.inbox(id_)["state"], on.inbox(id_)["body"], on.inbox(id_)["reason"]) == ("skipped", b"", "erased")
    assert on.waiting() == [other]


def test_an_erasure_ends_the_alert_of_the_last_one(on: Stage) -> None:
    broken(on, "shop", "a@x.example")
    assert on.count_of("alerts", "resolved_at IS NULL") == 1
    erase.erase(on.hub, "1", now=on.clock(), actor="test")
    assert on.count_of("alerts", "resolved_at IS NULL") == 0


def test_what_was_undone_or_forgotten_and_then_erased_leaves_no_bytes(on: Stage) -> None:
    """It can be read again, but was not yet, when the person is erased."""
    on.tell("csv", row("c@x.example", 1))
    id_ = broken(on, "shop", "a@x.example", run=an_import(on, imported("z@x.example", 1), alone=True))
    undone(on, 1)
    on.mapping.broken.clear()
    erase.erase(on.hub, "1", now=on.clock(), actor="test")
    mended(on)
    assert (on.inbox(id_)["state"], on.inbox(id_)["body"]) == ("skipped", b"")
    assert on.rows("SELECT act FROM consent") == [("opt_out",)]


def test_an_opt_out_of_a_record_binds_it_where_it_stands_no_more(on: Stage) -> None:
    """The delivery names the record only; whoever holds that record when it comes back is bound."""
    key = "broken record"
    on.mapping.broken.add(key)
    said = Consent(act="opt_out", record=RecordRef("customer", "cus_1"), at=at(5))
    on.say("shop", said, key=key, lowering="may")
    on.run("DELETE FROM consent")
    forgotten(on)
    mended(on)
    assert on.count_of("records", "connection = 'shop'") == 0
    on.tell("shop", customer("cus_1", 9, "a@x.example"))
    assert on.consent("1") == "unsubscribed"
