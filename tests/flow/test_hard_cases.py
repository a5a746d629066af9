"""The hard cases of SEMANTICS F, each through the real store, on SQLite and on PostgreSQL.

What the pure core decides of them holds for every order of arrival: `tests/people/test_hard_cases.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.flow.desk import Desk, pushed, with_desks
from tests.flow.stage import RecordRef, Stage, at, customer, plan, row, stage, us, user

from upkept.contract import Consent, Fact, FactKind, Link
from upkept.flow import rebuild, walk
from upkept.flow.erase import erase, lay
from upkept.flow.find import Unknown
from upkept.flow.link import merge, unmerge
from upkept.store import connections, readbacks, tombstones
from upkept.store.engine import Store, open_store

CUS = RecordRef("customer", "cus_1")
LEAD = RecordRef("customer", "lead_1")


@pytest.fixture
def on(store: Store, tmp_path: Path) -> Stage:
    return stage(store, tmp_path)


def sound(on: Stage) -> None:
    """A rebuild would change nothing."""
    assert on.differences() == []


def wishes(on: Stage) -> list[tuple[Any, ...]]:
    return on.rows("SELECT source_id, reason FROM readbacks ORDER BY source_id")


def test_email_a_to_b_then_a_late_event_for_a(on: Stage) -> None:
    """Still its record by source id; a's opt-outs keep binding address a and the record."""
    on.tell("shop", customer("cus_1", 1, "a@x.example", plan="gold"))
    on.tell("shop", Consent(act="opt_out", record=CUS, address="a@x.example", at=at(2)))
    on.tell("shop", customer("cus_1", 5, "b@x.example"))
    on.tell("shop", Fact(record=CUS, fields={"city": "Cork"}, claims={"email": "a@x.example"}, observed_at=at(3)))
    assert on.people() == ["shop:cus_1"]
    assert (on.value("shop:cus_1", "email"), on.value("shop:cus_1", "city")) == ("b@x.example", "Cork")
    assert on.consent("b@x.example") == "unsubscribed"
    on.tell("csv", row("a@x.example", 9))
    assert on.consent("csv:email:a@x.example") == "unsubscribed"
    sound(on)


def test_two_contacts_claim_one_email(on: Stage) -> None:
    """A weak link if held at overlapping times; two app users stay apart, a conflict is listed, consent binds both."""
    on.tell("csv", row("a@x.example", 1))
    on.tell("shop", customer("cus_1", 2, "a@x.example"))
    assert on.people() == ["csv:email:a@x.example shop:cus_1"]
    on.tell("app", user("1", 3, "a@x.example"), user("2", 4, "a@x.example"))
    assert on.people() == ["app:1 csv:email:a@x.example shop:cus_1", "app:2"]
    assert [one["reason"] for one in on.explain("2")["conflicts"]] == ["two_user_ids"]
    on.tell("shop", Consent(act="opt_out", address="a@x.example", at=at(5)))
    assert (on.consent("1"), on.consent("2")) == ("unsubscribed", "unsubscribed")
    on.tell("shop", customer("cus_8", 1, "z@x.example"), customer("cus_8", 2, "y@x.example"))
    on.tell("shop", customer("cus_9", 3, "z@x.example"))
    assert "shop:cus_8" in on.people()
    sound(on)


def test_a_lead_converts_to_a_user(on: Stage) -> None:
    """A strong link; both records stay; one commit per transaction."""
    on.tell("shop", customer("lead_1", 1, "work@x.example", source="fair"))
    on.tell("app", user("1", 1, "home@x.example"))
    id_ = on.say("shop", customer("cus_1", 2, "home@x.example"), Link(a=LEAD, b=CUS, at=at(2), reason="converted"))
    applied = on.apply(id_)
    assert (applied.done, applied.people) == (1, 1)
    assert on.people() == ["app:1 shop:cus_1 shop:lead_1"]
    assert on.value("1", "source") == "fair"
    sound(on)


