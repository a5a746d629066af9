"""Erase: nothing of the person is left, nothing of them comes back, and everybody else stays as they were."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from tests.flow.stage import RecordRef, Stage, at, customer, happened, plan, row, stage, us, user

from upkept.contract import Consent, Fact, Link
from upkept.flow import walk
from upkept.flow.apply import apply
from upkept.flow.erase import Erasure, erase, lay, preview
from upkept.flow.find import Unknown
from upkept.flow.link import merge, unmerge
from upkept.flow.rebuild import BEGIN
from upkept.flow.refuse import refuse
from upkept.store import inbox, tombstones
from upkept.store.engine import Store, open_store
from upkept.store.tables import metadata

PERSONAL = ("annabel", "ann@x", "ann_1", "cus_1", "plan_1", "secret")


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


def ann(on: Stage) -> None:
    """A person known to three doors, with parts, events, consent, and a duplicate and a dead delivery."""
    signed_up = happened("e1", "signed up", of="ann_1", secret="x")
    on.tell("app", user("ann_1", 1, "ann@x.example", name="Annabel"), signed_up)
    on.tell("shop", customer("cus_1", 2, "Ann@X.example", plan="gold"), plan("plan_1", "cus_1", 5), key="first")
    on.tell("shop", customer("cus_1", 2, "Ann@X.example", plan="gold"), plan("plan_1", "cus_1", 5), key="again")
    on.tell("csv", row("ann@x.example", 3, note="secret"))
    ref = RecordRef("customer", "cus_1")
    on.tell("shop", Consent(act="opt_out", record=ref, address="ann@x.example", at=at(4), evidence="secret words"))
    on.mapping.broken = {"dead"}
    on.say("shop", customer("cus_1", 5, "ann@x.example"), key="dead")
    on.run("UPDATE inbox SET lane = 'inbound' WHERE dedup_key = 'dead'")
    on.apply()
    on.mapping.broken = set()


def bob(on: Stage) -> None:
    on.tell("app", user("bob_1", 1, "bob@x.example", name="Bob"))
    on.tell("shop", customer("cus_2", 2, "bob@x.example"), plan("plan_2", "cus_2", 7))


def gone(on: Stage, name: str) -> Erasure:
    return erase(on.hub, name, now=on.clock(), actor="test")


def sound(on: Stage) -> None:
    """A rebuild would change nothing."""
    assert on.differences() == []


def everything(on: Stage) -> str:
    """All text and bytes of all tables."""
    found = []
    with on.hub.store.read() as connection:
        for table in metadata.sorted_tables:
            if table.name in ("alembic_version", "inbox"):
                continue
            found += [repr(tuple(r)) for r in connection.execute(table.select())]
        found += [repr(bytes(r[0])) for r in connection.exec_driver_sql("SELECT body FROM inbox")]
    return "\n".join(found).lower()


def test_nothing_of_the_person_is_left(on: Stage) -> None:
    bob(on)
    before = on.digest(), on.explain("bob_1")
    ann(on)
    assert on.count_of("inbox", "state = 'dead'") == 1
    assert all(word in everything(on) for word in PERSONAL)
    erasure = gone(on, "ann@x.example")
    left = [line for line in everything(on).splitlines() if "delete" not in line]
    assert [(word, line) for line in left for word in PERSONAL if word in line] == []
    assert (erasure.tally.records, erasure.tally.parts, erasure.tally.events) == (3, 1, 1)
    assert erasure.rows == 6
    assert erasure.erased == (("email", "ann@x.example"), ("user_id", "ann_1"))
    assert erasure.left == ()
    with pytest.raises(Unknown):
        on.explain("ann_1")
    assert on.explain("bob_1") == before[1]
    assert on.people() == ["app:bob_1 shop:cus_2"]


def test_it_is_told_to_the_vendors_and_audited_by_ids(on: Stage) -> None:
    ann(on)
    person = on.explain("ann_1")["id"]
    erasure = gone(on, "ann_1")
    assert erasure.vendors == ("shop",)
    assert on.rows("SELECT destination, subject, action FROM outbox") == [("shop", "cus_1", "delete")]
    ((action, subjects),) = on.rows("SELECT action, subjects FROM audit")
    assert action == "erase"
    assert person in subjects
    assert not any(word in subjects for word in PERSONAL)


def test_a_dry_run_tells_the_same_and_changes_nothing(on: Stage) -> None:
    ann(on)
    before, text = on.digest(), everything(on)
    planned = preview(on.hub, "ann_1")
    assert (on.digest(), everything(on)) == (before, text)
    assert gone(on, "ann_1") == planned


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("shop", customer("cus_1", 50, "new@x.example")),
        ("shop", customer("cus_9", 50, "ANN@x.example")),
        ("shop", plan("plan_1", None, 9, 50)),
        ("shop", plan("plan_9", "cus_1", 9, 50)),
        ("app", user("ann_1", 50, "new@x.example")),
        ("csv", row("ann@x.example", 3)),
    ],
)
def test_whatever_comes_back_is_refused(on: Stage, connection: str, said: Fact) -> None:
    ann(on)
    gone(on, "ann_1")
    on.run("DELETE FROM outbox")
    id_ = on.tell(connection, said)
    assert on.people() == []
    assert on.count_of("records") + on.count_of("facts") + on.count_of("claims") + on.count_of("identifiers") == 0
    assert (on.inbox(id_)["state"], bytes(on.inbox(id_)["body"])) == ("skipped", b"")
    orphan = said.record.type == "plan" and said.owner is None
    deletes = ["shop"] if connection == "shop" and not orphan else []
    assert [r[0] for r in on.rows("SELECT DISTINCT destination FROM outbox WHERE action = 'delete'")] == deletes


def test_events_links_and_consent_of_the_erased_leave_no_words(on: Stage) -> None:
    ann(on)
    gone(on, "ann_1")
    ref = RecordRef("customer", "cus_1")
    on.tell("app", happened("e2", "came back", of="ann_1", secret="x"))
    on.tell("shop", Link(a=ref, b=RecordRef("customer", "cus_7"), at=at(9)))
    on.tell("shop", Consent(act="opt_out", record=ref, address="ann@x.example", at=at(60), evidence="secret words"))
    on.tell("shop", Consent(act="complaint", address="ann@x.example", at=at(61), evidence="secret words"))
    assert on.people() == ["shop:cus_7"]
    assert on.count_of("links") + on.count_of("timeline") + on.count_of("identifiers") == 0
    assert on.rows("SELECT DISTINCT evidence, inbox_key FROM consent") == [("", "")]
    left = [line for line in everything(on).splitlines() if "delete" not in line and "link" not in line]
    assert [(word, line) for line in left for word in PERSONAL if word in line] == []


def test_opt_outs_outlive_it_as_hashes(on: Stage) -> None:
    ann(on)
    gone(on, "ann_1")
    on.now = us(200_000)
    on.tell("app", user("new", 150_000, "ann@x.example"), received=us(200_000))
    assert on.consent("new") == "unsubscribed"
    assert [one["evidence"] for one in on.explain("new")["consent"]["email"]["ledger"]] == [""]


def test_a_person_may_come_back_of_themselves_later(on: Stage) -> None:
    ann(on)
    gone(on, "ann_1")
    later = us(200_000)
    on.now = later
    on.tell("shop", customer("cus_9", 150_000, "ann@x.example"), received=later)
    assert on.people() == []
    on.tell("app", user("ann_2", 150_000, "ann@x.example"), received=later)
    assert on.people() == ["app:ann_2"]
    on.tell("app", user("ann_1", 150_000), received=later)
    assert on.people() == ["app:ann_2"]


def once_held(on: Stage) -> int:
    """User 1 shares one address with user 2, and took over another that user 3 has let go of."""
    on.tell("app", user("1", 1, "shared@x.example"))
    on.tell("app", user("2", 1, "shared@x.example"))
    before = on.tell("app", user("3", 1, "old@x.example"), key="old")
    on.tell("app", user("3", 2, "new@x.example"))
    on.tell("app", user("1", 3, "old@x.example"))
    on.tell("app", user("1", 4, "own@x.example"))
    return before


def test_an_identifier_that_somebody_else_holds_is_left(on: Stage) -> None:
    once_held(on)
    erasure = gone(on, "1")
    assert erasure.left == (("email", "shared@x.example"),)
    assert erasure.erased == (("email", "old@x.example"), ("email", "own@x.example"), ("user_id", "1"))
    on.tell("app", user("2", 5, city="Cork"))
    assert on.value("2", "city") == "Cork"


def test_who_once_held_an_erased_address_is_spared_and_nobody_else(on: Stage) -> None:
    before = once_held(on)
    gone(on, "1")
    assert bytes(on.inbox(before)["body"]) != b""
    on.tell("app", user("3", 1, "old@x.example"), key="old again")
    on.tell("app", user("3", 5, city="Kyiv"))
    assert (on.value("3", "email"), on.value("3", "city")) == ("new@x.example", "Kyiv")
    on.tell("shop", customer("cus_1", 6, "old@x.example"))
    on.tell("app", user("4", 7, "old@x.example"))
    assert on.people() == ["app:2", "app:3"]
    on.tell("app", user("3", 8, "old@x.example"))
    assert on.value("3", "email") == "old@x.example"
    sound(on)


def test_who_was_spared_is_spared_on_a_copy_that_lost_the_erasure(on: Stage) -> None:
    once_held(on)
    gone(on, "1")
    with on.hub.store.read() as connection:
        log = tombstones.everything(connection)
    on.run("DELETE FROM tombstones")
    once_held(on)
    on.tell("app", user("1", 9, "old@x.example"))
    lay(on.hub, log, now=on.clock(), actor="test")
    found = on.differences()
    (lost,) = on.rows("SELECT id FROM records WHERE source_id = '1'")
    assert [one.subject for one in found if one.what == "erased"] == [lost[0]]


@pytest.mark.parametrize("owner", [None, "cus_5"])
def test_a_part_that_was_erased_goes_from_a_copy_that_does_not_know_it_was_theirs(on: Stage, owner: str | None) -> None:
    on.tell("shop", customer("cus_1", 1), customer("cus_5", 1), plan("p1", "cus_1", 5, 4))
    gone(on, "shop:cus_1")
    with on.hub.store.read() as connection:
        log = tombstones.everything(connection)
    on.run("DELETE FROM tombstones")
    on.tell("shop", plan("p1", owner, 5, 3))
    lay(on.hub, log, now=on.clock(), actor="test")
    assert [one.what for one in on.differences()] == ["erased"]
    on.walk(walk.start(on.hub, "rebuild", "", {}, cursor=BEGIN, total=None, actor="test", now=on.clock())[0])
    assert on.count_of("records", "part") == on.count_of("facts", "inbox = (SELECT max(id) FROM inbox)") == 0
    assert on.people() == ["shop:cus_5"]
    assert on.value("shop:cus_5", "shop_total") is None
    sound(on)


def test_an_identifier_of_nobody_gets_no_tombstone(on: Stage) -> None:
    on.tell("app", user("1", 1, "noreply@x.example"))
    assert gone(on, "1").left == (("email", "noreply@x.example"),)
    on.tell("shop", customer("cus_5", 2, "noreply@x.example"))
    assert on.people() == ["shop:cus_5"]


def test_where_identity_is_enforced_a_mere_assertion_keeps_nothing_from_erasure(store: Store, tmp_path: Path) -> None:
    on = stage(store, tmp_path, enforce=True)
    on.tell("shop", customer("cus_1", 1, "ann@x.example"))
    on.tell("app", user("thief", 2, "ann@x.example", verified=False))
    assert gone(on, "shop:cus_1").left == ()


def test_a_short_id_blanks_no_delivery_about_somebody_else(on: Stage) -> None:
    on.tell("app", user("42", 1))
    other = on.tell("app", user("7", 1, score=42, note="42"))
    assert gone(on, "42").rows == 1
    assert bytes(on.inbox(other)["body"]) != b""
    assert on.value("7", "note") == "42"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("write to Ann.O+1@x.example.", True),
        ("email=ann.o%2B1%40x.example&x=1", True),
        ("a line\\nann.o+1@x.example", True),
        ("joann.o+1@x.example", False),
        ("ann.o+1@x.example.org", False),
        ("ann.o+1@x.examples", False),
    ],
)
def test_traces_are_whole_words_in_any_form(on: Stage, text: str, found: bool) -> None:
    on.tell("app", user("1", 1, "ann.o+1@x.example"))
    other = on.tell("app", user("2", 1))
    on.body(other, text.encode())
    gone(on, "1")
    assert (bytes(on.inbox(other)["body"]) == b"") is found


def test_an_address_they_held_once_is_looked_for_too(on: Stage) -> None:
    """In deliveries that name nothing else of theirs, applied or not."""
    on.tell("app", user("1", 1, "old@x.example"))
    on.tell("app", user("1", 2, "new@x.example"))
    on.mapping.broken = {"dead", "waits"}
    dead, waits = (on.say("shop", customer("cus_9", 3, "old@x.example"), key=key) for key in ("dead", "waits"))
    on.apply(dead)
    on.run("UPDATE inbox SET attempts = 1 WHERE dedup_key = 'waits'")
    on.mapping.broken = {"dead", "waits"}
    gone(on, "1")
    assert [bytes(on.inbox(id_)["body"]) for id_ in (dead, waits)] == [b"", b""]


def test_a_blanked_delivery_is_not_replayed(on: Stage) -> None:
    ann(on)
    gone(on, "ann_1")
    with on.hub.store.write() as connection:
        assert inbox.replay(connection, now=on.now, state="done") == []
        assert inbox.replay(connection, now=on.now, state="skipped") == []


def test_a_delivery_that_waits_is_refused_when_its_turn_comes(on: Stage) -> None:
    ann(on)
    waiting = on.say("shop", customer("cus_1", 9, "ann@x.example"))
    gone(on, "ann_1")
    assert bytes(on.inbox(waiting)["body"]) != b""
    on.apply()
    assert bytes(on.inbox(waiting)["body"]) == b""
    assert on.people() == []


def test_whom_it_leaves_behind_is_settled(on: Stage) -> None:
    """The second user was kept apart by the first; with that one gone, the CSV row is theirs."""
    on.tell("app", user("1", 1, "a@x.example"))
    on.tell("csv", row("a@x.example", 2))
    on.tell("app", user("2", 3, "a@x.example"))
    on.tell("shop", customer("cus_3", 1, "c@x.example"))
    assert on.people() == ["app:1 csv:email:a@x.example", "app:2", "shop:cus_3"]
    erase(on.hub, "1", now=on.clock(), actor="test")
    assert on.people() == ["app:2", "shop:cus_3"]
    assert on.count_of("conflicts") == 0
    sound(on)


def test_whom_only_the_erased_kept_apart_is_one_person_now(on: Stage) -> None:
    """The row was parted from the oldest holder of its address; with that one gone, it is the second user's."""
    on.tell("app", user("1", 1, "a@x.example"))
    on.tell("app", user("2", 2, "a@x.example"))
    on.tell("csv", row("a@x.example", 3))
    unmerge(on.hub, "csv:email:a@x.example", "app:1", now=on.clock(), actor="test")
    assert on.people() == ["app:1", "app:2", "csv:email:a@x.example"]
    gone(on, "1")
    assert on.people() == ["app:2 csv:email:a@x.example"]
    sound(on)


