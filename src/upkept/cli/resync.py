"""`upkept resync`: compare everything a vendor holds with the store, and take in what differs.

The run is driven here, beside any worker and without one. Progress and errors go to standard error.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final
from zoneinfo import ZoneInfo

import typer

from upkept.cli import complain
from upkept.cli.context import current_settings, opened_hub
from upkept.cli.output import print_json, print_lines
from upkept.contract import Config, Retryable

if TYPE_CHECKING:
    from upkept.flow.compare import Difference
    from upkept.flow.hub import Hub
    from upkept.flow.pull import Preview
    from upkept.flow.runs import Started
    from upkept.registry import Connection
    from upkept.store.runs import Run

commands = typer.Typer()

UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
DRY_RUN_TRIES: Final = 5
INTERRUPTED: Final = 130

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@commands.command()
def resync(
    connection: Annotated[str, typer.Argument(help="The connection's name in upkept.toml.")],
    since: Annotated[str | None, typer.Option(help="Only what happened since: 7d, 12h or a date.")] = None,
    full: Annotated[bool, typer.Option("--full", help="Begin again, whatever was under way.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the differences, store nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end (default on a terminal).")] = False,
    allow_deletes: Annotated[
        bool, typer.Option("--allow-deletes", help="Believe it even if most records are not listed any more.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare everything a vendor holds with the store, and take in what differs. Joins or resumes a run that is
    under way. Status 1 if anything failed."""
    if since is not None and full:
        raise typer.BadParameter("--since and --full exclude each other", param_hint="--since")
    begin = None if since is None else _since(since)
    from upkept.flow import runs

    with opened_hub(migrate=True) as hub:
        try:
            wanted = runs.pullable(hub, connection)
        except Config as error:
            complain(error)
            raise typer.Exit(2) from None
        if dry_run:
            raise typer.Exit(_dry_run(hub, wanted, begin, as_json=as_json))

        def start() -> Started:
            mode: runs.Mode = "full" if begin is None else "since"
            return runs.start(
                hub, connection, now=clock(), mode=mode, since=begin, allow_deletes=allow_deletes, afresh=full
            )

        from upkept.cli.follow import clock, worker_lives

        started = start()
        if not (wait or sys.stdout.isatty()) and worker_lives(hub):
            _handed_over(started, as_json=as_json)
            return
        with _resumable(started):
            run = _followed(hub, started)
            if started.joined and not _covers(run, begin, allow_deletes):
                complain(Config(f"run {run.id} was under way and of another kind; yours begins now"))
                run = _followed(hub, start())
        _print_run(run, as_json=as_json)
        raise typer.Exit(int(run.state != "complete"))


def _followed(hub: Hub, started: Started) -> Run:
    from upkept.cli.follow import drive, finish_read_backs, shown

    with shown(f"resync {started.run.connection}") as show:
        run = drive(hub, started.run.id, show)
        if run.state == "complete":
            finish_read_backs(hub, run.connection)
    return run


def _covers(run: Run, since: int | None, allow_deletes: bool) -> bool:
    """Does a run that was under way do what was asked for?"""
    if allow_deletes and not run.params.get("allow_deletes"):
        return False
    if run.params.get("mode") == "full":
        return True
    return since is not None and run.params.get("mode") == "since" and int(run.params["since"]) <= since


@contextmanager
def _resumable(started: Started) -> Iterator[None]:
    """Ctrl-C leaves the run where it is."""
    try:
        yield
    except KeyboardInterrupt:
        complain(
            Config(f"stopped; run {started.run.id} keeps its place. Go on: upkept resync {started.run.connection}")
        )
        raise typer.Exit(INTERRUPTED) from None


def _handed_over(started: Started, *, as_json: bool) -> None:
    from upkept.cli.follow import as_json as run_as_json

    if as_json:
        print_json(run_as_json(started.run))
        return
    word = "is under way" if started.joined else "has begun"
    print(f"{started.run.connection}: run {started.run.id} {word}; follow it: upkept runs, or add --wait")


