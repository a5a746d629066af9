"""What several records of one connection say together: its stamp, its place among other sources, its explanation."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from upkept.contract import WITHDRAWN, RecordRef, Said, Summary
from upkept.people.derive import Explained, Lost, Policies, Policy, RecordView, Share, derive, explain
from upkept.people.head import Cell
from upkept.people.together import Joint, Joints, joined, newest_of
from upkept.people.values import Json, RecordKey, Stamp

ONE, TWO, GONE = (RecordRef("customer", id) for id in ("c1", "c2", "c3"))


def stamp(at: int) -> Stamp:
    return Stamp(at, 1, 0, f"fact of {at}")


def cells(**said: tuple[Json, int]) -> dict[str, Cell]:
    """Attributes, each with when it was said."""
    return {name: Cell(value, stamp(at), stamp(at)) for name, (value, at) in said.items()}


def bill(ref: RecordRef, *, deleted: bool = False, **said: tuple[Json, int]) -> RecordView:
    return RecordView(RecordKey("bill", *ref), f"public {ref.id}", 1, cells(**said), deleted)


def app(**said: tuple[Json, int]) -> RecordView:
    return RecordView(RecordKey("app", "user", "1"), "public app", 1, cells(**said))


def together(*records: RecordView, **said: tuple[Said, tuple[RecordRef, ...]]) -> Joints:
    combined = {name: Summary(value=value, used=used) for name, (value, used) in said.items()}
    living = {RecordRef(r.key.type, r.key.id): r.cells for r in records if not r.deleted}
    return {"bill": joined(combined, living)}


def test_what_was_made_of_several_takes_the_newest_stamp_among_those_it_used() -> None:
    newest = {ONE: stamp(1), TWO: stamp(5), GONE: None}
    assert newest_of((ONE, TWO, GONE), newest, stamp(9)) == stamp(5)
    assert newest_of((ONE,), newest, stamp(9)) == stamp(1)
    assert newest_of((), newest, stamp(9)) == newest_of((GONE,), newest, stamp(9)) == stamp(9)
    assert newest_of((GONE,), newest, None) is None


def test_a_combined_value_is_as_new_as_what_was_said_of_that_very_attribute() -> None:
    said = {ONE: cells(mrr=(1.0, 1), plan=("Pro", 7)), TWO: cells(mrr=(2.0, 3)), GONE: {}}

    def at(name: str, *used: RecordRef) -> int:
        return joined({name: Summary(value=3.0, used=used)}, said)[name].cell.since.at

    assert (at("mrr", ONE), at("mrr", ONE, TWO)) == (1, 3)
    assert at("plan", ONE, TWO) == 7
    assert at("plan", TWO) == 3, "one that says nothing of it counts by its newest word"
    assert at("plan") == at("plan", GONE) == 7, "what was made of nothing dated is as new as anything said"
    assert joined({"plan": Summary(value=1, used=(GONE,))}, {GONE: {}}) == {}
    assert joined({"mrr": Summary(value=WITHDRAWN, used=(ONE,))}, said) == {
        "mrr": Joint(Cell({"$w": 1}, stamp(1), stamp(1)), (ONE,))
    }


def test_it_stands_for_what_each_record_says_alone() -> None:
    records = [
        bill(ONE, mrr=(10.0, 1), status=("active", 1), name=("Ann", 1)),
        bill(TWO, mrr=(5.0, 9), status=("canceled", 9), name=("Anna", 9), card=("visa", 9)),
        bill(GONE, deleted=True, mrr=(99.0, 20), status=("gone", 20)),
    ]
    joints = together(*records, mrr=(15.0, (ONE, TWO)), status=("active", (ONE,)), card=(WITHDRAWN, (ONE,)))
    for order in permutations(records):
        assert derive(order, joints=joints).attributes == {"mrr": 15.0, "status": "active", "name": "Anna"}
        assert explain(order, joints=joints) == {
            "mrr": Explained(
                15.0, "bill", 9, "combined", [Lost(99.0, "bill", 20)], [Share(ONE, 10.0, 1), Share(TWO, 5.0, 9)]
            ),
            "status": Explained(
                "active", "bill", 1, "combined",
                [Lost("gone", "bill", 20), Lost("canceled", "bill", 9)], [Share(ONE, "active", 1)],
            ),
            "name": Explained("Anna", "bill", 9, "lww", [Lost("Ann", "bill", 1)]),
        }  # fmt: skip


def test_between_connections_the_policy_of_the_attribute_decides() -> None:
    two = [bill(ONE, plan=("Pro", 1)), bill(TWO, plan=("Basic", 3))]
    joints = together(*two, plan=("Pro", (ONE, TWO)))

    def plan(at: int, policy: Policy) -> Any:
        records, policies = [*two, app(plan=("Gold", at))], Policies({"plan": policy})
        why = explain(records, policies, joints=joints)["plan"]
        assert derive(records, policies=policies, joints=joints).attributes["plan"] == why.value
        return why.value, why.rule, [lost.value for lost in why.lost]

    assert plan(2, Policy()) == ("Pro", "combined", ["Gold"])
    assert plan(4, Policy()) == ("Gold", "lww", ["Pro"])
    assert plan(4, Policy("authority", (("bill",),))) == ("Pro", "combined", ["Gold"])
    assert plan(2, Policy("authority", (("app",),))) == ("Gold", "authority", ["Pro"])


def test_withdrawn_together_lets_the_next_source_speak() -> None:
    two = [bill(ONE), bill(TWO, plan=("Basic", 3))]
    joints = together(*two, plan=(WITHDRAWN, (ONE, TWO)))
    assert "plan" not in derive(two, joints=joints).attributes
    assert "plan" not in explain(two, joints=joints)
    assert derive([*two, app(plan=("Gold", 1))], joints=joints).attributes["plan"] == "Gold"
    assert explain([*two, app(plan=("Gold", 1))], joints=joints)["plan"] == Explained("Gold", "app", 1, "lww", [])


def test_deriving_changes_none_of_its_input() -> None:
    two = [bill(ONE, plan=("Pro", 1)), bill(TWO, plan=("Basic", 3))]
    before = [dict(record.cells) for record in two]
    derive(two, joints=together(*two, plan=("Pro", (ONE, TWO))))
    assert [dict(record.cells) for record in two] == before
