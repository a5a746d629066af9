"""The pure core run over a history in its order of arrival: what the store does, without a database.

`Hub` keeps heads and facts in dictionaries, takes one element at a time and never looks ahead. `make prove` compares
it, and the real store, with the reference model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from tests.model.histories import FIRST_PARTY, SURVIVES, Cut, Element, Erase, Merge, combine, summarize

from upkept.contract import Consent, Fact, Link, Part, RecordRef, Summary, TimelineEvent, Whole
from upkept.people.consent import ConsentFact, admit_consent, decide, holder, implied, subjects
from upkept.people.derive import RecordView, derive
from upkept.people.erasure import Tombstone, refused, tombstones
from upkept.people.facts import Admitted, admin_link, admit, admit_link, canonical, decode, encode
from upkept.people.fold import Cell, Head, advance, fold, live
from upkept.people.identity import Node, resolve
from upkept.people.together import Joints, joined, newest_of
from upkept.people.values import AdmittedFact, LinkFact, RecordKey

UNCOUNTED = frozenset({"api", "console", "csv", "rules"})

Ready = Admitted | list[ConsentFact] | LinkFact | list[Tombstone]


def hashed(kind: str, value: str) -> str:
    return blake2b(f"{kind}\0{value}".encode(), key=b"a test's key", digest_size=12).hexdigest()


def readied(element: Element) -> tuple[Ready, frozenset[RecordKey]]:
    """What is decided about an element before any state is looked at, and the records it makes stand."""
    if isinstance(element, Merge | Cut):
        link = admin_link(RecordKey(*element.a), RecordKey(*element.b), at=element.at, cut=isinstance(element, Cut))
        return link, frozenset((link.a, link.b))
    if isinstance(element, Erase):
        keys = [RecordKey(*key) for key in element.keys]
        return tombstones(keys, element.identifiers, at=element.at, subject=hashed), frozenset()
    said, connection = element.statement, element.connection
    if isinstance(said, Fact):
        admitted = admit(connection, said, received_at=element.received_at, run=element.run)
        return admitted, frozenset({admitted.owner or admitted.key})
    if isinstance(said, Link):
        link = admit_link(connection, said, received_at=element.received_at)
        return link, frozenset((link.a, link.b))
    if isinstance(said, TimelineEvent):
        return [], frozenset({RecordKey(connection, said.record.type, said.record.id)})
    assert isinstance(said, Consent)
    facts = admit_consent(connection, said, received_at=element.received_at, subject=hashed)
    named = frozenset({RecordKey(connection, said.record.type, said.record.id)} if said.record else ())
    return facts, named


@dataclass
class Hub:
    """Everything the core knows at one moment. `enforced`: unverified claims do not link."""

    enforced: bool = False
    facts: dict[RecordKey, dict[str, AdmittedFact]] = field(default_factory=dict)
    heads: dict[RecordKey, Head] = field(default_factory=dict)
    standing: set[RecordKey] = field(default_factory=set)
    owners: dict[RecordKey, set[RecordKey]] = field(default_factory=dict)
    links: dict[str, LinkFact] = field(default_factory=dict)
    consents: dict[str, ConsentFact] = field(default_factory=dict)
    buried: dict[tuple[str, str], int] = field(default_factory=dict)

    def take(self, ready: tuple[Ready, frozenset[RecordKey]]) -> None:
        said, named = ready
        self.standing.update(key for key in named if not self._covered(key))
        if isinstance(said, Admitted):
            self._fact(said)
        elif isinstance(said, LinkFact):
            self.links[said.id] = said
        else:
            for one in said:
                if isinstance(one, Tombstone):
                    self._bury(one)
                else:
                    self.consents[one.id] = one
            self._remove_covered(list(self.standing))

    def people(self) -> list[dict[str, Any]]:
        """As `reference.people`."""
        parts = {key for key in self.heads if key in self.owners}
        views = {key: self._view(key) for key in self.standing - parts}
        nodes = [self._node(view) for view in views.values()]
        resolution = resolve(nodes, list(self.links.values()), link_unverified=not self.enforced)
        found = []
        for group, targets in zip(resolution.components, resolution.targets, strict=True):
            records = [views[key] for key in group]
            said = self._binding(records)
            found.append(
                {
                    "person": derive(records, targets=targets, joints=self._joints(records)).doc(),
                    "consent": {topic: decide(said, topic=topic).state for topic in ("*", "news")},
                }
            )
        return sorted(found, key=lambda p: p["person"]["keys"])

    def digest(self) -> bytes:
        return canonical(self.people())

    def _fact(self, admitted: Admitted) -> None:
        key, fact = admitted.key, admitted.fact
        stated = {(k, v) for k, v in fact.doc.get("c", {}).items() if v is not None}
        if self._covered(key, stated, fact.at) or (admitted.owner is not None and self._covered(admitted.owner)):
            self._remove(key)
            return
        if admitted.owner is not None:
            self.owners.setdefault(key, set()).add(admitted.owner)
        known = self.facts.setdefault(key, {})
        if fact.fact_id in known:
            return
        known[fact.fact_id] = fact
        self.standing.add(key)
        head = self.heads.get(key)
        self.heads[key] = advance(head, fact) or fold(known.values())

    def _bury(self, stone: Tombstone) -> None:
        known = self.buried.get((stone.kind, stone.subject), stone.at)
        self.buried[stone.kind, stone.subject] = max(known, stone.at)

    def _covered(self, key: RecordKey, stated: Iterable[tuple[str, str]] = (), at: int | None = None) -> bool:
        if not self.buried:
            return False
        head = self.heads.get(key)
        claims = {(i.kind, i.value) for i in head.claims} if head is not None else set()
        times = [t for t in (at, None if head is None else head.first_at) if t is not None]
        return refused(
            key,
            claims | set(stated),
            first_party=key.connection in FIRST_PARTY,
            created_at=min(times, default=None),
            lookup=lambda kind, subject: self.buried.get((kind, subject)),
            subject=hashed,
        )

    def _remove_covered(self, keys: Iterable[RecordKey]) -> None:
        for key in keys:
            if self._covered(key):
                self._remove(key)

    def _remove(self, key: RecordKey) -> None:
        """A covered record goes with its parts, and gets a tombstone of its own."""
        for part in [part for part, owners in self.owners.items() if key in owners]:
            self._forget(part)
        self._forget(key)

    def _forget(self, key: RecordKey) -> None:
        for stone in tombstones([key], [], at=0, subject=hashed):
            self._bury(stone)
        self.facts.pop(key, None)
        self.heads.pop(key, None)
        self.owners.pop(key, None)
        self.standing.discard(key)

    def _view(self, key: RecordKey) -> RecordView:
        head = self.heads.get(key, Head())
        survives = SURVIVES.get(key.connection, frozenset())
        cells = live(head, survives=survives, summary=self._summarized(key, head))
        return RecordView(key, "", 0, cells, head.deleted, head.makes_user, head.user_id, head.claims)

    def _summarized(self, key: RecordKey, head: Head) -> dict[str, Cell]:
        newest = {ref: part.newest for ref, part in self._parts(key).items()}
        cells = {}
        for name, one in self._summary(key).items():
            stamp = newest_of(one.used, newest, head.newest)
            if stamp is not None and not name.startswith("_"):
                cells[name] = Cell(encode(one.value), stamp, stamp)
        return cells

    def _parts(self, key: RecordKey) -> dict[RecordRef, Head]:
        return {
            RecordRef(part.type, part.id): self.heads[part]
            for part in self.owners
            if part.connection == key.connection and self.heads[part].owner == (key.type, key.id)
        }

    def _summary(self, key: RecordKey) -> Mapping[str, Summary]:
        parts = [
            Part(ref=ref, fields={n: decode(c.value) for n, c in h.cells.items()}, deleted=h.deleted)
            for ref, h in self._parts(key).items()
        ]
        return summarize({}, parts)

    def _joints(self, records: list[RecordView]) -> Joints:
        bill = [view for view in records if view.key.connection == "bill"]
        living = {RecordRef(view.key.type, view.key.id): view for view in bill if not view.deleted}
        if len(bill) < 2 or not living:
            return {}
        wholes = [self._whole(ref, view.key) for ref, view in living.items()]
        return {"bill": joined(combine(wholes), {ref: view.cells for ref, view in living.items()})}

    def _whole(self, ref: RecordRef, key: RecordKey) -> Whole:
        fields = {n: decode(c.value) for n, c in self.heads.get(key, Head()).cells.items()}
        return Whole(ref=ref, fields=fields, summary={n: one.value for n, one in self._summary(key).items()})

    def _node(self, view: RecordView) -> Node:
        anonymous = view.key[:2] == ("app", "anonymous")
        counted = not anonymous and view.key.connection not in UNCOUNTED
        return Node(view.key, view.user_id, view.intervals, anonymous=anonymous, counted=counted)

    def _binding(self, records: list[RecordView]) -> list[ConsentFact]:
        bound = set(subjects([r.key for r in records], [i for r in records for i in r.intervals], hashed))
        return [c for c in (*self.consents.values(), *self._implied()) if (c.subject_kind, c.subject) in bound]

    def _implied(self) -> Iterator[ConsentFact]:
        by_holder = {holder(key, hashed): head.claims for key, head in self.heads.items()}
        for one in self.consents.values():
            if one.subject_kind == "holder":
                for _, fact in implied([one], by_holder.get(one.subject, ()), hashed):
                    yield fact
