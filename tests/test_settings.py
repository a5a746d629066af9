"""Settings: what an operator can say, and how a mistake is answered."""

from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path

import pytest

from upkept.contract import Config
from upkept.keys import Keys, ensure_keys, keys_path
from upkept.settings import FieldPolicy, Settings, load, resolved

STRIPE_LIKE = '[connections.billing]\nconnector = "stripe"\napi_key = "env:BILLING_KEY"\n'


def load_toml(tmp_path: Path, text: str, **env: str) -> Settings:
    (tmp_path / "upkept.toml").write_text(text, encoding="utf-8")
    return load(env, cwd=tmp_path)


def test_nothing_configured_gives_the_embedded_defaults(tmp_path: Path) -> None:
    settings = load({}, cwd=tmp_path)
    assert settings.home == tmp_path / "var"
    assert settings.database_url == f"sqlite:///{tmp_path}/var/upkept.sqlite3"
    assert settings.effective_broker_url == f"redis+socket://{tmp_path}/var/broker/valkey.sock"
    assert (settings.host, settings.port, settings.log_format) == ("127.0.0.1", 8080, "console")
    assert not settings.connections
    assert not (tmp_path / "var").exists()


def test_environment_wins_over_defaults(tmp_path: Path) -> None:
    settings = load(
        {
            "UPKEPT_HOME": "data",
            "UPKEPT_DATABASE_URL": "postgres://hub@db/upkept",
            "UPKEPT_BROKER_URL": "redis://cache:6379/2",
            "UPKEPT_HOST": "0.0.0.0",  # noqa: S104
            "UPKEPT_PORT": "9000",
            "UPKEPT_LOG": "json",
        },
        cwd=tmp_path,
    )
    assert settings.home == tmp_path / "data"
    assert settings.database_url == "postgresql+psycopg://hub@db/upkept"
    assert settings.effective_broker_url == "redis://cache:6379/2"
    assert settings.url == "http://127.0.0.1:9000"
    assert settings.log_format == "json"


