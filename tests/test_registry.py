"""The registry: from `upkept.toml` and installed packages to connections."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

import upkept.registry as registry
from upkept.contract import Config, Connector, FieldMap, RawEvent, Rule, Statement, secret
from upkept.registry import MISSING_SHARE, Connection, known_connectors, load_connections
from upkept.settings import RESERVED, load
from upkept.sources import VENDOR_RANK


@dataclass(frozen=True)
class AcmeConfig:
    api_key: str = secret()
    webhook_secret: str | tuple[str, ...] = secret(default="")
    base_url: str = "http://127.0.0.1:1"
    audiences: tuple[str, ...] = ()


def say_nothing(event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
    return ()


ACME = Connector(
    name="acme",
    config=AcmeConfig,
    kinds=frozenset({"thing"}),
    fields=FieldMap(rules=(Rule(of="customer", path="name", attribute="name"),)),
    normalize=say_nothing,
)


@pytest.fixture(autouse=True)
def acme_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("acme_for_upkept")
    module.connector = ACME  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acme_for_upkept", module)
    points = [
        EntryPoint("acme", "acme_for_upkept:connector", registry.GROUP),
        EntryPoint("broken", "no_such_module_for_upkept:connector", registry.GROUP),
        EntryPoint("lying", "acme_for_upkept:connector", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda **_: points)


def connect(tmp_path: Path, text: str, **env: str) -> dict[str, Connection]:
    (tmp_path / "upkept.toml").write_text(text, encoding="utf-8")
    return load_connections(load(env, cwd=tmp_path))


def acme(tmp_path: Path, lines: str = "", **env: str) -> Connection:
    text = f'[connections.acme]\nconnector = "acme"\napi_key = "env:K"\n{lines}'
    return connect(tmp_path, text, **({"K": "key-one"} | env))["acme"]


def test_without_configuration_there_are_our_own_doors_only(tmp_path: Path) -> None:
    connections = connect(tmp_path, "")
    assert sorted(connections) == list(RESERVED)
    assert {name for name, one in connections.items() if one.connector.first_party} == {*RESERVED} - {"rules"}
    assert min(connections.values(), key=lambda one: one.rank).name == "rules"


def test_only_configured_connectors_are_imported(tmp_path: Path) -> None:
    assert list(known_connectors()) == ["acme", "broken", "lying"]
    assert acme(tmp_path).connector is ACME


def test_a_section_becomes_the_connectors_own_configuration(tmp_path: Path) -> None:
    connection = acme(
        tmp_path,
        'webhook_secret = ["env:OLD", "env:NEW"]\naudiences = ["a", "b"]\nbase_url = "http://127.0.0.1:2"',
        OLD="whsec_old",
        NEW="whsec_new",
    )
    assert connection.config == AcmeConfig("key-one", ("whsec_old", "whsec_new"), "http://127.0.0.1:2", ("a", "b"))
    assert "whsec_old" not in repr(connection)
    assert "key-one" not in repr(connection)


def test_fields_and_user_id_keys_are_overridden_per_connection(tmp_path: Path) -> None:
    connection = acme(
        tmp_path,
        'user_id_keys = ["crm_id"]\n[connections.acme.fields]\n"customer.metadata.tier" = "tier"\n'
        '"customer.name" = false\n',
    )
    assert connection.fields.user_id_keys == ("crm_id",)
    assert connection.fields.rules == (Rule(of="customer", path="metadata.tier", attribute="tier"),)
    assert ACME.fields.rules[0].attribute == "name"


def test_a_connector_that_cannot_be_pulled_is_never_polled(tmp_path: Path) -> None:
    assert acme(tmp_path, "poll = 60").poll == 0


def test_the_share_of_missing_records_is_each_connections_own(tmp_path: Path) -> None:
    shares = [acme(tmp_path, text).missing_share for text in ("", "missing_share = 0", "missing_share = 1.0")]
    assert shares == [MISSING_SHARE, 0, 1]


def test_rank_is_the_vendors_unless_configured(tmp_path: Path) -> None:
    assert acme(tmp_path).rank == VENDOR_RANK
    assert acme(tmp_path, "[ranks]\nacme = 77").rank == 77


def test_equal_credentials_share_a_quota_account(tmp_path: Path) -> None:
    section = '[connections.{name}]\nconnector = "acme"\napi_key = "env:{key}"\nwebhook_secret = "env:{hook}"\n'
    connections = connect(
        tmp_path,
        section.format(name="a", key="K1", hook="H1")
        + section.format(name="b", key="K1", hook="H2")
        + section.format(name="c", key="K2", hook="H1"),
        K1="key-1",
        K2="key-2",
        H1="hook-1",
        H2="hook-2",
    )
    accounts = [connections[name].account for name in "abc"]
    assert accounts[0] == accounts[1] != accounts[2]
    assert "key-1" not in accounts[0]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ('connector = "acmee"', 'no connector "acmee" is installed; installed are: acme, broken, lying'),
        ('connector = "broken"', 'connector "broken" cannot be imported (ModuleNotFoundError'),
        ('connector = "lying"', 'is no Connector named "lying"'),
        ('connector = "acme"', '"api_key" is missing'),
        ('connector = "acme"\napi_key = "sk_canary"', 'Write api_key = "env:X_API_KEY"'),
        ('connector = "acme"\napi_key = "env:K"\nwebhook_secret = ["env:K", "canary"]', "is a secret"),
        ('connector = "acme"\napi_key = "env:NOT_SET"', "environment variable NOT_SET, which is not set"),
        ('connector = "acme"\napi_key = "env:K"\nbase_ulr = "x"', 'unknown key "base_ulr". Did you mean "base_url"?'),
        ('connector = "acme"\napi_key = "env:K"\naudiences = 3', '"audiences" is wrong'),
        ('connector = "acme"\napi_key = "env:K"\npoll = -1', '"poll" is a number of seconds'),
        (
            'connector = "acme"\napi_key = "env:K"\nmissing_share = 20',
            '"missing_share" is a share from 0 to 1; write 0.2',
        ),
        ('connector = "acme"\napi_key = "env:K"\nmissing_share = -0.1', '"missing_share" is a share from 0 to 1'),
        ('connector = "acme"\napi_key = "env:K"\nmissing_share = nan', '"missing_share" is a share from 0 to 1'),
        ('connector = "acme"\napi_key = "env:K"\nmissing_share = "few"', '"missing_share" is wrong'),
        ('connector = "acme"\napi_key = "env:K"\npoll = "often"', '"poll" is wrong'),
        (
            'connector = "acme"\napi_key = "env:K"\n[connections.x.fields]\nname = "name"',
            '"name" must be "<object>.<path>"',
        ),
    ],
)
def test_a_mistake_names_section_key_and_cure_and_no_secret(tmp_path: Path, section: str, said: str) -> None:
    with pytest.raises(Config) as caught:
        connect(tmp_path, f"[connections.x]\n{section}", K="key")
    message = str(caught.value)
    assert said in message
    assert "upkept.toml [connections.x" in message
    assert "canary" not in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(Config) as caught:
        connect(tmp_path, '[connections.x]\nconnector = "acme"\n[connections.y]\nconnector = "nobody"')
    assert len(str(caught.value).splitlines()) == 2


def test_which_events_are_told_is_the_connectors_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert acme(tmp_path).tells == frozenset()

    def tells(config: AcmeConfig) -> tuple[str, ...]:
        if "" in config.audiences:
            raise Config('"audiences" lists an empty name; take it out')
        return config.audiences

    monkeypatch.setattr(sys.modules["acme_for_upkept"], "connector", replace(ACME, tells=tells))
    assert acme(tmp_path, 'audiences = ["a", "b"]').tells == {"a", "b"}
    with pytest.raises(Config, match=r'\[connections.acme\]: "audiences" lists an empty name; take it out'):
        acme(tmp_path, 'audiences = [""]')
