"""Giving up what nobody will ever read: deliberate, told, and possible to take back; never what can be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.flow.stage import Stage, customer, row
from tests.flow.test_forget import forgotten
from tests.flow.test_undo import an_import, back, imported, undone
from tests.flow.test_unread import at_the_shop, broken

from upkept.flow import erase, forget, prune
from upkept.flow.give_up import Delivery, NoSuchDelivery, Refused, give_up, preview
from upkept.store import audit, inbox
from upkept.store.engine import Store

WHY = "the shop was given back"


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return at_the_shop(store, tmp_path)


def given_up(on: Stage, *ids: int) -> list[Delivery]:
    return give_up(on.hub, ids, reason=WHY, now=on.clock(), actor="cli:ops")


def standing(on: Stage) -> list[str]:
    return [key for (key,) in on.rows("SELECT key FROM alerts WHERE resolved_at IS NULL")]


@contextmanager
def uninstalled(on: Stage) -> Iterator[None]:
    """The shop is configured no more."""
    hub = on.hub
    on.hub = replace(hub, connections={name: one for name, one in hub.connections.items() if name != "shop"})
    yield
    on.hub = hub


def test_it_ends_the_tries_and_the_alert_and_keeps_the_bytes(on: Stage) -> None:
    id_ = broken(on, "shop", "a@x.example")
    body = on.inbox(id_)["body"]
    assert standing(on) == ["opt_out:shop"]
    assert [(one.id, one.connection, one.kind) for one in preview(on.hub, [id_])] == [(id_, "shop", "statements")]
    assert on.inbox(id_)["state"] == "new"
    given_up(on, id_)
    found = on.inbox(id_)
    assert (found["state"], found["reason"], found["body"]) == ("given_up", f"given up by cli:ops: {WHY}", body)
    assert (standing(on), on.waiting()) == ([], [])
    with on.hub.store.read() as connection:
        act = audit.listed(connection)[0]
    assert (act.action, act.subjects) == ("give up", [f"inbox {id_} of shop", f"because: {WHY}"])


def test_the_alert_stays_for_another_one(on: Stage) -> None:
    id_, other = broken(on, "shop", "a@x.example"), broken(on, "shop", "b@x.example")
    given_up(on, id_)
    assert standing(on) == ["opt_out:shop"]
    given_up(on, other)
    assert standing(on) == []


def test_a_replay_takes_it_back(on: Stage) -> None:
    id_ = broken(on, "shop", "a@x.example")
    given_up(on, id_)
    on.replay(id_)
    assert (on.inbox(id_)["state"], standing(on)) == ("new", ["opt_out:shop"])
    given_up(on, id_)
    on.mapping.broken.clear()
    on.replay(id_)
    assert (on.inbox(id_)["state"], on.consent("1"), on.value("1", "city")) == ("done", "unsubscribed", "Kyiv")


def test_one_of_a_connector_that_is_gone_is_given_up_thin_or_not(on: Stage) -> None:
    whole = on.say("shop", customer("cus_9", 5), lowering="may")
    thin = on.say("shop", customer("cus_9", 5), key="thin", lowering="may")
    on.run("UPDATE inbox SET thin = true WHERE dedup_key = 'thin'")
    with pytest.raises(Refused, match=rf"inbox {whole} can be read; .*upkept replay {whole}\n"):
        given_up(on, whole, thin)
    with pytest.raises(Refused, match=rf"inbox {thin} is asked of its vendor .*\[connections.shop\] out of"):
        given_up(on, thin)
    with uninstalled(on):
        given_up(on, whole, thin)
    assert on.waiting() == []


def test_what_need_not_be_given_up_is_refused_and_the_others_with_it(on: Stage) -> None:
    hopeless = broken(on, "shop", "a@x.example")
    no_opt_out = on.say("shop", customer("cus_9", 5), key="no opt-out")
    on.mapping.broken.add("no opt-out")
    (done,) = on.rows("SELECT id FROM inbox WHERE state = 'done' AND connection = 'shop'")[0]
    for id_, why in ((no_opt_out, "holds no opt-out"), (done, "is done")):
        with pytest.raises(Refused, match=f"inbox {id_} {why}"):
            given_up(on, hopeless, id_)
    with pytest.raises(NoSuchDelivery, match="no row 998, 999"):
        given_up(on, hopeless, 998, 999)
    assert on.inbox(hopeless)["state"] == "new"
    assert on.count_of("audit") == 0


def test_a_worker_that_has_it_loses_it(on: Stage) -> None:
    id_ = broken(on, "shop", "a@x.example")
    on.run("UPDATE inbox SET next_attempt_at = 0")
    with on.hub.store.write() as connection:
        (claimed,) = inbox.claim(connection, [id_], now=on.clock())
    given_up(on, id_)
    with on.hub.store.write() as connection:
        assert not inbox.finish(connection, [inbox.Outcome(claimed, "done")])
        connection.rollback()
    assert on.inbox(id_)["state"] == "given_up"


def test_what_is_worked_off_at_this_moment_is_not_given_up(on: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = broken(on, "shop", "a@x.example")
    monkeypatch.setattr(inbox, "give_up", lambda *_args, **_named: 0)
    with pytest.raises(Refused, match="ask again"):
        given_up(on, id_)
    assert on.count_of("audit") == 0


def test_forgetting_its_connection_removes_it(on: Stage) -> None:
    first = broken(on, "shop", "a@x.example")
    forgotten(on)
    given_up(on, first)
    second = broken(on, "shop", "b@x.example")
    given_up(on, second)
    assert forget.preview(on.hub, "shop").unread == ()
    run = forgotten(on)
    assert (run.state, run.reason) == ("complete", None)
    assert (on.count_of("inbox", "connection = 'shop'"), on.consent("1")) == (0, "unknown")


def test_and_if_it_can_be_read_by_then_its_opt_out_counts(on: Stage) -> None:
    id_ = broken(on, "shop", "a@x.example")
    given_up(on, id_)
    on.mapping.broken.clear()
    forgotten(on)
    assert (on.count_of("inbox", "connection = 'shop'"), on.consent("1")) == (0, "unsubscribed")


def test_the_way_back_of_an_undo_leaves_it_given_up(on: Stage) -> None:
    run = an_import(on, imported("b@x.example", 2), alone=True)
    id_ = broken(on, "shop", "a@x.example", run)
    undone(on, run)
    given_up(on, id_)
    back(on, run)
    assert (on.inbox(id_)["state"], on.people()) == ("given_up", ["app:1 shop:cus_1", "csv:email:b@x.example"])
    on.mapping.broken.clear()
    on.replay(id_)
    assert (on.consent("1"), on.value("1", "city")) == ("unsubscribed", "York")


def test_an_erasure_blanks_it(on: Stage) -> None:
    id_ = broken(on, "shop", "a@x.example")
    given_up(on, id_)
    assert erase.preview(on.hub, "1").unread == (id_,)
    erase.erase(on.hub, "1", now=on.clock(), actor="test")
    assert (on.inbox(id_)["state"], on.inbox(id_)["body"]) == ("skipped", b"")


def test_it_is_never_pruned(on: Stage) -> None:
    id_ = broken(on, "shop", "a@x.example")
    given_up(on, id_)
    on.tell("csv", row("z@x.example", 1))
    on.now += 400 * 86_400_000_000
    while prune.deliveries(on.hub, now=on.clock(), limit=100):
        pass
    assert on.rows("SELECT id FROM inbox WHERE length(body) > 0") == [(id_,)]
