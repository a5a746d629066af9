"""Ten wrong designs, each planted into the running product; `make prove` must catch every one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from upkept.flow import effect, plan, receive, sweep
from upkept.people.consent import admit_consent
from upkept.people.facts import Admitted, admin_link, admit
from upkept.people.fold import fold
from upkept.store import bulk, tables
from upkept.store.inbox import Outcome

_arrived = itertools.count(1)


@contextmanager
def arrival_order() -> Iterator[None]:
    """The last to arrive wins, whatever its time."""

    def stamped(*args: Any, **options: Any) -> Admitted:
        admitted = admit(*args, **options)
        return replace(admitted, fact=replace(admitted.fact, at=next(_arrived)))

    with patch.object(plan, "admit", stamped):
        yield


@contextmanager
def no_tie_break() -> Iterator[None]:
    """`>=` on times alone: of equal ones the last to arrive wins."""

    def stamped(*args: Any, **options: Any) -> Admitted:
        admitted = admit(*args, **options)
        return replace(admitted, fact=replace(admitted.fact, kind=0, sequence=0, fact_id=f"{next(_arrived):032d}"))

    with patch.object(plan, "admit", stamped):
        yield


@contextmanager
def late_facts_dropped() -> Iterator[None]:
    """A fact older than the head is not folded in."""

    def kept_or_folded(facts: Any, floor: Any, *, kept: Any, policies: Any) -> Any:
        return kept or fold(facts, floor, policies=policies)

    with patch.object(effect, "fold", kept_or_folded):
        yield


@contextmanager
def snapshot_stamping() -> Iterator[None]:
    """An unchanged value in a snapshot counts as news."""

    def stamped(*args: Any, **options: Any) -> Admitted:
        admitted = admit(*args, **options)
        doc = {name: said for name, said in admitted.fact.doc.items() if name != "n"}
        return replace(admitted, fact=replace(admitted.fact, doc=doc))

    with patch.object(plan, "admit", stamped):
        yield


@contextmanager
def no_tombstone() -> Iterator[None]:
    """An erasure removes what is there and forgets that it did."""
    with patch("upkept.store.tombstones.standing", lambda connection: False):
        yield


@contextmanager
def guard_on_arrival() -> Iterator[None]:
    """A merge counts from when it arrives, so the guards are decided by the order of arrival."""

    def linked(a: Any, b: Any, *, at: int, cut: bool = False, reason: str = "") -> Any:
        return admin_link(a, b, at=next(_arrived), cut=cut, reason=reason)

    with patch("upkept.flow.link.admin_link", linked):
        yield


@contextmanager
def opt_out_on_address_only() -> Iterator[None]:
    """A person who moves to a clean address is subscribed again."""

    def on_address(*args: Any, **options: Any) -> list[Any]:
        return [fact for fact in admit_consent(*args, **options) if fact.subject_kind == "address"]

    with patch.object(plan, "admit_consent", on_address):
        yield


@contextmanager
def unfenced_claim() -> Iterator[None]:
    """The epoch of a claim is not looked at when its effects are written."""

    def finish(connection: Any, outcomes: Sequence[Outcome]) -> bool:
        bulk.update(connection, tables.inbox, ("id",), ("state",), [(o.row.id, o.state) for o in outcomes])
        return True

    with patch("upkept.store.inbox.finish", finish):
        yield


@contextmanager
def answer_before_commit() -> Iterator[None]:
    """2xx as soon as the rows are handed to the database."""

    def keep(hub: Any, batch: Sequence[Any], *, now: int) -> list[receive.Kept]:
        return [replace(kept, error=None) for kept in true_keep(hub, batch, now=now)]

    true_keep = receive.keep
    with patch.object(receive, "keep", keep):
        yield


@contextmanager
def sweeper_off() -> Iterator[None]:
    """Nothing but the broker's messages starts any work."""
    with patch.object(sweep, "look", lambda hub, *, now: sweep.Due((), (), ())):
        yield


BUGS: Final[tuple[Callable[[], Any], ...]] = (
    arrival_order,
    no_tombstone,
    guard_on_arrival,
    no_tie_break,
    unfenced_claim,
    answer_before_commit,
    sweeper_off,
    snapshot_stamping,
    opt_out_on_address_only,
    late_facts_dropped,
)
