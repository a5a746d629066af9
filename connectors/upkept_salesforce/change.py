"""Change Data Capture: from a decoded change event to events of ours. Pure; whoever subscribes calls this.

Over the Pub/Sub API an update carries *every* field, the unchanged ones as null. Which ones changed stands in the
header, as bitmaps over the Avro schema: `0x08F81000` read as bits from the right, bit n for field n, the header
itself being field 0; `4-0x06` are fields of the compound (a `Name`, an address) that is field 4. `changedFields` and
`nulledFields` are stated, every other null is silence.

One change may name several records, one without a body (GAP_…) has to be read, and one about everything
(GAP_OVERFLOW, a wildcard id) needs a walk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from upkept.contract import Permanent, RawEvent
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import BY_NAME, OPT_OUT, PEOPLE

HEADER: Final = "ChangeEventHeader"
CLIENT: Final = "upkept"
"""How our own calls name themselves; a change they made ends in `;client=upkept`."""
SHOWN_WHOLE: Final = frozenset({"CREATE", "UPDATE"})
MOST_IN_A_SECOND: Final = 10_000
"""Changes of one transaction that are told apart by their number."""

Schema = Mapping[str, Sequence[str]]
"""The fields of an event in the order of its Avro schema, header included; of a compound its own fields."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What one change event brings: `events` for the inbox, and types of which everything has to be read again."""

    events: tuple[RawEvent, ...] = ()
    walk: frozenset[str] = frozenset()


def schema_of(record: Mapping[str, Any]) -> Schema:
    """The schema of a parsed Avro record: `{"type": "record", "fields": […]}`."""
    return {field["name"]: _inner(field["type"]) for field in record["fields"]}


def changes(event_id: str, change: Mapping[str, Any], schema: Schema, *, user_id_field: str = "") -> Changes:
    """`event_id` is the event's own id (a replay id may come twice); with a record's it names what happened to that
    one.

    Raises `Permanent` for what is no change event.
    """
    header = change.get(HEADER)
    if not isinstance(header, Mapping) or not isinstance(header.get("recordIds"), list):
        raise Permanent("not a change event: it has no ChangeEventHeader with recordIds")
    kind = BY_NAME.get(str(header.get("entityName")))
    if kind is None:
        return Changes()
    type = str(header.get("changeType"))
    ids = [full_id(id) for id in header["recordIds"]]
    if type == "GAP_OVERFLOW" or any(id is None or id.startswith("000") for id in ids):
        return Changes(walk=frozenset({kind.type}))
    found: list[RawEvent] = []
    for id in filter(None, ids):
        name = f"{event_id}:{id}"
        thin = RawEvent(id=f"{name}:read", kind=f"change.{kind.type}", body=_body({"row": {"Id": id}}), thin=True)
        if type not in SHOWN_WHOLE or kind.type not in PEOPLE:
            found.append(thin)
            continue
        row = stated(change, schema)
        said = {"header": _kept(header), "user_id_field": user_id_field or None, "row": {**row, "Id": id}}
        found.append(RawEvent(id=name, kind=f"change.{kind.type}", body=_body(said)))
        if _needs_reading(row):
            found.append(thin)
    return Changes(tuple(found))


def stated(change: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """The fields that a change says something about, compounds laid flat as in SOQL."""
    header = change[HEADER]
    if header.get("changeType") == "CREATE":
        names = [name for name, value in change.items() if name != HEADER and value is not None]
        return {name: value for name, value in _flat(change, names) if value is not None}
    names = named(header.get("changedFields") or (), schema)
    nulled = named(header.get("nulledFields") or (), schema)
    return {**dict(_flat(change, names)), **{name.rpartition(".")[2]: None for name in nulled}}


def named(bitmaps: Sequence[str], schema: Schema) -> list[str]:
    """The fields that bitmaps name, in the order of the schema; of a compound as `Name.FirstName`.

    A name instead of a bitmap (CometD sends those) stands for itself. Raises `Permanent` for bits beyond the schema.
    """
    top = list(schema)
    found: list[str] = []
    for bitmap in bitmaps:
        parent, _, mask = bitmap.rpartition("-")
        if not mask.startswith("0x"):
            found.append(bitmap)
            continue
        try:
            within = top if not parent else [f"{top[int(parent)]}.{name}" for name in schema[top[int(parent)]]]
            found += [within[bit] for bit in _bits(int(mask, 16))]
        except (IndexError, ValueError) as error:
            raise Permanent("a change event's bitmap does not fit its schema") from error
    return found


def sequence(header: Mapping[str, Any]) -> int:
    """The place of a change within its second: milliseconds first, then the number within the transaction."""
    at, number = header.get("commitTimestamp"), header.get("sequenceNumber")
    within = at % 1000 if isinstance(at, int) else 0
    return within * MOST_IN_A_SECOND + (min(number, MOST_IN_A_SECOND - 1) if isinstance(number, int) else 0)


def second(at: datetime) -> datetime:
    """A commit's time with the grain of `SystemModstamp`, so that a later read of that second outranks the change."""
    return at.replace(microsecond=0)


def is_ours(header: Mapping[str, Any]) -> bool:
    """Whether the change came from a call of ours (R6)."""
    return str(header.get("changeOrigin") or "").rstrip("/").endswith(f";client={CLIENT}")


def _bits(mask: int) -> Iterator[int]:
    return (bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def _flat(change: Mapping[str, Any], names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for name in names:
        parent, _, leaf = name.rpartition(".")
        value = (change.get(parent) or {}).get(leaf) if parent else change.get(name)
        if isinstance(value, Mapping):
            yield from ((inner, shown) for inner, shown in value.items() if shown is not None)
        else:
            yield leaf, value


def _needs_reading(row: Mapping[str, Any]) -> bool:
    """Whether the row itself has to be seen: whose address an opt-out binds, and the name that is put together."""
    return (row.get(OPT_OUT) is True and "Email" not in row) or bool({"FirstName", "LastName"} & row.keys())


def _kept(header: Mapping[str, Any]) -> dict[str, Any]:
    names = ("changeType", "changeOrigin", "commitTimestamp", "sequenceNumber", "transactionKey")
    return {name: header.get(name) for name in names}


def _inner(type: Any) -> Sequence[str]:
    """The fields of a compound, `["null", {"type": "record", …}]`; none of a plain field."""
    options = type if isinstance(type, list) else [type]
    records = (one for one in options if isinstance(one, Mapping) and one.get("type") == "record")
    return [field["name"] for record in records for field in record["fields"]]


def _body(said: Mapping[str, Any]) -> bytes:
    return json.dumps({"object": "upkept.change", **said}, separators=(",", ":")).encode()
