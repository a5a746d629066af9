"""What the project promises about itself: rooms, names, sizes, entry points, locks, commands."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from upkept.cli import build
from upkept.registry import GROUP, load_connector
from upkept.settings import load
from upkept.supervisor import roster

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LONGEST = {"src": 350, "connectors": 350, "bench": 350, "tests": 450}
"""Lines of a file; DESIGN section 3 aims at 300."""
EXEMPT = re.compile(r"migrations/versions/")
"""History is not rewritten to be shorter."""

PEOPLE_MAY_USE = {
    *("__future__", "bisect", "collections", "dataclasses", "datetime", "enum", "functools", "hashlib", "hmac"),
    *("itertools", "math", "operator", "re", "typing", "unicodedata", "orjson", "email_validator"),
}
"""No clock is read through `datetime` either: see `test_the_pure_core_reads_no_clock`."""


def ours() -> list[Path]:
    """Every file that is or would be committed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return [ROOT / name for name in sorted(filter(None, listed.split("\0"))) if (ROOT / name).is_file()]


def python_files(*folders: str) -> list[Path]:
    """Our Python files in these folders."""
    inside = [ROOT / folder for folder in folders]
    return [path for path in ours() if path.suffix == ".py" and any(path.is_relative_to(one) for one in inside)]


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_rooms_import_only_what_stands_below_them() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_contract_stands_on_the_standard_library() -> None:
    for path in python_files("src/upkept/contract"):
        foreign = {name for name in imports(path) if name.split(".")[0] not in sys.stdlib_module_names | {"upkept"}}
        assert not foreign, f"{path.name} imports {foreign}"
        assert all(name.startswith("upkept.contract") for name in imports(path) if name.startswith("upkept"))


def test_people_is_pure() -> None:
    for path in python_files("src/upkept/people"):
        foreign = {name for name in imports(path) if name.split(".")[0] not in PEOPLE_MAY_USE | {"upkept"}}
        assert not foreign, f"{path.name} imports {foreign}"


@pytest.mark.parametrize("folder", ["src/upkept/people", "src/upkept/contract"])
def test_the_pure_core_reads_no_clock(folder: str) -> None:
    for path in python_files(folder):
        for node in ast.walk(ast.parse(path.read_text())):
            name = node.attr if isinstance(node, ast.Attribute) else ""
            assert name not in {"now", "utcnow", "today"} or "ctx" in ast.unparse(node), f"{path.name}:{node}"


@pytest.mark.parametrize("folder", sorted(path for path in (ROOT / "connectors").iterdir() if path.is_dir()), ids=str)
def test_a_connector_knows_the_contract_and_itself_only(folder: Path) -> None:
    for path in python_files(str(folder.relative_to(ROOT))):
        for name in imports(path):
            top = name.split(".")[0]
            assert top != "upkept" or name.startswith("upkept.contract"), f"{path} imports {name}"
            assert not top.startswith("upkept_") or top == folder.name, f"{path} imports {name}"


def test_the_core_spells_no_vendors_name() -> None:
    vendors = re.compile("|".join(path.name.removeprefix("upkept_") for path in (ROOT / "connectors").iterdir()))
    for path in python_files("src/upkept"):
        if path.is_relative_to(ROOT / "src/upkept/testing"):
            continue
        tree = ast.parse(path.read_text())
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            words = [getattr(node, name, None) for name in ("id", "attr", "name", "arg", "module")]
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                words.append(node.value)
            for word in words:
                assert not (isinstance(word, str) and vendors.search(word.lower())), f"{path} spells {word!r}"


def test_the_web_process_loads_no_vendor_sdk_and_no_worker() -> None:
    code = (
        "import sys, upkept.doors.app\n"
        "from upkept.registry import known_connectors, load_connector\n"
        "for name in known_connectors(): load_connector(name, where='')\n"
        "print(*(name for name in ('stripe', 'requests', 'celery', 'alembic', 'typer') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_files_stay_small() -> None:
    too_long = {
        str(path.relative_to(ROOT)): lines
        for folder, limit in LONGEST.items()
        for path in python_files(folder)
        if not EXEMPT.search(path.as_posix()) and (lines := len(path.read_text().splitlines())) > limit
    }
    assert not too_long, f"split by stage: {too_long}"


def test_no_name_says_nothing() -> None:
    nothing = re.compile(r"(^|_)(utils?|helpers?|managers?|base|misc|common)(_|\.|$)")
    assert [str(path) for path in python_files(*LONGEST) if nothing.search(path.name)] == []


def test_no_registry_and_no_machine_is_named() -> None:
    hosts = ("py" + "pi.org", "pyth" + "onhosted", "np" + "mjs", "deb." + "debian.org", "docker" + ".io")
    places = ("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/")
    named = re.compile("|".join(map(re.escape, hosts + places)))
    for path in ours():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = named.search(text)
        assert not found, f"{path} names {found[0] if found else ''}"


def test_every_entry_point_of_ours_is_found_and_loads() -> None:
    declared = PROJECT["project"]["entry-points"][GROUP]
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    for name, value in declared.items():
        assert installed.get(name) == value, f"{name} is not installed: make dev"
        assert load_connector(name, where="here").name == name
    folders = {path.name for path in (ROOT / "connectors").iterdir() if path.is_dir()}
    assert {value.partition(":")[0] for value in declared.values()} == folders
    assert {Path(name).name for name in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]} == (
        folders | {"upkept"}
    )


