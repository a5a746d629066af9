"""The commands that run: up, web, worker, beat; and migrate, which they need first."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from upkept.cli.context import current_settings
from upkept.contract import Retryable

if TYPE_CHECKING:
    from upkept.flow.hub import Hub
    from upkept.settings import Settings

commands = typer.Typer()


@commands.command()
def up() -> None:
    """Start the whole hub: broker, web, worker and courier. Ctrl-C ends it."""
    from upkept.settings import RESERVED
    from upkept.supervisor import Supervisor, only_one, port_is_free, roster
    from upkept.worker.pulse import DEAF, pulse_age

    settings = current_settings()
    with only_one(settings.home):
        port_is_free(settings)
        hub = _migrated(settings)

        def deaf(name: str, since: float) -> bool:
            return pulse_age(hub.store, name, now=time.time_ns() // 1000, since=int(since * 1_000_000)) > DEAF

        connected = [name for name in hub.connections if name not in RESERVED]
        supervisor = Supervisor(roster(settings), _say, deaf)
        raise typer.Exit(supervisor.run(when_ready=lambda: _welcome(settings, connected)))


@commands.command()
def web() -> None:
    """Serve the doors: webhooks, health, metrics."""
    from upkept.doors.serve import run

    raise typer.Exit(run(_belonging(current_settings())))


@commands.command()
def worker(
    courier: Annotated[
        bool, typer.Option("--courier", help="Serve outbound and vendor reads, with the sweeper and beat in it.")
    ] = False,
) -> None:
    """Do the work that the inbox holds: one prefork worker, or with --courier the threaded one."""
    from upkept.worker.main import run

    raise typer.Exit(run(courier=courier, settings=_belonging(current_settings())))


@commands.command()
def beat() -> None:
    """Ring the bells of the schedule; the courier does it too, and any number of beats is safe."""
    from upkept.worker.main import run_beat

    raise typer.Exit(run_beat(_belonging(current_settings())))


@commands.command()
def migrate() -> None:
    """Bring the database to this version's tables; safe to run twice and from several machines."""
    _migrated(current_settings())
    print("The database is up to date.")


def _migrated(settings: Settings) -> Hub:
    """The hub on a database with all tables that belongs to our keys."""
    from upkept.flow.belonging import check_keys
    from upkept.flow.opening import open_hub
    from upkept.store.schema import bring_up

    hub = open_hub(settings, pool_size=1)
    bring_up(hub.store)
    check_keys(hub)
    return hub


def _belonging(settings: Settings) -> Settings:
    """Refuse a database of other keys; one that is away or empty is the process's own concern, later."""
    from sqlalchemy.exc import DBAPIError

    from upkept.flow.belonging import check_keys
    from upkept.flow.opening import open_hub

    hub = open_hub(settings, pool_size=1)
    with contextlib.suppress(Retryable, DBAPIError):
        check_keys(hub)
    hub.store.close()
    return settings


def _say(text: str) -> None:
    print(f"upkept: {text}", file=sys.stderr, flush=True)


def _welcome(settings: Settings, connected: list[str]) -> None:
    from rich.console import Console

    from upkept.keys import keys_path

    config = settings.config_path
    rows = [
        ("listening", f"{settings.url}   (health at /readyz)"),
        *(("webhooks", f"{settings.url}/hooks/{name}") for name in connected),
        ("data", str(settings.home)),
        ("keys", f"{keys_path(settings.home)}   (back it up together with the data)"),
        ("settings", f"{config}" if config.exists() else f"{config}   (not there yet)"),
    ]
    console = Console(soft_wrap=True, highlight=False)
    console.print("\n[bold]Upkept runs.[/bold] Ctrl-C ends it.\n")
    for name, value in rows:
        console.print(f"  {name:<10} ", value, sep="", markup=False)
    console.print(f"\nnext: {_next_step(settings, connected)}\n", markup=False)


def _next_step(settings: Settings, connected: list[str]) -> str:
    if connected:
        return f"upkept resync {connected[0]}   then   upkept explain PERSON"
    return f"write a [connections.NAME] section into {settings.config_path.name} (see the README), then upkept check"
