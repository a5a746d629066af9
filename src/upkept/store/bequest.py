"""What a connection or a run leaves when it goes: its deliveries, its consent statements, its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from upkept.contract import LOWERING_ACTS
from upkept.store import bulk
from upkept.store.bulk import AnyRow
from upkept.store.consent import LOWERING
from upkept.store.inbox import GIVEN_UP, Lowering
from upkept.store.row_key import row_key
from upkept.store.tables import alerts, connections, consent, inbox, readbacks, runs, tokens


@dataclass(frozen=True, slots=True)
class Estate:
    """How much stands of a connection. `unread` are deliveries that would be kept: an opt-out may be in them."""

    records: int
    parts: int
    deliveries: int
    opt_outs: int
    known: bool
    unread: tuple[int, ...] = ()

    @property
    def anything(self) -> bool:
        return bool(self.records or self.parts or self.deliveries or self.opt_outs or self.known)


def estate(connection: Connection, name: str) -> Estate:
    """How much there is of a connection."""
    return Estate(
        records=_count(connection, "records WHERE NOT part AND connection = ", name),
        parts=_count(connection, "records WHERE part AND connection = ", name),
        deliveries=_count(connection, "inbox WHERE connection = ", name),
        opt_outs=opt_outs(connection, name),
        known=bool(_count(connection, "connections WHERE name = ", name)),
    )


def opt_outs(connection: Connection, name: str) -> int:
    """How many opt-outs of a connection stand, each counted once whatever it binds."""
    query = (
        "SELECT count(*) FROM (SELECT DISTINCT channel, topic, act, at, inbox_key FROM consent "
        f"WHERE act IN ({LOWERING}) AND inbox_key <> '' AND connection = {_mark(connection)}) AS said"
    )
    return int(connection.exec_driver_sql(query, (name,)).scalar_one())


def raising(connection: Connection, name: str, *, after: str, limit: int) -> tuple[list[str], str | None]:
    """Statements of a connection that are no opt-outs, among the `limit` behind `after`; and the last of these."""
    rows = connection.execute(
        consent.select()
        .with_only_columns(consent.c.id, consent.c.connection, consent.c.act)
        .where(consent.c.id > after)
        .order_by(consent.c.id)
        .limit(limit)
    ).all()
    found = [row.id for row in rows if row.connection == name and row.act not in LOWERING_ACTS]
    return found, rows[-1].id if rows else None


def forget_raising(connection: Connection, name: str, subjects: Iterable[str]) -> None:
    """Remove what a connection said to raise consent of these subjects."""
    statement = f"DELETE FROM consent WHERE connection = ? AND act NOT IN ({LOWERING}) AND subject {{set}}"
    bulk.change_within(connection, statement, sorted(subjects), extra=(name,))


def unapplied_rows(connection: Connection, name: str, *, after: int, limit: int, kept: bool = True) -> list[int]:
    """Ids of a connection's deliveries behind `after` that are not applied, in order; dead ones and given up ones too.

    `kept=False` passes over those that are kept for their opt-outs alone.
    """
    query = select(inbox.c.id).where(
        inbox.c.connection == name, inbox.c.id > after, inbox.c.state.in_(["new", "claimed", "dead", GIVEN_UP])
    )  # fmt: skip
    query = query if kept else query.where(or_(inbox.c.lowering != "forgotten", inbox.c.state == GIVEN_UP))
    return list(connection.scalars(query.order_by(inbox.c.id).limit(limit)))


def keep_rows(connection: Connection, ids: Sequence[int], lowering: Lowering, *, now: int) -> None:
    """Of these deliveries nothing but opt-outs counts from now on. They are tried at once, whoever has them now."""
    bulk.change_within(
        connection,
        "UPDATE inbox SET lowering = ?, state = 'new', next_attempt_at = ?, lease_until = NULL, "
        "lease_epoch = lease_epoch + 1 WHERE id {set}",
        sorted(ids), kind="bigint", extra=(lowering, now),
    )  # fmt: skip


def kept_rows(connection: Connection, lowering: Lowering, *, name: str | None = None, run: int | None = None
              ) -> list[int]:  # fmt: skip
    """Ids of the deliveries that were kept so, of a connection or a run."""
    query = select(inbox.c.id).where(inbox.c.lowering == lowering, inbox.c.queue == "open")
    query = query.where(inbox.c.connection == name) if name is not None else query.where(inbox.c.run == run)
    return list(connection.scalars(query.order_by(inbox.c.id)))


def applied_rows(connection: Connection, name: str, *, limit: int) -> list[int]:
    """Ids of some deliveries of a connection whose work is over."""
    query = select(inbox.c.id).where(inbox.c.connection == name, inbox.c.state.in_(["done", "skipped"]))
    return list(connection.scalars(query.limit(limit)))


def forget_rest(connection: Connection, name: str) -> None:
    """Remove where its pull stood, its tokens, wishes and alerts; no floor has anything of it any more. Deletes owed to
    the vendor stay."""
    for table, column in ((connections, "name"), (tokens, "connection"), (readbacks, "connection")):
        connection.execute(table.delete().where(table.c[column] == name))
    connection.execute(alerts.delete().where(alerts.c.connection == name))
    connection.execute(runs.update().where(runs.c.connection == name).values(compacted=0))
    connection.exec_driver_sql(
        f"DELETE FROM outbox WHERE action = 'upsert' AND destination = {_mark(connection)}", (name,)
    )


def rows_of_run(connection: Connection, run: int, *, after: int, limit: int) -> list[int]:
    """Ids of a run's rows behind `after`, in order."""
    rows = connection.exec_driver_sql(
        f"SELECT id FROM inbox WHERE run = {int(run)} AND id > {int(after)} ORDER BY id LIMIT {int(limit)}"
    )
    return [row[0] for row in rows]


