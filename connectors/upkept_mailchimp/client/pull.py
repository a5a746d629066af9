"""Pulling: the members of every audience, or those that changed.

`GET /lists/{id}/members` pages by offset, and a moving set moves under an offset. So:

- The set is **frozen**: `before_last_changed` is when the pull began; what changes later is for the next one.
- It is read in the order of `last_changed`, and the page after a row begins at that row's *time*, not at its number:
  what leaves the frozen set behind us moves nothing. Only within one second (an import gives thousands of members one
  time) is there an offset. There pages overlap by `OVERLAP` rows, and a page that shows none of the last ones again
  is proof that rows moved past us: it is read again from further up.
- Archived members are listed under their own status only, so each audience is two lists.
- Who is deleted is in no list: a full walk shows the hub everybody, and who is missing is read back.

A page is one call. Its cursor holds all that is needed to go on, so a kill at any page loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from upkept.contract import Config, Context, Page, Permanent, RawEvent, Retryable, cursors
from upkept.contract.cursors import moment
from upkept_mailchimp.client.api import ask
from upkept_mailchimp.client.audience import audience_of
from upkept_mailchimp.client.errors import NotFound
from upkept_mailchimp.client.place import Place, iso
from upkept_mailchimp.client.read import listed
from upkept_mailchimp.config import MailchimpConfig

ROWS: Final = 500
"""Mailchimp gives up to 1000 a page, which may take longer than we wait."""

OVERLAP: Final = 10
SECOND: Final = timedelta(seconds=1)
MOST_BACKS: Final = 20
"""Steps back within one second's rows. A list that gives those in another order each time would never be done."""

BACK: Final = timedelta(minutes=5)
"""The next pull begins so long before this one's window ends: a change may be listed a little after it was made."""


def pull(cursor: str | None, config: MailchimpConfig, ctx: Context) -> Iterator[Page]:
    """Pages from `cursor` on; `None` begins a full walk, `since:<ISO time>` an incremental pull.

    Raises our errors only; the pages before the error stand, and their last cursor continues.
    """
    if not config.audiences:
        raise Config("`audiences` of this connection names none; add the ids of the audiences to keep in step")
    place: Place | None = _beginning(cursor, config, ctx)
    while place is not None:
        page, place = _step(place, config, ctx)
        yield page


def _beginning(cursor: str | None, config: MailchimpConfig, ctx: Context) -> Place:
    since = None if cursor is None else cursors.since(cursor)
    if cursor is not None and since is None:
        return Place.from_cursor(cursor)
    place = Place(until=iso(ctx.now), since=None if since is None else iso(since))
    return place.list_begins(config.audiences[0], archived=False)


def _step(place: Place, config: MailchimpConfig, ctx: Context) -> tuple[Page, Place | None]:
    rows, total = _rows(place, config, ctx)
    audience = audience_of(place.audience, config, ctx)
    events = tuple(event for event in (listed(row, audience) for row in rows) if event is not None)
    left = place.seen + total - place.offset
    if place.tail and place.backs < MOST_BACKS and not {str(row["id"]) for row in rows} & set(place.tail):
        # Rows before us left the window. Those of this page are good; what lies between is read from further up.
        offset = max(place.offset - ROWS, 0)
        back = replace(place, offset=offset, tail=place.tail if offset else (), backs=place.backs + 1)
        return _page(events, back, left)
    place = replace(place, seen=place.seen + len(rows), latest=_latest(place, rows))
    following = _going(place, rows, total) or _following(place, config)
    if following is not None:
        return _page(events, following, max(left, place.seen))
    return Page(events=events, cursor=None, total=place.seen, resume=f"since:{_resume(place)}"), None


def _latest(place: Place, rows: Sequence[Mapping[str, Any]]) -> str | None:
    seen = [str(row["last_changed"]) for row in rows[-1:] if row.get("last_changed")]
    return max([*seen, *([place.latest] if place.latest else [])], key=moment, default=None)


def _resume(place: Place) -> str:
    """Where the next pull begins: before what was seen last, should our clock be ahead of Mailchimp's."""
    if place.latest is None:
        return place.since or iso(moment(place.until) - BACK)
    return iso(min(moment(place.until), moment(place.latest)) - BACK)


def _going(place: Place, rows: Sequence[Mapping[str, Any]], total: int) -> Place | None:
    """Where the next page of this list begins; None if there is none."""
    behind = place.offset + len(rows)
    if behind >= total:
        return None
    if not rows:
        raise Retryable("Mailchimp members.list: an empty page promises more; the hub asks again")
    last = str(rows[-1].get("last_changed") or "")
    tail = tuple(str(row["id"]) for row in rows[-OVERLAP:])
    began = moment(last) - SECOND if last else None  # Mailchimp lists what changed *after* a time
    if began is not None and (place.at is None or began > moment(place.at)):
        return replace(place, at=iso(began), offset=0, tail=(), backs=0)
    if len(rows) <= OVERLAP:
        raise Retryable("Mailchimp members.list: the list does not advance; the hub asks again")
    return replace(place, offset=behind - OVERLAP, tail=tail)


def _following(place: Place, config: MailchimpConfig) -> Place | None:
    if not place.archived:
        return place.list_begins(place.audience, archived=True)
    try:
        following = config.audiences.index(place.audience) + 1
    except ValueError as error:
        raise Permanent("`audiences` changed under the pull; begin again with `upkept resync --full`") from error
    return place.list_begins(config.audiences[following], archived=False) if following < len(config.audiences) else None


def _rows(place: Place, config: MailchimpConfig, ctx: Context) -> tuple[list[Mapping[str, Any]], int]:
    """A page, and how many rows there are from `place.at` on."""
    wanted: dict[str, Any] = {
        "count": ROWS,
        "offset": place.offset,
        "sort_field": "last_changed",
        "sort_dir": "ASC",
        "before_last_changed": place.until,
        "exclude_fields": ["members._links", "_links"],
    }
    if place.at is not None:
        wanted["since_last_changed"] = place.at
    if place.archived:
        wanted["status"] = "archived"
    try:
        answer = ask(
            "members.list", config, ctx, lambda client: client.lists.get_list_members_info(place.audience, **wanted)
        )
    except NotFound as error:
        raise Config(
            f"audience {place.audience} is not in this account; check `audiences` and `api_key` of this connection"
        ) from error
    rows, total = answer.get("members"), answer.get("total_items")
    if (
        not isinstance(rows, list)
        or not isinstance(total, int)
        or answer.get("list_id", place.audience) != place.audience
    ):
        raise Retryable("Mailchimp members.list: the answer is not a list of members; the hub asks again")
    return rows, max(total, place.offset + len(rows)) if rows else total


def _page(events: tuple[RawEvent, ...], place: Place, total: int) -> tuple[Page, Place]:
    return Page(events=events, cursor=place.to_cursor(), total=total), place
