"""forget, undo, rebuild: walks over the store that this command drives, under the same leases as the workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from upkept.cli import complain
from upkept.cli.acting import NOTHING, DryRun, Json, Yes, actor, agreed
from upkept.cli.context import opened_hub
from upkept.cli.output import print_json, print_lines
from upkept.contract import UpkeptError

if TYPE_CHECKING:
    from upkept.flow.hub import Hub
    from upkept.flow.rebuild import Difference
    from upkept.flow.undo import Extent
    from upkept.store.bequest import Estate
    from upkept.store.runs import Run

commands = typer.Typer()

INTERRUPTED: Final = 130
SHOWN: Final = 50
"""Differences printed for people; --json prints them all."""


@commands.command()
def forget(
    connection: Annotated[str, typer.Argument(help="Its name; it need not be configured any more.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Remove all that a connection ever said, opt-outs excepted. An interrupted run goes on when it is asked again."""
    from upkept.cli.follow import clock
    from upkept.flow import forget as forgetting
    from upkept.flow.find import Unknown

    with opened_hub() as hub:
        try:
            estate = forgetting.preview(hub, connection)
        except Unknown as error:
            complain(error)
            raise typer.Exit(NOTHING) from None
        if dry_run:
            _tell_estate(connection, estate, as_json)
            return
        if not yes:
            print_lines(_estate(hub, connection, estate), err=True)
            agreed(yes, "There is no way back but a full resync. Forget?")
        run = forgetting.start(hub, connection, now=clock(), actor=actor())
        _drive(hub, run, f"forget {connection}", f"upkept forget {connection}", as_json)


@commands.command()
def undo(
    run: Annotated[int, typer.Argument(metavar="RUN", help="The run's number; see: upkept runs.")],
    redo: Annotated[bool, typer.Option("--redo", help="Take the undoing back: apply the run's rows again.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Void what a run said, and leave what came later. No undo lifts an opt-out."""
    from upkept.cli.follow import clock
    from upkept.flow import undo as undoing

    with opened_hub() as hub:
        try:
            extent = undoing.preview(hub, run, now=clock())
        except undoing.NoSuchRun as error:
            complain(error)
            raise typer.Exit(NOTHING) from None
        if dry_run:
            _tell_extent(extent, as_json)
            return
        if redo:
            _redo(hub, run, as_json)
            return
        if not yes:
            print_lines(_extent(extent), err=True)
            agreed(yes, f"Undo run {run}?")
        walk = undoing.start(hub, run, now=clock(), actor=actor())
        _drive(hub, walk, f"undo of run {run}", f"upkept undo {run}", as_json)


@commands.command()
def rebuild(
    check: Annotated[bool, typer.Option("--check", help="Compare only. Status 1 if anything differs.")] = False,
    as_json: Json = False,
) -> None:
    """Make everybody anew from the records' facts. An interrupted run goes on when it is asked again."""
    from upkept.cli.follow import clock
    from upkept.flow import rebuild as rebuilding
    from upkept.flow import walk
    from upkept.store import records

    with opened_hub() as hub:
        if check:
            raise typer.Exit(_check(hub, as_json))
        with hub.store.read() as connection:
            total = records.count(connection)
        run, _ = walk.start(
            hub, "rebuild", "", {}, cursor=rebuilding.BEGIN, total=total, actor=actor(), now=clock()
        )  # fmt: skip
        _drive(hub, run, "rebuild", "upkept rebuild", as_json)


def _drive(hub: Hub, run: Run, title: str, again: str, as_json: bool) -> None:
    """Follow a walk to its end; status 1 if it failed."""
    from upkept.cli.follow import as_json as run_as_json
    from upkept.cli.follow import drive, report, shown

    try:
        with shown(title) as show:
            ended = drive(hub, run.id, show)
    except KeyboardInterrupt:
        complain(UpkeptError(f"stopped where it stands; go on with: {again}"))
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(run_as_json(ended))
    else:
        print_lines(report(ended))
    raise typer.Exit(int(ended.state != "complete"))


def _redo(hub: Hub, run: int, as_json: bool) -> None:
    from upkept.cli.follow import clock, ring
    from upkept.flow.undo import redo

    count = 0
    for bells in redo(hub, run, now=clock(), actor=actor()):
        count += sum(len(bell.ids) for bell in bells)
        ring(hub, bells)
    if as_json:
        print_json({"run": run, "applied_again": count})
    else:
        print(f"run {run}: {count:,} deliveries applied again")


def _check(hub: Hub, as_json: bool) -> int:
    from upkept.cli.follow import clock
    from upkept.flow.rebuild import check

    found = [one for page in check(hub, now=clock) for one in page]
    if as_json:
        print_json({"differences": [_difference(one) for one in found]})
    else:
        print_lines(f"{one.what} {one.subject}: {_sides(one)}" for one in found[:SHOWN])
        more = f", {len(found) - SHOWN:,} more not shown (--json shows all)" if len(found) > SHOWN else ""
        print(f"{len(found):,} differences{more}; put right by: upkept rebuild" if found else "nothing differs")
    return int(bool(found))


def _difference(one: Difference) -> dict[str, Any]:
    return {"what": one.what, "subject": one.subject, "stored": dict(one.stored), "rebuilt": dict(one.rebuilt)}


def _sides(one: Difference) -> str:
    names = sorted({*one.stored, *one.rebuilt})
    return "; ".join(f"{n} is {one.stored.get(n)!r}, must be {one.rebuilt.get(n)!r}" for n in names) or "spoilt"


def _tell_estate(name: str, estate: Estate, as_json: bool) -> None:
    if as_json:
        print_json({
            "would_forget": name, "records": estate.records, "parts": estate.parts, "deliveries": estate.deliveries,
            "opt_outs_left": estate.opt_outs, "unread_kept": list(estate.unread),
        })  # fmt: skip
    else:
        print_lines(_estate(None, name, estate))


def _estate(hub: Hub | None, name: str, estate: Estate) -> Iterator[str]:
    from upkept.flow.carry import kept

    yield (
        f"to be forgotten of {name}: {estate.records:,} records, {estate.parts:,} parts, "
        f"{estate.deliveries:,} deliveries; {estate.opt_outs:,} opt-outs stay"
    )
    if estate.unread:
        yield kept(estate.unread)
    if hub is not None and name in hub.settings.connections:
        yield f"{name} is still configured: what it sends from now on is taken in. Take it out of upkept.toml first?"


def _tell_extent(extent: Extent, as_json: bool) -> None:
    if as_json:
        print_json({
            "would_undo": extent.run.id, "facts": extent.facts, "records": extent.records, "waiting": extent.waiting,
            "opt_outs_left": extent.opt_outs, "unread_kept": list(extent.unread), "facts_left": extent.compacted,
            "pruned": extent.pruned,
        })  # fmt: skip
    else:
        print_lines(_extent(extent))


def _extent(extent: Extent) -> Iterator[str]:
    from upkept.flow.carry import kept
    from upkept.flow.undo import compacted

    run = extent.run
    yield (
        f"to be undone of run {run.id} ({run.kind} of {run.connection or 'everything'}): {extent.facts:,} facts about "
        f"{extent.records:,} records; {extent.waiting:,} rows that still wait are not applied"
    )
    if extent.opt_outs:
        yield f"{extent.opt_outs:,} opt-outs stay: no undo lifts one"
    if extent.unread:
        yield kept(extent.unread)
    if extent.compacted:
        yield compacted(run)
    if extent.pruned:
        yield "its deliveries may be pruned: events they told of, and what raised consent, then stay"
