"""The commands about what flows: resync (a file of its own), runs, status, inbox, replay, give-up.

`--json` prints one document on standard output; progress and errors go to standard error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from upkept.cli import complain, resync
from upkept.cli.acting import NOTHING, DryRun, Json, Yes, actor, agreed, known_state
from upkept.cli.context import opened_hub
from upkept.cli.output import print_json, print_lines, print_table
from upkept.contract import Config

if TYPE_CHECKING:
    from upkept.flow.give_up import Delivery
    from upkept.flow.hub import Hub
    from upkept.store.runs import Run

commands = typer.Typer()
commands.add_typer(resync.commands)


STATES: Final = ("new", "claimed", "done", "skipped", "dead", "given_up")
"""Of a delivery."""

OfConnection = Annotated[str | None, typer.Option("--connection", help="Only of this connection.")]


@commands.command()
def runs(connection: OfConnection = None, as_json: Json = False) -> None:
    """The newest runs and how they stand."""
    from upkept.cli.follow import as_json as run_as_json
    from upkept.store import runs as stored

    with opened_hub() as hub, hub.store.read() as open_store:
        found = stored.listed(open_store, name=connection)
    if as_json:
        print_json({"runs": [run_as_json(run) for run in found]})
        return
    columns = ("run", "kind", "connection", "state", "scanned", "changed", "unchanged", "failed", "started")
    print_table(columns, [_run_row(run) for run in found], empty="no run yet; begin one: upkept resync CONNECTION")
    print_lines(f"run {run.id}: {run.reason}" for run in found if run.reason)


@commands.command()
def status(as_json: Json = False) -> None:
    """How the hub stands: connections, what waits, what is dead, and what waits for you."""
    from upkept.cli import standing

    with opened_hub() as hub:
        report = standing.standing(hub)
    if as_json:
        print_json(report)
        return
    standing.show(report)


@commands.command()
def inbox(
    state: Annotated[str | None, typer.Option(help=f"{', '.join(STATES[:-1])} or {STATES[-1]}.")] = None,
    connection: OfConnection = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 100,
    as_json: Json = False,
) -> None:
    """What arrived and what became of it. Bodies are not shown: they hold personal data."""
    from upkept.cli.follow import moment
    from upkept.store import inbox as stored

    known_state(state, STATES)
    with opened_hub() as hub, hub.store.read() as open_store:
        rows = stored.listed(open_store, state=state, connection_name=connection, limit=limit)
    found = [
        {
            "id": row.id, "connection": row.connection, "kind": row.kind, "state": row.state,
            "received_at": moment(row.received_at), "attempts": row.attempts, "reason": row.reason,
        }
        for row in rows
    ]  # fmt: skip
    if as_json:
        print_json({"rows": found})
        return
    columns = ("id", "connection", "kind", "state", "received_at", "attempts", "reason")
    print_table(columns, [[row[column] for column in columns] for row in found], empty="no such row")


@commands.command()
def replay(
    ids: Annotated[list[int] | None, typer.Argument(help="Ids of inbox rows.", metavar="ID…")] = None,
    state: Annotated[str | None, typer.Option(help="All rows in this state, for example dead.")] = None,
    connection: OfConnection = None,
    as_json: Json = False,
) -> None:
    """Work on rows again, after a fix. Status 4 if there are none, 1 if one is dead again."""
    if bool(ids) == bool(state):
        raise typer.BadParameter("name rows by id, or all of a state with --state dead", param_hint="ID…")
    known_state(state, STATES)
    with opened_hub() as hub:
        counts = _replayed(hub, ids or [], state, connection)
    if not counts:
        complain(Config("there is nothing to replay; see: upkept inbox --state dead"))
        raise typer.Exit(NOTHING)
    if as_json:
        print_json({"replayed": sum(counts.values()), **counts})
    else:
        print(f"replayed {sum(counts.values()):,}: " + ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items())))
        if counts.get("dead"):
            complain(Config("see the reasons: upkept inbox --state dead"))
    raise typer.Exit(int(bool(counts.get("dead"))))


@commands.command("give-up")
def give_up(
    ids: Annotated[list[int], typer.Argument(help="Ids of inbox rows.", metavar="ID…")],
    reason: Annotated[str, typer.Option(help="Why; it stays in the audit log, so no personal data.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Give up deliveries that may hold an opt-out and that nobody will ever read. `upkept replay` takes it back.
    Status 4 if there is no such row, 1 if one can be read; then nothing is given up."""
    from upkept.cli.follow import clock
    from upkept.flow import give_up as giving_up

    if not reason.strip() or "@" in reason:
        raise typer.BadParameter("say why, without anybody's address", param_hint="--reason")
    with opened_hub() as hub:
        try:
            lost = giving_up.preview(hub, ids)
            if not (yes or dry_run):
                print_lines(_losses(lost, done=False), err=True)
                agreed(yes, "Give up?")
            if not dry_run:
                lost = giving_up.give_up(hub, ids, reason=reason.strip(), now=clock(), actor=actor())
        except giving_up.NoSuchDelivery as error:
            complain(error)
            raise typer.Exit(NOTHING) from None
    if as_json:
        print_json({"would_give_up" if dry_run else "given_up": [_loss(one) for one in lost]})
    else:
        print_lines(_losses(lost, done=not dry_run))


def _losses(lost: list[Delivery], *, done: bool) -> Iterator[str]:
    yield f"{'given up' if done else 'to be given up'}, with whatever they say, an opt-out too:"
    for one in lost:
        said = _loss(one)
        yield f"  {said['id']}: {said['kind']} of {said['connection']}, received {said['received_at']}"
    yield f"taken back by: upkept replay {' '.join(str(one.id) for one in lost)}"


def _loss(one: Delivery) -> dict[str, Any]:
    from upkept.cli.follow import moment

    return {"id": one.id, "connection": one.connection, "kind": one.kind, "received_at": moment(one.received_at)}


def _replayed(hub: Hub, ids: list[int], state: str | None, connection: str | None) -> dict[str, int]:
    """Offer the rows again and work on them here; how many ended in which state."""
    from upkept.cli.follow import BATCH, clock, ring
    from upkept.flow import alarm
    from upkept.flow.bells import Bell
    from upkept.store import inbox as stored

    with hub.store.write() as open_store:
        rows = [row for row, _ in stored.replay(open_store, now=clock(), ids=ids, state=state, name=connection)]
    counts: dict[str, int] = {}
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        with hub.store.read() as open_store:
            thin = {row for waiting in stored.thin(open_store, batch).values() for row in waiting}
        ring(hub, [Bell("inbound", "apply", tuple(row for row in batch if row not in thin))])
        ring(hub, [Bell("outbound", "fetch", tuple(sorted(thin)))])
        with hub.store.read() as open_store:
            ended = stored.states(open_store, batch)
        for _, became in ended:
            counts[became] = counts.get(became, 0) + 1
    for name in sorted({connection} if connection else set(hub.connections)):
        with hub.store.read() as open_store:
            left = stored.dead(open_store, connection_name=name, limit=1)
        if not left:
            alarm.settle(hub, f"fetch:{name}", now=clock())
            alarm.settle(hub, alarm.dead_key(name), now=clock())
    return counts


def _run_row(run: Run) -> list[Any]:
    from upkept.cli.follow import moment

    counts = [f"{n:,}" for n in (run.scanned, run.changed, run.unchanged, run.failed)]
    return [run.id, run.kind, run.connection, run.state, *counts, moment(run.started_at)]
