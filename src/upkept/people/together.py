"""What is said together, by the parts of one record or by records of one connection about one person (SEMANTICS R2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from upkept.contract import RecordRef, Summary
from upkept.people.facts import encode
from upkept.people.head import Cell
from upkept.people.values import Stamp


class Joint(NamedTuple):
    """What the records of one connection say together about one attribute, and those it was made of."""

    cell: Cell
    made_of: tuple[RecordRef, ...]


Joints = Mapping[str, Mapping[str, Joint]]
"""By connection and attribute. Most people have none."""

NO_JOINTS: Final[Joints] = {}


def newest_of(used: Iterable[RecordRef], newest: Mapping[RecordRef, Stamp | None], own: Stamp | None) -> Stamp | None:
    """The stamp of what was made of several: the newest among those it used (R2).

    What used none that has a stamp takes `own`; without that either it says nothing.
    """
    return max((stamp for ref in used if (stamp := newest[ref]) is not None), default=own)


def joined(said: Mapping[str, Summary], cells: Mapping[RecordRef, Mapping[str, Cell]]) -> dict[str, Joint]:
    """What a connector combined of its records; `cells` is what each of them says alone.

    Of a record that was used counts when it said so of that very attribute, for an old untouched value is no news by
    what is said of another; of one that says nothing of it, its newest word.
    """
    last = {ref: max((cell.since for cell in held.values()), default=None) for ref, held in cells.items()}
    latest = max((stamp for stamp in last.values() if stamp is not None), default=None)
    joints = {}
    for name, one in said.items():
        newest = {ref: held[name].since if name in held else last[ref] for ref, held in cells.items()}
        stamp = newest_of(one.used, newest, latest)
        if stamp is not None:
            joints[name] = Joint(Cell(encode(one.value), stamp, stamp), one.used)
    return joints
