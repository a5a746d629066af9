"""Which records are one person: a pure function of claims, links and cuts (SEMANTICS R13, R14, R15).

Callers pass whole neighbourhoods: every record that shares an identifier with, or is linked to, a record passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

from upkept.people.identifiers import EMAIL, USER_ID, blocklisted
from upkept.people.values import Interval, LinkFact, RecordKey

LARGEST_BY_WEAK_LINKS: Final = 10
"""Weak links never make a person of more counted records than this."""

OLDEST_OF_AN_ADDRESS: Final = 100
"""So many holdings of one address link anybody, the oldest; a placeholder that everybody types costs no more."""

Blocked = Callable[[str, str], bool]
"""(kind, key) -> whether the identifier identifies nobody."""

Reason = Literal["two_user_ids", "too_many_records", "unlinked", "crowded_address"]

Start = tuple[int, RecordKey]
"""When a record began to hold an address. Holdings of one address are in this order."""
Holding = tuple[int, RecordKey, int | None]
"""(start, record, end)."""


@dataclass(frozen=True, slots=True)
class Node:
    """What a record brings to the decision.

    `intervals` are the claims of its head. `counted` is False for records of `api`, `console`, `csv`, `rules` and
    for anonymous ones (R14).
    """

    key: RecordKey
    user_id: str | None
    intervals: Sequence[Interval]
    anonymous: bool = False
    counted: bool = True


class DerivedLink(NamedTuple):
    """A link that follows from claims. `at` is when both held the identifier."""

    at: int
    id: str
    a: RecordKey
    b: RecordKey
    strong: bool


@dataclass(frozen=True, slots=True)
class Conflict:
    """A link that was refused, for people to look at; `crowded_address` names one record, as `a` and as `b`."""

    a: RecordKey
    b: RecordKey
    reason: Reason


@dataclass(frozen=True, slots=True)
class Resolution:
    """Components in the order of their least key; `targets` beside them: the targets of their merges, newest first."""

    components: list[frozenset[RecordKey]]
    targets: list[list[RecordKey]]
    conflicts: list[Conflict]


def weak_links(
    nodes: Iterable[Node], blocked: Blocked = blocklisted, *, link_unverified: bool = True
) -> list[DerivedLink]:
    """Records that held one address at one time, each linked to the oldest that held it then: k-1 links (R13).

    Of one address the oldest `OLDEST_OF_AN_ADDRESS` holdings link.
    """
    holdings = _holdings(nodes, blocked, link_unverified)
    return _weak_links(holdings, _first_out(holdings))


def _weak_links(holdings: Mapping[str, list[Holding]], out: Mapping[str, Start]) -> list[DerivedLink]:
    links: list[DerivedLink] = []
    for address, held in holdings.items():
        seated = [one for one in held if address not in out or one[:2] < out[address]]
        if len(seated) > 1:
            links.extend(_to_oldest(address, seated))
    return links


def user_id_links(
    nodes: Iterable[Node], blocked: Blocked = blocklisted, *, link_unverified: bool = True
) -> list[DerivedLink]:
    """Records whose current app user id is the same, each linked to the oldest that holds it (R13)."""
    holders: dict[str, list[tuple[int, RecordKey]]] = {}
    for node in nodes:
        if node.user_id is None:
            continue
        runs = [i for i in node.intervals if i.kind == USER_ID and i.value == node.user_id]
        if _counts(any(i.verified for i in runs) or not runs, node, link_unverified):
            start = max((i.start for i in runs), default=0)
            holders.setdefault(node.user_id, []).append((start, node.key))
    links: list[DerivedLink] = []
    for user_id, held in holders.items():
        if len(held) < 2 or blocked(USER_ID, user_id):
            continue
        held.sort()
        _, oldest = held[0]
        links.extend(
            DerivedLink(start, f"{USER_ID}\x1f{user_id}\x1f" + "\x1f".join(key), key, oldest, True)
            for start, key in held[1:]
        )
    return links


def resolve(
    nodes: Iterable[Node],
    links: Sequence[LinkFact],
    *,
    link_unverified: bool = True,
    blocked: Blocked = blocklisted,
    first_out: Mapping[str, Start] | None = None,
) -> Resolution:
    """The people these records are: constrained Kruskal over the links sorted by (strength, time, id) (R14).

    `first_out` is, per crowded address, the first holding that links nobody any more. A caller that knows it may leave
    out the other holders of an address for a record that holds it no earlier than that; else it follows from `nodes`.

    Of the admin links and cuts of one pair the newest counts, a cut of equal age before a link. A cut is passed only
    by strong and admin links newer than it. A teammate may have joined two app user ids: records that hold one of
    those may still follow. Links to records that were not passed in are ignored.
    """
    known = {node.key: node for node in nodes}
    if len(known) == 1 and not links and not first_out:
        return Resolution([frozenset(known)], [[]], [])
    admin, cuts = _admin(links, known)
    forest = _Forest(known.values(), cuts, blocked)
    for link in sorted(admin, key=_order):
        forest.join(link.a, link.b, link.at, guarded=False, weak=False)
    strong = [(x.at, x.id, x.a, x.b) for x in links if x.strength == "strong" and x.a in known and x.b in known]
    strong += [x[:4] for x in user_id_links(known.values(), blocked, link_unverified=link_unverified)]
    for at, _, a, b in sorted(strong):
        forest.join(a, b, at, guarded=True, weak=False)
    holdings = _holdings(known.values(), blocked, link_unverified)
    out = _first_out(holdings) if first_out is None else first_out
    for at, _, a, b, _strong in sorted(_weak_links(holdings, out)):
        forest.join(a, b, at, guarded=True, weak=True)
    for address, start in out.items():
        forest.crowd_out(holdings.get(address, ()), start)
    return forest.resolution(admin)


class Showing(Protocol):
    """What decides which record's id a person shows."""

    @property
    def key(self) -> RecordKey: ...
    @property
    def makes_user(self) -> bool: ...
    @property
    def issued_at(self) -> int: ...