def test_merge_then_a_late_event_for_the_loser(on: Stage) -> None:
    """Applied to the loser's record; the person is derived again."""
    on.tell("app", user("1", 1, name="Ann"), user("2", 2, name="Anna"))
    merge(on.hub, "1", "2", now=on.clock(), actor="test")
    on.tell("app", user("1", 9, name="Ann O", city="Cork"))
    assert (on.value("2", "name"), on.value("2", "city")) == ("Ann O", "Cork")
    facts = on.rows("SELECT source_id, count(*) FROM facts JOIN records ON records.id = record GROUP BY source_id")
    assert sorted(facts) == [("1", 2), ("2", 1)]
    sound(on)


def test_unmerge(on: Stage) -> None:
    """Each side keeps address-level and its own record-level opt-outs; the outbox corrects vendors."""
    desk = Desk(people={"p1": {}, "p2": {}})
    with_desks(on, desk.connection())
    on.tell("app", user("1", 1, "a@x.example"), user("2", 1, "b@x.example"))
    for id_, address in (("p1", "a@x.example"), ("p2", "b@x.example")):
        on.tell("desk", Fact(record=RecordRef("person", id_), claims={"email": address}, observed_at=at(2)))
    merge(on.hub, "1", "2", now=on.clock(), actor="test")
    on.tell("app", Consent(act="opt_out", record=RecordRef("user", "1"), at=at(5)))
    assert on.consent("2") == "unsubscribed"
    unmerge(on.hub, "app:1", "app:2", now=on.clock(), actor="test")
    assert (on.consent("1"), on.consent("2")) == ("unsubscribed", "unknown")
    assert (pushed(on), desk.out) == (0, {"p1"})
    on.tell("app", user("2", 8, "a@x.example"))
    on.tell("shop", Consent(act="opt_out", address="a@x.example", at=at(9)))
    assert on.consent("2") == "unsubscribed"
    sound(on)


@pytest.mark.parametrize("first", ["opt_out", "opt_in"])
def test_unsubscribe_and_resubscribe_in_one_second(on: Stage, first: Any) -> None:
    """Unsubscribed; read back."""
    on.tell("shop", customer("cus_1", 1, "a@x.example", subscribed="yes"))
    acts = {
        "opt_out": (customer("cus_1", 5, subscribed="no"), _consent("opt_out", 5)),
        "opt_in": (customer("cus_1", 5, subscribed="again"), _consent("opt_in", 5)),
    }
    for act in (first, *({*acts} - {first})):
        on.tell("shop", *acts[act])
    assert on.consent("a@x.example") == "unsubscribed"
    assert wishes(on) == [("cus_1", "tie")]


def _consent(act: Any, second: float) -> Consent:
    qualified = act == "opt_in"
    return Consent(act=act, record=CUS, address="a@x.example", at=at(second), qualified=qualified,
                   evidence="double opt-in" if qualified else "")  # fmt: skip


def test_an_older_unsubscribe_after_a_newer_qualified_opt_in(on: Stage) -> None:
    """Stays subscribed; both in the ledger."""
    on.tell("shop", customer("cus_1", 1, "a@x.example"), _consent("opt_in", 5))
    on.tell("shop", _consent("opt_out", 3))
    assert on.consent("a@x.example") == "subscribed"
    assert [one["act"] for one in on.explain("a@x.example")["consent"]["email"]["ledger"]] == ["opt_out", "opt_in"]


