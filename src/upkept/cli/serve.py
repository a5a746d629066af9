"""The commands that run: up, web, worker, beat; and migrate, which they need first."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from upkept.cli.context import current_settings
from upkept.settings import Settings

commands = typer.Typer()


@commands.command()
def up() -> None:
    """Start the whole hub: broker, web, worker and courier. Ctrl-C ends it."""
    from upkept.keys import ensure_keys
    from upkept.registry import load_connections
    from upkept.settings import RESERVED
    from upkept.store.engine import open_store
    from upkept.store.migrations import upgrade
    from upkept.supervisor import Supervisor, only_one, port_is_free, roster
    from upkept.worker.pulse import DEAF, pulse_age

    settings = current_settings()
    with only_one(settings.home):
        ensure_keys(settings.home, settings.secret_key)
        connected = [name for name in load_connections(settings) if name not in RESERVED]
        port_is_free(settings)
        upgrade(settings.database_url)
        store = open_store(settings.database_url, pool_size=1)

        def deaf(name: str, since: float) -> bool:
            return pulse_age(store, name, now=time.time_ns() // 1000, since=int(since * 1_000_000)) > DEAF

        supervisor = Supervisor(roster(settings), _say, deaf)
        raise typer.Exit(supervisor.run(when_ready=lambda: _welcome(settings, connected)))


@commands.command()
def web() -> None:
    """Serve the doors: webhooks, health, metrics."""
    from upkept.doors.serve import run

    raise typer.Exit(run(current_settings()))


@commands.command()
def worker(
    courier: Annotated[
        bool, typer.Option("--courier", help="Serve outbound and vendor reads, with the sweeper and beat in it.")
    ] = False,
) -> None:
    """Do the work that the inbox holds: one prefork worker, or with --courier the threaded one."""
    from upkept.worker.main import run

    raise typer.Exit(run(courier=courier, settings=current_settings()))


@commands.command()
def beat() -> None:
    """Ring the bells of the schedule; the courier does it too, and any number of beats is safe."""
    from upkept.worker.main import run_beat

    raise typer.Exit(run_beat(current_settings()))


@commands.command()
def migrate() -> None:
    """Bring the database to this version's tables; safe to run twice and from several machines."""
    from upkept.store.migrations import upgrade

    settings = current_settings()
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    upgrade(settings.database_url)
    print("The database is up to date.")


def _say(text: str) -> None:
    print(f"upkept: {text}", file=sys.stderr, flush=True)


def _welcome(settings: Settings, connected: list[str]) -> None:
    from rich.console import Console

    from upkept.keys import keys_path

    config = settings.config_path
    rows = [
        ("listening", f"{settings.url}   (docs at /api/docs, health at /readyz)"),
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