def shown(records: Iterable[Showing], targets: Sequence[RecordKey] = ()) -> RecordKey:
    """The record whose public id the person shows (R15): the target of the newest merge, else the first."""
    found = list(records)
    present = {record.key for record in found}
    for target in targets:
        if target in present:
            return target
    return min(found, key=lambda record: (not record.makes_user, record.issued_at, record.key)).key


def _counts(verified: bool, node: Node, link_unverified: bool) -> bool:
    return verified or (link_unverified and not node.anonymous)


def _holdings(nodes: Iterable[Node], blocked: Blocked, link_unverified: bool) -> dict[str, list[Holding]]:
    """Per address that links at all, the holdings that may link."""
    found: dict[str, list[Holding]] = {}
    for node in nodes:
        for i in node.intervals:
            if i.kind == EMAIL and i.start != i.end and _counts(i.verified, node, link_unverified):
                found.setdefault(i.value, []).append((i.start, node.key, i.end))
    return {address: held for address, held in found.items() if not blocked(EMAIL, address)}


def _first_out(holdings: Mapping[str, Sequence[Holding]]) -> dict[str, Start]:
    crowded = {address: held for address, held in holdings.items() if len(held) > OLDEST_OF_AN_ADDRESS}
    return {address: sorted(one[:2] for one in held)[OLDEST_OF_AN_ADDRESS] for address, held in crowded.items()}


def _to_oldest(address: str, held: list[Holding]) -> Iterable[DerivedLink]:
    """By interval, not by record, so that a record that held the address twice bridges both times."""
    held.sort(key=lambda holding: holding[:2])
    earlier: deque[tuple[RecordKey, int | None]] = deque()
    for start, key, end in held:
        # Starts only grow, so whatever has ended at the front overlaps nothing that follows.
        while earlier and (ended := earlier[0][1]) is not None and ended <= start:
            earlier.popleft()
        if earlier and earlier[0][0] != key:
            yield DerivedLink(start, f"{EMAIL}\x1f{address}\x1f" + "\x1f".join(key), key, earlier[0][0], False)
        earlier.append((key, end))


def _order(link: LinkFact) -> tuple[int, str]:
    return link.at, link.id


