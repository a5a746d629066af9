"""`upkept check`: configuration, keys, database, broker, credentials; what is wrong and how to cure it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from upkept.cli.context import current_settings
from upkept.cli.output import shown_url
from upkept.contract import Config, UpkeptError

if TYPE_CHECKING:
    from upkept.flow.hub import Hub
    from upkept.registry import Connection
    from upkept.settings import Settings

commands = typer.Typer()

BROKER_SECONDS: Final = 3
CONFIGURATION: Final = "configuration"
MISCONFIGURED: Final = 3
SIGNS: Final = {"ok": "[green]ok  [/green]", "warn": "[yellow]warn[/yellow]", "fail": "[red]FAIL[/red]"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do about it."""

    about: str
    state: Literal["ok", "warn", "fail"]
    said: str
    cure: str = ""


@commands.command()
def check(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at configuration, keys, database, broker and credentials. Status 3 if the configuration is wrong, 1 if
    anything else fails."""
    findings: list[Finding] = []
    for finding in _examined():
        findings.append(finding)
        if not as_json:
            _show(finding)
    failed = {finding.about for finding in findings if finding.state == "fail"}
    if as_json:
        json.dump({"ok": not failed, "findings": [asdict(finding) for finding in findings]}, sys.stdout, indent=1)
        print()
    raise typer.Exit(MISCONFIGURED if CONFIGURATION in failed else int(bool(failed)))


def _examined() -> Iterator[Finding]:
    try:
        settings = current_settings()
    except Config as error:
        yield from _mistakes(error)
    else:
        yield from examine(settings)


def _mistakes(error: Config) -> Iterator[Finding]:
    for line in str(error).splitlines():
        yield Finding(CONFIGURATION, "fail", line)


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything worth saying about an installation, from the file to the vendors."""
    from upkept.flow.opening import open_hub

    for name in settings.unknown_variables:
        yield Finding("environment", "warn", f"{name} is no variable of Upkept's", "correct its name or unset it")
    try:
        hub = open_hub(settings, pool_size=1)
    except Config as error:
        yield from _mistakes(error)
        return
    try:
        yield from _inside(settings, hub)
    finally:
        hub.store.close()


def _inside(settings: Settings, hub: Hub) -> Iterator[Finding]:
    from upkept.settings import RESERVED

    theirs = [connection for name, connection in hub.connections.items() if name not in RESERVED]
    yield _configuration(settings, theirs)
    if not settings.identity.enforce:
        yield Finding(
            "identity",
            "warn",
            "who holds only the public write key can claim to be any user",
            "once your pages sign user ids, set enforce = true under [identity]",
        )
    yield _keys(settings)
    database = _database(hub)
    yield database
    yield _broker(settings)
    for connection in theirs:
        yield from _credentials(hub, connection)
        if database.state == "ok":
            yield from _unseen(hub, connection)
    if database.state == "ok":
        yield from _never_walked(hub)


def _configuration(settings: Settings, theirs: list[Connection]) -> Finding:
    if not settings.config_path.exists():
        return Finding(CONFIGURATION, "ok", f"no {settings.config_path.name}: our own doors only, all defaults")
    names = ", ".join(connection.name for connection in theirs) or "none"
    return Finding(CONFIGURATION, "ok", f"{settings.config_path}; connections: {names}")


def _keys(settings: Settings) -> Finding:
    from upkept.keys import keys_path

    derived = "; UPKEPT_SECRET_KEY replaces all but the tombstone key" if settings.secret_key else ""
    return Finding("keys", "ok", f"{keys_path(settings.home)}{derived}")


def _database(hub: Hub) -> Finding:
    from upkept.flow.belonging import check_keys
    from upkept.store.schema import is_newest

    shown = shown_url(hub.settings.database_url)
    if hub.store.dialect == "sqlite" and hub.store.lock_file is not None:
        path = hub.store.lock_file.with_suffix("")
        if not path.exists():
            return Finding(
                "database", "warn", f"{shown} is not there yet", "upkept up makes it; so does upkept migrate"
            )
    try:
        with hub.store.read() as connection:
            migrated = is_newest(connection)
    except UpkeptError as error:
        return Finding("database", "fail", f"{shown}: {error}", "start it, or correct UPKEPT_DATABASE_URL")
    if not migrated:
        return Finding("database", "fail", f"{shown} lacks tables of this version", "upkept migrate")
    try:
        check_keys(hub)
    except Config as error:
        return Finding("database", "fail", str(error))
    return Finding("database", "ok", shown)


def _broker(settings: Settings) -> Finding:
    from upkept import broker

    if settings.broker_url is None:
        if broker.answers(settings.broker_socket):
            return Finding("broker", "ok", f"embedded, at {settings.broker_socket}")
        return Finding("broker", "warn", "the embedded broker is not running", "upkept up starts it")
    from kombu import Connection as Broker

    shown = shown_url(settings.broker_url)
    with Broker(settings.broker_url, connect_timeout=BROKER_SECONDS) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
        except Exception as error:
            said = f"{shown} is not reachable ({type(error).__name__})"
            return Finding("broker", "fail", said, "start it, or correct UPKEPT_BROKER_URL")
        if connection.transport.driver_type == "redis":
            return _redis(shown, connection)
    return Finding("broker", "ok", shown)


def _redis(shown: str, connection: object) -> Finding:
    client = connection.default_channel.client  # type: ignore[attr-defined]
    policy = client.info("memory").get("maxmemory_policy")
    if policy != "noeviction":
        cure = "set maxmemory-policy noeviction; best give Upkept a Redis of its own"
        return Finding("broker", "warn", f"{shown} may evict bells (maxmemory-policy {policy})", cure)
    return Finding("broker", "ok", shown)


def _credentials(hub: Hub, connection: Connection) -> Iterator[Finding]:
    """Ask the vendor. Quota and tokens of the question live in memory: a check writes nothing."""
    from upkept.flow.context import VendorContext
    from upkept.store.engine import open_store
    from upkept.store.migrations import upgrade_store

    about = f"connection {connection.name}"
    if connection.connector.probe is None:
        yield Finding(about, "ok", f"{connection.connector.name} offers no way to ask about credentials")
        return
    memory = open_store("sqlite://")
    upgrade_store(memory)
    context = VendorContext(replace(hub, store=memory), connection, lambda: time.time_ns() // 1000)
    try:
        probe = connection.connector.probe(connection.config, context)
    except Config as error:
        yield Finding(about, "fail", str(error), f"correct [connections.{connection.name}] or its variables")
    except UpkeptError as error:
        yield Finding(about, "fail", f"the vendor could not be asked: {error}", "check the network and base_url")
    else:
        yield Finding(about, "ok", f"credentials are good for {probe.account}")
        for warning in probe.warnings:
            yield Finding(about, "warn", warning)
    finally:
        memory.close()


def _unseen(hub: Hub, connection: Connection) -> Iterator[Finding]:
    """Events that it is to be told of and that never happened: most often a name that is written otherwise."""
    from upkept.store import timeline

    with hub.store.read() as open_store:
        unseen = sorted(connection.tells - timeline.seen(open_store, connection.tells))
    for name in unseen:
        said = f'it is to be told of "{name}", which has not happened to anybody yet'
        yield Finding(f"connection {connection.name}", "warn", said, "compare it with the names in `upkept explain`")


def _never_walked(hub: Hub) -> Iterator[Finding]:
    from upkept.flow import nightly

    for name in nightly.never_walked(hub):
        yield Finding(f"connection {name}", "warn", nightly.NEVER_WALKED, nightly.cure_of(name))


def _show(finding: Finding) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(soft_wrap=True, highlight=False)
    console.print(f"{SIGNS[finding.state]}  {escape(finding.about):<14}  {escape(finding.said)}")
    if finding.cure:
        console.print(f"{'':<22}[bold]cure:[/bold] {escape(finding.cure)}")
