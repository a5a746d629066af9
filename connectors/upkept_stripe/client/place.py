"""Where a pull stands: everything needed to go on after a kill, as one JSON string.

It also knows when a list runs in circles. A server (or a proxy's cache) that answers with the same page for ever would
otherwise keep a pull busy for ever, and a pull that never ends looks like one that works.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from upkept.contract import Permanent, cursors


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The next page is `stage` after the object `after`.

    Times are unix seconds on Stripe's clock: `begun` when the pull began, `since` the start of an incremental one,
    `oldest` the birth of the account (for the estimate), `until` a creation time to go on from when `after` is gone.
    `seen` counts objects of the whole pull, `pages` those of this stage; `mark` is Brent's, see `cursors.onward`.
    `without` names list parameters this server does not know.
    """

    stage: str
    group: int = 0
    after: str | None = None
    until: int | None = None
    begun: int | None = None
    since: int | None = None
    oldest: int | None = None
    seen: int = 0
    pages: int = 0
    mark: str | None = None
    without: tuple[str, ...] = ()

    def advanced(self, last: str, *, objects: int, endpoint: str) -> Place:
        """After a page that ends in `last` and has more to come. Raises `Retryable` if the list goes in circles."""
        pages, mark = cursors.onward(
            last, before=self.after, mark=self.mark, pages=self.pages, vendor="Stripe", endpoint=endpoint
        )
        return replace(self, after=last, pages=pages, mark=mark, seen=self.seen + objects)

    def stage_begins(self, stage: str, *, objects: int, group: int = 0) -> Place:
        """The first page of the next stage, `objects` being those of the last page of this one."""
        return replace(
            self, stage=stage, group=group, after=None, until=None, pages=0, mark=None, seen=self.seen + objects
        )

    def to_cursor(self) -> str:
        said = {key: value for key, value in asdict(self).items() if value not in (None, 0, ())}
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def from_cursor(cls, cursor: str) -> Place:
        """Raises `Permanent` for a cursor this version did not write."""
        try:
            said = json.loads(cursor)
            return cls(**{**said, "without": tuple(said.get("without", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise Permanent("the pull's cursor cannot be read; begin again with `upkept resync --full`") from error
