"""Records of one component to the person they are, and why (SEMANTICS R2, R3, R4, R12, R15)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from upkept.contract import RecordRef
from upkept.people.facts import WITHDRAWN_JSON
from upkept.people.head import Cell
from upkept.people.identity import shown
from upkept.people.policies import DEFAULT_POLICIES, FILLING_CONNECTION, LWW, Policies, Policy, magnitude
from upkept.people.together import NO_JOINTS, Joint, Joints
from upkept.people.values import Interval, Json, RecordKey

__all__ = [
    "DEFAULT_POLICIES",
    "Explained",
    "Lost",
    "Person",
    "Policies",
    "Policy",
    "RecordView",
    "Share",
    "deciding",
    "derive",
    "explain",
]

TAG: Final = "tag:"
COMPANY: Final = "company:"
"""Prefixes of the cells that are one element of a set each: a boolean under `lww` (R4 `union`)."""


@dataclass(frozen=True, slots=True)
class RecordView:
    """A record as `derive` sees it: `cells` are those that `live` gives, summaries merged in."""

    key: RecordKey
    public_id: str
    issued_at: int
    cells: Mapping[str, Cell]
    deleted: bool = False
    makes_user: bool = False
    user_id: str | None = None
    intervals: Sequence[Interval] = ()


@dataclass(frozen=True, slots=True)
class Person:
    """A derived person. `attributes` holds every known value, the standard ones too; known-empty ones are absent."""

    id: str
    role: str
    attributes: dict[str, Json]
    external_id: str | None
    email: str | None
    name: str | None
    tags: list[str]
    companies: list[str]
    archived: bool
    keys: list[RecordKey]

    def doc(self) -> dict[str, Any]:
        """The person as JSON, free of surrogate ids and arrival times: named by its record keys."""
        return {
            "keys": [list(key) for key in self.keys],
            "role": self.role,
            "external_id": self.external_id,
            "email": self.email,
            "name": self.name,
            "attributes": self.attributes,
            "tags": self.tags,
            "companies": self.companies,
            "archived": self.archived,
        }


@dataclass(frozen=True, slots=True)
class Lost:
    """A value that another one beat."""

    value: Json
    source: str
    at: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one record says of a value that was combined."""

    record: RecordRef
    value: Json
    at: int


@dataclass(frozen=True, slots=True)
class Explained:
    """Why an attribute has its value: the connection that said so, since when (us), and by which rule.

    A value that several records of the connection say together has the rule `combined`, and `made_of` their words.
    """

    value: Json
    source: str
    at: int
    rule: str
    lost: list[Lost]
    made_of: Sequence[Share] = ()


def derive(
    records: Sequence[RecordView],
    *,
    targets: Sequence[RecordKey] = (),
    policies: Policies = DEFAULT_POLICIES,
    joints: Joints = NO_JOINTS,
) -> Person:
    """The person that these records are. Pure, and independent of their order."""
    if len(records) == 1:
        first = records[0]
        attributes = {
            name: value
            for name, (value, _, _) in first.cells.items()
            if value is not None and not (value.__class__ is dict and "$w" in value)
        }
        keys = [first.key]
        role = "user" if first.makes_user or first.user_id is not None else "lead"
        archived = first.deleted
    else:
        attributes = _decided(_together(records, joints) if joints else records, policies)
        keys = sorted(record.key for record in records)
        shown_key = shown(records, targets)
        first = next(record for record in records if record.key == shown_key)
        role = "user" if any(r.makes_user or r.user_id is not None for r in records) else "lead"
        archived = all(record.deleted for record in records)
    tags, companies = _sets(attributes)
    email, name = _text(attributes.get("email")), _text(attributes.get("name"))
    external_id = _text(attributes.get("external_id")) or _user_id(records, targets)
    if role == "lead" and email is None and all(_anonymous(record.key) for record in records):
        role = "visitor"
    return Person(
        first.public_id,
        role,
        attributes,
        external_id,
        email,
        name,
        tags,
        companies,
        archived,
        keys,
    )


def explain(
    records: Sequence[RecordView], policies: Policies = DEFAULT_POLICIES, *, joints: Joints = NO_JOINTS
) -> dict[str, Explained]:
    """Why each attribute has its value, known-empty ones too. Elements of sets appear as `tag:NAME`, `company:ID`."""
    explained: dict[str, Explained] = {}
    for name, candidates in sorted(_candidates(_together(records, joints)).items()):
        policy = policies.by_attribute.get(name, LWW)
        first, *rest = _ranked(candidates, policy, policies.ranks)
        lost = [Lost(cell.value, key.connection, cell.since.at) for key, cell in rest]
        key, cell = first
        joint = joints.get(key.connection, _NO_JOINT).get(name)
        if joint is None:
            explained[name] = Explained(cell.value, key.connection, cell.since.at, policy.rule, lost)
        else:
            alone = [record for record in records if record.key.connection == key.connection]
            made_of, left = _shares(name, joint, alone)
            explained[name] = Explained(cell.value, key.connection, cell.since.at, "combined", left + lost, made_of)
    return explained


def deciding(
    records: Sequence[RecordView],
    names: Collection[str],
    policies: Policies = DEFAULT_POLICIES,
    *,
    joints: Joints = NO_JOINTS,
) -> dict[str, Cell]:
    """What decides these attributes, the known-empty ones too; one of which nobody says anything is absent."""
    candidates = _candidates(_together(records, joints))
    return {
        name: _ranked(candidates[name], policies.by_attribute.get(name, LWW), policies.ranks)[0][1]
        for name in names
        if name in candidates
    }


