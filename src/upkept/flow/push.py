"""Push: tell a destination what it is owed, opt-outs first (SEMANTICS R6, R8, R12).

What is owed is worked out when a row's turn comes, so the newest state goes out. It is noted before the vendor is
asked, so that an echo which overtakes the vendor's answer is known for one. The vendor is asked outside of any
transaction, and a few couriers at most ask one destination: one that is down or slow delays no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from sqlalchemy import Connection as OpenStore

from upkept.contract import (
    Config,
    Desired,
    Gone,
    Permanent,
    Push,
    Pushed,
    RecordRef,
    Retryable,
    Skipped,
    UpkeptError,
)
from upkept.flow import alarm, told, view
from upkept.flow.answer import Letter, acknowledge, needs_none
from upkept.flow.bells import Bell, bells_for
from upkept.flow.context import PAUSED_AGAIN, STEP, VendorContext, hold, take_slot
from upkept.flow.hub import Hub
from upkept.flow.normalize import ATTEMPTS, LONGEST_WAIT, waiting
from upkept.flow.owed import Known, Owed, known, owed
from upkept.flow.runs import holder, is_gone
from upkept.people.facts import digest
from upkept.registry import Connection
from upkept.store import connections, outbox, people, quotas, readbacks, records
from upkept.store.outbox import Due, Wish

log = structlog.get_logger(__name__)

SECOND: Final = 1_000_000
FEW: Final = 4
"""Rows claimed at once where each is a call of its own: a claimed row is nobody else's."""
EVENTS: Final = 10
"""Events of one person that are told at once; the rest goes with the next push."""
LOOK_FIRST: Final = 60 * SECOND
"""Until a record that a push did not find has been read back."""
LOOKS: Final = 6
LONGEST_FOR_OPT_OUT: Final = 60 * SECOND
"""An opt-out is a legal duty: it is tried every minute however long the vendor is away."""

Now = Callable[[], int]


def push(hub: Hub, ids: Sequence[int], *, now: Now) -> tuple[Bell, ...]:
    """Work off what is due at the destinations of these outbox rows; what to ring next."""
    with hub.store.read() as open_store:
        names = outbox.destinations(open_store, ids)
        paused = connections.paused(open_store)
    rung: list[Bell] = []
    for name in names:
        destination = hub.connections.get(name)
        if destination is None or destination.connector.push is None:
            log.warning("push_without_destination", destination=name, cure="see upkept.toml: is the connection gone?")
        elif name not in paused:
            rung += _in_turn(hub, destination, now)
    return tuple(rung)


def let_go(hub: Hub, *, now: int) -> None:
    """What a killed process of this machine had claimed is due again at once."""
    with hub.store.read() as open_store:
        gone = [who for who in outbox.holders(open_store, now=now) if is_gone(who)]
    if gone:
        with hub.store.write() as open_store:
            outbox.let_go(open_store, gone)


def refused(hub: Hub, *, now: int) -> None:
    """What destinations refused: its alerts end where none is left, and opt-outs are offered again every hour."""
    alarm.refused_pushes(hub, now=now)
    with hub.store.write() as open_store:
        outbox.offer_opt_outs(open_store, now=now)


def _in_turn(hub: Hub, destination: Connection, now: Now) -> Iterator[Bell]:
    """Hold one of the destination's places, as long as there is something to do and time to do it."""
    with hub.store.write() as open_store:
        place = take_slot(open_store, f"push:{destination.name}", limit=destination.connector.pushers, now=now())
    if place is None:
        return  # those who are at it go on until nothing is due
    until = now() + STEP
    going = True
    answered: list[int] = []
    try:
        while going and now() < until:
            going = _some(hub, destination, now, answered)
    finally:
        with suppress(Retryable), hub.store.write() as open_store:
            quotas.give_back(open_store, place)
    yield from bells_for((row, "inbound") for row in answered)
    with hub.store.read() as open_store:
        left = [row for name, row in outbox.due(open_store, now=now()) if name == destination.name]
    if going and left:
        yield Bell("outbound", "push", tuple(left))


