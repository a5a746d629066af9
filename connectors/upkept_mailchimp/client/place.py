"""Where a pull stands: everything needed to go on after a kill, as one JSON string."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from upkept.contract import Permanent


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The next page is of audience `audience`, archived members or the others, from `at` on, `offset` rows further.

    `since` and `until` (ISO 8601) frame the whole pull: what changes after `until` is for the next one. `tail` are
    the last rows seen, which the next page must show again; `latest` is the newest change seen, on Mailchimp's clock.
    `seen` counts members.
    """

    until: str
    since: str | None = None
    audience: str = ""
    archived: bool = False
    at: str | None = None
    offset: int = 0
    tail: tuple[str, ...] = ()
    backs: int = 0
    latest: str | None = None
    seen: int = 0

    def list_begins(self, audience: str, *, archived: bool) -> Place:
        """The first page of another list."""
        return replace(self, audience=audience, archived=archived, at=self.since, offset=0, tail=(), backs=0)

    def to_cursor(self) -> str:
        said = {key: value for key, value in asdict(self).items() if value not in (None, 0, (), False)}
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def from_cursor(cls, cursor: str) -> Place:
        """Raises `Permanent` for a cursor this version did not write."""
        try:
            said = json.loads(cursor)
            return cls(**{**said, "tail": tuple(said.get("tail", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise Permanent("the pull's cursor cannot be read; begin again with `upkept resync --full`") from error


def iso(time: datetime) -> str:
    """As Mailchimp writes times, whole seconds."""
    return time.astimezone(UTC).isoformat(timespec="seconds")
