"""Export a person: all that is known of them, with where it came from, as one JSON document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from upkept.flow.explain import explained, moment, plain
from upkept.flow.find import find
from upkept.flow.hub import Hub
from upkept.people.values import AdmittedFact
from upkept.store import audit, facts, records, timeline
from upkept.store.records import Record
from upkept.store.whole import snapshot


def export(hub: Hub, name: str, *, now: int, actor: str) -> dict[str, Any]:
    """What `explain` tells, and every fact and event behind it. Raises what `find` raises.

    Facts that were compacted (R4) are told as the values that are left of them.
    """
    with snapshot(hub.store) as connection:
        person = find(connection, hub, name).person
        held = records.of_people(connection, [person])
        every = held | records.parts_of(connection, sorted(held))
        said = facts.of(connection, sorted(every))
        events = timeline.of(connection, sorted(every))
        document = explained(connection, hub, person)
    with hub.store.write() as connection:
        audit.note(connection, "export", [person], actor=actor, now=now)
    ordered = sorted(every.items(), key=lambda item: item[1].key)
    return {
        **document,
        "facts": [_told(hub, record, said.get(id_, [])) for id_, record in ordered],
        "timeline": [
            {"at": moment(at), "name": event, "record": list(every[id_].key), "metadata": _values(metadata)}
            for at, event, id_, metadata in events
        ],
    }


def _told(hub: Hub, record: Record, said: list[AdmittedFact]) -> dict[str, Any]:
    floor = record.floor.cells if record.floor is not None else {}
    names = floor.keys() | {name for fact in said for name in fact.doc.get("f", {})}
    labels = hub.labels(record.key.connection, names)
    return {
        "record": list(record.key),
        "facts": [_fact(fact, labels) for fact in sorted(said, key=lambda fact: fact.stamp)],
        "compacted": {
            labels[name]: {"value": plain(cell.value), "at": moment(cell.since.at)}
            for name, cell in sorted(floor.items())
        },
    }


def _fact(fact: AdmittedFact, labels: Mapping[str, str]) -> dict[str, Any]:
    doc = fact.doc
    return {
        "id": fact.fact_id,
        "at": moment(fact.at),
        "fields": {labels[name]: value for name, value in _values(doc.get("f", {})).items()},
        "claims": dict(doc.get("c", {})),
        **({"deleted": doc["d"]} if "d" in doc else {}),
        **({"owner": doc["o"]} if "o" in doc else {}),
    }


def _values(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: plain(value) for name, value in sorted(fields.items())}
