"""explain, export, merge, unmerge, erase, forget, undo, rebuild, digest, audit: as typed, on both databases."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.flow.stage import Reading, RecordRef, Stage, at, happened, row, user

from upkept import log
from upkept.cli import context, main
from upkept.contract import Consent
from upkept.flow.opening import open_hub
from upkept.settings import load
from upkept.store import runs


@dataclass
class Answer:
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Upkept = Callable[..., Answer]


@pytest.fixture
def env(tmp_path: Path, store_url: str) -> dict[str, str]:
    (tmp_path / "upkept.toml").write_text("")
    return {
        "UPKEPT_HOME": str(tmp_path / "var"),
        "UPKEPT_CONFIG": str(tmp_path / "upkept.toml"),
        "UPKEPT_DATABASE_URL": store_url,
    }


@pytest.fixture
def on(env: dict[str, str]) -> Iterator[Stage]:
    """The same store, with somebody in it, told through our own doors."""
    hub = open_hub(load(env), pool_size=2)
    made = Stage(hub, Reading())
    made.tell("app", user("1", 1, "a@x.example", name="Ann", city="Cork"), happened("e1", "signed up"))
    made.tell("csv", row("a@x.example", 2, city="Kyiv"))
    made.tell("app", user("2", 1, "b@x.example"))
    yield made
    hub.store.close()


@pytest.fixture
def upkept(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Upkept]:
    """The command line, in this process; `typed` is what a person types. Its logs are tested elsewhere."""
    monkeypatch.setattr(log, "setup", lambda _settings: None)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    context.current_settings.cache_clear()

    def run(*arguments: str, typed: str = "") -> Answer:
        monkeypatch.setattr(sys, "argv", ["upkept", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        code = ended.value.code
        return Answer(code if isinstance(code, int) else 0, said.out, said.err)

    with capture_logs():
        yield run
    context.current_settings.cache_clear()


def test_explain_prints_one_document(on: Stage, upkept: Upkept) -> None:
    answer = upkept("explain", "a@x.example", "--json")
    assert answer.status == 0
    said = answer.document
    assert said["attributes"]["city"]["value"] == "Kyiv"
    assert said["attributes"]["city"]["lost"][0]["source"] == "app"
    assert said == on.explain("1")


def test_explain_for_people_says_who_when_why_and_what_lost(on: Stage, upkept: Upkept) -> None:
    said = upkept("explain", "1").out
    assert "Ann <a@x.example>: user" in said
    (city,) = [line for line in said.splitlines() if line.lstrip().startswith("city")]
    for part in ("Kyiv", "csv", "2026-01-01T00:00:02Z", "lww", "Cork (app)"):
        assert part in city
    assert "email: unknown" in said
    assert "signed up x1" in said


def test_explain_one_attribute(on: Stage, upkept: Upkept) -> None:
    assert upkept("explain", "1", "city", "--json").document["value"] == "Kyiv"
    said = upkept("explain", "1", "city").out
    assert said.splitlines()[0] == "city = Kyiv"
    assert "it beats Cork of app" in said
    assert "app:1" not in upkept("explain", "1", "aliases").out
    unknown = upkept("explain", "1", "colour")
    assert (unknown.status, unknown.out, "colour" in unknown.err) == (4, "", True)


def test_explain_consent_prints_the_ledger_with_its_evidence(on: Stage, upkept: Upkept) -> None:
    ref = RecordRef("user", "1")
    on.tell("app", Consent(act="opt_in", record=ref, at=at(1), qualified=True, evidence="form 9"))
    on.tell("app", Consent(act="opt_out", record=ref, address="a@x.example", at=at(2), reason="clicked"))
    said = upkept("explain", "1", "consent").out
    assert "email: unsubscribed since 2026-01-01T00:00:02Z: opt_out told by app (clicked)" in said
    assert "form 9" in said
    assert upkept("explain", "1", "consent", "--json").document["email"]["state"] == "unsubscribed"


@pytest.mark.parametrize("command", [["explain"], ["explain", "--json"], ["export"], ["erase", "--yes"]])
def test_nobody_is_status_4_and_nothing_on_standard_output(on: Stage, upkept: Upkept, command: list[str]) -> None:
    answer = upkept(*command, "nobody@x.example")
    assert (answer.status, answer.out) == (4, "")
    assert "nobody is known by that" in answer.err


def test_several_are_status_5_with_the_candidates(on: Stage, upkept: Upkept) -> None:
    on.tell("app", user("2", 3, "a@x.example"))
    answer = upkept("explain", "a@x.example")
    assert (answer.status, answer.out) == (5, "")
    for name in ("1", "2"):
        assert on.explain(name)["id"] in answer.err
        assert f"app:{name}" in answer.err


def test_merge_and_unmerge(on: Stage, upkept: Upkept) -> None:
    a, b = on.explain("1")["id"], on.explain("2")["id"]
    merged = upkept("merge", "1", "2", "--json")
    assert (merged.status, merged.document["people"], merged.document["changed"]) == (0, [b], True)
    assert on.explain(a)["id"] == b
    assert "they are two people now" in upkept("unmerge", a, b).out
    again = upkept("unmerge", a, b)
    assert (again.status, "two people already" in again.out) == (0, True)
    same = upkept("merge", "1", "app:1")
    assert (same.status, "same record" in same.err) == (1, True)


def test_erase_asks_first_and_says_what_goes(on: Stage, upkept: Upkept) -> None:
    before = on.digest()
    refused = upkept("erase", "1", typed="n\n")
    assert (refused.status, refused.out) == (1, "")
    for part in ("app user 1", "csv row email:a@x.example", "no way back", "a@x.example"):
        assert part in refused.err
    assert on.digest() == before
    assert upkept("erase", "1", typed="").status == 1
    assert on.digest() == before
    planned = upkept("erase", "1", "--dry-run", "--json").document["would_erase"]
    assert on.digest() == before
    done = upkept("erase", "1", "--yes", "--json")
    assert (done.status, done.document["erased"]) == (0, planned)
    assert planned["deliveries_blanked"] == 2
    assert upkept("explain", "1").status == 4
    assert upkept("erase", "1", "--yes").status == 4


def test_export_is_one_document(on: Stage, upkept: Upkept) -> None:
    told = upkept("export", "1").document
    assert upkept("export", "1", "--json").document == told
    assert {one["name"] for one in told["timeline"]} == {"signed up"}
    assert len(told["facts"]) == 2


def test_rebuild_checks_and_puts_right(on: Stage, upkept: Upkept) -> None:
    assert upkept("rebuild", "--check").out == "nothing differs\n"
    before = on.digest()
    on.run("UPDATE people SET name = 'Spoilt' WHERE name = 'Ann'")
    found = upkept("rebuild", "--check")
    assert found.status == 1
    assert "'Spoilt', must be 'Ann'" in found.out
    document = upkept("rebuild", "--check", "--json")
    assert (document.status, document.document["differences"][0]["rebuilt"]) == (1, {"name": "Ann"})
    done = upkept("rebuild", "--json")
    assert (done.status, done.document["state"], done.document["changed"]) == (0, "complete", 1)
    assert upkept("rebuild", "--check", "--json").document == {"differences": []}
    assert on.digest() == before


def test_digest_is_one_line(on: Stage, upkept: Upkept) -> None:
    answer = upkept("digest")
    assert answer.out == f"{on.digest()}\n"
    document = upkept("digest", "--json").document
    assert (document["digest"], document["people"]["rows"]) == (on.digest(), 2)


def test_forget(on: Stage, upkept: Upkept) -> None:
    planned = upkept("forget", "csv", "--dry-run", "--json").document
    assert (planned["records"], planned["deliveries"]) == (1, 1)
    assert upkept("forget", "csv", typed="n\n").status == 1
    old = next(r["upkept_id"] for r in on.explain("1")["records"] if r["connection"] == "csv")
    done = upkept("forget", "csv", "--yes", "--json")
    assert (done.status, done.document["state"]) == (0, "complete")
    assert on.value("1", "city") == "Cork"
    assert upkept("explain", old, "--json").document == on.explain("1")
    upkept("erase", old, "--yes")
    gone = upkept("explain", old)
    assert (gone.status, gone.out, "nobody is left" in gone.err) == (4, "", True)
    again = upkept("forget", "csv", "--yes")
    assert (again.status, again.out, "nothing here" in again.err) == (4, "", True)


def test_what_cannot_be_read_and_may_hold_an_opt_out_is_named(on: Stage, upkept: Upkept) -> None:
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "import", "csv", {}, on.now)
    kept = on.say("csv", row("a@x.example", 9), run=run.id, lowering="may")
    on.body(kept, b"a@x.example, of a format nobody knows")
    named = f"may hold an opt-out: 1 of the inbox ({kept});"
    for command in (["undo", str(run.id)], ["forget", "csv"]):
        assert upkept(*command, "--dry-run", "--json").document["unread_kept"] == [kept]
        assert named in upkept(*command, "--dry-run").out
        done = upkept(*command, "--yes", "--json")
        assert (done.status, named in done.document["reason"]) == (0, True)
    assert upkept("erase", "1", "--dry-run", "--json").document["would_erase"]["deliveries_unread"] == [kept]
    assert f"what they say goes with them (inbox {kept})" in upkept("erase", "1", "--yes").out


def test_what_nobody_will_ever_read_is_given_up(on: Stage, upkept: Upkept) -> None:
    kept = on.say("csv", row("a@x.example", 9), lowering="may")
    on.body(kept, b"a@x.example, of a format nobody knows")
    on.apply()
    assert f"upkept give-up {kept} --reason WHY" in upkept("status").out
    command = ["give-up", str(kept), "--reason", "the format is gone"]
    planned = upkept(*command, "--dry-run", "--json").document["would_give_up"]
    assert [(one["id"], one["connection"], one["kind"]) for one in planned] == [(kept, "csv", "statements")]
    asked = upkept(*command, typed="n\n")
    assert (asked.status, asked.out, f"upkept replay {kept}" in asked.err) == (1, "", True)
    assert upkept("inbox", "--state", "given_up", "--json").document["rows"] == []
    assert upkept(*command, "--yes", "--json").document == {"given_up": planned}
    (row_,) = upkept("inbox", "--state", "given_up", "--json").document["rows"]
    assert row_["reason"].endswith(": the format is gone")
    acts = upkept("audit").out
    assert f"inbox {kept} of csv, because: the format is gone" in acts
    assert "x.example" not in acts + asked.err
    again = upkept(*command, "--yes")
    assert (again.status, again.out, "is given_up" in again.err) == (1, "", True)
    assert upkept("give-up", "999", "--reason", "why", "--yes").status == 4
    assert upkept("give-up", str(kept), "--yes").status == 2
    assert upkept("give-up", str(kept), "--reason", "a@x.example left", "--yes").status == 2
    assert upkept("replay", str(kept)).status == 0
    assert upkept("inbox", "--state", "new", "--json").document["rows"][0]["id"] == kept


def test_undo_and_its_way_back(on: Stage, upkept: Upkept) -> None:
    with on.hub.store.write() as connection:
        run, _ = runs.start(connection, "import", "csv", {}, on.now)
    on.tell("csv", row("a@x.example", 9, city="York"), run=run.id)
    after = on.digest()
    planned = upkept("undo", str(run.id), "--dry-run", "--json").document
    assert (planned["facts"], planned["records"]) == (1, 1)
    assert planned["facts_left"] == 0
    assert upkept("undo", str(run.id), typed="n\n").status == 1
    assert on.digest() == after
    on.run("UPDATE runs SET compacted = 3 WHERE kind = 'import'")
    assert upkept("undo", str(run.id), "--dry-run", "--json").document["facts_left"] == 3
    assert "up to 3 facts that it brought are compacted" in upkept("undo", str(run.id), "--dry-run").out
    done = upkept("undo", str(run.id), "--yes")
    assert "upkept resync csv --full), and upkept forget csv removes" in done.out
    assert (done.status, on.value("1", "city")) == (0, "Kyiv")
    back = upkept("undo", str(run.id), "--redo", "--json")
    assert (back.status, back.document["applied_again"]) == (0, 1)
    assert on.digest() == after
    assert upkept("undo", "999", "--yes").status == 4


def test_the_log_of_what_was_erased_goes_to_another_copy(on: Stage, upkept: Upkept, tmp_path: Path) -> None:
    upkept("erase", "1", "--yes")
    log = tmp_path / "erased.json"
    log.write_text(upkept("tombstones").out)
    assert "x.example" not in log.read_text()
    on.run("DELETE FROM tombstones")
    on.tell("app", user("1", 1, "a@x.example", name="Ann"))
    assert "1" in upkept("explain", "1", "external_id").out
    assert "upkept rebuild" in upkept("tombstones", "--lay", str(log)).out
    assert upkept("rebuild", "--check").status == 1
    assert upkept("rebuild").status == 0
    assert upkept("explain", "1").status == 4
    log.write_text("[1]")
    assert upkept("tombstones", "--lay", str(log)).status == 3


def test_every_act_is_in_the_audit_log_by_ids_alone(on: Stage, upkept: Upkept) -> None:
    upkept("merge", "1", "2")
    upkept("export", "1")
    upkept("rebuild")
    upkept("erase", "1", "--yes")
    answer = upkept("audit", "--json")
    assert [act["action"] for act in answer.document["acts"]] == ["erase", "rebuild", "export", "merge"]
    assert all(act["actor"].startswith("cli") for act in answer.document["acts"])
    assert "x.example" not in answer.out
    assert "erase" in upkept("audit").out
