"""Receive: verify, split and store, before anything is answered (2xx means committed).

An opt-out is in force at 2xx: of the kinds a connector declares as `lowering`, the opt-outs go into the
insert-only consent table in the same commit, before any person is looked at (SEMANTICS B).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from upkept.contract import RawEvent, Rejected, Request, Retryable, Skipped
from upkept.failpoints import reach
from upkept.flow import opt_outs
from upkept.flow.bells import Bell
from upkept.flow.hub import Hub
from upkept.flow.opt_outs import OptOut
from upkept.people.facts import from_us
from upkept.registry import Connection
from upkept.store import consent, inbox
from upkept.store.inbox import Arrival
from upkept.store.row_key import row_key


@dataclass(frozen=True, slots=True)
class Received:
    """One request, verified and split: the rows to store and the opt-outs that must be in force with them."""

    arrivals: tuple[Arrival, ...]
    consents: tuple[OptOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of one request. `error` set: nothing of it is stored, it must not be answered 2xx."""

    error: Exception | None = None
    bells: tuple[Bell, ...] = field(default=())


def receive(hub: Hub, name: str, request: Request, *, now: int) -> Received:
    """Verify and split one webhook request; no I/O.

    Raises `Rejected`: 404 for a connection that is not configured or receives nothing, 401 for what is not
    authentic, 400 for what cannot be read.
    """
    connection = hub.connections.get(name)
    if connection is None or connection.connector.verify is None or connection.connector.split is None:
        raise Rejected(f"no connection {name!r} receives webhooks here; see [connections] in upkept.toml", status=404)
    at = from_us(now)
    request = replace(request, received_at=at)
    try:
        connection.connector.verify(request, connection.config, now=at)
        events = tuple(connection.connector.split(request, connection.config))
    except Skipped as reason:
        key = inbox.AT_THE_DOOR + hashlib.sha256(request.body).hexdigest()
        return Received((Arrival(connection=name, dedup_key=key, kind=reason.kind or "skipped", body=request.body,
                                 received_at=now, settled=str(reason)),))  # fmt: skip
    arrivals = tuple(_arrival(connection, event, now) for event in events)
    said = tuple(
        (fact, row_key(name, event.id))
        for event, arrival in zip(events, arrivals, strict=True)
        for fact in opt_outs.read(hub, connection, event, arrival.lowering, received_at=now)
    )
    return Received(arrivals, said)


def keep(hub: Hub, batch: Sequence[Received], *, now: int) -> list[Kept]:
    """Store a batch in one commit; if that fails, its requests one by one, so one bad row spoils no other."""
    try:
        return _commit(hub, batch, now)
    except Exception as error:
        if len(batch) == 1 or isinstance(error, Retryable):
            return [Kept(error=error) for _ in batch]
        return [kept for received in batch for kept in keep(hub, [received], now=now)]


def _commit(hub: Hub, batch: Sequence[Received], now: int) -> list[Kept]:
    arrivals = [arrival for received in batch for arrival in received.arrivals]
    if any(received.consents for received in batch):
        with hub.store.write() as connection:
            reach("receive.before_commit")
            new = inbox.store(connection, arrivals)
            consent.insert(connection, list(_in_force(batch, new)), now=now)
            reach("receive.opt_out_inserted")
    else:
        with hub.store.write_at_once() as at_once:
            reach("receive.before_commit")
            new = inbox.store(at_once, arrivals)
    reach("receive.after_commit")
    return [Kept(bells=tuple(_bells(received, new))) for received in batch]


def _in_force(batch: Sequence[Received], new: Mapping[tuple[str, str], int]) -> Iterator[OptOut]:
    """The opt-outs of a batch that count; of a delivery that stands in it twice, once."""
    first = {row_key(*key) for key in new}
    for received in batch:
        yield from opt_outs.in_force(received.consents, first, {arrival.received_at for arrival in received.arrivals})
        first -= {key for _, key in received.consents}


def _bells(received: Received, new: dict[tuple[str, str], int]) -> Iterator[Bell]:
    """A bell for each new row; the publisher rings many as one."""
    for arrival in received.arrivals:
        row = new.pop((arrival.connection, arrival.dedup_key), None)
        if row is not None:
            yield Bell("outbound", "fetch", (row,)) if arrival.thin else Bell(arrival.lane, "apply", (row,))


def _arrival(connection: Connection, event: RawEvent, now: int) -> Arrival:
    lowering = opt_outs.lowering(connection, event.kind)
    return Arrival(
        connection=connection.name, dedup_key=event.id, kind=event.kind, body=event.body, received_at=now,
        lane="inbound" if lowering == "no" else "consent", lowering=lowering, thin=event.thin,
    )  # fmt: skip
