"""The environment and `upkept.toml`, read once into frozen values.

    UPKEPT_HOME          data folder, default ./var
    UPKEPT_CONFIG        default ./upkept.toml, which may be absent
    UPKEPT_DATABASE_URL  default SQLite in the home
    UPKEPT_BROKER_URL    default: the embedded Valkey, on a unix socket in the home
    UPKEPT_SECRET_KEY    default: keys made once in the home (`upkept.keys`)
    UPKEPT_HOST, UPKEPT_PORT, UPKEPT_LOG

Every mistake raises `Config`, which names the key, the file and the cure. Secrets are written `"env:NAME"`; an
error never repeats a value.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tempfile
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter, ValidationError

from upkept.contract import Config

T = TypeVar("T")

RESERVED: Final = ("api", "app", "console", "csv", "rules")
"""Connection names of our own doors (SEMANTICS C); nobody else's connection can bear them."""

VARIABLES: Final = frozenset(
    f"UPKEPT_{name}" for name in ("HOME", "CONFIG", "DATABASE_URL", "BROKER_URL", "SECRET_KEY", "HOST", "PORT", "LOG")
)
DATABASES: Final = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
BROKERS: Final = ("redis", "rediss", "redis+socket", "amqp", "amqps")
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
SHORTEST_DAYS: Final = 30  # vendors deliver again for some days, and tell of a month
SOCKET_PATH_LIMIT: Final = 100
"""Bytes of a unix socket's path that every kernel takes (Linux 107, macOS 103)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """`[workspace]`: how the company and its day are called."""

    name: str = "Upkept"
    timezone: str = "UTC"
    app_id: str = "upkept"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """`[store]`: how old facts are that are compacted (R4), deliveries and events that are pruned (0: never)."""

    floor_days: int = 45
    inbox_days: int = 180
    timeline_days: int = 730


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """`[identity]`: does an unverified claim link (R13), and which addresses never do."""

    enforce: bool = False
    blocked_addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldPolicy:
    """`[fields]` overrides how one attribute is derived (R4). `groups` rank connections, the first wins."""

    rule: Literal["lww", "authority", "max", "min", "union"] = "lww"
    groups: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """`[connections.NAME]` as written: `"env:NAME"` is not yet replaced. `where` names file and table."""

    name: str
    connector: str
    options: Mapping[str, Any]
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that an operator can say. `secrets` holds the variables that the file points at, by name."""

    home: Path
    config_path: Path
    database_url: str = field(repr=False)
    broker_url: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 8080
    log_format: Literal["json", "console"] = "console"
    workspace: Workspace = Workspace()
    identity: Identity = Identity()
    connections: Mapping[str, ConnectionSettings] = field(default_factory=dict)
    segments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    policies: Mapping[str, FieldPolicy] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    floor_days: int = 45
    inbox_days: int = 180
    timeline_days: int = 730
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    unknown_variables: tuple[str, ...] = ()

    @property
    def broker_socket(self) -> Path:
        """Where the embedded broker listens; a long home gets a short private folder among the temporary files."""
        socket = self.home / "broker" / "valkey.sock"
        if len(str(socket).encode()) <= SOCKET_PATH_LIMIT:
            return socket
        tag = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"upkept-{tag}" / "valkey.sock"

    @property
    def effective_broker_url(self) -> str:
        """What Celery connects to."""
        return self.broker_url or f"redis+socket://{self.broker_socket}"

    @property
    def url(self) -> str:
        """Where a person on this machine finds the hub."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", ""} else self.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def load(env: Mapping[str, str], *, cwd: Path | None = None) -> Settings:
    """Settings from an environment; relative paths start at `cwd`. Reads one file, writes nothing."""
    here = (cwd or Path.cwd()).absolute()
    home = here / Path(env.get("UPKEPT_HOME") or "var").expanduser()
    config_path = here / Path(env.get("UPKEPT_CONFIG") or "upkept.toml").expanduser()
    tables = _tables(config_path, required=bool(env.get("UPKEPT_CONFIG")))
    file = config_path.name
    connections = dict(_connections(tables["connections"], file))
    known = {*connections, *RESERVED}
    store = typed(StoreSettings, tables["store"], where=f"{file} [store]")
    if store.floor_days < 1:
        raise Config(f'{file} [store]: "floor_days" must be 1 or more')
    for key in ("inbox_days", "timeline_days"):
        if 0 != getattr(store, key) < SHORTEST_DAYS:
            raise Config(f'{file} [store]: "{key}" must be {SHORTEST_DAYS} or more, or 0 to keep all for ever')
    return Settings(
        home=home,
        config_path=config_path,
        database_url=_database_url(env.get("UPKEPT_DATABASE_URL") or f"sqlite:///{home / 'upkept.sqlite3'}"),
        broker_url=_broker_url(env.get("UPKEPT_BROKER_URL")),
        secret_key=_secret_key(env.get("UPKEPT_SECRET_KEY")),
        host=env.get("UPKEPT_HOST") or "127.0.0.1",
        port=_port(env.get("UPKEPT_PORT") or "8080"),
        log_format=_log_format(env.get("UPKEPT_LOG") or "console"),
        workspace=_workspace(tables["workspace"], file),
        identity=typed(Identity, tables["identity"], where=f"{file} [identity]"),
        connections=MappingProxyType(connections),
        segments=MappingProxyType(_named_tables(tables["segments"], f"{file} [segments]")),
        policies=MappingProxyType(dict(_policies(tables["fields"], known, f"{file} [fields]"))),
        ranks=MappingProxyType(_ranks(tables["ranks"], known, f"{file} [ranks]")),
        floor_days=store.floor_days,
        inbox_days=store.inbox_days,
        timeline_days=store.timeline_days,
        secrets=MappingProxyType({name: env[name] for name in sorted(_references(tables)) if env.get(name)}),
        unknown_variables=tuple(sorted(_unknown_variables(env))),
    )


def typed(cls: type[T], raw: Mapping[str, Any], *, where: str) -> T:
    """A frozen dataclass from a table; `Config` names the unknown, missing or wrong key and the nearest valid one."""
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]  # every caller passes a dataclass
    for key in raw:
        if key not in names:
            raise Config(f'{where}: unknown key "{key}". {nearest(key, names)}')
    try:
        return TypeAdapter(cls).validate_python(dict(raw))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        key = ".".join(str(step) for step in first["loc"][:1]) or "?"
        if first["type"] in {"missing", "missing_argument", "missing_keyword_only_argument"}:
            raise Config(f'{where}: "{key}" is missing. Add a line {key} = …') from None
        raise Config(f'{where}: "{key}" is wrong: {first["msg"]}') from None


def resolved(value: Any, secrets: Mapping[str, str], *, key: str, where: str) -> Any:
    """`value` with every `"env:NAME"` in it replaced; `Config` if NAME is not set."""
    match value:
        case str() if value.startswith("env:"):
            name = value.removeprefix("env:")
            if name not in secrets:
                raise Config(
                    f'{where}: "{key}" points at the environment variable {name or "(no name)"}, which is not set. '
                    f"Set it where Upkept is started: export {name or 'NAME'}=…"
                )
            return secrets[name]
        case list() | tuple():
            return tuple(resolved(item, secrets, key=key, where=where) for item in value)
        case dict():
            return {name: resolved(item, secrets, key=f"{key}.{name}", where=where) for name, item in value.items()}
        case _:
            return value


def nearest(key: str, names: Collection[str]) -> str:
    """The cure for a misspelt name, as a sentence."""
    found = difflib.get_close_matches(key, list(names), 1, 0.6)
    return f'Did you mean "{found[0]}"?' if found else f"Known are: {', '.join(sorted(names))}"


def _tables(path: Path, *, required: bool) -> Mapping[str, Mapping[str, Any]]:
    known = ("workspace", "store", "identity", "connections", "segments", "fields", "ranks")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if required:
            raise Config(
                f"UPKEPT_CONFIG names {path}, which does not exist. Create it or unset UPKEPT_CONFIG"
            ) from None
        raw = {}
    except OSError as error:
        raise Config(f"{path} cannot be read: {error.strerror}. Give the user who runs Upkept access to it") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Config(f"{path} is not valid TOML: {error}") from None
    for name, value in raw.items():
        if name not in known:
            raise Config(f'{path.name}: unknown table "{name}". {nearest(name, known)}')
        if not isinstance(value, dict):
            raise Config(f'{path.name}: "{name}" must be a table: write it as [{name}]')
    return {name: raw.get(name, {}) for name in known}


def _connections(tables: Mapping[str, Any], file: str) -> Iterator[tuple[str, ConnectionSettings]]:
    for name, table in _named_tables(tables, f"{file} [connections]").items():
        where = f"{file} [connections.{name}]"
        if not NAME.fullmatch(name):
            raise Config(f"{where}: a connection's name is in its URL: use a-z, 0-9, - and _ only")
        if name in RESERVED:
            raise Config(f'{where}: "{name}" is a name of Upkept\'s own ({", ".join(RESERVED)}). Choose another one')
        options = dict(table)
        connector = options.pop("connector", None)
        if not isinstance(connector, str) or not connector:
            raise Config(f'{where}: "connector" is missing. Add a line connector = "…" (`upkept connector list`)')
        yield name, ConnectionSettings(name=name, connector=connector, options=options, where=where)


def _named_tables(tables: Mapping[str, Any], where: str) -> dict[str, Mapping[str, Any]]:
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise Config(f'{where}: "{name}" must be a table of its own: [{where.rpartition("[")[2][:-1]}.{name}]')
    return dict(tables)


def _policies(table: Mapping[str, Any], known: Collection[str], where: str) -> Iterator[tuple[str, FieldPolicy]]:
    for attribute, raw in table.items():
        here = f"{where} {attribute}"
        policy = typed(FieldPolicy, {"rule": raw} if isinstance(raw, str) else _table(raw, here), where=here)
        if (policy.rule == "authority") != bool(policy.groups):
            raise Config(f'{here}: "groups" goes with rule = "authority", and only with it')
        for name in (name for group in policy.groups for name in group):
            if name not in known:
                raise Config(f'{here}: "{name}" is no connection. {nearest(name, known)}')
        yield attribute, policy


def _table(raw: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, dict):
        raise Config(f'{where}: write a rule\'s name or {{ rule = "…", groups = […] }}')
    return raw


def _ranks(table: Mapping[str, Any], known: Collection[str], where: str) -> dict[str, int]:
    for name, rank in table.items():
        if name not in known:
            raise Config(f'{where}: "{name}" is no connection. {nearest(name, known)}')
        if not isinstance(rank, int) or isinstance(rank, bool):
            raise Config(f'{where}: "{name}" must be a whole number; the higher wins a tie')
    return dict(table)


def _workspace(table: Mapping[str, Any], file: str) -> Workspace:
    workspace = typed(Workspace, table, where=f"{file} [workspace]")
    try:
        ZoneInfo(workspace.timezone)
    except (KeyError, ValueError, OSError):
        raise Config(f'{file} [workspace]: "timezone" is not known. Use a name such as "Europe/Dublin"') from None
    if not NAME.fullmatch(workspace.app_id):
        raise Config(f'{file} [workspace]: "app_id" is in a URL: use a-z, 0-9, - and _ only')
    return workspace


def _database_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in DATABASES:
        raise Config("UPKEPT_DATABASE_URL must begin with sqlite:/// or postgresql://")
    return f"{DATABASES[scheme]}://{rest}"


def _broker_url(url: str | None) -> str | None:
    if url and urlsplit(url).scheme not in BROKERS:
        raise Config(f"UPKEPT_BROKER_URL must begin with one of: {', '.join(f'{scheme}://' for scheme in BROKERS)}")
    return url or None


def _secret_key(key: str | None) -> str | None:
    if key and len(key) < 32:
        raise Config("UPKEPT_SECRET_KEY is too short: use at least 32 characters, e.g. of `openssl rand -hex 32`")
    return key or None


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise Config("UPKEPT_PORT must be a number from 1 to 65535")
    return int(text)


def _log_format(text: str) -> Literal["json", "console"]:
    if text not in {"json", "console"}:
        raise Config("UPKEPT_LOG must be json or console")
    return "json" if text == "json" else "console"


def _references(value: Any) -> Iterator[str]:
    match value:
        case str() if value.startswith("env:"):
            yield value.removeprefix("env:")
        case list():
            for item in value:
                yield from _references(item)
        case dict():
            for item in value.values():
                yield from _references(item)


def _unknown_variables(env: Mapping[str, str]) -> Iterator[str]:
    """Near misses of our variables: a typed-wrong UPKEPT_DATABASE_URL would silently mean SQLite."""
    for name in env:
        if name.startswith("UPKEPT_") and name not in VARIABLES and difflib.get_close_matches(name, VARIABLES, 1, 0.8):
            yield name
