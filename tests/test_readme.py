"""README and docs promise only what is there: every command, flag, variable, key, metric, alert and link exists."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from prometheus_client import generate_latest

from upkept import contract, metrics
from upkept.cli import build
from upkept.contract.fields import CONVERTERS, DEFAULT_USER_ID_KEYS
from upkept.doors.health import _exposition, readiness
from upkept.flow.hub import Hub
from upkept.flow.opening import open_hub
from upkept.people.predicate import check
from upkept.registry import HUB_KEYS, known_connectors, load_connections
from upkept.settings import RESERVED, VARIABLES, Identity, StoreSettings, Workspace, load
from upkept.store.engine import Store
from upkept.store.gauges import gauges
from upkept.store.migrations import upgrade_store
from upkept.testing.conformance import suite
from upkept_stripe import StripeConfig, connector
from upkept_stripe.fields import FIELDS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATORS = [page for page in PAGES if page.stem not in ("connectors", "performance")]
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
SECRETS = {
    "STRIPE_API_KEY": "sk_test_x",
    "STRIPE_WEBHOOK_SECRET": "whsec_x",
    "STRIPE_WEBHOOK_SECRET_NEW": "whsec_y",
    "MAILCHIMP_API_KEY": "x-us6",
    "MAILCHIMP_WEBHOOK_TOKEN": "x",
    "MAILCHIMP_WEBHOOK_TOKEN_NEW": "y",
}


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    return [body for name, body in FENCE.findall(text(page)) if name == language]


def unfenced(page: Path) -> str:
    return FENCE.sub("", text(page))


def in_code(page: Path) -> Iterator[str]:
    """Every line that shows a command: of shell blocks, and each piece of inline code."""
    for name, body in FENCE.findall(text(page)):
        if name == "sh":
            yield from body.splitlines()
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", unfenced(page), re.S))


@cache
def command_tree() -> Any:
    return typer.main.get_command(build())


def flags(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


def resolve(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words call, and the words left over."""
    command = command_tree()
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        found = command.commands.get(words[0])
        assert found, f"there is no command {' '.join(words)!r}"
        command, words = found, words[1:]
    return command, words


def calls(page: Path) -> Iterator[list[str]]:
    for line in in_code(page):
        if match := re.match(r"\s*(?:\$ )?(?:exec )?upkept(?= |$)(.*)", line):
            yield shlex.split(match[1], comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_flag_that_is_named_exists(page: Path) -> None:
    for words in calls(page):
        if words[:1] == ["COMMAND"]:
            continue
        command, rest = resolve(words)
        for word in rest:
            if word.startswith("--"):
                assert word.partition("=")[0] in flags(command), f"{page.name}: upkept {' '.join(words)}"


def every_command() -> Iterator[tuple[str, Any]]:
    def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[str, Any]]:
        for name, child in getattr(command, "commands", {}).items():
            if hasattr(child, "commands"):
                yield from walk((*words, name), child)
            else:
                yield " ".join((*words, name)), child

    yield from walk((), command_tree())


@pytest.mark.parametrize("name", [name for name, _ in every_command()])
def test_the_table_of_commands_names_each_with_its_flags(name: str) -> None:
    command = dict(every_command())[name]
    table = text(ROOT / "README.md").partition("## Commands")[2].partition("\n## ")[0]
    last = name.rpartition(" ")[2]
    row = next((row for row in table.splitlines() if re.search(rf"`(upkept [^`]*)?\b{last}\b", row)), "")
    assert row, f"upkept {name} is not in the README's table"
    if "connector" not in name:
        for flag in flags(command) - {"--help", "--json"}:
            assert flag in table or not flag.startswith("--"), f"upkept {name} {flag} is not in the README"


def test_targets_of_make_exist_and_those_for_people_are_told() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    told: set[str] = set()
    for page in PAGES:
        told |= {name for line in in_code(page) for name in re.findall(r"^\s*make ([a-z]+)", line)}
    assert told <= targets
    assert targets - {"help", "dev"} <= told


def test_the_table_of_the_environment_is_complete() -> None:
    assert set(re.findall(r"`(UPKEPT_[A-Z_]+)`", text(ROOT / "README.md"))) == VARIABLES


def configurations() -> list[Any]:
    found = []
    for page in OPERATORS:
        bodies = blocks(page, "toml")
        bodies += re.findall(r"cat > upkept\.toml <<'END'\n(.*?)^END$", text(page), re.M | re.S)
        found += [pytest.param(page, body, id=f"{page.stem}-{n}") for n, body in enumerate(bodies)]
    return found