def test_the_whole_file(tmp_path: Path) -> None:
    settings = load_toml(
        tmp_path,
        f"""
        [workspace]
        name = "Acme"
        timezone = "Europe/Dublin"
        app_id = "acme"
        [store]
        floor_days = 60
        inbox_days = 0
        [identity]
        enforce = true
        blocked_addresses = ["info@example.com"]
        [fields]
        last_seen_at = "max"
        plan = {{ rule = "authority", groups = [["billing"], ["api", "console"]] }}
        [segments.paying]
        field = "plan"
        [ranks]
        csv = 35
        {STRIPE_LIKE}
        """,
        BILLING_KEY="sk_live_canary",
    )
    assert (settings.workspace.name, settings.workspace.timezone) == ("Acme", "Europe/Dublin")
    assert (settings.floor_days, settings.inbox_days, settings.timeline_days) == (60, 0, 730)
    assert settings.identity.enforce
    assert settings.identity.blocked_addresses == ("info@example.com",)
    assert settings.policies["plan"] == FieldPolicy(rule="authority", groups=(("billing",), ("api", "console")))
    assert settings.policies["last_seen_at"].rule == "max"
    assert settings.segments["paying"] == {"field": "plan"}
    assert settings.ranks == {"csv": 35}
    billing = settings.connections["billing"]
    assert (billing.connector, billing.options) == ("stripe", {"api_key": "env:BILLING_KEY"})
    assert settings.secrets == {"BILLING_KEY": "sk_live_canary"}
    assert "sk_live_canary" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[workspace]\ntimzone = 'UTC'", '[workspace]: unknown key "timzone". Did you mean "timezone"?'),
        ("[conections.stripe]\nconnector = 'stripe'", 'unknown table "conections". Did you mean "connections"?'),
        ("workspace = 'x'", '"workspace" must be a table: write it as [workspace]'),
        ("[workspace]\ntimezone = 'Europe/Dublim'", '"timezone" is not known'),
        ("[workspace]\nname = 7", '[workspace]: "name" is wrong'),
        ("[workspace]\napp_id = 'a b'", '"app_id" is in a URL'),
        ("[store]\nfloor_days = 0", '"floor_days" must be 1 or more'),
        ("[store]\ninbox_days = 29", '"inbox_days" must be 30 or more, or 0'),
        ("[store]\ntimeline_days = -1", '"timeline_days" must be 30 or more, or 0'),
        ("[connections.api]\nconnector = 'stripe'", "is a name of Upkept's own"),
        ("[connections.Stripe]\nconnector = 'stripe'", "use a-z, 0-9"),
        ("[connections.stripe]\napi_key = 'env:K'", '[connections.stripe]: "connector" is missing'),
        ("[connections]\nstripe = 'x'", "must be a table of its own: [connections.stripe]"),
        ("[fields]\nplan = 'newest'", "[fields] plan: "),
        ("[fields]\nplan = 7", "[fields] plan: write a rule's name"),
        ("[fields]\nplan = { rule = 'authority' }", '"groups" goes with rule = "authority"'),
        ("[fields]\nplan = { rule = 'authority', groups = [['apy']] }", 'Did you mean "app"?'),
        ("[ranks]\nbilling = 3", '"billing" is no connection'),
        ("[ranks]\napi = true", "must be a whole number"),
        ("[workspace\n", "is not valid TOML"),
    ],
)
def test_a_mistake_in_the_file_names_key_file_and_cure(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Config) as caught:
        load_toml(tmp_path, text)
    assert said in str(caught.value)
    assert "upkept.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("UPKEPT_PORT", "http"),
        ("UPKEPT_PORT", "70000"),
        ("UPKEPT_LOG", "yaml"),
        ("UPKEPT_DATABASE_URL", "mysql://root:canary@db/x"),
        ("UPKEPT_BROKER_URL", "sqs://user:canary@x"),
        ("UPKEPT_SECRET_KEY", "canary"),
        ("UPKEPT_CONFIG", "absent.toml"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(Config) as caught:
        load({name: value}, cwd=tmp_path)
    assert name in str(caught.value)
    assert "canary" not in str(caught.value)


def test_a_misspelt_variable_is_noticed(tmp_path: Path) -> None:
    env = {"UPKEPT_DATABSE_URL": "postgresql://db/x", "UPKEPT_TEST_POSTGRES": "x", "HOME": "/"}
    assert load(env, cwd=tmp_path).unknown_variables == ("UPKEPT_DATABSE_URL",)


def test_env_references_are_replaced_in_lists_and_tables() -> None:
    secrets = {"A": "one", "B": "two"}
    assert resolved("env:A", secrets, key="k", where="w") == "one"
    assert resolved(["env:A", "env:B", 3], secrets, key="k", where="w") == ("one", "two", 3)
    assert resolved({"x": "env:B"}, secrets, key="k", where="w") == {"x": "two"}
    with pytest.raises(Config, match=r'w: "k.x" points at the environment variable C, which is not set\. .*export C='):
        resolved({"x": "env:C"}, secrets, key="k", where="w")


def test_a_long_home_gets_a_short_socket_of_its_own(tmp_path: Path) -> None:
    homes = [tmp_path / ("h" * 90) / name for name in ("one", "two")]
    sockets = {load({"UPKEPT_HOME": str(home)}, cwd=tmp_path).broker_socket for home in homes}
    assert len(sockets) == 2
    assert all(len(str(socket)) <= 100 for socket in sockets)


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    home = tmp_path / "var"
    first = ensure_keys(home)
    assert ensure_keys(home) == first
    assert stat.S_IMODE(keys_path(home).stat().st_mode) == 0o600
    assert len({first.public_id, first.tombstone, first.consent, first.secret}) == 4
    assert list(home.iterdir()) == [keys_path(home)]
    assert first.secret.hex() not in repr(first)


def test_processes_that_start_together_share_one_set_of_keys(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        made = pool.map(ensure_keys, [tmp_path / "var"] * 16)
    assert len({keys.tombstone for keys in made}) == 1


def test_a_secret_key_derives_all_but_the_tombstone_key(tmp_path: Path) -> None:
    plain = ensure_keys(tmp_path)
    one, again, two = (ensure_keys(tmp_path, key * 32) for key in "aab")
    assert one == again
    for name in ("public_id", "consent", "secret"):
        assert len({getattr(keys, name) for keys in (plain, one, two)}) == 3
    assert one.tombstone == two.tombstone == plain.tombstone


def test_damaged_or_open_keys_are_refused_not_replaced(tmp_path: Path) -> None:
    keys = ensure_keys(tmp_path)
    path = keys_path(tmp_path)
    good = path.read_text()
    for bad in ("", "{}", good.replace(keys.secret.hex(), "ff"), good.replace(keys.secret.hex(), "zz" * 32)):
        path.write_text(bad)
        with pytest.raises(Config, match="damaged"):
            ensure_keys(tmp_path)
    path.write_text(good)
    path.chmod(0o644)
    with pytest.raises(Config, match="chmod 600"):
        ensure_keys(tmp_path)
    path.chmod(0o600)
    assert ensure_keys(tmp_path) == Keys(**{name: bytes.fromhex(key) for name, key in json.loads(good).items()})


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Config, match="UPKEPT_HOME"):
        ensure_keys(tmp_path / "file" / "var")