@pytest.mark.parametrize("path", [p for p in python_files("src", "connectors") if p.name == "__init__.py"], ids=str)
def test_all_exports_exist_and_are_sorted(path: Path) -> None:
    root = next(one for one in (ROOT / "src", ROOT / "connectors") if path.is_relative_to(one))
    module = importlib.import_module(".".join(path.parent.relative_to(root).parts))
    exported = getattr(module, "__all__", [])
    assert [name for name in exported if not hasattr(module, name)] == []
    assert sorted(exported, key=lambda name: (not name.isupper(), not name[0].isupper(), name)) == list(exported)


def test_the_contract_exports_all_that_it_defines() -> None:
    contract = importlib.import_module("upkept.contract")
    tree = ast.parse((ROOT / "src/upkept/contract/__init__.py").read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(contract.__all__)


def locked(name: str) -> dict[str, str]:
    """Package to version of a lock file; every package has a hash."""
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements" / f"{name}.lock").read_text())
    found = [(re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", entry), entry) for entry in entries]
    for match, entry in found:
        assert not match or "--hash=sha256:" in entry, entry
    return {re.sub("[-_.]+", "-", match[1]).lower(): match[2] for match, _ in found if match}


def test_the_locks_hold_what_the_project_needs() -> None:
    run, dev = locked("run"), locked("dev")

    def wanted(requirements: list[str]) -> set[str]:
        return {re.sub("[-_.]+", "-", re.split(r"[\[<>=!~; ]", one)[0]).lower() for one in requirements}

    assert wanted(PROJECT["project"]["dependencies"]) <= set(run), "make lock"
    assert wanted(PROJECT["project"]["optional-dependencies"]["dev"]) <= set(dev), "make lock"
    assert {name: dev.get(name) for name in run} == run, "make lock"
    assert "localstripe" in locked("sandbox")
    assert {"uv", "hatchling", "editables"} <= set(locked("build"))


def commands() -> dict[str, Any]:
    """Every command by the words that call it."""
    found: dict[str, Any] = {}

    def walk(words: tuple[str, ...], command: Any) -> None:
        found[" ".join(words)] = command
        for name, child in getattr(command, "commands", {}).items():
            walk((*words, name), child)

    walk((), typer.main.get_command(build()))
    return found


@pytest.mark.parametrize("words", commands())
def test_every_command_explains_itself_and_its_options(words: str) -> None:
    command = commands()[words]
    assert command.help, f"upkept {words} has no help"
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "help":
            assert parameter.help, f"upkept {words} {parameter.name} has no help"
    done = CliRunner().invoke(build(), [*words.split(), "--help"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    "words",
    ["up", "web", "worker", "beat", "migrate", "check", "connector list", "connector new", "connector test"],
)
def test_the_commands_of_this_part_are_there(words: str) -> None:
    assert words in commands()


def test_procfile_and_compose_run_the_processes_of_up() -> None:
    ran = {
        name: set(re.findall(r"upkept ((?:web|worker|beat|migrate)(?: --\w+)*)", (ROOT / name).read_text()))
        for name in ("Procfile", "docker-compose.yml")
    }
    assert ran["Procfile"] == ran["docker-compose.yml"] == {"migrate", "web", "worker", "worker --courier"}
    assert {" ".join(child.command()[3:]) for child in roster(load({"UPKEPT_BROKER_URL": "redis://x"}))} == (
        ran["Procfile"] - {"migrate"}
    )


def test_completion_is_offered() -> None:
    assert "--install-completion" in CliRunner().invoke(build(), ["--help"]).output


def test_a_mistake_ends_in_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "upkept.toml").write_text("[workspace]\nnam = 'x'\n")
    command = [sys.executable, "-m", "upkept.cli", "status"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == 'upkept: upkept.toml [workspace]: unknown key "nam". Did you mean "name"?\n'


@pytest.mark.parametrize("mistake", ["[workspace]\nnam = 'x'\n", "[connections.a]\nconnector = 'none'\n"])
def test_check_tells_every_mistake_in_the_file_alike(mistake: str, tmp_path: Path) -> None:
    (tmp_path / "upkept.toml").write_text(mistake)
    command = [sys.executable, "-m", "upkept.cli", "check", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["ok"], done.stderr) == (3, False, "")
    assert [finding["about"] for finding in answer["findings"]] == ["configuration"]


def test_check_finds_a_fresh_home_good_and_says_so_in_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "upkept.cli", "check", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    assert {finding["about"] for finding in answer["findings"]} >= {"configuration", "keys", "database", "broker"}