_NO_JOINT: Mapping[str, Joint] = {}


def _together(records: Sequence[RecordView], joints: Joints) -> list[RecordView]:
    """The records, what some say together in place of what each of them says alone; the first of them says it."""
    spoken = []
    silent: set[str] = set()
    for record in sorted(records, key=lambda record: record.key):
        connection = record.key.connection
        if (joint := joints.get(connection)) is not None:
            cells = {name: cell for name, cell in record.cells.items() if name not in joint}
            if connection not in silent:
                silent.add(connection)
                cells.update((name, said.cell) for name, said in joint.items())
            record = replace(record, cells=cells)
        spoken.append(record)
    return spoken


def _shares(name: str, joint: Joint, alone: Sequence[RecordView]) -> tuple[list[Share], list[Lost]]:
    """What each record said of a combined value: those it was made of, in that order, and the others, newest first."""
    said = {RecordRef(r.key.type, r.key.id): r.cells[name] for r in alone if name in r.cells}
    said = {ref: cell for ref, cell in said.items() if cell.value != WITHDRAWN_JSON}
    made_of = [Share(ref, said[ref].value, said[ref].since.at) for ref in joint.made_of if ref in said]
    left = sorted(((said[ref].since, ref) for ref in said.keys() - set(joint.made_of)), reverse=True)
    return made_of, [Lost(said[ref].value, alone[0].key.connection, since.at) for since, ref in left]


_Candidate = tuple[RecordKey, Cell]


def _candidates(records: Sequence[RecordView]) -> dict[str, list[_Candidate]]:
    """Per attribute who says what; a withdrawn statement does not compete."""
    candidates: dict[str, list[_Candidate]] = {}
    for record in records:
        key = record.key
        for name, cell in record.cells.items():
            value = cell[0]
            if value.__class__ is dict and "$w" in value:
                continue
            said = candidates.get(name)
            if said is None:
                candidates[name] = [(key, cell)]
            else:
                said.append((key, cell))
    return candidates


def _decided(records: Sequence[RecordView], policies: Policies) -> dict[str, Json]:
    attributes: dict[str, Json] = {}
    by_attribute, ranks = policies.by_attribute, policies.ranks
    for name, candidates in _candidates(records).items():
        if len(candidates) == 1:
            value = candidates[0][1].value
        else:
            value = _ranked(candidates, by_attribute.get(name, LWW), ranks)[0][1].value
        if value is not None:
            attributes[name] = value
    return attributes


def _ranked(candidates: list[_Candidate], policy: Policy, ranks: Mapping[str, int]) -> list[_Candidate]:
    """The candidates, the deciding one first: the only place where one value beats another."""
    if len(candidates) == 1:
        return candidates

    def order(candidate: _Candidate) -> tuple[int, int, int, int, str, RecordKey]:
        key, cell = candidate
        at, kind, sequence, fact_id = cell.since
        return at, kind, sequence, ranks.get(key.connection, 0), fact_id, key

    ranked = sorted(candidates, key=order, reverse=True)
    if policy.rule == "authority":
        groups = policy.groups
        ranked.sort(key=lambda c: next((n for n, group in enumerate(groups) if c[0].connection in group), len(groups)))
    elif policy.rule in ("max", "min"):
        # Stable sorts: by the value inside its class, then the classes.
        ranked.sort(key=lambda c: _size(c[1].value), reverse=policy.rule == "max")
        ranked.sort(key=lambda c: -magnitude(c[1].value)[0])
    return _fillers_last(ranked)


def _fillers_last(ranked: list[_Candidate]) -> list[_Candidate]:
    """The rules' values rank last, and fill what the others leave empty."""
    own = [c for c in ranked if c[0].connection != FILLING_CONNECTION]
    if len(own) == len(ranked):
        return ranked
    fill = [c for c in ranked if c[0].connection == FILLING_CONNECTION]
    empty = not own or own[0][1].value is None
    return fill + own if empty and fill[0][1].value is not None else own + fill


def _size(value: Json) -> tuple[bool, float, str]:
    size = magnitude(value)[1]
    return (True, 0, size) if isinstance(size, str) else (False, size, "")


def _sets(attributes: dict[str, Json]) -> tuple[list[str], list[str]]:
    """Take the elements out of the attributes into their sets."""
    elements = [name for name in attributes if name.startswith((TAG, COMPANY))]
    tags: list[str] = []
    companies: list[str] = []
    for name in elements:
        if attributes.pop(name) is True:
            if name.startswith(TAG):
                tags.append(name[len(TAG) :])
            else:
                companies.append(name[len(COMPANY) :])
    return sorted(tags), sorted(companies)


def _user_id(records: Sequence[RecordView], targets: Sequence[RecordKey]) -> str | None:
    """The app user id held; of several, which only a merge can bring together, that of the newest target."""
    holders = {record.key: record for record in records if record.user_id is not None}
    if not holders:
        return None
    target = next((key for key in targets if key in holders), None)
    key = target or min(holders, key=lambda key: (not holders[key].makes_user, key))
    return holders[key].user_id


def _text(value: Json) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) else None


def _anonymous(key: RecordKey) -> bool:
    return key.connection == "app" and key.type == "anonymous"
