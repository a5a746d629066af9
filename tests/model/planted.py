"""Wrong designs, one class each, that the comparison with the reference model must catch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.model.pure import Hub

from upkept.people.derive import RecordView
from upkept.people.facts import Admitted
from upkept.people.fold import advance
from upkept.people.together import NO_JOINTS, Joints
from upkept.people.values import LinkFact


class ArrivalOrder(Hub):
    """The last to arrive wins, whatever its time."""

    def _fact(self, admitted: Admitted) -> None:
        if admitted.fact.fact_id not in self.facts.get(admitted.key, {}):
            fact = replace(admitted.fact, at=sum(map(len, self.facts.values())))
            super()._fact(replace(admitted, fact=fact))


class NoTieBreak(Hub):
    """`>=` on times alone: of equal ones the last to arrive wins."""

    def _fact(self, admitted: Admitted) -> None:
        arrived = sum(map(len, self.facts.values()))
        fact = admitted.fact
        known = self.facts.get(admitted.key, {})
        if not any(name.endswith(fact.fact_id) for name in known):
            super()._fact(replace(admitted, fact=replace(fact, fact_id=f"{arrived:08d}{fact.fact_id}")))


class LateFactsDropped(Hub):
    """A fact older than the head is not folded in."""

    def _fact(self, admitted: Admitted) -> None:
        if advance(self.heads.get(admitted.key), admitted.fact) is not None:
            super()._fact(admitted)


class SnapshotStamping(Hub):
    """An unchanged value in a snapshot counts as news."""

    def _fact(self, admitted: Admitted) -> None:
        doc = {name: said for name, said in admitted.fact.doc.items() if name != "n"}
        super()._fact(replace(admitted, fact=replace(admitted.fact, doc=doc)))


class NoTombstone(Hub):
    """An erasure removes what is there and forgets that it did."""

    def take(self, ready: Any) -> None:
        super().take(ready)
        self.buried.clear()


class GuardOnArrival(Hub):
    """Links count from when they arrive, so the guards are decided by the order of arrival."""

    def take(self, ready: Any) -> None:
        said, named = ready
        if isinstance(said, LinkFact):
            said = self.links.get(said.id) or replace(said, at=len(self.links))
        super().take((said, named))


class OptOutOnAddressOnly(Hub):
    """A person who moves to a clean address is subscribed again."""

    def take(self, ready: Any) -> None:
        said, named = ready
        if isinstance(said, list):
            said = [one for one in said if getattr(one, "subject_kind", "address") == "address"]
        super().take((said, named))


class EachAlone(Hub):
    """Two records of one connection are merged as if they were of different ones."""

    def _joints(self, records: list[RecordView]) -> Joints:
        return NO_JOINTS


BUGS: tuple[type[Hub], ...] = (
    ArrivalOrder,
    NoTieBreak,
    LateFactsDropped,
    SnapshotStamping,
    NoTombstone,
    GuardOnArrival,
    OptOutOnAddressOnly,
    EachAlone,
)
