"""Where a pull stands: everything needed to go on after a kill, as one JSON string.

It also knows when a list runs in circles: a page of Marketo's may be empty and promise more, so only its token tells
whether the list moves on.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

from upkept.contract import Permanent, cursors


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The next page is of `stage`.

    Times are unix seconds of Marketo's clock: `begun` when the pull began, `since` where its activities begin, `start`
    the first and `slice` the current stretch of an export. `job` is the export under way, `state` how far it is,
    `read_at` when it looked, `offset` where in its file of `size` bytes we are, `columns` what its columns are called.
    `first` and `token` are paging tokens; `pages` counts those of this stage, `mark` is Brent's, see `cursors.onward`.
    `seen` counts events of the whole pull, `polls` how often we asked for this export.
    """

    stage: str
    begun: int | None = None
    since: int | None = None
    first: str | None = None
    token: str | None = None
    pages: int = 0
    mark: str | None = None
    start: int | None = None
    slice: int | None = None
    job: str | None = None
    state: str | None = None
    read_at: int | None = None
    size: int = 0
    offset: int = 0
    columns: tuple[str, ...] = ()
    polls: int = 0
    seen: int = 0

    def advanced(self, token: str, *, events: int, endpoint: str) -> Place:
        """After a page that ends at `token` and has more to come. Raises `Retryable` if the list goes in circles."""
        pages, mark = cursors.onward(
            token, before=self.token, mark=self.mark, pages=self.pages, vendor="Marketo", endpoint=endpoint
        )
        return replace(self, token=token, pages=pages, mark=mark, seen=self.seen + events)

    def without_job(self) -> Place:
        """The same stretch, its export to be made anew."""
        return replace(self, job=None, state=None, read_at=None, size=0, offset=0, columns=(), polls=0)

    def stage_begins(self, stage: str, *, events: int = 0) -> Place:
        """The first page of another stage, `events` being those of the last page of this one."""
        return replace(self.without_job(), stage=stage, token=self.first, pages=0, mark=None, start=None, slice=None,
                       seen=self.seen + events)  # fmt: skip

    def to_cursor(self) -> str:
        said = {key: value for key, value in asdict(self).items() if value not in (None, 0, ())}
        return json.dumps(said, separators=(",", ":"))

    @classmethod
    def from_cursor(cls, cursor: str) -> Place:
        """Raises `Permanent` for a cursor this version did not write."""
        try:
            said = json.loads(cursor)
            return cls(**{**said, "columns": tuple(said.get("columns", ()))})
        except (ValueError, TypeError, AttributeError) as error:
            raise Permanent("the pull's cursor cannot be read; begin again with `upkept resync --full`") from error
