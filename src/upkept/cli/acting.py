"""What acts have in common: options, who acts, and asking before what cannot be taken back."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Collection
from typing import Annotated, Final

import typer

NOTHING: Final = 4
"""The exit status of a command that found nothing to act on."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen, change nothing.")]


def known_state(state: str | None, states: Collection[str]) -> None:
    """`--state` is one of these, if it was given; else the usage was wrong (status 2)."""
    if state is not None and state not in states:
        raise typer.BadParameter(f"{state!r} is none of {', '.join(states)}", param_hint="--state")


def actor() -> str:
    """Who acts, for the audit log."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli"


def agreed(yes: bool, question: str) -> None:
    """Ask on standard error; anything but yes ends the command with status 1.

    `typer.confirm` would put a blank on standard output, which belongs to the one document of `--json`.
    """
    if yes:
        return
    typer.echo(f"{question} [y/N]: ", nl=False, err=True)
    if sys.stdin.readline().strip().casefold() not in {"y", "yes"}:
        raise typer.Abort
