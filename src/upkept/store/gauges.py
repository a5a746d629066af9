"""What the database knows about the hub's health, in a few cheap reads for `/readyz` and `/metrics`."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from upkept.store import alerts, bulk, jobs, meta, outbox, pruning, tables

Counts = dict[tuple[str, ...], int]


@dataclass(frozen=True, slots=True)
class Gauges:
    """`inbox` and `outbox` are (connection or destination, state) to rows, `alerts` (connection,) to how many stand.

    `oldest` is when the longest waiting inbox row was received. `deaf_since` tells by worker when a pulse
    was sent that it has not heard, None if it hears. `clock_clamped` counts facts since the installation, `pruned`
    deliveries and events.
    """

    inbox: Counts
    oldest: int | None
    outbox: Counts
    alerts: Counts
    deaf_since: dict[str, int | None]
    clock_clamped: int
    pruned: dict[str, int]


CLAMPED = "clock_clamped"
WORKERS = ("worker", "courier")


def gauges(connection: Connection) -> Gauges:
    """All of it at one moment."""
    inbox = connection.exec_driver_sql(
        "SELECT connection, state, count(*), min(received_at) FROM inbox WHERE queue = 'open' "
        "GROUP BY connection, state"
    ).all()
    dead = connection.exec_driver_sql(
        "SELECT connection, 'dead', count(*) FROM inbox WHERE queue = 'dead' GROUP BY connection"
    ).all()
    standing: Counts = {}
    for alert in alerts.unresolved(connection):
        standing[alert.connection,] = standing.get((alert.connection,), 0) + 1
    return Gauges(
        inbox={(name, state): rows for name, state, rows, *_ in (*inbox, *dead)},
        oldest=min((row[3] for row in inbox), default=None),
        outbox={(name, state): rows for (name, state), rows in outbox.standing(connection).items()},
        alerts=standing,
        deaf_since={name: jobs.unheard_since(connection, name) for name in WORKERS},
        clock_clamped=int(meta.read(connection, CLAMPED) or 0),
        pruned=pruning.counts(connection),
    )


def count_clamped(connection: Connection, facts: int) -> None:
    """So many more facts had a vendor's clock ahead of ours and got the time of their arrival (R3)."""
    bulk.insert(
        connection, tables.meta, ("name", "value"), [(CLAMPED, str(facts))],
        conflict="(name) DO UPDATE SET "
        "value = CAST(CAST(meta.value AS BIGINT) + CAST(excluded.value AS BIGINT) AS TEXT)",
    )  # fmt: skip