def test_a_record_that_is_covered_only_now_leaves_the_rest_of_its_person(on: Stage) -> None:
    """The shop's record states the erased address: it goes, and what is left is derived anew."""
    ann(on)
    gone(on, "ann_1")
    on.tell("app", user("bob_1", 1, "bob@x.example"))
    on.tell("shop", customer("cus_2", 2, "bob@x.example", city="Cork"))
    assert on.value("bob_1", "city") == "Cork"
    on.tell("shop", customer("cus_2", 70, "ann@x.example"))
    assert on.people() == ["app:bob_1"]
    assert on.value("bob_1", "city") is None
    sound(on)


def test_a_person_merged_by_hand_goes_whole(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    on.tell("shop", customer("cus_1", 1, "b@x.example"))
    merge(on.hub, "1", "shop:cus_1", now=on.clock(), actor="test")
    assert len(gone(on, "b@x.example").records) == 2
    assert on.people() == []
    assert on.count_of("links") == 0


def test_no_batch_slips_through_beside_an_erasure(
    postgres_server: Any, migrated_postgres: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that has looked at the tombstones is waited for; its record is erased with the rest."""
    url = postgres_server.create(migrated_postgres)
    store = open_store(url)
    on = stage(store, tmp_path)
    ann(on)
    late = on.say("csv", row("ann@x.example", 70, city="Cork"))
    looked, go_on = threading.Event(), threading.Event()

    def slowly(*args: Any, **kwargs: Any) -> Any:
        found = refuse(*args, **kwargs)
        looked.set()
        assert go_on.wait(30)
        return found

    monkeypatch.setattr("upkept.flow.apply.refuse", slowly)
    worker = threading.Thread(target=lambda: apply(on.hub, [late], now=lambda: on.now))
    eraser = threading.Thread(target=lambda: gone(on, "ann_1"))
    try:
        worker.start()
        assert looked.wait(30)
        eraser.start()
        eraser.join(timeout=1)
        assert eraser.is_alive()
    finally:
        go_on.set()
        worker.join(timeout=60)
        eraser.join(timeout=60)
    left = on.people(), on.count_of("facts")
    store.close()
    postgres_server.drop(url)
    assert left == ([], 0)
