"""Undo a run: void what it said and leave what came later; or take the undoing back (SEMANTICS D).

An undo lifts no opt-out: the report counts those it left. Facts that were compacted meanwhile (R4) stay, and are
counted too; a run's are kept apart from that for as long as facts are. The way back is to apply the run's deliveries
again. One that may hold an opt-out and cannot be read stays on the queue, for its opt-outs alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from upkept.contract import Consent, UpkeptError
from upkept.flow import replay, walk
from upkept.flow.bells import Bell, bells_for
from upkept.flow.bound import behind
from upkept.flow.carry import carry, kept, rescue, unread_among
from upkept.flow.hub import Hub
from upkept.flow.settle import Effect, settle
from upkept.flow.traces import says
from upkept.flow.walk import REPORT, Turn, Walk
from upkept.people.facts import DAY, record_key
from upkept.people.fold import fold
from upkept.people.head import Head
from upkept.people.identifiers import EMAIL, email_key
from upkept.sources import named_by
from upkept.store import audit, bequest, claims, consent, facts, repeats, runs, traces
from upkept.store.claims import Identifier
from upkept.store.records import Record
from upkept.store.runs import Run

PAGE: Final = 50
"""Records folded again in one transaction."""
ROWS: Final = 1_000
STOPPED: Final = 100
"""Deliveries read for opt-outs, or whose words are taken back, in one transaction."""
SAYS_NOTHING: Final = frozenset({"rebuild", "forget", "undo"})


class NoSuchRun(UpkeptError):
    """There is no such run, or it said nothing that could be undone."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What undoing a run concerns. `unread` are deliveries of it that would be kept: an opt-out may be in them.

    `compacted` facts of it are part of floors and stay; where it is `pruned`, what its deliveries told beside facts may
    stay too.
    """

    run: Run
    facts: int
    records: int
    waiting: int
    opt_outs: int
    unread: tuple[int, ...]
    compacted: int
    pruned: bool


def preview(hub: Hub, run_id: int, *, now: int) -> Extent:
    """What undoing this run would void. Raises `NoSuchRun`."""
    with hub.store.read() as connection:
        run = _undoable(connection, run_id)
        count, touched = facts.of_run(connection, run_id)
        waiting = bequest.waiting_of_run(connection, run_id)
        left = _opt_outs(connection, run_id)

    def page(connection: Connection, after: int) -> list[int]:
        return bequest.open_rows(connection, run_id, after=after, limit=STOPPED)

    unread = unread_among(hub, page)
    days = hub.settings.inbox_days
    pruned = days > 0 and run.started_at < now - days * DAY
    return Extent(run, count, touched, waiting, left, unread, run.compacted, pruned)


def start(hub: Hub, run_id: int, *, now: int, actor: str) -> Run:
    """Begin to undo a run, or join the walk that does; a run that is under way is cancelled. Raises `NoSuchRun`."""
    extent = preview(hub, run_id, now=now)
    if extent.run.open:
        with hub.store.write() as connection:
            runs.cancel(connection, run_id, now=now, reason="being undone")
    walked, _ = walk.start(
        hub, "undo", extent.run.connection, {"run": run_id}, cursor="stop:", total=extent.records, actor=actor, now=now
    )
    return walked


def redo(hub: Hub, run_id: int, *, now: int, actor: str) -> Iterator[tuple[Bell, ...]]:
    """Offer the run's deliveries again, some at a time; what to ring for them. Raises `NoSuchRun`."""
    with hub.store.write() as connection:
        _undoable(connection, run_id)
        audit.note(connection, "redo", [f"run {run_id}"], actor=actor, now=now)
        bequest.count_anew(connection, run_id)
    after = 0
    while True:
        with hub.store.write() as connection:
            ids = bequest.rows_of_run(connection, run_id, after=after, limit=ROWS)
            offered = bequest.offer_rows(connection, ids, now=now)
        if not ids:
            return
        after = ids[-1]
        yield tuple(bells_for(offered))


def _turn(connection: Connection, hub: Hub, run: Run, also: frozenset[str], now: int) -> Turn:
    """Deliveries first, so that nothing is applied behind us; facts last, so that what is left bare is seen."""
    undone = int(run.params["run"])
    phase, _, after = (run.cursor or "stop:").partition(":")
    match phase:
        case "stop":
            return _stop(connection, hub, run, undone, also, now)
        case "rows":
            return _rows(connection, hub, undone, int(after or 0), also, now)
        case "consent":
            return _consent(connection, hub, undone, int(after or 0), also, now)
        case _:
            return _facts(connection, hub, run, undone, also, now)


def _stop(connection: Connection, hub: Hub, run: Run, undone: int, also: frozenset[str], now: int) -> Turn:
    """Take deliveries off the queue; the opt-outs in them are in force nevertheless."""
    ids = bequest.open_rows(connection, undone, after=0, limit=STOPPED, kept=False)
    unread = rescue(connection, hub, traces.told(connection, ids), also, now=now)
    bequest.stop_rows(connection, ids, reason=f"undone by run {run.id}")
    bequest.keep_rows(connection, unread, "undone", now=now)
    return Turn("stop:" if len(ids) == STOPPED else "rows:")


