"""Opt-outs on their way in: in force with the commit that stores their delivery, by whatever door (SEMANTICS B).

A connector declares the kinds that can carry one. Of those the opt-outs are read here, before the commit; no person is
looked at. What cannot be read is stored all the same and tried for ever.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

import structlog

from upkept.contract import LOWERING_ACTS, Consent, Permanent, RawEvent, Skipped, Statement
from upkept.flow.hub import Hub
from upkept.people.consent import ConsentFact, admit_consent
from upkept.people.facts import from_us
from upkept.registry import Connection
from upkept.store.inbox import Lowering

log = structlog.get_logger(__name__)

OptOut: TypeAlias = tuple[ConsentFact, str]
"""A statement, and the key of the inbox row that brings it."""


def lowering(connection: Connection, kind: str) -> Lowering:
    """What a new row of this kind is marked as."""
    return "may" if kind in connection.connector.lowering else "no"


def read(hub: Hub, connection: Connection, event: RawEvent, marked: Lowering, *, received_at: int) -> list[ConsentFact]:
    """The opt-outs of an event that is about to be stored; none of one marked `no`, or of a thin one."""
    if event.thin or marked == "no":
        return []
    try:
        said = statements(connection, event, received_at=received_at)
    except Skipped:
        return []
    except Exception as error:
        unreadable(connection, event, error)
        return []
    return among(hub, connection.name, said, received_at=received_at)


def statements(connection: Connection, event: RawEvent, *, received_at: int) -> list[Statement]:
    """What an event says that is about to be stored. Raises whatever the connector raises."""
    received = replace(event, received_at=from_us(received_at))
    return list(connection.connector.normalize(received, connection.fields))


def in_force(said: Iterable[OptOut], new: Container[str], arrived: Container[int]) -> Iterator[OptOut]:
    """Those that count with rows that are stored now; `new` are the keys of the new ones, `arrived` their times.

    One that has only the time of its arrival is told once, however often it arrives: a later copy would beat an opt-in
    made since.
    """
    return ((fact, key) for fact, key in said if key in new or fact.at not in arrived)


def among(hub: Hub, name: str, said: Iterable[Statement], *, received_at: int) -> list[ConsentFact]:
    """The opt-outs among statements of a connection, on every subject they bind."""
    return [
        fact
        for one in said
        if isinstance(one, Consent) and one.act in LOWERING_ACTS
        for fact in admit_consent(name, one, received_at=received_at, subject=hub.subject)
    ]


def unreadable(connection: Connection, event: RawEvent, error: Exception) -> None:
    """Tell of a delivery that may hold an opt-out and cannot be read."""
    log.error(
        "opt_out_unreadable", connection=connection.name, event_id=event.id, kind=event.kind,
        error=type(error).__name__, detail=str(error) if isinstance(error, Permanent) else None,
        cure="the delivery is stored and retried for ever; fix the connector's normalize",
    )  # fmt: skip