def _print_run(run: Run, *, as_json: bool) -> None:
    from upkept.cli.follow import as_json as run_as_json
    from upkept.cli.follow import report

    if as_json:
        print_json(run_as_json(run))
    else:
        print("\n".join(report(run)))


def _dry_run(hub: Hub, connection: Connection, since: int | None, *, as_json: bool) -> int:
    """Walk and compare; differences on standard output only, for they hold personal data."""
    from upkept.flow.runs import beginning
    from upkept.store import connections

    with hub.store.read() as open_store:
        standing = connections.standing(open_store, connection.name)
    cursor = beginning(standing, "full" if since is None else "since", since)
    scanned = news = 0
    differences: list[Difference] = []
    told: set[tuple[str, str]] = set()
    for page in _pages(hub, connection, cursor):
        scanned, news = scanned + page.scanned, news + page.news
        found = list(_untold(page.compared.differences, told))
        if as_json:
            differences += found
        else:
            print_lines(_told(hub, connection, found))
    if as_json:
        labels = hub.labels(connection.name, {d.field for d in differences})
        print_json({
            "connection": connection.name, "dry_run": True, "scanned": scanned, "would_change": news,
            "unchanged": scanned - news,
            "differences": [
                {"record": d.record, "type": d.type, "id": d.source_id, "new": d.new,
                 "field": labels[d.field], "ours": d.ours, "theirs": d.theirs}
                for d in differences
            ],
        })  # fmt: skip
    else:
        print(f"{connection.name}: dry run: scanned {scanned:,}, would change {news:,}, unchanged {scanned - news:,}")
    return 0


def _pages(hub: Hub, connection: Connection, cursor: str | None) -> Iterator[Preview]:
    """The pages of a dry run; a vendor that is busy is waited for."""
    from upkept.cli.follow import clock
    from upkept.flow.pull import preview

    tries = 0
    while True:
        try:
            for page in preview(hub, connection, cursor, now=clock):
                yield page
                cursor, tries = page.cursor, 0
            return
        except Retryable as error:
            tries += 1
            if tries == DRY_RUN_TRIES:
                raise
            complain(error)
            time.sleep(min(error.after or 2.0**tries, 60.0))


def _since(text: str) -> int:
    """`7d`, `12h`, `90m`, `2w`, or a date (the workspace's midnight) or ISO time; in microseconds."""
    from upkept.people.facts import to_us

    zone = ZoneInfo(current_settings().workspace.timezone)
    now = datetime.now(zone)
    if span := re.fullmatch(r"(\d{1,5})([mhdw])", text.strip()):
        return to_us(now - timedelta(**{UNITS[span[2]]: int(span[1])}))
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no span (7d, 12h) and no date (2026-11-24)", param_hint="--since"
        ) from None
    at = at.replace(tzinfo=zone) if at.tzinfo is None else at
    if at > now:
        raise typer.BadParameter(f"{text!r} lies in the future", param_hint="--since")
    return to_us(at)


def _untold(differences: list[Difference], told: set[tuple[str, str]]) -> Iterator[Difference]:
    """Those not told before: a vendor lists a part with its owner, and again with its like."""
    for one in differences:
        if (one.record, one.field) not in told:
            told.add((one.record, one.field))
            yield one


def _told(hub: Hub, connection: Connection, differences: list[Difference]) -> Iterator[str]:
    """A line for each field that differs, and one for each new record."""
    new: set[str] = set()
    labels = hub.labels(connection.name, {one.field for one in differences})
    for one in differences:
        if not one.new:
            yield f"{one.type} {one.source_id}  {labels[one.field]}: {_value(one.ours)} -> {_value(one.theirs)}"
        elif one.record not in new:
            new.add(one.record)
            yield f"{one.type} {one.source_id}  is new"


def _value(value: Any) -> str:
    return "-" if value is None else json.dumps(value, ensure_ascii=False)