def _rows(connection: Connection, hub: Hub, undone: int, after: int, also: frozenset[str], now: int) -> Turn:
    """Withdraw the events and links of the run's deliveries; from now on nothing can pass on to one of them."""
    rows = bequest.rows_of_run(connection, undone, after=after, limit=STOPPED)
    if not rows:
        return Turn("consent:")
    told = repeats.standing(connection, rows)
    effect = Effect()
    effect.take(connection, {record for kind, record, _ in told if kind != "consent"} | also)
    consent.lock(connection, {id_ for kind, _, id_ in told if kind == "consent"})
    repeats.forget_rows(connection, rows)
    replay.part(connection, effect, rows)
    settle(connection, hub, effect, now=now)
    return Turn(f"rows:{rows[-1]}")


def _consent(connection: Connection, hub: Hub, undone: int, after: int, also: frozenset[str], now: int) -> Turn:
    """Withdraw what the run said to raise consent."""
    said, last = bequest.consents_of_run(connection, undone, after=after, limit=STOPPED)
    if last is None:
        return Turn("facts:")
    raising = [one for one in said if not one.lowering]
    if raising:
        keys = {one.inbox_key for one in raising}
        near, addresses = _named(connection, hub, keys)
        bound = behind(connection, hub, {one.subject for one in raising}, near=near, said=addresses)
        claims.lock(connection, bound.identifiers)
        holders = claims.holders(connection, sorted(bound.identifiers))
        effect = Effect()
        effect.take(connection, bound.records | holders | also)
        ids = {one.id for one in raising}
        mine = {id_ for id_, key in consent.lock(connection, ids).items() if key in keys}
        replay.withdraw(connection, effect, mine, bound)
        settle(connection, hub, effect, now=now)
    return Turn(f"consent:{last}")


def _named(connection: Connection, hub: Hub, keys: set[str]) -> tuple[set[str], set[Identifier]]:
    """The records and addresses that these deliveries name, as they are read today."""
    near: set[str] = set()
    addresses: set[Identifier] = set()
    for row in traces.told(connection, traces.named(connection, keys)):
        for one in says(hub, row) or ():
            near |= {hub.record_id(record_key(row.connection, ref)) for ref in named_by(one)}
            if isinstance(one, Consent) and one.address and (address := email_key(one.address)):
                addresses.add((EMAIL, address))
    return near, addresses


def _facts(connection: Connection, hub: Hub, run: Run, undone: int, also: frozenset[str], now: int) -> Turn:
    ids = facts.records_of_run(connection, undone, limit=PAGE)
    if not ids:
        bequest.mark_run(connection, undone, reason=f"undone by run {run.id}; back again: upkept undo {undone} --redo")
        return Turn(REPORT)
    claims.lock_held(connection, ids)
    effect = Effect()
    effect.take(connection, {*ids, *also})
    heads = {id_: effect.records[id_].head for id_ in ids}
    facts.remove_by_run(connection, undone, ids)
    said = facts.of(connection, ids)
    for id_ in ids:
        record = effect.records[id_]
        effect.fold(hub, record, fold(said.get(id_, []), record.floor, policies=hub.policies))
    _carry(connection, hub, effect, heads, now)
    settle(connection, hub, effect, now=now)
    return Turn("facts:", len(ids), len(ids))


def _carry(connection: Connection, hub: Hub, effect: Effect, heads: dict[str, Head | None], now: int) -> None:
    """Who was one person with a record that lets go of an address stays bound by what bound it."""
    people = {effect.records[id_].person for id_ in effect.lost} - {None}
    for person in sorted(map(str, people)):
        mine = [record for record in effect.records.values() if record.person == person and not record.part]
        leaving = [_as_it_stood(record, heads.get(record.id)) for record in mine if record.id in effect.lost]
        carry(connection, hub, leaving, [record for record in mine if record.id not in effect.lost], now=now)


def _as_it_stood(record: Record, head: Head | None) -> Record:
    before = copy(record)
    before.head = head
    return before


def _undoable(connection: Connection, run_id: int) -> Run:
    run = runs.get(connection, run_id)
    if run is None:
        raise NoSuchRun(f"there is no run {run_id}; see: upkept runs")
    if run.kind in SAYS_NOTHING:
        raise NoSuchRun(f"run {run_id} is of kind {run.kind}: it said nothing that could be undone")
    return run


def _opt_outs(connection: Connection, undone: int) -> int:
    found: set[tuple[str, ...]] = set()
    after: int | None = 0
    while after is not None:
        said, after = bequest.consents_of_run(connection, undone, after=after, limit=ROWS)
        found |= {one.statement for one in said if one.lowering}
    return len(found)


def compacted(run: Run) -> str:
    """How many facts of a run no undo voids any more, and the cure."""
    return (
        f"up to {run.compacted:,} facts that it brought are compacted, no undo voids them; what {run.connection} says "
        f"anew wins over them (where its vendor is read: upkept resync {run.connection} --full), and upkept forget "
        f"{run.connection} removes all that it ever said"
    )


def _report(connection: Connection, run: Run) -> str | None:
    undone = int(run.params["run"])
    was = runs.get(connection, undone)
    left = _opt_outs(connection, undone)
    unread = bequest.kept_rows(connection, "undone", run=undone)
    said = [f"{left} opt-outs that it told of still stand: no undo lifts one"] if left else []
    said += [kept(unread)] if unread else []
    said += [compacted(was)] if was is not None and was.compacted else []
    return "; ".join(said) or None


WALK: Final = Walk(_turn, _report)
