"""Pages of everything there is, or of what changed since a time.

**A full walk** goes through leads, contacts, campaign members, tasks and events, deleted and archived ones included:
small objects by REST in the order of their ids, large ones as a job of the Bulk API (see `bulk`).

**An incremental pull** reads, object by object, the rows changed in a window, in the order of their
`SystemModstamp`, and goes on after the last row seen, whatever changes meanwhile. The window is frozen with the
first answer, and its end is the beginning of that second, for what else happens in it has the same stamp. The next
one begins `OVERLAP` earlier, because a row gets its stamp when it is written and can be seen when its transaction ends.
`getUpdated` is not called, for it gives ids alone, each still to be read, and the query brings the rows themselves.

Rows that were emptied out of the recycle bin are in no query; Salesforce's log of deletes names them for 15 days. What
begins earlier than that walks over everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from upkept.contract import Config, Context, Page, RawEvent, Retryable, cursors
from upkept_salesforce.client import bulk
from upkept_salesforce.client.api import Answer, query, rest
from upkept_salesforce.client.describe import forget, types
from upkept_salesforce.client.errors import Refused
from upkept_salesforce.client.follow import Following, listen
from upkept_salesforce.client.place import Place, iso
from upkept_salesforce.client.read import select
from upkept_salesforce.client.rows import event, gone
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import CHANGED, KINDS, PEOPLE, Kind
from upkept_salesforce.payload import moment

LIMIT: Final = 2_000
"""Rows of a page; Salesforce sends no more in one answer."""

OVERLAP: Final = 600
"""Seconds; a transaction may last ten minutes."""

DELETES_KEPT: Final = timedelta(days=15) - timedelta(hours=1)
"""How far back the log of deletes goes."""


def pull(cursor: str | None, config: SalesforceConfig, ctx: Context) -> Iterator[Page]:
    """See the head of this file. Every page is asked for when it is wanted, and its cursor continues after it."""
    place: Place | Following | None = Following.from_cursor(cursor or "") or _beginning(cursor, config, ctx)
    while place is not None:
        if isinstance(place, Following):
            page, place = _followed(place, config, ctx)
        else:
            page, place = _step(place, config, ctx)
        yield page


def _beginning(cursor: str | None, config: SalesforceConfig, ctx: Context) -> Place:
    fresh = Place(changes=config.changes, swept=int(ctx.now.timestamp()) if config.changes else 0)
    if cursor is None:
        return fresh
    since = cursors.since(cursor)
    if since is None:
        return Place.from_cursor(cursor)
    if since < ctx.now - DELETES_KEPT:
        ctx.log.info("salesforce logs deletes for 15 days; everything is walked instead", since=since.isoformat())
        return fresh
    return replace(fresh, since=max(int(since.timestamp()), 1))


def _followed(place: Following, config: SalesforceConfig, ctx: Context) -> tuple[Page, Place | Following | None]:
    now = ctx.now.timestamp()
    if not config.changes or place.is_due(now):
        begins = datetime.fromtimestamp(place.since, UTC).isoformat()
        return _step(replace(_beginning(f"since:{begins}", config, ctx), replay=place.replay), config, ctx)
    if place.until and now >= place.until:
        return Page(events=(), cursor=None, resume=replace(place, until=0, turns=0).to_cursor()), None
    heard = listen(place, config, ctx)
    if heard.walk:
        ctx.log.warning("more changed at salesforce at once than it tells; everything is walked")
        return _page(heard.events, replace(_beginning(None, config, ctx), replay=heard.place.replay))
    return Page(events=heard.events, cursor=heard.place.to_cursor()), heard.place


def _step(place: Place, config: SalesforceConfig, ctx: Context) -> tuple[Page, Place | None]:
    kind = KINDS[place.of]
    if types(kind, config, ctx) is None:
        if kind.type in PEOPLE:
            raise Config(f"the integration user may not see {kind.name}s: give it read access, then `upkept check`")
        return _next(place, ())
    if place.full and not place.counts:
        place = _counted(place, config, ctx)
    try:
        if place.gone:
            return _deleted(place, kind, config, ctx)
        if place.full and (place.job or place.counts[place.of] > bulk.FROM):
            return _in_bulk(place, kind, config, ctx)
        return _rows(place, kind, config, ctx)
    except Refused as error:
        if "INVALID_FIELD" in error.codes:
            forget(config)  # a field was hidden or removed since we asked
            raise Retryable(f"{error}; its fields are asked for again") from None
        raise


def _rows(place: Place, kind: Kind, config: SalesforceConfig, ctx: Context) -> tuple[Page, Place | None]:
    soql = f"{select(kind, config, ctx)}{_where(place)} LIMIT {LIMIT}"
    answer = query(soql, config, ctx, endpoint=f"{kind.name} query")
    found = answer.rows("records", endpoint=f"{kind.name} query")
    events = tuple(event(kind, row, at=answer.at, config=config, user=answer.user) for row in found)
    place = _frozen(place, answer)
    if not found or (len(found) < LIMIT and answer.body.get("done") is not False):
        return _over(place, kind, events)
    last, stamp = str(found[-1]["Id"]), str(found[-1].get(CHANGED) or "")
    if last == place.last and stamp == place.stamp:
        raise Retryable(f"Salesforce {kind.name} query: the list does not advance; the hub asks again")
    return _page(events, replace(place, last=last, stamp=stamp, seen=place.seen + len(events)))


def _where(place: Place) -> str:
    """The rows after the last one seen. Ids and stamps are Salesforce's own and hold no quotes."""
    if place.full:
        return (f" WHERE Id > '{full_id(place.last)}'" if place.last else "") + " ORDER BY Id"
    wanted = [f"{CHANGED} >= {_stamp(place)}"]
    if place.last:
        wanted.append(f"({CHANGED} > {_stamp(place)} OR Id > '{full_id(place.last)}')")
    if place.until:
        wanted.append(f"{CHANGED} < {iso(place.until)}")
    return f" WHERE {' AND '.join(wanted)} ORDER BY {CHANGED}, Id"


