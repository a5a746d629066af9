"""What a vendor's record was told: noted before the vendor is asked, and again when it answered.

Both are done under the lock of the record. One that was erased or forgotten meanwhile gets no note, for what it was
told is personal data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from sqlalchemy import Connection as OpenStore

from upkept.contract import Pushed, RecordRef
from upkept.flow.hub import Hub
from upkept.flow.owed import Owed
from upkept.people.consent import ALL
from upkept.people.facts import encode
from upkept.people.owed import NOTHING_TOLD, Passed, Sent, Told
from upkept.registry import Connection
from upkept.store import records, told


def on_its_way(hub: Hub, letters: Mapping[str, Owed]) -> set[str]:
    """Note what is about to be sent, by record id; those of the records that are gone.

    An opt-out needs no note: where it is not known to have arrived, it is sent again.
    """
    noted = {id_: one for id_, one in letters.items() if one.cells or raised(one)}
    if not noted:
        return set()
    with hub.store.write() as open_store:
        before = _standing(open_store, noted)
        told.keep(open_store, {id_: _sent(was, noted[id_]) for id_, was in before.items()})
    return noted.keys() - before.keys()


def taken(open_store: OpenStore, destination: Connection, id_: str, one: Owed, answer: Pushed, *, at: int) -> bool:
    """Note that the vendor took it at that moment; False if the record is gone."""
    before = _standing(open_store, [id_])
    told.keep(open_store, {id_: _taken(destination, was, one, answer, at) for id_, was in before.items()})
    return bool(before)


def raised(one: Owed) -> frozenset[str]:
    """The topics that it opts in."""
    return frozenset(topic for topic, act in one.state.consent.items() if act == "opt_in")


def _standing(open_store: OpenStore, ids: Iterable[str]) -> dict[str, Told]:
    standing = records.lock(open_store, ids)
    before = told.of(open_store, sorted(standing))
    return {id_: before.get(id_, NOTHING_TOLD) for id_ in standing}


def _sent(was: Told, one: Owed) -> Told:
    on_its_way = {name: Sent(cell.value, cell.value, None, cell.since.at) for name, cell in one.cells.items()}
    return replace(was, fields={**was.fields, **on_its_way}, raising=was.raising | raised(one))


def _taken(destination: Connection, was: Told, one: Owed, answer: Pushed, at: int) -> Told:
    """Fields as they were stored, where the vendor tells; consent as it was sent."""
    type_ = (answer.record or one.state.record or RecordRef("", "")).type
    stored = {
        rule.attribute: encode(destination.fields.read(rule, answer.fields[rule.path]))
        for rule in destination.fields.outgoing(type_)
        if rule.path in answer.fields
    }
    fields = {
        name: Sent(cell.value, stored.get(name, cell.value), at, cell.since.at) for name, cell in one.cells.items()
    }
    passed = {t: Passed(act, at, one.heard) for t, act in one.state.consent.items() if t not in answer.locked}
    raising = was.raising - one.state.consent.keys() if one.state.consent.get(ALL) != "opt_out" else frozenset()
    return Told({**was.fields, **fields}, {**was.consent, **passed}, raising)
