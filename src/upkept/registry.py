"""From names in `upkept.toml` to connections ready to use.

Connectors are found by the entry-point group `upkept.connectors`, so anybody's package can add one. Only those
that the configuration names are imported. Our own five doors are connections too, always there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from upkept.contract import AnyConnector, Config, Connector, FieldMap
from upkept.settings import ConnectionSettings, Settings, nearest, resolved, typed
from upkept.sources import RANKS, SOURCES, VENDOR_RANK

GROUP: Final = "upkept.connectors"
POLL_SECONDS: Final = 900.0
"""How often a connection is pulled unless it says otherwise (facts about reliability: vendors give up early)."""
MISSING_SHARE: Final = 0.2
"""Which share of a connection's known records may be missing from a walk before nobody believes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """The keys of a connection's section that the hub itself reads; all others are the connector's."""

    poll: float = POLL_SECONDS
    missing_share: float = MISSING_SHARE
    create: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    user_id_keys: tuple[str, ...] = ()


HUB_KEYS: Final = frozenset(spec.name for spec in fields(HubOptions))


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A configured, named connector. `account` is whose quota it uses; `poll` is in seconds, 0 for never.

    `create` names the segment whose people the vendor is to have a record of; empty: it is told of its own people only.
    `tells` are the names of the events that it is told of. A walk that misses more than `missing_share` of the records
    is believed only if a person says so.
    """

    name: str
    connector: AnyConnector
    config: Any = field(repr=False)
    fields: FieldMap = field(repr=False)
    account: str
    rank: int
    poll: float = 0.0
    create: str = ""
    tells: frozenset[str] = frozenset()
    missing_share: float = MISSING_SHARE


def known_connectors() -> Mapping[str, EntryPoint]:
    """Every installed connector by name, not yet imported."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name in found and found[point.name].value != point.value:
            raise Config(f'two packages offer a connector "{point.name}"; uninstall one: {_packages(point.name)}')
        found[point.name] = point
    return dict(sorted(found.items()))


def load_connections(settings: Settings) -> dict[str, Connection]:
    """All connections by name; `Config` lists every mistake in the configuration, a line each."""
    connections = dict(_own(settings))
    mistakes: list[str] = []
    for wanted in settings.connections.values():
        try:
            connections[wanted.name] = _configured(wanted, settings)
        except Config as error:
            mistakes.append(str(error))
    if mistakes:
        raise Config("\n".join(mistakes))
    return connections


def load_connector(name: str, *, where: str) -> AnyConnector:
    """Import one connector; `Config` if it is unknown, broken or not a `Connector` of that name."""
    known = known_connectors()
    if name not in known:
        offered = ", ".join(known) or "none"
        raise Config(f'{where}: no connector "{name}" is installed; installed are: {offered}. Install its package')
    try:
        connector = known[name].load()
    except Exception as error:
        raise Config(f'{where}: connector "{name}" cannot be imported ({type(error).__name__}: {error})') from error
    if not isinstance(connector, Connector) or connector.name != name:
        raise Config(f'{where}: "{known[name].value}" is no Connector named "{name}". Ask the author of its package')
    return connector


def _own(settings: Settings) -> Iterator[tuple[str, Connection]]:
    for name, connector in SOURCES.items():
        yield (
            name,
            Connection(
                name=name,
                connector=connector,
                config=connector.config(),
                fields=connector.fields,
                account=name,
                rank=settings.ranks.get(name, RANKS[name]),
            ),
        )


def _configured(wanted: ConnectionSettings, settings: Settings) -> Connection:
    connector = load_connector(wanted.connector, where=wanted.where)
    hub = typed(HubOptions, _resolved(wanted, settings, HUB_KEYS), where=wanted.where)
    if hub.poll < 0:
        raise Config(f'{wanted.where}: "poll" is a number of seconds; 0 switches scheduled pulls off')
    if not 0 <= hub.missing_share <= 1:
        raise Config(
            f'{wanted.where}: "missing_share" is a share from 0 to 1; write 0.2 to be asked before more than a fifth '
            "of the records are taken as deleted"
        )
    config = _config(connector, wanted, settings)
    field_map = connector.fields.overridden(hub.fields, where=f"{wanted.where} fields")
    if hub.user_id_keys:
        field_map = replace(field_map, user_id_keys=hub.user_id_keys)
    return Connection(
        name=wanted.name,
        connector=connector,
        config=config,
        fields=field_map,
        account=_account(connector, config),
        rank=settings.ranks.get(wanted.name, VENDOR_RANK),
        poll=hub.poll if connector.pull else 0.0,
        create=_create(hub.create, connector, settings, where=wanted.where),
        tells=_tells(connector, config, where=wanted.where),
        missing_share=hub.missing_share,
    )


def _create(segment: str, connector: AnyConnector, settings: Settings, *, where: str) -> str:
    if segment and connector.creates is None:
        raise Config(f'{where}: "{connector.name}" makes no records; take "create" out')
    if segment and segment not in settings.segments:
        known = ", ".join(sorted(settings.segments)) or "none"
        raise Config(f'{where}: "create" names the segment "{segment}"; segments are: {known}')
    return segment


def _tells(connector: AnyConnector, config: Any, *, where: str) -> frozenset[str]:
    try:
        return frozenset(connector.tells(config)) if connector.tells is not None else frozenset()
    except Config as error:
        raise Config(f"{where}: {error}") from None


def _config(connector: AnyConnector, wanted: ConnectionSettings, settings: Settings) -> Any:
    """The connector's own configuration; its secrets must point at the environment."""
    specs = {spec.name: spec for spec in fields(connector.config)}
    for key in wanted.options:
        if key not in specs and key not in HUB_KEYS:
            raise Config(f'{wanted.where}: unknown key "{key}". {nearest(key, {*specs, *HUB_KEYS, "connector"})}')
    for key, spec in specs.items():
        if spec.metadata.get("secret") and not _points_at_environment(wanted.options.get(key, ())):
            variable = f"{wanted.name}_{key}".upper().replace("-", "_")
            raise Config(
                f'{wanted.where}: "{key}" is a secret and does not belong in a file. Write {key} = "env:{variable}" '
                f"and set that variable where Upkept is started"
            )
    return typed(connector.config, _resolved(wanted, settings, specs), where=wanted.where)


def _resolved(wanted: ConnectionSettings, settings: Settings, keys: Collection[str]) -> dict[str, Any]:
    return {
        key: resolved(value, settings.secrets, key=key, where=wanted.where)
        for key, value in wanted.options.items()
        if key in keys
    }


def _points_at_environment(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) else (value,)
    return all(isinstance(item, str) and item.startswith("env:") for item in values)


def _account(connector: AnyConnector, config: Any) -> str:
    """Connections with the same credentials share a vendor's quota; how a webhook is signed makes no difference."""
    credentials = [
        repr(getattr(config, spec.name))
        for spec in fields(config)
        if spec.metadata.get("secret") and not spec.name.startswith("webhook")
    ]
    return f"{connector.name}:{hashlib.sha256(' '.join(credentials).encode()).hexdigest()[:12]}"


def _packages(name: str) -> str:
    return ", ".join(sorted({point.dist.name for point in entry_points(group=GROUP, name=name) if point.dist}))