def _stamp(place: Place) -> str:
    known = moment(place.stamp)
    return iso(int(known.timestamp()) if known else place.since)


def _frozen(place: Place, answer: Answer) -> Place:
    """With the time of the first answer: when the pull began, and the end of an incremental one's window."""
    second = int(answer.at.timestamp())
    return replace(place, begun=place.begun or second, until=place.until or (0 if place.full else second))


def _over(place: Place, kind: Kind, events: tuple[RawEvent, ...]) -> tuple[Page, Place | None]:
    """All rows of an object were read. Deleted ones are left, where we keep records of their own."""
    if not place.full and kind.type in PEOPLE:
        return _page(events, replace(place, gone=True, seen=place.seen + len(events)))
    return _next(place, events)


def _deleted(place: Place, kind: Kind, config: SalesforceConfig, ctx: Context) -> tuple[Page, Place | None]:
    start = place.since // 60 * 60  # seconds count for nothing here, and an interval is a minute at least
    end = max(place.until // 60 * 60, start + 60)
    endpoint = f"{kind.name} getDeleted"
    try:
        answer = rest(
            "GET", f"sobjects/{kind.name}/deleted/", config, ctx, endpoint=endpoint,
            params={"start": iso(start), "end": iso(end)},
        )  # fmt: skip
    except Refused as error:
        ctx.log.warning("salesforce gives no list of deletes; the next full walk finds them", reason=str(error))
        return _next(place, ())
    earliest, covered = _second(answer, "earliestDateAvailable"), _second(answer, "latestDateCovered")
    if earliest > start + 60:
        ctx.log.info("salesforce's log of deletes begins later than the pull; everything is walked instead")
        return _page((), place.afresh())
    found = answer.rows("deletedRecords", endpoint=endpoint)
    events = tuple(
        gone(kind, id, at=answer.at, when=str(one.get("deletedDate") or "") or None, config=config)
        for one in found
        if (id := full_id(one.get("id"))) is not None
    )
    if covered:
        place = replace(place, covered=min(covered, place.covered or covered))
    return _next(place, events)


def _second(answer: Answer, name: str) -> int:
    known = moment(answer.body.get(name)) if isinstance(answer.body, Mapping) else None
    return int(known.timestamp()) if known else 0


def _in_bulk(place: Place, kind: Kind, config: SalesforceConfig, ctx: Context) -> tuple[Page, Place | None]:
    step = bulk.step(place, kind, config, ctx)
    if step.place is None:
        return _next(place, step.events)
    return _page(step.events, step.place)


def _counted(place: Place, config: SalesforceConfig, ctx: Context) -> Place:
    counts = []
    for kind in KINDS:
        count: Any = 0
        if types(kind, config, ctx) is not None:
            answer = query(f"SELECT COUNT() FROM {kind.name}", config, ctx, endpoint=f"{kind.name} count")  # noqa: S608
            count = answer.body.get("totalSize") if isinstance(answer.body, Mapping) else None
            place = _frozen(place, answer)
        if not isinstance(count, int):
            raise Retryable(f"Salesforce {kind.name} count: the answer is no count; the hub asks again")
        counts.append(count)
    return replace(place, counts=tuple(counts))


def _next(place: Place, events: tuple[RawEvent, ...]) -> tuple[Page, Place | None]:
    following = place.after(len(events))
    if following is not None:
        return _page(events, following)
    known = (place.until or place.begun) if not place.covered else min(place.until or place.begun, place.covered)
    begins, total = max(known - OVERLAP, 1), place.seen + len(events)
    resume = f"since:{datetime.fromtimestamp(begins, UTC).isoformat()}"
    if place.changes:
        resume = Following(replay=place.replay, since=begins, swept=place.swept).to_cursor()
    return Page(events=events, cursor=None, total=total, resume=resume), None


def _page(events: tuple[RawEvent, ...], place: Place) -> tuple[Page, Place]:
    total = max(sum(place.counts), place.seen) if place.counts else None
    return Page(events=events, cursor=place.to_cursor(), total=total), place
