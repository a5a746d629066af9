"""A bug about one person, in a connector or of ours, keeps nothing from another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.flow.desk import Desk, pushed, with_desks
from tests.flow.stage import Consent, Nothing, RecordRef, Stage, at, stage

from upkept.contract import Context, Desired, Fact, Pushed, UpkeptError
from upkept.flow import told
from upkept.store.engine import Store

MINUTE = 60_000_000
NAMES = ("p1", "p2", "p3")


class Many(Desk):
    """It is told of many at once."""

    def push_many(
        self, states: Mapping[str, Desired], config: Nothing, ctx: Context, /
    ) -> Iterator[tuple[str, Pushed | UpkeptError]]:
        for key, state in states.items():
            yield key, self.push(state, config, ctx, key=key)


@pytest.fixture(params=["one", "many"])
def desk(request: pytest.FixtureRequest) -> Desk:
    return Desk() if request.param == "one" else Many()


@pytest.fixture
def on(store: Store, tmp_path: Path, desk: Desk) -> Stage:
    """Three people whom the desk knows, and who opted out."""
    more = {"push_many": desk.push_many} if isinstance(desk, Many) else {}
    made = with_desks(stage(store, tmp_path), desk.connection(connector=more))
    for name in NAMES:
        claims = {"email": f"{name}@x.example"}
        made.tell("desk", Fact(record=RecordRef("person", name), claims=claims, observed_at=at(1)))
    made.tell("shop", *(Consent(act="opt_out", address=f"{name}@x.example", at=at(5)) for name in NAMES))
    return made


@pytest.mark.parametrize("poor", NAMES)
def test_a_bug_about_one_keeps_nothing_from_another(on: Stage, desk: Desk, poor: str) -> None:
    desk.refuses = {poor: TypeError("a bug about a@x.example")}
    with capture_logs() as logs:
        assert pushed(on) == 1
    assert desk.out == set(NAMES) - {poor}
    assert [type(one["exc_info"]) for one in logs if one["event"] == "push_failed"] == [TypeError]
    assert on.rows("SELECT state, attempts, reason FROM outbox") == [("new", 1, "TypeError")]
    on.now += MINUTE
    desk.refuses = {}
    assert (pushed(on), desk.out) == (0, set(NAMES))


def test_an_answer_that_cannot_be_kept_keeps_nothing_from_another(
    on: Stage, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(*args: object, **more: object) -> None:
        if args[2] == poor:
            raise ValueError
        keep(*args, **more)  # type: ignore[arg-type]

    ((poor,),) = on.rows("SELECT id FROM records WHERE source_id = 'p1'")
    keep = told.taken
    monkeypatch.setattr(told, "taken", taken)
    assert (pushed(on), on.count_of("told"), desk.out) == (1, 2, set(NAMES))
    assert on.rows("SELECT state, attempts, reason, lease_until FROM outbox") == [("new", 1, "ValueError", None)]
