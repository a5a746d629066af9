"""`upkept connector`: what is installed, a new one to begin with, and the proofs of the conformance kit."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from upkept.contract import AnyConnector, Config

if TYPE_CHECKING:
    from upkept.testing.conformance import Report

commands = typer.Typer()
connector = typer.Typer(help="Connectors: list the installed ones, begin a new one, test one.", no_args_is_help=True)
commands.add_typer(connector, name="connector")

NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
ABILITIES: Final = {"webhooks": "verify", "read back": "fetch", "resync": "pull", "write back": "push"}
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@connector.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the installed connectors and what they can do."""
    from upkept.registry import known_connectors, load_connector

    found = {name: load_connector(name, where="connector list") for name in known_connectors()}
    able = {name: _abilities(one) for name, one in found.items()}
    if as_json:
        json.dump([{"name": name, "abilities": abilities} for name, abilities in able.items()], sys.stdout, indent=1)
        print()
        return
    for name, abilities in able.items():
        print(f"{name:<16} {', '.join(abilities)}")


@connector.command()
def new(
    name: Annotated[str, typer.Argument(help="Its name in upkept.toml, URLs and logs: a-z, 0-9 and _.")],
    folder: Annotated[Path | None, typer.Option(help="Where to put it; ./upkept-NAME if not given.")] = None,
) -> None:
    """Write a working connector package to begin with: it passes its own tests."""
    if not NAME.fullmatch(name):
        raise Config(f'"{name}" cannot be a connector\'s name: use a-z, 0-9 and _, beginning with a letter')
    target = folder or Path(f"upkept-{name}")
    if target.exists() and any(target.iterdir()):
        raise Config(f"{target} is not empty. Choose another folder: --folder")
    for path, text in scaffold(name):
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_text(text, encoding="utf-8")
        print(target / path)
    print(f"\nnext: pip install -e {target}; pytest {target}; upkept connector test {name}")


@connector.command("test")
def prove(
    name: Annotated[str, typer.Argument(help="A connector's name, as `upkept connector list` shows it.")],
    fixtures: Annotated[
        Path | None, typer.Option(help="The folder of its fixtures; looked for under tests/ if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give the proofs of the conformance kit that need neither its author's help nor a vendor. Status 1 if one fails.

    It names the other proofs, and the tests of the connector that give them all."""
    from upkept.registry import load_connector
    from upkept.testing.conformance import certify

    folder = fixtures or _fixtures(name)
    report = certify(load_connector(name, where="connector test"), fixtures=folder)
    suites = [] if report.certified else _suites(folder)
    if as_json:
        proofs = [{"proof": one.name, "outcome": one.outcome, "detail": one.detail} for one in report.proofs]
        json.dump(
            {"connector": name, "certified": report.certified, "proofs": proofs, "suites": suites}, sys.stdout, indent=1
        )
        print()
    else:
        print("\n".join(report.lines()))
        print("\n".join(_rest(report, suites)))
    raise typer.Exit(int(bool(report.failed)))


def scaffold(name: str) -> Iterator[tuple[Path, str]]:
    """The files of a new connector package: relative path and text."""
    words = {"@name@": name, "@Name@": name.title().replace("_", ""), "@NAME@": name.upper()}

    def filled(text: str) -> str:
        for mark, word in words.items():
            text = text.replace(mark, word)
        return text

    def walk(folder: Traversable, at: Path) -> Iterator[tuple[Path, str]]:
        for item in sorted(folder.iterdir(), key=lambda one: one.name):
            if item.is_dir():
                yield from walk(item, at / filled(item.name))
            elif item.name.endswith(".in"):
                yield at / filled(item.name.removesuffix(".in")), filled(item.read_text(encoding="utf-8"))

    yield from walk(files("upkept.cli") / "template", Path())


def _abilities(one: AnyConnector) -> list[str]:
    return [word for word, ability in ABILITIES.items() if getattr(one, ability) is not None]


def _suites(fixtures: Path) -> list[str]:
    """The test files beside these fixtures that give all the proofs."""
    files = sorted(fixtures.absolute().parent.glob("test_*.py"))
    found = [path for path in files if "upkept.testing.conformance" in path.read_text(encoding="utf-8")]
    here = Path.cwd()
    return [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in found]


def _rest(report: Report, suites: list[str]) -> Iterator[str]:
    """What is left to prove, and how."""
    left = sum(proof.outcome == "not proved" for proof in report.proofs)
    if not left:
        return
    yield ""
    yield f"{left} of {len(report.proofs)} proofs are left: `sign` and `vendor` are for the connector's tests to give."
    if suites:
        yield f"with them every proof is given: pytest {' '.join(suites)}"
    else:
        yield "one line in a test file gives them all: TestIt = suite(connector, fixtures=…, sign=…, vendor=…)"


def _fixtures(name: str) -> Path:
    looked = [
        Path("tests/connectors") / name / "fixtures",
        Path(f"upkept-{name}/tests/fixtures"),
        Path("tests/fixtures"),
    ]
    for path in looked:
        if path.is_dir():
            return path
    raise Config(f"no fixtures in {', '.join(map(str, looked))}. Say where they are: --fixtures")