def _admin(links: Iterable[LinkFact], known: Mapping[RecordKey, Node]) -> tuple[list[LinkFact], list[LinkFact]]:
    """The admin links and the cuts that count: per pair, those of the newest statement's side."""
    pairs: dict[tuple[RecordKey, RecordKey], list[LinkFact]] = {}
    for link in links:
        if link.strength == "admin" and link.a in known and link.b in known and link.a != link.b:
            pair = (link.a, link.b) if link.a < link.b else (link.b, link.a)
            pairs.setdefault(pair, []).append(link)
    admin: list[LinkFact] = []
    cuts: list[LinkFact] = []
    for said in pairs.values():
        newest = max(said, key=lambda link: (link.at, link.cut, link.id))
        (cuts if newest.cut else admin).append(newest)
    return admin, cuts


class _Forest:
    """Records joined so far, with what the guards ask of each component."""

    def __init__(self, nodes: Iterable[Node], cuts: Sequence[LinkFact], blocked: Blocked) -> None:
        self.root: dict[RecordKey, RecordKey] = {}
        self.members: dict[RecordKey, list[RecordKey]] = {}
        self.user_ids: dict[RecordKey, frozenset[str]] = {}
        self.size: dict[RecordKey, int] = {}
        self.cuts = cuts
        self.refused: list[Conflict] = []
        self.crowded: set[RecordKey] = set()
        for node in nodes:
            user_id = node.user_id
            held = user_id is not None and not blocked(USER_ID, user_id)
            self.root[node.key] = node.key
            self.members[node.key] = [node.key]
            self.user_ids[node.key] = frozenset((user_id,)) if held and user_id is not None else frozenset()
            self.size[node.key] = int(node.counted)

    def join(self, a: RecordKey, b: RecordKey, at: int, *, guarded: bool, weak: bool) -> None:
        x, y = self.root[a], self.root[b]
        if x == y:
            return
        reason = self._refusal(x, y, at, guarded=guarded, weak=weak)
        if reason is not None:
            self.refused.append(Conflict(*((a, b) if a < b else (b, a)), reason))
            return
        if len(self.members[x]) < len(self.members[y]):
            x, y = y, x
        for key in self.members[y]:
            self.root[key] = x
        self.members[x] += self.members.pop(y)
        self.user_ids[x] |= self.user_ids.pop(y)
        self.size[x] += self.size.pop(y)

    def crowd_out(self, held: Iterable[Holding], out: Start) -> None:
        """Note who stays apart from all that link by an address, because it began to hold it too late."""
        joined = {self.root[key] for start, key, _ in held if (start, key) < out}
        late = {key for start, key, _ in held if (start, key) >= out}
        self.crowded.update(key for key in late if self.root[key] not in joined)

    def _refusal(self, x: RecordKey, y: RecordKey, at: int, *, guarded: bool, weak: bool) -> Reason | None:
        for cut in self.cuts:
            sides = {self.root[cut.a], self.root[cut.b]}
            if sides == {x, y} and (weak or at <= cut.at):
                return "unlinked"
        if guarded and not (self.user_ids[x] <= self.user_ids[y] or self.user_ids[y] <= self.user_ids[x]):
            return "two_user_ids"
        added = min(self.size[x], self.size[y])
        if weak and added and self.size[x] + self.size[y] > LARGEST_BY_WEAK_LINKS:
            return "too_many_records"
        return None

    def resolution(self, admin: Iterable[LinkFact]) -> Resolution:
        groups = sorted((sorted(members), root) for root, members in self.members.items())
        targets: dict[RecordKey, list[RecordKey]] = {}
        for link in sorted(admin, key=_order, reverse=True):
            root = self.root[link.a]
            if root == self.root[link.b]:
                targets.setdefault(root, []).append(link.b)
        apart = {c for c in self.refused if self.root[c.a] != self.root[c.b]}
        apart |= {Conflict(key, key, "crowded_address") for key in self.crowded}
        return Resolution(
            components=[frozenset(members) for members, _ in groups],
            targets=[targets.get(root, []) for _, root in groups],
            conflicts=sorted(apart, key=lambda c: (c.a, c.b, c.reason)),
        )
