"""Where a pull stands: everything needed to go on after a kill, as one JSON string. Times are unix seconds of
theirs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from upkept.contract import Permanent
from upkept_salesforce.objects import KINDS


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The next page is of the object number `of`, after the row `last`.

    `begun` is when the pull began, `since` and `until` the window of an incremental one (rows changed from the one up
    to, and not at, the other), `stamp` the `SystemModstamp` of `last` there, `gone` that its deleted rows are next, and
    `covered` up to when those are known. `counts` are the rows of each object at the beginning, `seen` those so far.
    `job` is a bulk query, `asked` how often it was looked at, `locator` its next part. `changes`: what follows is
    followed (see `follow`), from the change `replay` on; `swept` is when this pull began by the hub's own clock.
    """

    of: int = 0
    last: str = ""
    stamp: str = ""
    begun: int = 0
    since: int = 0
    until: int = 0
    gone: bool = False
    covered: int = 0
    counts: tuple[int, ...] = ()
    seen: int = 0
    job: str = ""
    asked: int = 0
    locator: str = ""
    changes: bool = False
    replay: str = ""
    swept: int = 0

    @property
    def full(self) -> bool:
        return not self.since

    def afresh(self) -> Place:
        """The beginning of a full walk instead."""
        return Place(changes=self.changes, replay=self.replay, swept=self.swept)

    def after(self, rows: int) -> Place | None:
        """The beginning of the next object, `rows` being those of the last page of this one; None after the last."""
        if self.of + 1 >= len(KINDS):
            return None
        return replace(
            self, of=self.of + 1, last="", stamp="", gone=False, job="", asked=0, locator="", seen=self.seen + rows
        )

    def to_cursor(self) -> str:
        said = {key: value for key, value in asdict(self).items() if value not in (0, "", (), False)}
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def from_cursor(cls, cursor: str) -> Place:
        """Raises `Permanent` for a cursor this version did not write."""
        try:
            said = json.loads(cursor)
            place = cls(**{**said, "counts": tuple(said.get("counts", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise Permanent("the pull's cursor cannot be read; begin again with `upkept resync --full`") from error
        if not 0 <= place.of < len(KINDS):
            raise Permanent("the pull's cursor names an unknown object; begin again with `upkept resync --full`")
        return place


def iso(second: int) -> str:
    """As SOQL writes a time, bare."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