def open_rows(connection: Connection, run: int, *, after: int, limit: int, kept: bool = True) -> list[int]:
    """Ids of a run's rows behind `after` that are on the queue, in order.

    `kept=False` passes over those that are kept for their opt-outs alone.
    """
    query = select(inbox.c.id).where(inbox.c.run == run, inbox.c.id > after, inbox.c.queue == "open")
    query = query if kept else query.where(inbox.c.lowering.in_(["no", "may"]))
    return list(connection.scalars(query.order_by(inbox.c.id).limit(limit)))


def stop_rows(connection: Connection, ids: Sequence[int], *, reason: str) -> None:
    """Take rows off the queue, those too that a worker has at this moment: its fence breaks."""
    statement = (
        "UPDATE inbox SET state = 'skipped', reason = ?, lease_epoch = lease_epoch + 1 "
        "WHERE state IN ('new', 'claimed') AND id {set}"
    )
    bulk.change_within(connection, statement, sorted(ids), kind="bigint", extra=(reason,))


def offer_rows(connection: Connection, ids: Sequence[int], *, now: int) -> list[tuple[int, str]]:
    """Offer these rows again, wholly, unless an erasure blanked them or a person gave them up; (id, lane) of each."""
    return sorted(
        (row[0], row[1])
        for row in bulk.within(
            connection,
            "UPDATE inbox SET state = 'new', attempts = 0, next_attempt_at = ?, reason = NULL, lease_until = NULL, "
            "lowering = CASE lowering WHEN 'undone' THEN 'may' ELSE lowering END "
            "WHERE length(body) > 0 AND state NOT IN ('claimed', 'given_up') AND id {set} RETURNING id, lane",
            ids, kind="bigint", extra=(now,),
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Said:
    """A consent statement and the delivery that brought it. Those of one `statement` bind several subjects.

    `subject` is the kind and the keyed hash of the one that this binds.
    """

    id: str
    inbox_key: str
    lowering: bool
    subject: tuple[str, str]
    statement: tuple[str, ...]


def consents_of_run(connection: Connection, run: int, *, after: int, limit: int) -> tuple[list[Said], int | None]:
    """Statements that a run's rows brought, of the `limit` rows behind `after`; and the last of these rows."""
    query = select(inbox.c.id, inbox.c.connection, inbox.c.dedup_key).where(inbox.c.run == run, inbox.c.id > after)
    rows = connection.execute(query.order_by(inbox.c.id).limit(limit)).all()
    statement = (
        "SELECT id, act, inbox_key, subject_kind, subject, channel, topic, at FROM consent WHERE inbox_key {set}"
    )
    found = [
        Said(r.id, r.inbox_key, r.act in LOWERING_ACTS, (r.subject_kind, r.subject), _statement(r))
        for r in bulk.within(connection, statement, sorted(row_key(row.connection, row.dedup_key) for row in rows))
    ]
    return found, rows[-1].id if rows else None


def _statement(row: AnyRow) -> tuple[str, ...]:
    return row.inbox_key, row.channel, row.topic, row.act, str(row.at)


def waiting_of_run(connection: Connection, run: int) -> int:
    """How many of a run's rows are not applied yet."""
    query = f"SELECT count(*) FROM inbox WHERE run = {int(run)} AND queue = 'open'"
    return int(connection.exec_driver_sql(query).scalar_one())


def mark_run(connection: Connection, run: int, *, reason: str | None) -> None:
    """Say what became of a run afterwards."""
    connection.execute(runs.update().where(runs.c.id == run).values(reason=reason))


def count_anew(connection: Connection, run: int) -> None:
    """A run whose rows are offered again is counted from nothing."""
    connection.execute(runs.update().where(runs.c.id == run).values(changed=0, unchanged=0, failed=0, reason=None))


def _count(connection: Connection, where: str, name: str) -> int:
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM {where}{_mark(connection)}", (name,)).scalar_one())


def _mark(connection: Connection) -> str:
    return "%b" if bulk.on_postgresql(connection) else "?"