def _some(hub: Hub, destination: Connection, now: Now, answered: list[int]) -> bool:
    """Tell the next few; False if nothing is due, or the vendor cannot be asked for now.

    What it answers is `answered`, rows of the inbox.
    """
    connector = destination.connector
    limit = connector.most_at_once if connector.push_many is not None else FEW
    with hub.store.write() as open_store:
        dues = outbox.claim(open_store, destination.name, holder=holder(), now=now(), limit=limit)
    if not dues:
        return False
    letters, more = _written(hub, destination, dues, now(), most=limit)
    errors: dict[int, list[Exception]] = {due.id: [] for due in dues}
    away = False
    missing: list[RecordRef] = []
    for letter, answer, asked in _answers(hub, destination, letters, now):
        ref = letter.owed.state.record
        if isinstance(answer, Gone) and ref is not None and letter.owed.event is None and connector.fetch is not None:
            if letter.due.attempts == 0:  # it may be there: for another account, or a right that was taken away
                missing.append(ref)
            errors[letter.due.id].append(answer)
            continue
        if isinstance(answer, Skipped) and letter.owed.record is not None:
            needs_none(hub, destination, letter, now=now())
            continue
        error = answer if isinstance(answer, Exception) else None
        if not isinstance(answer, Exception):
            try:
                answered += acknowledge(hub, destination, letter, answer, asked=asked, now=now())
            except Exception as kept_from_it:
                error = kept_from_it
        if error is not None:
            away = away or isinstance(error, Retryable | Config)
            errors[letter.due.id].append(error)
    _look_again(hub, dues, letters, now())
    if missing:
        with hub.store.write() as open_store:
            readbacks.wish(open_store, [(destination.name, ref.type, ref.id, "gone", now()) for ref in missing])
    for due in dues:
        error = max(errors[due.id], key=_weight, default=None)
        if error is None and due.id in more:
            _later(hub, due, now(), 0, "more has happened than is told at once")
        else:
            _end(hub, destination, due, error, now())
    return not away


def _written(
    hub: Hub, destination: Connection, dues: Sequence[Due], now: int, *, most: int
) -> tuple[list[Letter], set[int]]:
    """What is owed now, noted as on its way, events last; and the rows of which more than `most` events are owed.

    Nothing is sent of a record that was erased since.
    """
    subjects = [due.subject for due in dues if due.action == "upsert"]
    with hub.store.read() as open_store:
        found = {person.row.id: person for person in _people(open_store, hub, destination, subjects, now)}
    letters: list[Letter] = []
    events: list[Letter] = []
    more: set[int] = set()
    for due in dues:
        if due.action == "delete":
            gone = Desired(person="", record=RecordRef(due.type, due.subject), erased=True)
            letters.append(Letter(due, digest(due.id, due.version), Owed(None, gone)))
        elif due.subject in found:
            happened: list[Letter] = []
            for one in owed(destination, found[due.subject]):
                ref = one.state.record
                if one.event is None:
                    letters.append(Letter(due, digest(due.id, due.version, list(ref or ())), one))
                else:
                    happened.append(Letter(due, digest("event", *one.event.place[:2]), one))
            room = min(EVENTS, most - len(events))
            events += happened[:room]
            if len(happened) > room:
                more.add(due.id)
    gone_since = told.on_its_way(hub, {one.owed.record.id: one.owed for one in letters if one.owed.record})
    kept = [one for one in _turned(letters) + events if one.owed.record is None or one.owed.record.id not in gone_since]
    return kept, more


def _turned(letters: Sequence[Letter]) -> list[Letter]:
    """Opt-outs first; at every further try others of them begin, so that who stops them all delays nobody for ever."""
    turned: list[Letter] = []
    for lane in ("consent", "outbound"):
        of_it = [one for one in letters if one.due.lane == lane]
        places = {one.key: (place - one.due.attempts) % len(of_it) for place, one in enumerate(of_it)}
        turned += sorted(of_it, key=lambda one: places[one.key])
    return turned


def _people(
    open_store: OpenStore, hub: Hub, destination: Connection, ids: Sequence[str], now: int
) -> list[Known]:  # fmt: skip
    rows = people.load(open_store, ids)
    groups: dict[str, list[records.Record]] = {}
    for record in records.of_people(open_store, rows).values():
        groups.setdefault(record.person or "", []).append(record)
    said = view.statements(open_store, hub, list(groups.values()))
    found = ((rows[id_], group, facts) for (id_, group), facts in zip(groups.items(), said, strict=True))
    return known(open_store, hub, found, [destination], now=now)


