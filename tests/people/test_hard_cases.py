"""The hard cases of SEMANTICS F, as far as the pure core decides them. Each holds for every order of arrival."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import islice, permutations
from typing import Any

from tests.model import reference
from tests.model.histories import BEGIN, LATER, Cut, Element, Erase, Merge, Say, moment
from tests.model.pure import Hub, readied

from upkept.contract import Consent, Fact, FactKind, Link, RecordRef
from upkept.people.facts import admit
from upkept.people.fold import advance, changed_late, conflicts, fold, says_nothing_new

ANN, NEW = "ann@x.example", "ann@new.example"


def when(second: int) -> datetime:
    return moment(BEGIN + second * 1_000_000)


def fact(record: str, second: int, /, **said: Any) -> Say:
    connection, type_, id_ = record.split(":")
    claims: dict[str, Any] = {kind: said.pop(kind) for kind in ("email", "user_id") if kind in said}
    options = {name: said.pop(name) for name in ("sequence", "verified", "deleted", "kind", "snapshot") if name in said}
    made = Fact(record=RecordRef(type_, id_), fields=said, claims=claims, observed_at=when(second), **options)
    return Say(connection, made, LATER)


def consent(record: str, second: int, act: Any, /, **more: Any) -> Say:
    connection, type_, id_ = record.split(":")
    if act == "opt_in":
        more = {"qualified": True, "evidence": "double opt-in", **more}
    ref = RecordRef(type_, id_) if id_ else None
    return Say(connection, Consent(act=act, record=ref, at=when(second), **more), LATER)


def key(record: str) -> tuple[str, str, str]:
    connection, type_, id_ = record.split(":")
    return connection, type_, id_


def orders(elements: tuple[Element, ...]) -> Iterator[tuple[Element, ...]]:
    yield from islice(permutations(elements), 200)
    yield elements + elements[::-1]


def people(*elements: Element, enforced: bool = False) -> list[dict[str, Any]]:
    """The people after these, the same for every order of them and for the reference model."""
    ready = {id(element): readied(element) for element in elements}
    expected = reference.people(list(elements), enforced=enforced)
    for order in orders(elements):
        hub = Hub(enforced=enforced)
        for element in order:
            hub.take(ready[id(element)])
        assert hub.people() == expected, [elements.index(element) for element in order]
    return expected


def records(person: dict[str, Any]) -> list[str]:
    return [":".join(key) for key in person["person"]["keys"]]


def test_email_a_to_b_then_a_late_event_for_a() -> None:
    [ann] = people(
        fact("bill:customer:cus_9", 1, email=ANN, name="Ann"),
        consent("bill:customer:cus_9", 2, "opt_out", address=ANN),
        fact("bill:customer:cus_9", 5, email=NEW),
        fact("bill:customer:cus_9", 3, email=ANN, name="Annie"),
    )
    assert ann["person"]["name"] == "Annie"
    assert ann["consent"]["*"] == "unsubscribed", "the record stays opted out at its clean address"
    _, other = people(
        fact("bill:customer:cus_9", 1, email=ANN),
        consent("bill:customer:cus_9", 2, "opt_out", address=ANN),
        fact("bill:customer:cus_9", 5, email=NEW),
        fact("mail:member:l/1", 6, email=ANN),
    )
    assert records(other) == ["mail:member:l/1"], "they never held the address at one time"
    assert other["consent"]["*"] == "unsubscribed", "the opt-out keeps binding the address"


def test_two_contacts_claim_one_email() -> None:
    [both] = people(fact("bill:customer:cus_1", 1, email=ANN), fact("bill:customer:cus_2", 2, email=ANN))
    assert records(both) == ["bill:customer:cus_1", "bill:customer:cus_2"]
    users = people(
        fact("app:user:1", 1, email=ANN, user_id="1"),
        fact("app:user:2", 2, email=ANN, user_id="2"),
        consent("mail:member:", 3, "opt_out", address=ANN),
    )
    assert [records(user) for user in users] == [["app:user:1"], ["app:user:2"]], "two app users stay apart"
    assert [user["consent"]["*"] for user in users] == ["unsubscribed"] * 2, "the address binds both"


def test_a_lead_converts_to_a_user() -> None:
    converted = Link(a=RecordRef("lead", "L1"), b=RecordRef("contact", "C1"), at=when(5), reason="conversion")
    [person] = people(
        fact("crm:lead:L1", 1, name="Ann", score=7),
        fact("crm:contact:C1", 5, name="Ann O'Neill", user_id="42"),
        Say("crm", converted, LATER),
    )
    assert records(person) == ["crm:contact:C1", "crm:lead:L1"], "both records stay"
    assert person["person"]["role"] == "user"
    assert person["person"]["attributes"] == {"name": "Ann O'Neill", "score": 7}


def test_merge_then_a_late_event_for_the_loser() -> None:
    [person] = people(
        fact("api:contact:lose", 1, city="Cork"),
        fact("api:contact:win", 2, city="Kyiv", name="Ann"),
        Merge(key("api:contact:lose"), key("api:contact:win"), BEGIN + 3_000_000),
        fact("api:contact:lose", 4, city="Oslo"),
    )
    assert records(person) == ["api:contact:lose", "api:contact:win"]
    assert person["person"]["attributes"] == {"city": "Oslo", "name": "Ann"}


def test_unmerge_leaves_each_side_its_own_opt_outs() -> None:
    merged = (
        fact("crm:lead:a", 1, email=ANN),
        fact("crm:lead:b", 1, email=NEW),
        Merge(key("crm:lead:a"), key("crm:lead:b"), BEGIN + 2_000_000),
        consent("crm:lead:a", 3, "opt_out", address=ANN),
    )
    [together] = people(*merged)
    assert together["consent"]["*"] == "unsubscribed"
    a, b = people(*merged, Cut(key("crm:lead:b"), key("crm:lead:a"), BEGIN + 4_000_000))
    assert (a["consent"]["*"], b["consent"]["*"]) == ("unsubscribed", "unknown")


def test_unsubscribe_and_resubscribe_in_one_second() -> None:
    [person] = people(
        consent("mail:member:l/1", 5, "opt_in", address=ANN),
        consent("mail:member:l/1", 5, "opt_out", address=ANN),
    )
    assert person["consent"]["*"] == "unsubscribed"


def test_an_older_unsubscribe_after_a_newer_qualified_opt_in() -> None:
    [person] = people(
        consent("mail:member:l/1", 9, "opt_in", address=ANN),
        consent("mail:member:l/1", 5, "opt_out", address=ANN),
    )
    assert person["consent"]["*"] == "subscribed"


ERASED = Erase((key("bill:customer:cus_9"),), (("email", ANN),), BEGIN + 9_000_000)


def test_erase_then_the_nightly_resync_brings_the_person_back() -> None:
    assert (
        people(
            fact("bill:customer:cus_9", 1, email=ANN),
            ERASED,
            fact("bill:customer:cus_9", 12, email=NEW, name="Ann"),
            fact("mail:member:l/1", 12, email=ANN),
        )
        == []
    )


def test_only_a_first_party_record_created_later_brings_an_erased_address_back() -> None:
    opted_out = consent("mail:member:", 3, "opt_out", address=ANN)
    [back] = people(ERASED, opted_out, fact("app:user:7", 12, email=ANN, user_id="7"))
    assert records(back) == ["app:user:7"]
    assert back["consent"]["*"] == "unsubscribed", "opt-outs survive an erasure"
    assert people(ERASED, fact("app:user:7", 12, email=ANN), fact("app:user:7", 8, name="Ann")) == []


def test_restore_of_a_three_day_old_backup() -> None:
    told: list[Element] = [
        fact("bill:customer:cus_9", 1, email=ANN),
        fact("mail:member:l/2", 2, email=NEW, name="Ann"),
        consent("mail:member:l/2", 3, "opt_out", address=NEW),
        fact("mail:member:l/2", 4, name="Annie"),
    ]
    before, after = Hub(), Hub()
    loss: list[Element] = [*told[:2], ERASED, *told[2:]]
    for element in loss:
        before.take(readied(element))
    restored: list[Element] = [*told[:2], ERASED, *told]
    for element in restored:
        after.take(readied(element))
    assert after.digest() == before.digest()


def admitted(said: Say) -> Any:
    assert isinstance(said.statement, Fact)
    return admit(said.connection, said.statement, received_at=said.received_at).fact


def test_created_and_updated_in_one_second_in_either_order() -> None:
    created = fact("bill:customer:cus_9", 5, sequence=0, name="Old", city="Cork")
    updated = fact("bill:customer:cus_9", 5, sequence=1, name="New")
    [person] = people(created, updated)
    assert person["person"]["attributes"] == {"name": "New", "city": "Cork"}
    for first, second in ((created, updated), (updated, created)):
        assert conflicts(fold([admitted(first)]), admitted(second)), "one read-back is due"
    read = fact("bill:customer:cus_9", 7, kind=FactKind.READ_BACK, name="Newest", snapshot=True)
    [settled] = people(created, updated, read)
    assert settled["person"]["name"] == "Newest"
    assert not conflicts(fold([admitted(created), admitted(updated)]), admitted(read))


def test_version_one_read_at_10_and_20_while_version_two_of_15_was_late() -> None:
    version_one = fact("crm:contact:C1", 1, kind=FactKind.READ_BACK, name="v1", snapshot=True)
    version_two = fact("crm:contact:C1", 15, name="v2")
    [person] = people(version_one, version_one._replace(received_at=LATER + 10), version_two)
    assert person["person"]["name"] == "v2", "with version times a second read is the same fact"

    at_10, at_20 = (
        admitted(fact("bill:customer:cus_9", at, kind=FactKind.READ_BACK, name="v1", snapshot=True)) for at in (10, 20)
    )
    late = admitted(fact("bill:customer:cus_9", 15, name="v2"))
    head = fold([at_10])
    assert says_nothing_new(head, at_20), "without one, a read that equals the head is not admitted"
    after = advance(head, late)
    assert after is not None
    assert after.cells["name"].value == "v2"
    assert changed_late(head, after, late, walked_at=BEGIN + 20_000_000), "one read-back decides"


def test_a_public_key_identifies_as_a_victims_address() -> None:
    victim = fact("app:user:1", 1, email=ANN, user_id="1", name="Ann")
    attack = (
        fact("app:user:2", 5, email=ANN, user_id="2", name="Mallory", verified=False),
        consent("app:user:2", 6, "opt_out", address=ANN, verified=False),
    )
    [ann, mallory] = people(victim, *attack, enforced=True)
    assert (records(ann), ann["person"]["name"]) == (["app:user:1"], "Ann")
    assert ann["consent"]["*"] == "unknown", "no opt-out of the address ever"
    assert mallory["consent"]["*"] == "unsubscribed"

    lead = fact("bill:customer:cus_9", 1, email=ANN, name="Ann")
    visitor = fact("app:anonymous:v1", 5, email=ANN, name="Mallory", verified=False)
    for enforced in (False, True):
        apart = people(lead, visitor, enforced=enforced)
        assert [records(p) for p in apart] == [["app:anonymous:v1"], ["bill:customer:cus_9"]]
