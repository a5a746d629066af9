"""What the store holds, table by table, so that it can be told whether anything was written.

The sum covers every column of every row and, on PostgreSQL, which transaction wrote the row: one that was written
anew with the same values is seen as well.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from bench.databases import Database

from upkept.store.tables import metadata

BOOKKEEPING: Final = frozenset({"connections", "jobs", "meta", "pulses", "quotas", "runs", "slots", "tokens"})
"""What a walk itself is written down in: its run, where the next one begins, its calls' turns, the schedule."""

SETTLED: Final = 12.0
"""Seconds after which PostgreSQL has counted what an idle connection wrote before."""


@dataclass(frozen=True, slots=True)
class Table:
    """How many rows, and the sum of their hashes."""

    rows: int
    sum: int


class Counts(NamedTuple):
    """Rows that were inserted, updated and deleted."""

    made: int = 0
    changed: int = 0
    gone: int = 0

    def since(self, before: Counts) -> Counts:
        return Counts(*(now - was for now, was in zip(self, before, strict=True)))


def contents(database: Database) -> dict[str, Table]:
    """Every table but the bookkeeping."""
    summed = _on_postgresql if database.kind == "postgresql" else _on_sqlite
    return {name: summed(database, name) for name in sorted(metadata.tables) if name not in BOOKKEEPING}


def differences(before: Mapping[str, Table], after: Mapping[str, Table]) -> list[str]:
    """Tables that were written to, a line each."""
    return [
        f"{name}: {was.rows:,} rows became {after[name].rows:,}"
        if was.rows != after[name].rows
        else f"{name}: some of {was.rows:,} rows were written"
        for name, was in before.items()
        if was != after[name]
    ]


def written(database: Database) -> dict[str, Counts]:
    """What was written to each table since ever, rows that are gone again included, as PostgreSQL counts it."""
    if database.kind != "postgresql":
        return {}
    time.sleep(SETTLED)
    found = database.rows("SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables ORDER BY relname")
    return {str(name): Counts(int(made), int(changed), int(gone)) for name, made, changed, gone in found}


def _on_postgresql(database: Database, name: str) -> Table:
    hashed = "('x' || substr(md5(t::text || t.xmin::text), 1, 15))::bit(60)::bigint"
    ((rows, total),) = database.rows(f'SELECT count(*), coalesce(sum({hashed}), 0) FROM "{name}" t')  # noqa: S608
    return Table(int(rows), int(total))


def _on_sqlite(database: Database, name: str) -> Table:
    found = database.rows(f'SELECT * FROM "{name}"')  # noqa: S608
    hashes = (hashlib.blake2b(repr(row).encode(), digest_size=8).digest() for row in found)
    return Table(len(found), sum(int.from_bytes(one) for one in hashes))
