"""Explain a person: every value with who said so, when, by which rule, and what lost (R4).

Nothing of it is stored: it is derived from the records and the consent table at the moment of the question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from upkept.contract import WITHDRAWN
from upkept.flow import view
from upkept.flow.find import find
from upkept.flow.hub import Hub
from upkept.people.consent import ALL, ConsentFact, ConsentState, decide, deliverability, locks
from upkept.people.derive import COMPANY, TAG, Explained, RecordView, Share, derive
from upkept.people.derive import explain as explain_attributes
from upkept.people.facts import decode, from_us
from upkept.people.identifiers import EMAIL, PHONE, USER_ID
from upkept.people.values import Json
from upkept.store import aliases, claims, people, records, timeline
from upkept.store.records import Record
from upkept.store.whole import snapshot

CONSENT_ACTS: Final = frozenset({"opt_out", "opt_in", "complaint", "block", "lift"})
"""The acts that a ledger of consent lists; the others are about deliverability."""


def explain(hub: Hub, name: str) -> dict[str, Any]:
    """The person known as `name` as one JSON document. Raises what `find` raises."""
    with snapshot(hub.store) as connection:
        return explained(connection, hub, find(connection, hub, name).person)


def explained(connection: Connection, hub: Hub, person: str) -> dict[str, Any]:
    """The person who shows the id `person`."""
    held = sorted(records.of_people(connection, [person]).values(), key=lambda record: record.key)
    views = [view.view(hub, record) for record in held]
    joints = view.joints(hub, held, views)
    derived = derive(views, policies=hub.policies, joints=joints)
    row = people.load(connection, [person])[person]
    said = view.statements(connection, hub, [held])[0]
    reasons = explain_attributes(views, hub.policies, joints=joints)
    return {
        "id": person,
        "role": derived.role,
        "external_id": row.external_id,
        "email": derived.email,
        "name": derived.name,
        "archived": derived.archived,
        "attributes": _attributes(reasons, row.external_id, views),
        "consent": {channel: _consent(said, channel) for channel in _channels(said)},
        "deliverability": _deliverability(hub, held, said),
        "tags": derived.tags,
        "segments": row.segments,
        "companies": derived.companies,
        "memberships": {n: _attribute(why) for n, why in reasons.items() if n.startswith((TAG, COMPANY))},
        "records": [_record(record) for record in held],
        "aliases": _aliases(connection, held, person),
        "timeline": _counts(connection, held),
        "conflicts": _conflicts(connection, held),
    }


def plain(value: Json) -> Any:
    """A value as people and programs read it: a time as ISO 8601."""
    said = decode(value)
    if isinstance(said, datetime):
        return said.isoformat().replace("+00:00", "Z")
    return None if said is WITHDRAWN else said


def moment(us: int | None) -> str | None:
    """A time as ISO 8601."""
    return None if us is None else from_us(us).isoformat().replace("+00:00", "Z")


def _attributes(
    reasons: Mapping[str, Explained], external_id: str | None, views: Sequence[RecordView]
) -> dict[str, Any]:
    found = {name: _attribute(why) for name, why in reasons.items() if not name.startswith((TAG, COMPANY))}
    if external_id is not None and found.get("external_id", {}).get("value") is None:
        found["external_id"] = _claimed(external_id, views)
    return dict(sorted(found.items()))


def _attribute(why: Explained) -> dict[str, Any]:
    return {
        "value": plain(why.value),
        "source": why.source,
        "at": moment(why.at),
        "rule": why.rule,
        "lost": [{"value": plain(lost.value), "source": lost.source, "at": moment(lost.at)} for lost in why.lost],
        **({"made_of": [_share(share) for share in why.made_of]} if why.made_of else {}),
    }


def _share(share: Share) -> dict[str, Any]:
    return {**share.record._asdict(), "value": plain(share.value), "at": moment(share.at)}


def _claimed(external_id: str, views: Sequence[RecordView]) -> dict[str, Any]:
    """The user id where no field states it: the record that holds it says so."""
    holders = [
        (min((i.start for i in one.intervals if i.kind == USER_ID and i.value == external_id), default=0), one)
        for one in views
        if one.user_id == external_id
    ]
    since, holder = min(holders, key=lambda held: (held[0], held[1].key))
    return {
        "value": external_id, "source": holder.key.connection, "at": moment(since or holder.issued_at),
        "rule": "identity", "lost": [],
    }  # fmt: skip


def _channels(said: Iterable[ConsentFact]) -> list[str]:
    others = {statement.channel for statement in said if statement.act in CONSENT_ACTS} - {EMAIL}
    return [EMAIL, *sorted(others)]


def _consent(said: Sequence[ConsentFact], channel: str) -> dict[str, Any]:
    mine = [one for one in said if one.channel == channel and one.act in CONSENT_ACTS]
    state = decide(said, channel=channel)
    topics = sorted({one.topic for one in mine} - {ALL})
    return {
        "state": state.state,
        "since": moment(state.since),
        "because": _because(state),
        "topics": {topic: decide(said, channel=channel, topic=topic).state for topic in topics},
        "ledger": ledger(mine),
    }


def _because(state: ConsentState) -> dict[str, Any] | None:
    return None if state.because is None else _statement(state.because, [state.because.subject_kind])


def ledger(said: Iterable[ConsentFact]) -> list[dict[str, Any]]:
    """Statements, oldest first; one that binds the address and the record is one entry."""
    entries: dict[tuple[Any, ...], tuple[ConsentFact, set[str]]] = {}
    for one in said:
        same = (one.at, one.channel, one.topic, one.act, one.qualified, one.verified, one.connection, one.reason)
        entries.setdefault((*same, one.evidence), (one, set()))[1].add(one.subject_kind)
    return [_statement(one, sorted(binds)) for _, (one, binds) in sorted(entries.items(), key=lambda entry: entry[0])]


def _statement(one: ConsentFact, binds: Sequence[str]) -> dict[str, Any]:
    return {
        "at": moment(one.at),
        "act": one.act,
        "topic": one.topic,
        "source": one.connection,
        "qualified": one.qualified,
        "verified": one.verified,
        "reason": one.reason,
        "evidence": one.evidence,
        "binds": list(binds),
    }


def _deliverability(hub: Hub, held: Iterable[Record], said: Sequence[ConsentFact]) -> dict[str, Any]:
    """Per address whether mail arrives there, and which vendors refuse it (R10, R11)."""
    found: dict[str, Any] = {}
    for value in sorted({i.value for i in _open(held) if i.kind in (EMAIL, PHONE)}):
        about = [one for one in said if one.subject == hub.subject("address", value)]
        found[value] = {
            "state": deliverability(about),
            "locks": [
                {"source": lock.connection, "audience": lock.audience, "at": moment(lock.at), "reason": lock.reason}
                for lock in locks(about)
            ],
            "ledger": ledger(one for one in about if one.act not in CONSENT_ACTS),
        }
    return found


def _open(held: Iterable[Record]) -> Iterable[Any]:
    for record in held:
        if record.head is not None:
            yield from (interval for interval in record.head.claims if interval.end is None)


def _aliases(connection: Connection, held: Sequence[Record], person: str) -> list[str]:
    """The other ids that lead here; those too whose record was forgotten or undone."""
    own = [record.id for record in held]
    return sorted({*own, *aliases.of(connection, own)} - {person})


def _record(record: Record) -> dict[str, Any]:
    return {
        "connection": record.key.connection,
        "type": record.key.type,
        "id": record.key.id,
        "deleted": record.deleted,
        "upkept_id": record.id,
    }


def _counts(connection: Connection, held: Sequence[Record]) -> dict[str, int]:
    """How often what happened to them or to a part of them: a dispute may name its charge only."""
    own = [record.id for record in held]
    total: dict[str, int] = {}
    for _, name, count in timeline.counts(connection, [*own, *records.parts_of(connection, own)]):
        total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def _conflicts(connection: Connection, held: Sequence[Record]) -> list[dict[str, str | None]]:
    """Whom they could be one person with, and why they are not; None: with all that hold a crowded address."""
    mine = {record.id for record in held}
    found = claims.conflicts_of(connection, sorted(mine))
    others = {other: reason for a, b, reason in found for other in {a, b} - mine}
    shown = records.people_of(connection, sorted(others))
    alone = {reason for a, b, reason in found if a == b}
    said: list[dict[str, str | None]] = [{"with": None, "reason": reason} for reason in sorted(alone)]
    for id_, reason in sorted(others.items()):
        said.append({"with": shown.get(id_) or id_, "reason": reason})
    return said
