"""What a full walk has shown, so that what it did not show can be read back at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from upkept.store import bulk
from upkept.store.tables import walked

CHUNK = 5_000


@dataclass(frozen=True, slots=True)
class Missing:
    """`records` (type, source id) of the `count` that a walk did not show, out of `known` that stand."""

    records: tuple[tuple[str, str], ...]
    count: int
    known: int


def show(connection: Connection, run_id: int, shown: Mapping[str, str]) -> None:
    """Note the records (id -> type) of a page."""
    rows = [(run_id, record, type_) for record, type_ in sorted(shown.items())]
    bulk.insert(connection, walked, ("run", "record", "type"), rows, conflict="(run, record) DO NOTHING")


def missing(connection: Connection, run_id: int, name: str, *, before: int, limit: int) -> Missing:
    """Records of connection `name` that stood `before` the walk and that it did not show.

    Only types of which it showed at least one count: a walk that lists no such objects says nothing about them.
    """
    mark = "%b" if bulk.on_postgresql(connection) else "?"
    standing = (
        f"FROM records WHERE connection = {mark} AND known AND NOT part AND NOT deleted AND issued_at < {int(before)} "
        f"AND type IN (SELECT type FROM walked WHERE run = {int(run_id)})"
    )
    unseen = f"NOT EXISTS (SELECT 1 FROM walked WHERE run = {int(run_id)} AND record = records.id)"
    known, count = connection.exec_driver_sql(
        f"SELECT count(*), coalesce(sum(CASE WHEN {unseen} THEN 1 ELSE 0 END), 0) {standing}", (name,)
    ).one()
    rows = connection.exec_driver_sql(
        f"SELECT type, source_id {standing} AND {unseen} ORDER BY id LIMIT {int(limit)}", (name,)
    )
    return Missing(tuple((row[0], row[1]) for row in rows), int(count), int(known))


def forget_some(connection: Connection, run_ids: Iterable[int]) -> int:
    """Remove a chunk of the notes of these runs; how many. Call until 0: a writer's turn stays short."""
    return bulk.change_within(
        connection,
        f"DELETE FROM walked WHERE (run, record) IN (SELECT run, record FROM walked WHERE run {{set}} LIMIT {CHUNK})",
        sorted(run_ids),
        kind="bigint",
    )


def stale(connection: Connection) -> list[int]:
    """Runs whose notes nobody needs any more: closed, and not to be reopened."""
    rows = connection.exec_driver_sql(
        "SELECT DISTINCT walked.run FROM walked JOIN runs ON runs.id = walked.run "
        "WHERE runs.state NOT IN ('pulling', 'applying') AND runs.cursor IS NULL"
    )
    return [row[0] for row in rows]
