"""`upkept check`: every way an installation can be wrong is named with its cure, and no secret is shown."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import psycopg
import pytest

from upkept import broker, registry
from upkept.cli.check import Finding, examine
from upkept.contract import (
    Config,
    Connector,
    Context,
    FieldMap,
    Permanent,
    Probe,
    RawEvent,
    Retryable,
    Statement,
    secret,
)
from upkept.keys import keys_path
from upkept.settings import load
from upkept.store.engine import open_store
from upkept.store.migrations import upgrade

TELL_THEMSELVES = {"configuration", "database", "connection acme"}
"""Their errors hold the cure already."""


@dataclass(frozen=True)
class AcmeConfig:
    api_key: str = secret()
    told: tuple[str, ...] = ()


def say_nothing(_event: RawEvent, _fields: FieldMap, /) -> Iterable[Statement]:
    return ()


def ask(config: AcmeConfig, ctx: Context, /) -> Probe:
    """As a vendor answers to a good, a refused and an untried key."""
    ctx.permit()
    with ctx.slot():
        ctx.keep_token("access", "canary-token", seconds=600)
        assert ctx.token("access") == "canary-token"
    match config.api_key:
        case "good-canary":
            return Probe(account="acct_9", warnings=("may not read invoices",))
        case "bad-canary":
            raise Config("the key is refused")
        case "later-canary":
            raise Retryable("no answer")
        case _:
            raise Permanent("a page instead of JSON")


ACME = Connector(
    name="acme",
    config=AcmeConfig,
    kinds=frozenset(),
    fields=FieldMap(rules=()),
    normalize=say_nothing,
    probe=ask,
    tells=lambda config: config.told,
)


@pytest.fixture(autouse=True)
def _acme_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("acme_for_check")
    module.connector = ACME  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acme_for_check", module)
    point = EntryPoint("acme", "acme_for_check:connector", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda **_: [point])


def found(folder: Path, **env: str) -> dict[str, Finding]:
    findings = list(examine(load(env, cwd=folder)))
    for finding in findings:
        assert "canary" not in f"{finding.said}{finding.cure}"
        assert finding.state == "ok" or finding.cure or finding.about in TELL_THEMSELVES
    return {f"{finding.about} {finding.state}": finding for finding in findings}


def test_a_fresh_home_is_fine_but_not_yet_made(tmp_path: Path) -> None:
    findings = found(tmp_path)
    assert findings["database warn"].cure.startswith("upkept up")
    assert findings["broker warn"].cure.startswith("upkept up")
    assert not any(name.endswith("fail") for name in findings)
    assert not (tmp_path / "var" / "upkept.sqlite3").exists()


def test_a_migrated_database_and_a_running_broker_are_good(store_url: str, tmp_path: Path) -> None:
    with broker.running(load({}, cwd=tmp_path)):
        findings = found(tmp_path, UPKEPT_DATABASE_URL=store_url)
    assert findings["broker ok"].said.startswith("embedded")
    assert "database ok" in findings


def test_missing_tables_are_named(database_url: str, tmp_path: Path) -> None:
    if database_url.startswith("sqlite"):
        Path(database_url.removeprefix("sqlite:///")).touch()
    assert found(tmp_path, UPKEPT_DATABASE_URL=database_url)["database fail"].cure == "upkept migrate"


def test_a_database_of_other_keys_is_refused(store_url: str, tmp_path: Path) -> None:
    assert "database ok" in found(tmp_path, UPKEPT_DATABASE_URL=store_url)
    keys_path(tmp_path / "var").unlink()
    assert "keys" in found(tmp_path, UPKEPT_DATABASE_URL=store_url)["database fail"].said


def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    findings = found(tmp_path, UPKEPT_DATABASE_URL="postgresql://hub:canary@127.0.0.1:1/x")
    assert "UPKEPT_DATABASE_URL" in findings["database fail"].cure


def test_a_lossy_postgres_is_refused(postgres_url: str, tmp_path: Path) -> None:
    upgrade(postgres_url)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" SET synchronous_commit = off'.encode())
    said = found(tmp_path, UPKEPT_DATABASE_URL=postgres_url)["database fail"].said
    assert "Set synchronous_commit=on" in said


@pytest.mark.parametrize("url", ["redis://u:canary@127.0.0.1:1/0", "amqp://u:canary@127.0.0.1:1//"])
def test_a_broker_that_is_away_is_named_without_its_password(url: str, tmp_path: Path) -> None:
    assert "UPKEPT_BROKER_URL" in found(tmp_path, UPKEPT_BROKER_URL=url)["broker fail"].cure


def test_brokers_that_are_there_are_good(redis_url: str, rabbitmq_url: str, tmp_path: Path) -> None:
    for url in (redis_url, rabbitmq_url):
        assert "broker ok" in found(tmp_path, UPKEPT_BROKER_URL=url)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("good-canary", "connection acme ok"),
        ("bad-canary", "connection acme fail"),
        ("later-canary", "connection acme fail"),
        ("odd-canary", "connection acme fail"),
    ],
)
def test_credentials_are_tried(key: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "upkept.toml").write_text('[connections.acme]\nconnector = "acme"\napi_key = "env:K"\n')
    findings = found(tmp_path, K=key)
    assert said in findings
    if key == "good-canary":
        assert "acct_9" in findings[said].said
        assert findings["connection acme warn"].said == "may not read invoices"


def test_every_mistake_in_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "upkept.toml").write_text('[connections.a]\nconnector = "acme"\n[connections.b]\nconnector = "none"\n')
    findings = list(examine(load({"UPKEPT_PROT": "1"}, cwd=tmp_path)))
    assert [(one.about, one.state) for one in findings] == [
        ("environment", "warn"),
        ("configuration", "fail"),
        ("configuration", "fail"),
    ]


def test_an_event_to_tell_of_that_never_happened_is_named(store_url: str, tmp_path: Path) -> None:
    text = '[connections.acme]\nconnector = "acme"\napi_key = "env:K"\ntold = ["signed up", "singed up"]\n'
    (tmp_path / "upkept.toml").write_text(text)
    store = open_store(store_url)
    with store.write() as connection:
        connection.exec_driver_sql("INSERT INTO counters (record, name, n, first_at, last_at) "
                                   "VALUES ('r', 'signed up', 1, 0, 0)")  # fmt: skip
    store.close()
    said = [one.said for one in examine(load({"K": "bad-canary", "UPKEPT_DATABASE_URL": store_url}, cwd=tmp_path))]
    assert [one for one in said if "has not happened" in one] == [
        'it is to be told of "singed up", which has not happened to anybody yet'
    ]
