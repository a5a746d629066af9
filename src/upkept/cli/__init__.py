"""The commands, one file per family. Exit status: 0 done, 1 failed, 2 wrong usage, 3 wrong configuration."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Annotated, Final

import typer

import upkept
from upkept.contract import Config, UpkeptError

FAMILIES: Final = ("serve", "check", "connector", "operate", "traffic", "outgoing")
"""Modules of this package; each has `commands`, a Typer app whose commands become `upkept` commands."""


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="upkept",
        help="The self-hosted hub that keeps a company's user data right.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # a traceback with local variables would show personal data
        rich_markup_mode="rich",
    )

    @app.callback()
    def root(
        version: Annotated[
            bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
        ] = False,
    ) -> None: ...

    for family in FAMILIES:
        if find_spec(f"upkept.cli.{family}"):
            app.add_typer(import_module(f"upkept.cli.{family}").commands)
    return app


def main() -> None:
    """Run a command; an error of ours is one clear message, without a traceback."""
    try:
        build()()
    except Config as error:
        complain(error)
        sys.exit(3)
    except UpkeptError as error:
        complain(error)
        sys.exit(1)


def complain(error: Exception) -> None:
    """Say on standard error what is wrong, a line each."""
    for line in str(error).splitlines():
        print(f"upkept: {line}", file=sys.stderr)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"upkept {upkept.__version__}")
        raise typer.Exit