def _answers(
    hub: Hub, destination: Connection, letters: Sequence[Letter], now: Now
) -> Iterator[tuple[Letter, Pushed | Exception, int]]:
    """Ask the vendor; with each answer a moment before it was asked.

    Who was not answered gets the error that stopped it. A bug about one of many stops no other.
    """
    connector, context = destination.connector, VendorContext(hub, destination, now)
    ask = connector.push
    if ask is None:
        return
    stopped: Exception | None = None
    left = {letter.key: letter for letter in letters}
    asked = now()
    if connector.push_many is not None and len(letters) > 1:
        try:
            states = {key: letter.owed.state for key, letter in left.items()}
            for key, said in connector.push_many(states, destination.config, context):
                yield left.pop(key), said, asked
            stopped = Retryable("the vendor did not answer for all of them")
        except (Retryable, Config) as error:
            stopped = error
        except Exception as error:
            log.warning("push_many_failed", destination=destination.name, exc_info=error)
    until = now() + STEP
    for letter in left.values():
        if stopped is None and now() > until:
            stopped = Retryable("the rest is sent in the next turn", after=1)
        asked = now()
        answer = stopped or _answer(ask, destination, letter, context)
        if isinstance(answer, Retryable | Config):
            stopped = answer
        yield letter, answer, asked


def _answer(ask: Push[Any], destination: Connection, letter: Letter, context: VendorContext) -> Pushed | Exception:
    try:
        return ask(letter.owed.state, destination.config, context, key=letter.key)
    except Exception as error:
        return error


def _look_again(hub: Hub, dues: Sequence[Due], letters: Sequence[Letter], now: int) -> None:
    """Whose row was lost meanwhile, by a merge or because it took too long, may have been told something newer before
    this: whoever has those records now is looked at again."""
    with hub.store.read() as open_store:
        lost = outbox.lost(open_store, dues)
    sent = {one.owed.record.id: one.due.destination for one in letters if one.due.id in lost and one.owed.record}
    if sent:
        with hub.store.write() as open_store:
            holders = records.people_of(open_store, sorted(sent))
            wishes = [Wish(destination=sent[id_], subject=who, lane="consent") for id_, who in holders.items() if who]
            outbox.write(open_store, wishes, now=now)


def _weight(error: Exception) -> int:
    """Of a person's records the one that asks for most decides: the connection stops, what can be tried again is, a
    person must act, nothing."""
    return next((weight for kind, weight in _WEIGHTS if isinstance(error, kind)), 2)


_WEIGHTS: Final = ((Gone, 1), (Skipped, 0), (Permanent, 2), (Retryable, 3), (Config, 4))


def _end(hub: Hub, destination: Connection, due: Due, error: Exception | None, now: int) -> None:
    """The table of errors of a push."""
    name = destination.name
    match error:
        case Gone() if due.action == "upsert" and due.attempts < LOOKS:
            wait = max(waiting(due.attempts), LOOK_FIRST)
            _later(hub, due, now + wait, due.attempts + 1, str(error))
        case None | Skipped() if due.action == "delete" or not isinstance(error, Gone):
            with hub.store.write() as open_store:
                outbox.done(open_store, due)
        case Config():
            alarm.pause(hub, name, str(error), now=now)
            _later(hub, due, now + PAUSED_AGAIN, due.attempts, str(error))
        case Retryable():
            hold(hub, destination, error, now=now)
            wait = waiting(due.attempts, error.after)
            wait = min(wait, LONGEST_FOR_OPT_OUT) if due.lane == "consent" else wait
            _later(hub, due, now + wait, due.attempts + 1, str(error))
        case _ if isinstance(error, Permanent | Gone) or due.attempts + 1 >= ATTEMPTS:
            reason = str(error) if isinstance(error, UpkeptError) else f"{type(error).__name__}; see the log"
            with hub.store.write() as open_store:
                outbox.bury(open_store, due, reason=reason, again_at=now + LONGEST_WAIT)
            cure = f"see upkept outbox --state dead; after a fix: upkept push --state dead --connection {name}"
            alarm.sound(hub, alarm.push_key(name), name, f"a push did not succeed: {reason}", cure, now=now)
        case _:
            log.error("push_failed", destination=name, outbox_id=due.id, exc_info=error)
            _later(hub, due, now + waiting(due.attempts), due.attempts + 1, type(error).__name__)


def _later(hub: Hub, due: Due, at: int, attempts: int, reason: str) -> None:
    with hub.store.write() as open_store:
        outbox.later(open_store, due, at=at, attempts=min(attempts, 1_000), reason=reason)