@pytest.mark.parametrize(("page", "body"), configurations())
def test_every_settings_block_is_accepted(page: Path, body: str, tmp_path: Path) -> None:
    vendor = page.stem if page.stem in known_connectors() else "stripe"
    part = not body.lstrip().startswith("[") or body.startswith(f"[connections.{vendor}.fields]")
    section = "[connections.stripe]\nconnector = 'stripe'\napi_key = 'env:STRIPE_API_KEY'\n"
    if vendor != "stripe":
        section = blocks(page, "toml")[0]
        told = set(re.findall(r"^(\w+) =", body, re.M))
        section = "".join(line for line in section.splitlines(True) if line.split(" =")[0].strip() not in told)
    body = f"{section}\n{body}" if part else body
    (tmp_path / "upkept.toml").write_text(body)
    secrets = dict.fromkeys(re.findall(r"env:([A-Z_0-9]+)", body), "https://secret.example")
    connections = load_connections(load({**SECRETS, **secrets}, cwd=tmp_path))
    assert vendor in connections


def test_the_readme_shows_every_key_of_the_settings_file() -> None:
    body = next(body for body in blocks(ROOT / "README.md", "toml") if "[workspace]" in body)
    for cls in (Workspace, StoreSettings, Identity, StripeConfig):
        for spec in fields(cls):
            assert re.search(rf"^{spec.name} = ", body, re.M), f"{spec.name} of {cls.__name__}"
    for key in HUB_KEYS - {"fields", "create"}:  # Stripe makes nobody
        assert re.search(rf"^{key} = ", body, re.M), key
    for table in (
        "workspace",
        "identity",
        "store",
        "connections.stripe",
        "connections.stripe.fields",
        "fields",
        "ranks",
    ):
        assert f"[{table}]" in body
    assert "[segments." in body
    for name in RESERVED:
        assert f"`{name}`" in text(ROOT / "README.md")


def test_segments_shown_are_good_predicates(tmp_path: Path) -> None:
    body = next(body for body in blocks(ROOT / "README.md", "toml") if "[workspace]" in body)
    (tmp_path / "upkept.toml").write_text(body)
    segments = load(SECRETS, cwd=tmp_path).segments
    assert segments
    for predicate in segments.values():
        assert check(predicate, in_segment=True) == []


