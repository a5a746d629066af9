"""`upkept connector`: a scaffold that passes the kit it was written for, and clear refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from upkept.cli import build
from upkept.cli.connector import scaffold
from upkept.contract import Config


def run(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "upkept.cli", *words]
    return subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False)


def test_a_new_connector_passes_its_own_tests(tmp_path: Path) -> None:
    done = run("connector", "new", "visits_two", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "upkept-visits_two"
    assert "@" not in "".join(path.name for path in folder.rglob("*"))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(folder)]
    tested = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout
    assert "skipped" not in tested.stdout


def test_a_new_connector_says_how_it_is_set_up_and_what_it_brings() -> None:
    text = {str(path): text for path, text in scaffold("visits")}["README.md"]
    settings = tomllib.loads(text.partition("```toml\n")[2].partition("```")[0])
    wanted = {"connector": "visits", "webhook_secret": "env:VISITS_WEBHOOK_SECRET"}
    assert settings == {"connections": {"visits": wanted}}
    assert "`visits_plan`" in text
    assert "@" not in text


def test_a_new_connector_is_in_good_shape(tmp_path: Path) -> None:
    for path, text in scaffold("visits"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "E,F,W,I,UP,B", "--line-length", "120"]
    for command in (
        ruff,
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "c"), "upkept_visits"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["Visits", "2day", "a-b", "_a", "a__b", ""])
def test_a_name_that_cannot_be_one_is_refused(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(build(), ["connector", "new", name, "--folder", str(tmp_path / "x")])
    assert isinstance(done.exception, Config)
    assert not (tmp_path / "x").exists()


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    done = CliRunner().invoke(build(), ["connector", "new", "visits", "--folder", str(tmp_path)])
    assert isinstance(done.exception, Config)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_installed_connectors_are_listed_with_what_they_can_do() -> None:
    done = CliRunner().invoke(build(), ["connector", "list", "--json"])
    listed = {one["name"]: one["abilities"] for one in json.loads(done.output)}
    assert "resync" in listed["stripe"]


def test_proofs_are_given_on_the_command_line() -> None:
    fixtures = Path(__file__).parent.parent / "connectors" / "stripe" / "fixtures"
    done = CliRunner().invoke(build(), ["connector", "test", "stripe", "--fixtures", str(fixtures), "--json"])
    answer = json.loads(done.output)
    assert done.exit_code == 0, [one for one in answer["proofs"] if one["outcome"] == "failed"]
    assert answer["certified"] is False  # without credentials not everything can be proved, and that is said
    assert {"proved", "not proved"} == {one["outcome"] for one in answer["proofs"]}
    assert [Path(one).name for one in answer["suites"]] == ["test_conformance.py"]


def test_what_is_left_to_prove_is_told_with_how(tmp_path: Path) -> None:
    assert run("connector", "new", "visits", cwd=tmp_path).returncode == 0
    folder = tmp_path / "upkept-visits"
    metadata = folder / "upkept_visits-1.dist-info"  # as pip install would leave it
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: upkept-visits\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[upkept.connectors]\nvisits = upkept_visits:connector\n")
    proved = run("connector", "test", "visits", cwd=tmp_path, PYTHONPATH=str(folder))
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert "not proved  forged requests are refused: it needs `sign`" in proved.stdout
    assert "proved      garbage is refused" in proved.stdout
    command = proved.stdout.splitlines()[-1].partition(": pytest ")[2]
    assert command == "upkept-visits/tests/test_visits.py"


def test_a_failed_proof_is_status_1(tmp_path: Path) -> None:
    (tmp_path / "webhook").mkdir()
    (tmp_path / "webhook" / "customer.created__broken.json").write_text("{}")
    done = CliRunner().invoke(build(), ["connector", "test", "stripe", "--fixtures", str(tmp_path)])
    assert done.exit_code == 1
    assert "failed" in done.output
