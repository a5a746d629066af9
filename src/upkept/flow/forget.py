"""Forget a connection: remove all that it ever said, opt-outs excepted (SEMANTICS D).

Its records go with their parts, facts, events, claims and links; what it said to raise consent; what its deliveries
hold; where its pull stood. It works for a connection that is configured no more. One that is configured begins anew.
Who lives on through other records is still found by the ids of those that went (R15). A delivery that may hold an
opt-out and cannot be read is kept until it can be; then it goes too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from upkept.flow import walk
from upkept.flow.bound import behind
from upkept.flow.bury import near_to
from upkept.flow.carry import carry, kept, rescue, unread_among
from upkept.flow.find import Unknown, heirs
from upkept.flow.hub import Hub
from upkept.flow.settle import Effect, settle
from upkept.flow.walk import REPORT, Turn, Walk
from upkept.people.consent import record_subject
from upkept.people.identifiers import EMAIL, PHONE
from upkept.store import bequest, claims, consent, erasure, inbox, records, runs, tombstones, traces
from upkept.store.bequest import Estate
from upkept.store.records import Record
from upkept.store.runs import Run
from upkept.store.traces import Body

PAGE: Final = 50
"""Records removed in one transaction."""
ROWS: Final = 1_000
"""Deliveries removed, or statements looked at, in one transaction."""
UNAPPLIED: Final = 100
"""Deliveries read for opt-outs in one transaction."""
BEGIN: Final = "waiting:"


def preview(hub: Hub, name: str) -> Estate:
    """How much there is to forget, and what would be kept. Raises `Unknown` if there is nothing of that name."""
    estate = _estate(hub, name)

    def page(connection: Connection, after: int) -> list[int]:
        return bequest.unapplied_rows(connection, name, after=after, limit=UNAPPLIED)

    return replace(estate, unread=unread_among(hub, page))


def _estate(hub: Hub, name: str) -> Estate:
    with hub.store.read() as connection:
        estate = bequest.estate(connection, name)
    if not estate.anything:
        raise Unknown(f"there is nothing here of a connection {name!r}")
    return estate


def start(hub: Hub, name: str, *, now: int, actor: str) -> Run:
    """Begin to forget a connection, or join the walk that does; its open resync is cancelled. Raises `Unknown`."""
    estate = _estate(hub, name)
    with hub.store.write() as connection:
        under_way = runs.open_resync(connection, name)
        if under_way is not None:
            runs.cancel(connection, under_way.id, now=now, reason=f"{name} is being forgotten")
    run, _ = walk.start(
        hub, "forget", name, {}, cursor=BEGIN, total=estate.records + estate.parts, actor=actor, now=now
    )
    return run


def _turn(connection: Connection, hub: Hub, run: Run, also: frozenset[str], now: int) -> Turn:
    phase, _, after = (run.cursor or BEGIN).partition(":")
    match phase:
        case "waiting":
            return _waiting(connection, hub, run.connection, int(after or 0), also, now)
        case "records":
            return _records(connection, hub, run.connection, after, also, now)
        case "consent":
            return _consent(connection, hub, run.connection, after, also, now)
        case _:
            return _inbox(connection, hub, run.connection, also, now)


def _waiting(connection: Connection, hub: Hub, name: str, after: int, also: frozenset[str], now: int) -> Turn:
    """Opt-outs of deliveries that nobody has applied are in force before anything goes."""
    ids = bequest.unapplied_rows(connection, name, after=after, limit=UNAPPLIED)
    if not ids:
        return Turn("records:")
    read = _rescue(connection, hub, ids, also, now)
    inbox.remove(connection, [row.id for row in read if row.lowering == "forgotten"])
    return Turn(f"waiting:{ids[-1]}")


def _inbox(connection: Connection, hub: Hub, name: str, also: frozenset[str], now: int) -> Turn:
    """The deliveries go; one that came behind the first look is looked at before."""
    late = bequest.unapplied_rows(connection, name, after=0, limit=UNAPPLIED, kept=False)
    if late:
        inbox.remove(connection, [row.id for row in _rescue(connection, hub, late, also, now)])
        return Turn("inbox:")
    ids = bequest.applied_rows(connection, name, limit=ROWS)
    inbox.remove(connection, ids)
    if len(ids) == ROWS:
        return Turn("inbox:")
    bequest.forget_rest(connection, name)
    return Turn(REPORT)


def _rescue(connection: Connection, hub: Hub, ids: list[int], also: frozenset[str], now: int) -> list[Body]:
    """Put in force what these deliveries lower; those that may lower and cannot be read are kept. The others."""
    rows = traces.told(connection, ids)
    unread = rescue(connection, hub, rows, also, now=now)
    bequest.keep_rows(connection, unread, "forgotten", now=now)
    return [row for row in rows if row.id not in set(unread)]


def _records(connection: Connection, hub: Hub, name: str, after: str, also: frozenset[str], now: int) -> Turn:
    ids = records.of_connection(connection, name, after=after, limit=PAGE)
    if not ids:
        return Turn("consent:")
    everything = set(ids) | records.parts_of(connection, ids).keys()
    claims.lock_held(connection, everything)
    near = near_to(connection, hub, everything) - everything
    effect = Effect()
    effect.take(connection, everything | near | also)
    leaving = {id_: effect.records[id_] for id_ in everything if id_ in effect.records}
    left = [record for id_, record in effect.records.items() if id_ not in everything and not record.part]
    _bequeath(connection, hub, name, leaving, left, now)
    erasure.remove_records(connection, everything, heirs=heirs(leaving.values(), left))
    effect.drop(everything)
    effect.leave(near)
    settle(connection, hub, effect, now=now)
    return Turn(f"records:{ids[-1]}", len(leaving), len(leaving))


def _bequeath(
    connection: Connection, hub: Hub, name: str, leaving: dict[str, Record], left: list[Record], now: int
) -> None:
    """Opt-outs go on binding whom they bound; whatever raised consent goes."""
    people = {record.person for record in leaving.values()} - {None}
    for person in sorted(map(str, people)):
        mine = [record for record in leaving.values() if record.person == person]
        carry(connection, hub, mine, [record for record in left if record.person == person], now=now)
    bequest.forget_raising(connection, name, _ever(connection, hub, leaving))


def _ever(connection: Connection, hub: Hub, leaving: dict[str, Record]) -> set[str]:
    """The subjects of these records: they themselves, and every address they ever held."""
    subjects = {hub.subject("record", record_subject(record.key)) for record in leaving.values()}
    for held in claims.of(connection, sorted(leaving)).values():
        subjects |= {hub.subject("address", i.value) for i in held if i.kind in (EMAIL, PHONE)}
    return subjects


def _consent(connection: Connection, hub: Hub, name: str, after: str, also: frozenset[str], now: int) -> Turn:
    """What it said to raise consent of addresses alone, or of records that came meanwhile; whom it bound is derived
    again."""
    said, last = bequest.raising(connection, name, after=after, limit=ROWS)
    if last is None:
        return Turn("inbox:")
    if raising := consent.raising(connection, said):
        # An address of which only its hash is known cannot be locked: nobody may come to hold one meanwhile.
        tombstones.alone(connection)
        bound = behind(connection, hub, {(kind, subject) for kind, subject, _ in raising.values()}, near=(), said=())
        holders = bound.records | claims.holders(connection, sorted(bound.identifiers))
        effect = Effect()
        effect.take(connection, holders | also)
        consent.remove(connection, said)
        effect.dirty |= holders & effect.records.keys()
        settle(connection, hub, effect, now=now)
    return Turn(f"consent:{last}")


def _report(connection: Connection, run: Run) -> str | None:
    left = bequest.opt_outs(connection, run.connection)
    unread = bequest.kept_rows(connection, "forgotten", name=run.connection)
    said = [f"{left} opt-outs that {run.connection} told of still stand"] if left else []
    said += [kept(unread)] if unread else []
    return "; ".join(said) or None


WALK: Final = Walk(_turn, _report)