def exposed(store: Store) -> set[str]:
    """The metrics of a web process on this store."""
    with store.read() as connection:
        exposition = generate_latest(metrics.registry) + _exposition(gauges(connection), 0.0)
    return set(re.findall(r"^# TYPE (upkept_\w+)", exposition.decode(), re.M))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub on an empty store."""
    opened = open_hub(load({}, cwd=tmp_path), pool_size=1)
    upgrade_store(opened.store)
    yield opened
    opened.store.close()


def test_every_metric_named_exists_and_ours_are_all_named(hub: Hub) -> None:
    there = exposed(hub.store)
    told = set(re.findall(r"\bupkept_[a-z_]+", text(ROOT / "docs/operations.md"))) - {"upkept_stripe"}
    assert told <= there
    ours = {name for name in there if "_process_" not in name and not name.endswith("_created")}
    assert ours <= told


def test_every_field_of_readyz_is_told(hub: Hub) -> None:
    report = readiness(hub, 0.0)
    told = text(ROOT / "docs/operations.md").partition("## Health")[2].partition("\n## ")[0]
    for name in report.keys() - {"ready"}:
        assert f"`{name}`" in told, name


def test_every_alert_is_told_with_its_cure() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "src/upkept").rglob("*.py"))
    raised = set(re.findall(r'f"([a-z_]+):\{(?:run\.|due\.|row\.)?connection\}"', sources))
    told = set(re.findall(r"^\| `([a-z_]+):CONNECTION`", text(ROOT / "docs/operations.md"), re.M))
    assert told
    assert told == raised


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", unfenced(page), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", unfenced(page)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}"


class TestStripe:
    page = ROOT / "docs/stripe.md"

    def part(self, title: str) -> str:
        return text(self.page).partition(f"## {title}")[2].partition("\n## ")[0]

    def first_column(self, title: str) -> set[str]:
        return set(re.findall(r"^\| `([^`]+)`", self.part(title), re.M))

    def source(self) -> str:
        return "".join(path.read_text() for path in (ROOT / "connectors/upkept_stripe").rglob("*.py"))

    def test_every_attribute_is_told(self) -> None:
        made = set(re.findall(r'yield "(stripe_\w+)"|\("(stripe_\w+)", \w+\)|said\["(stripe_\w+)"\]', self.source()))
        names = {name for found in made for name in found if name} | {rule.attribute for rule in FIELDS.rules}
        told = self.first_column("The attributes")
        assert told == names
        for page in (ROOT / "README.md", ROOT / "CHANGELOG.md"):
            assert f"{sum(name.startswith('stripe_') for name in told)} billing attributes" in " ".join(
                text(page).split()
            )

    def test_every_event_of_the_timeline_is_told(self) -> None:
        source = (ROOT / "connectors/upkept_stripe/timeline.py").read_text()
        made = set(re.findall(r'_event\(\w+, "([a-z ]+)"', source))
        made |= set(re.findall(r'"charge\.dispute\.\w+": "([a-z ]+)"', source))
        told = self.first_column("The timeline")
        assert told == made
        assert f"{len(told)} kinds of" in " ".join(text(ROOT / "README.md").split())

    def test_every_event_type_to_click_is_understood(self) -> None:
        told = {
            name
            for row in self.part("Set it up").splitlines()
            if row.strip().startswith("| `")
            for name in re.findall(r"`((?:customer|invoice|charge|payment_method)\.[a-z._]+)`", row)
        }
        assert told
        assert told <= connector.kinds

    def test_every_key_of_the_section_is_told(self) -> None:
        told = self.first_column("Set it up") - {"customer.created"}
        told = {name for name in told if "." not in name}
        assert told == {spec.name for spec in fields(StripeConfig)} | HUB_KEYS - {"create"} | {"connector"}
        assert all(f"`{key}`" in self.part("Set it up") for key in DEFAULT_USER_ID_KEYS)

    def test_paths_and_converters_are_those_of_the_field_map(self) -> None:
        part = self.part("Change what feeds what")
        assert all(f"`{name}`" in part for name in {*CONVERTERS, *FIELDS.converters})
        known = {f"{rule.of}.{rule.path}" for rule in FIELDS.rules}
        named = set(re.findall(r"`((?:customer|subscription|invoice|charge)\.[a-z_.]+)`", part))
        assert named <= known

    def test_messages_quoted_are_those_the_connector_says(self) -> None:
        source = re.sub(r'"\s*\n\s*f?"', "", self.source())
        source = re.sub(r"\{[^{}]*\}", "…", source)
        for quoted in re.findall(r"(?:40[01]|skipped:|dead:|alert:) `([^`]+)`", self.part("When something is refused")):
            for piece in quoted.split("…"):
                assert piece.strip().removeprefix("a test mode") in source, quoted


class TestConnectors:
    page = ROOT / "docs/connectors.md"

    def test_every_name_of_the_contract_exists(self) -> None:
        named = set(re.findall(r"`([A-Z][A-Za-z]+)(?:[.(][^`]*)?`", text(self.page)))
        assert named - {"None", "WITHDRAWN"}
        assert named - {"None"} <= set(dir(contract))

    def test_what_it_passes_to_a_connector_is_taken(self) -> None:
        shown = next(body for body in blocks(self.page, "python") if "Connector(" in body)
        known = {spec.name for spec in fields(contract.Connector)}
        assert set(re.findall(r"\b(\w+)=", shown)) <= known
        for word in ("api_calls", "api_slots", "survives"):
            assert f"`{word}`" in text(self.page)
            assert word in known

    def test_what_it_passes_to_the_kit_is_taken(self) -> None:
        shown = next(body for body in blocks(self.page, "python") if "suite(" in body)
        assert set(re.findall(r"\b(\w+)=", shown)) <= set(inspect.signature(suite).parameters)


CHEAP = (
    ["check"],
    ["migrate"],
    ["status"],
    ["inbox", "--state", "dead"],
    ["rebuild", "--check"],
)


def test_cheap_commands_do_as_told_in_a_fresh_home(tmp_path: Path) -> None:
    for words in CHEAP:
        command = [sys.executable, "-m", "upkept.cli", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    for words in (["explain", "nobody@example.com"], ["replay", "--state", "dead"]):
        command = [sys.executable, "-m", "upkept.cli", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (4, ""), words
    backup = next(body for body in blocks(ROOT / "docs/operations.md", "sh") if "source.backup" in body)
    python = Path(sys.executable).parent
    done = subprocess.run(
        ["sh", "-ec", backup], cwd=tmp_path, env={"PATH": f"{python}:/usr/bin:/bin"}, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    restored = {"UPKEPT_HOME": "backup"}
    digests = {
        subprocess.run(
            [sys.executable, "-m", "upkept.cli", "digest"], cwd=tmp_path, env=env, capture_output=True, text=True,
            check=True, timeout=60,
        ).stdout
        for env in ({}, restored)
    }  # fmt: skip
    assert len(digests) == 1
