"""outbox, push: what other systems are owed, and telling them again, on both databases."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.flow.desk import Desk, pushed, with_desks
from tests.flow.stage import RecordRef, Stage, at, stage, user

from upkept.cli import main, outgoing
from upkept.contract import Fact, Permanent
from upkept.flow.hub import Hub
from upkept.flow.push import push
from upkept.store import outbox
from upkept.store.engine import Store

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def on(store: Store, tmp_path: Path, desk: Desk) -> Stage:
    """One person whom the desk knows, and whose city it refuses."""
    made = with_desks(stage(store, tmp_path), desk.connection())
    desk.people["p1"] = {}
    made.tell("desk", Fact(record=RecordRef("person", "p1"), claims={"email": "a@x.example"}, observed_at=at(1)))
    desk.fails = [Permanent("no such field")]
    made.tell("app", user("1", 5, "a@x.example", city="Bray"))
    with store.read() as connection:
        push(made.hub, [row for _, row in outbox.due(connection, now=made.now)], now=made.clock)
    return made


@pytest.fixture
def upkept(on: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command line on this hub: exit status, standard output, standard error."""

    @contextmanager
    def opened() -> Iterator[Hub]:
        yield on.hub

    monkeypatch.setattr(outgoing, "opened_hub", opened)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["upkept", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended, capture_logs():
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_what_is_owed_is_listed(upkept: Run, on: Stage) -> None:
    status, out, _ = upkept("outbox", "--json")
    (row,) = json.loads(out)["rows"]
    assert status == 0
    told = (row["connection"], row["person"], row["action"], row["state"], row["opt_out"], row["reason"])
    assert told == ("desk", on.explain("1")["id"], "upsert", "dead", False, "no such field")
    assert "no such field" in upkept("outbox", "--state", "dead")[1]
    assert json.loads(upkept("outbox", "--state", "new", "--json")[1]) == {"rows": []}
    assert json.loads(upkept("outbox", "--connection", "other", "--json")[1]) == {"rows": []}
    assert upkept("outbox", "--state", "done")[0] == 2


def test_after_a_fix_it_goes_out(upkept: Run, on: Stage, desk: Desk) -> None:
    status, out, _ = upkept("push", "--state", "dead", "--json")
    assert (status, json.loads(out)) == (0, {"pushed": 1, "waiting": 0, "dead": 0})
    assert desk.people == {"p1": {"city": "Bray"}}
    assert on.count_of("alerts", "resolved_at IS NULL") == 0
    status, _, err = upkept("push", "--state", "dead")
    assert (status, "there is nothing to push" in err) == (4, True)


def test_what_is_refused_again_is_told(upkept: Run, on: Stage, desk: Desk) -> None:
    desk.fails = [Permanent("no such field")]
    ((id_,),) = on.rows("SELECT id FROM outbox")
    status, out, err = upkept("push", str(id_))
    assert (status, out) == (1, "0 pushed, 0 waiting, 1 dead\n")
    assert "upkept outbox --state dead" in err
    assert on.count_of("alerts", "resolved_at IS NULL") == 1


@pytest.mark.parametrize("wrong", [(), ("7", "--state", "dead"), ("--state", "new")])
def test_what_to_push_must_be_said(upkept: Run, wrong: tuple[str, ...]) -> None:
    assert upkept("push", *wrong)[0] == 2


def test_the_alert_is_over_when_a_later_change_went_out(upkept: Run, on: Stage, desk: Desk) -> None:
    on.tell("app", user("1", 6, "a@x.example", city="Naas"))
    assert (pushed(on), desk.people) == (0, {"p1": {"city": "Naas"}})
    assert upkept("push", "--state", "dead")[0] == 4
    assert on.count_of("alerts", "resolved_at IS NULL") == 0