def test_erase_then_a_nightly_resync_brings_the_person_back(on: Stage) -> None:
    """Refused; a vendor delete is queued."""
    on.tell("shop", customer("cus_1", 1, "a@x.example"), plan("plan_1", "cus_1", 5))
    erase(on.hub, "a@x.example", now=on.clock(), actor="test")
    on.run("DELETE FROM outbox")
    read = Fact(record=CUS, fields={"name": "Ann"}, observed_at=at(90), kind=FactKind.READ_BACK, snapshot=True)
    on.tell("shop", read)
    on.tell("shop", customer("cus_7", 90, "a@x.example"))
    assert on.people() == []
    deletes = on.rows("SELECT destination, subject, action FROM outbox ORDER BY subject")
    assert deletes == [("shop", "cus_1", "delete"), ("shop", "cus_7", "delete")]
    with pytest.raises(Unknown):
        on.explain("a@x.example")


def test_restore_of_a_three_day_old_backup(
    store: Store, store_url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The tombstone log first, then replay and reconcile; the digest equals the one before the loss."""
    on = stage(store, tmp_path)
    told = [
        ("app", user("1", 1, "a@x.example", name="Ann")),
        ("shop", customer("cus_1", 1, "a@x.example")),
        ("app", user("2", 1, "b@x.example")),
        ("shop", customer("cus_1", 4, city="Cork")),
        ("app", user("2", 5, city="Kyiv")),
        ("shop", customer("cus_3", 5, "c@x.example")),
    ]
    for number, (connection, said) in enumerate(told[:3]):
        on.tell(connection, said, key=str(number))
    backup = _backup(store, store_url, tmp_path, request)
    for number, (connection, said) in enumerate(told[3:], start=3):
        on.tell(connection, said, key=str(number))
    erase(on.hub, "1", now=on.clock(), actor="test")
    before = on.digest()
    with store.read() as connection_:
        log = tombstones.everything(connection_)
    store.close()

    again = stage(open_store(backup), tmp_path)
    again.now = on.now
    assert again.people() == ["app:1 shop:cus_1", "app:2"]
    lay(again.hub, log, now=again.clock(), actor="test")
    run, _ = walk.start(again.hub, "rebuild", "", {}, cursor=rebuild.BEGIN, total=3, actor="test", now=again.clock())
    again.walk(run)
    assert again.people() == ["app:2"]
    with again.hub.store.read() as connection_:
        assert {(one.kind, one.subject) for one in tombstones.everything(connection_)} == {
            (one.kind, one.subject) for one in log
        }
    for number, (connection, said) in enumerate(told):
        again.tell(connection, said, key=str(number))
    assert again.digest() == before
    sound(again)
    again.hub.store.close()


def _backup(store: Store, url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A copy of the database as it is now."""
    if store.dialect == "sqlite":
        with store.write() as connection:
            connection.exec_driver_sql("SELECT 1")
        store.close()
        copy = tmp_path / "backup.sqlite3"
        shutil.copy(tmp_path / "upkept.sqlite3", copy)
        wal = tmp_path / "upkept.sqlite3-wal"
        if wal.exists():
            shutil.copy(wal, tmp_path / "backup.sqlite3-wal")
        return f"sqlite:///{copy}"
    store.close()
    server = request.getfixturevalue("postgres_server")
    made: str = server.create(url.rpartition("/")[2])
    request.addfinalizer(lambda: server.drop(made))
    return made


@pytest.mark.parametrize("created_first", [True, False])
def test_created_and_updated_in_one_second_in_either_order(on: Stage, created_first: bool) -> None:
    """The updated values; one read-back."""
    created = Fact(record=CUS, fields={"plan": "free"}, observed_at=at(5), sequence=0, snapshot=True)
    updated = Fact(record=CUS, fields={"plan": "gold"}, observed_at=at(5), sequence=1, snapshot=True)
    for said in (created, updated) if created_first else (updated, created):
        on.tell("shop", said)
    assert on.value("shop:cus_1", "plan") == "gold"
    assert on.count_of("readbacks") == 1
    with on.hub.store.write() as connection:
        assert len(readbacks.claim(connection, now=on.now + 10_000_000, limit=10)) == 1


def test_a_late_version_between_two_reads_asks_the_vendor_once(on: Stage) -> None:
    """v1 read back at 10 and 20 while v2 of 15 was late: without a version, one read-back decides."""

    def read(second: float, plan_: str) -> Fact:
        return Fact(record=CUS, fields={"plan": plan_}, observed_at=at(second), kind=FactKind.READ_BACK, snapshot=True)

    on.tell("shop", read(10, "v1"))
    on.tell("shop", read(20, "v1"))
    with on.hub.store.write() as connection:
        connections.pulled(connection, "shop", cursor="c", at=us(20), walked_at=us(20))
    on.run("DELETE FROM readbacks")
    on.tell("shop", customer("cus_1", 15, plan="v2", city="Cork"))
    assert on.value("shop:cus_1", "plan") == "v1"
    assert wishes(on) == [("cus_1", "late")]
    on.tell("shop", read(30, "v2"))
    assert on.value("shop:cus_1", "plan") == "v2"


def test_a_late_version_that_the_vendor_numbers_counts_by_its_time(on: Stage) -> None:
    """v1 read back at 10 and 20 while v2 of 15 was late: with versions, v2."""

    def version(second: float, plan_: str) -> Fact:
        return Fact(record=CUS, fields={"plan": plan_}, observed_at=at(second), kind=FactKind.READ_BACK, snapshot=True)

    on.tell("shop", version(10, "v1"))
    on.tell("shop", version(10, "v1"))  # the read at 20 shows the version of 10: a known fact
    assert on.count_of("facts") == 1
    on.tell("shop", version(15, "v2"))
    assert on.value("shop:cus_1", "plan") == "v2"


@pytest.mark.parametrize("enforced", [True, False])
def test_a_public_key_identifies_as_a_victims_address(store: Store, tmp_path: Path, enforced: bool) -> None:
    """Nothing of the victim changes where enforcement is on; no opt-out of the address ever."""
    on = stage(store, tmp_path, enforce=enforced)
    on.tell("shop", customer("cus_1", 1, "victim@x.example", name="Vic"))
    before = on.explain("shop:cus_1")
    thief = RecordRef("user", "thief")
    on.tell("app", user("thief", 2, "victim@x.example", verified=False, name="Thief"))
    on.tell("app", Consent(act="opt_out", record=thief, address="victim@x.example", at=at(3), verified=False))
    assert len(on.people()) == (2 if enforced else 1)
    if enforced:
        assert {**on.explain("shop:cus_1"), "conflicts": []} == before
        assert on.consent("shop:cus_1") == "unknown"
    on.tell("csv", row("victim@x.example", 4))
    assert on.count_of("consent", "subject_kind = 'address'") == 0
    on.tell("shop", customer("cus_2", 5, "other@x.example"), customer("cus_2", 6, "victim@x.example"))
    assert on.count_of("consent") == 1
    sound(on)


def test_an_opt_out_without_a_time_counts_from_its_first_arrival(on: Stage) -> None:
    """The vendor sends a delivery again, and its copy must not beat an opt-in made since."""
    on.tell("app", user("1", 1, "a@x.example"))
    told = Consent(act="opt_out", address="a@x.example")
    on.tell("shop", told, key="again", received=us(10))
    opt_in = Consent(act="opt_in", address="a@x.example", at=at(1000), qualified=True, evidence="form")
    on.tell("app", opt_in)
    assert on.consent("1") == "subscribed"
    assert on.say("shop", told, key="again", received=us(2000)) == 0
    assert on.consent("1") == "subscribed"


def test_an_opt_out_with_a_time_is_in_force_though_a_walk_brought_its_event_first(on: Stage) -> None:
    on.tell("app", user("1", 1, "a@x.example"))
    told = Consent(act="opt_out", address="a@x.example", at=at(5))
    on.say("shop", told, key="known")
    on.run("DELETE FROM consent")  # a walk puts events into the inbox alone
    assert on.say("shop", told, key="known", received=us(20)) == 0
    assert on.consent("1") == "unsubscribed"
