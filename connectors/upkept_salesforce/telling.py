"""What happened elsewhere, as a completed task of Salesforce's. Pure.

The subject of such a task ends in `MARK`: by that it is known for ours wherever it is read back, whoever edited or
moved it since. The last line of its description names the event, so that it is not made twice; standard fields do
for both, and nobody's notes have to be read for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from upkept.contract import Happened, Scalar
from upkept_salesforce.payload import Row, text

WRITTEN: Final = ("WhoId", "Subject", "Status", "ActivityDate", "Description")
MARK: Final = " (Upkept)"
MOST_SUBJECT: Final = 255
"""Characters of a subject; Salesforce's own limit."""
MOST_VALUE: Final = 1_000
"""Characters of one value; a description takes 32,000."""
NAMED: Final = "Upkept "


def task(event: Happened, key: str, *, who: str, status: str) -> dict[str, Any]:
    """The fields to make it of; its day is the event's in UTC."""
    return {
        "WhoId": who,
        "Subject": " ".join(event.name.split())[: MOST_SUBJECT - len(MARK)] + MARK,
        "Status": status,
        "ActivityDate": event.at.astimezone(UTC).date().isoformat(),
        "Description": _description(event, key),
    }


def is_told(row: Row) -> bool:
    """Is this task ours?"""
    return (text(row.get("Subject")) or "").endswith(MARK)


def key_of(description: Any) -> str | None:
    """Which event a task's description names, if any."""
    last = description.rstrip().rpartition("\n")[2] if isinstance(description, str) else ""
    return last.removeprefix(NAMED) if last.startswith(NAMED) else None


def _description(event: Happened, key: str) -> str:
    said = [f"{name[:MOST_VALUE]}: {_shown(value)}" for name, value in _known(event.metadata)]
    at = event.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return "\n".join([f"{event.name}, {at}, from {event.source}", *said, "", f"{NAMED}{key}"])


def _known(metadata: Mapping[str, Scalar]) -> list[tuple[str, Scalar]]:
    return [(name, value) for name, value in metadata.items() if value is not None]


def _shown(value: Scalar) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return " ".join(str(value).split())[:MOST_VALUE]
