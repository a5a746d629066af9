"""The commands about what goes out: outbox, push."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final

import typer

from upkept.cli import complain
from upkept.cli.acting import NOTHING, Json, known_state
from upkept.cli.context import opened_hub
from upkept.cli.output import print_json, print_table
from upkept.contract import Config

commands = typer.Typer()

STATES: Final = ("new", "dead")
"""Of what is owed."""

OfConnection = Annotated[str | None, typer.Option("--connection", help="Only what this connection is owed.")]


@commands.command("outbox")
def outbox_(
    state: Annotated[str | None, typer.Option(help=f"{STATES[0]} or {STATES[1]}.")] = None,
    connection: OfConnection = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, oldest first.")] = 100,
    as_json: Json = False,
) -> None:
    """Whom other systems are still to be told about. What was told is not listed."""
    from upkept.cli.follow import moment
    from upkept.store import outbox

    known_state(state, STATES)
    with opened_hub() as hub, hub.store.read() as open_store:
        rows = outbox.listed(open_store, state=state, destination=connection, limit=limit)
    found = [
        {
            "id": row.id, "connection": row.destination, "person": None if row.action == "delete" else row.subject,
            "action": row.action, "state": row.state, "opt_out": row.lane == "consent", "attempts": row.attempts,
            "next_attempt_at": moment(row.next_attempt_at), "reason": row.reason,
        }
        for row in rows
    ]  # fmt: skip
    if as_json:
        print_json({"rows": found})
        return
    columns = ("id", "connection", "person", "action", "state", "opt_out", "attempts", "next_attempt_at", "reason")
    print_table(columns, [[row[name] for name in columns] for row in found], empty="nothing is owed to anybody")


@commands.command()
def push(
    ids: Annotated[list[int] | None, typer.Argument(help="Ids of dead outbox rows.", metavar="ID…")] = None,
    state: Annotated[str | None, typer.Option(help="All rows in this state: dead.")] = None,
    connection: OfConnection = None,
    as_json: Json = False,
) -> None:
    """Tell other systems again what they refused, after a fix. Status 4 if there is nothing, 1 if one refused again."""
    from upkept.cli.follow import clock
    from upkept.flow import alarm
    from upkept.flow import push as pushing
    from upkept.store import outbox

    if bool(ids) == bool(state):
        raise typer.BadParameter("name rows by id, or all that are dead with --state dead", param_hint="ID…")
    if state not in (None, "dead"):
        raise typer.BadParameter("only what is dead waits for you; the rest goes out by itself", param_hint="--state")
    with opened_hub() as hub:
        with hub.store.write() as open_store:
            offered = outbox.offer(open_store, now=clock(), ids=ids or [], destination=connection)
        if not offered:
            alarm.refused_pushes(hub, now=clock())
            complain(Config("there is nothing to push; see: upkept outbox --state dead"))
            raise typer.Exit(NOTHING)
        waiting = list(pushing.push(hub, offered, now=clock))
        while waiting:
            waiting += pushing.push(hub, waiting.pop().ids, now=clock)
        with hub.store.read() as open_store:
            left = Counter(outbox.states(open_store, offered))
        alarm.refused_pushes(hub, now=clock())
    counts = {"pushed": len(offered) - left.total(), "waiting": left["new"], "dead": left["dead"]}
    if as_json:
        print_json(counts)
    else:
        print(", ".join(f"{n:,} {name}" for name, n in counts.items()))
        if left["dead"]:
            complain(Config("see the reasons: upkept outbox --state dead"))
    raise typer.Exit(int(left["dead"] > 0))
