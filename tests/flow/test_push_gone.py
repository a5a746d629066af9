"""A push that finds nobody: the record is read back, and told again unless it is gone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.flow.desk import Desk, pushed, with_desks
from tests.flow.stage import Consent, RecordRef, Stage, at, stage

from upkept.contract import Context, Fact, FactKind, Gone, RawEvent, Skipped
from upkept.flow.fetch import read_back
from upkept.flow.push import LOOKS, refused
from upkept.sources import STATEMENTS
from upkept.sources.envelope import encode
from upkept.store import alerts
from upkept.store.engine import Store

MINUTE = 60_000_000
HOUR = 60 * MINUTE
OUT = Consent(act="opt_out", address="a@x.example", at=at(5))


class Read(Desk):
    """A desk whose people can be read."""

    looked: int = 0

    def fetch(self, event: RawEvent, _config: object, ctx: Context, /) -> RawEvent:
        self.looked += 1
        second = ctx.now.timestamp() - at(0).timestamp()
        said = Fact(record=RecordRef("person", event.id), observed_at=at(second), kind=FactKind.READ_BACK, deleted=True)
        if event.id in self.people:
            said = self.read(event.id, second)
        return RawEvent(id=f"read {self.looked}", kind=STATEMENTS, body=encode([said]))


@pytest.fixture
def desk() -> Read:
    return Read()


@pytest.fixture
def on(store: Store, tmp_path: Path, desk: Read) -> Stage:
    made = with_desks(stage(store, tmp_path), desk.connection(connector={"fetch": desk.fetch}))
    desk.people["p1"] = {"city": "Cork"}
    made.tell("desk", Fact(record=RecordRef("person", "p1"), fields={"city": "Cork"}, observed_at=at(1),
                           claims={"email": "a@x.example"}))  # fmt: skip
    assert pushed(made) == 0
    return made


def looked(on: Stage) -> None:
    """The read-backs that are due are made, and a minute goes by."""
    read_back(on.hub, now=on.clock)
    on.apply(*on.waiting())
    on.now += MINUTE


def waiting_alerts(on: Stage) -> list[str]:
    with on.hub.store.read() as connection:
        return [alert.key for alert in alerts.unresolved(connection)]


def test_an_opt_out_of_somebody_who_is_there_after_all_arrives(on: Stage, desk: Read) -> None:
    """A key of another account, or a right that was taken away: for a while the vendor does not show whom it has."""
    desk.refuses["p1"] = Gone("no such person")
    on.tell("desk", OUT)
    assert pushed(on) == 1
    desk.refuses.clear()
    looked(on)
    assert pushed(on) == 0
    assert (desk.out, desk.looked, waiting_alerts(on)) == ({"p1"}, 1, [])


def test_of_who_is_gone_nothing_is_owed(on: Stage, desk: Read) -> None:
    desk.refuses["p1"] = Gone("no such person")
    del desk.people["p1"]
    on.tell("desk", OUT)
    assert pushed(on) == 1
    looked(on)
    assert (pushed(on), waiting_alerts(on)) == (0, [])


def test_where_both_go_on_a_person_is_told_and_the_opt_out_is_offered_every_hour(on: Stage, desk: Read) -> None:
    desk.refuses["p1"] = Gone("no such person")
    on.tell("desk", OUT)
    for _ in range(LOOKS):
        assert pushed(on) == 1
        assert waiting_alerts(on) == []
        looked(on)
        on.now += HOUR
    assert pushed(on) == 1
    assert (desk.looked, waiting_alerts(on)) == (1, ["push:desk"])
    desk.refuses.clear()
    on.now += HOUR + MINUTE
    refused(on.hub, now=on.now)
    assert (pushed(on), desk.out) == (0, {"p1"})


def test_what_a_vendor_can_make_nothing_of_is_not_offered_again(on: Stage, desk: Read) -> None:
    desk.refuses["p1"] = Skipped("a converted lead")
    on.tell("desk", OUT)
    assert (pushed(on), desk.looked) == (0, 0)
