"""Pulling: a full walk over four lists, or the events since the last pull.

Stripe's lists know no "updated since" (https://docs.stripe.com/api/pagination), so an incremental pull reads
`/v1/events`, kept for 30 days (https://docs.stripe.com/api/events/list); what is older falls to the full walk.

- **Walk**: customers, subscriptions (canceled ones too), invoices, charges; each newest first. What changes or
  appears meanwhile is in the events from `begun` on, and there the next incremental pull begins.
- **Events**: newest first, at most 20 types a call; they carry their own ids, so a webhook that did come is known.
  The next pull begins `OVERLAP` before this one began: an event may be listed a little after it was created.
- A page is one call. Its cursor holds all that is needed to go on, so a kill at any page loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from upkept.contract import Config, Context, Page, Permanent, RawEvent, Retryable, cursors
from upkept_stripe.client.api import Account, Answer, ask
from upkept_stripe.client.errors import Forbidden, NotFound, Refused
from upkept_stripe.client.place import Place
from upkept_stripe.client.read import CARD_ON_FILE, COUPON, COUPONS, PAID_BY, envelope, snapshot
from upkept_stripe.normalize import KINDS

LISTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "customers": {"expand": [f"data.{path}" for path in (*CARD_ON_FILE, *COUPON)]},
    "subscriptions": {"status": "all", "expand": [f"data.{path}" for path in COUPONS]},
    "invoices": {"expand": [f"data.{path}" for path in PAID_BY]},
    "charges": {},
}
"""The lists of a full walk and what each needs beside its page; owners first."""

STAGES: Final = tuple(LISTS)
LIMIT: Final = 100
TYPES_PER_CALL: Final = 20
OVERLAP: Final = timedelta(minutes=5)
EVENTS_KEPT: Final = timedelta(days=30)
MARGIN: Final = timedelta(hours=6)
"""Events this near to their expiry could be gone before the pull reaches them."""

EVENT_TYPES: Final = tuple(sorted(kind for kind in KINDS if not kind.startswith("read.")))
GROUPS: Final = tuple(EVENT_TYPES[i : i + TYPES_PER_CALL] for i in range(0, len(EVENT_TYPES), TYPES_PER_CALL))


def pull(cursor: str | None, config: Account, ctx: Context) -> Iterator[Page]:
    """Pages from `cursor` on; `None` begins a full walk, `since:<ISO time>` an incremental pull.

    Raises our errors only; the pages before the error stand, and their last cursor continues.
    """
    place: Place | None = _beginning(cursor, ctx)
    while place is not None:
        page, place = _step(place, config, ctx)
        yield page


def _beginning(cursor: str | None, ctx: Context) -> Place:
    if cursor is None:
        return Place(stage=STAGES[0])
    since = cursors.since(cursor)
    if since is None:
        return Place.from_cursor(cursor)
    if since < ctx.now - EVENTS_KEPT + MARGIN:
        ctx.log.info("stripe keeps events for 30 days; all lists are walked instead", since=since.isoformat())
        return Place(stage=STAGES[0])
    return Place(stage="events", since=int(since.timestamp()))


def _step(place: Place, config: Account, ctx: Context) -> tuple[Page, Place | None]:
    if place.stage == "events":
        return _events_step(place, config, ctx)
    if place.stage in LISTS:
        return _list_step(place, config, ctx)
    raise Permanent("the pull's cursor names an unknown stage; begin again with `upkept resync --full`")


def _list_step(place: Place, config: Account, ctx: Context) -> tuple[Page, Place | None]:
    if place.begun is None:
        place = replace(place, oldest=_account_created(config, ctx))
    known = {name: value for name, value in LISTS[place.stage].items() if name not in place.without}
    try:
        answer = _list(place, config, ctx, params=known)
    except NotFound:
        if place.after is None or place.until is None:
            raise
        # The object the page begins after was deleted meanwhile: go on from its creation time, which repeats
        # at most the objects of that second.
        return _page((), replace(place, after=None, pages=0, mark=None))
    except (Forbidden, Refused):
        if "expand" not in known:
            raise
        # A key that may not read payment methods, or a stand-in: the list itself will do.
        return _page((), replace(place, without=(*place.without, "expand")))
    place = replace(place, begun=place.begun or answer.read_at)
    found, more = _data(answer, place)
    events = tuple(envelope(one, read_at=answer.read_at, account=config.account) for one in found)
    if more:
        last = found[-1]
        going = place.advanced(str(last["id"]), objects=len(found), endpoint=f"{place.stage}.list")
        return _page(events, replace(going, until=last.get("created")))
    following = STAGES.index(place.stage) + 1
    if following < len(STAGES):
        return _page(events, place.stage_begins(STAGES[following], objects=len(found)))
    return _last_page(events, place, objects=len(found))


def _events_step(place: Place, config: Account, ctx: Context) -> tuple[Page, Place | None]:
    wanted = EVENT_TYPES if "types" in place.without else GROUPS[place.group]
    filters = {"types": list(wanted), "created": {"gte": place.since}}
    known = {name: value for name, value in filters.items() if name not in place.without}
    try:
        answer = _list(place, config, ctx, params=known)
    except NotFound:
        if place.after is None:
            raise
        ctx.log.info("the stripe event a pull stood at has expired; all lists are walked instead")
        return _page((), Place(stage=STAGES[0]))
    except Refused:
        if not known:
            raise
        # A stand-in for Stripe may know fewer filters: do without, first `types`, and sift here.
        return _page((), replace(place, without=(*place.without, next(iter(known)))))
    place = replace(place, begun=place.begun or answer.read_at)
    found, more = _data(answer, place)
    events = tuple(snapshot(one, account=config.account) for one in found if _wanted(one, wanted, place.since or 0))
    if more:
        return _page(events, place.advanced(str(found[-1]["id"]), objects=len(events), endpoint="events.list"))
    if "types" not in place.without and place.group + 1 < len(GROUPS):
        return _page(events, place.stage_begins("events", objects=len(events), group=place.group + 1))
    return _last_page(events, place, objects=len(events))


def _wanted(event: Mapping[str, Any], types: Sequence[str], since: int) -> bool:
    return event.get("type") in types and event.get("created", since) >= since


def _list(place: Place, config: Account, ctx: Context, *, params: Mapping[str, Any]) -> Answer:
    where: dict[str, Any] = {"limit": LIMIT}
    if place.after is not None:
        where["starting_after"] = place.after
    elif place.until is not None:
        where["created"] = {"lte": place.until}
    return ask(f"/v1/{place.stage}", config, ctx, endpoint=f"{place.stage}.list", params={**params, **where})


def _data(answer: Answer, place: Place) -> tuple[list[Mapping[str, Any]], bool]:
    found, more = answer.body.get("data"), answer.body.get("has_more")
    if not isinstance(found, list) or not all(isinstance(one, Mapping) and one.get("id") for one in found):
        raise Retryable(f"Stripe {place.stage}.list: the answer is not a list of objects; the hub asks again")
    if more and not found:
        raise Retryable(f"Stripe {place.stage}.list: an empty page promises more; the hub asks again")
    return found, bool(more)


def _account_created(config: Account, ctx: Context) -> int | None:
    """When the account was born, for the estimate; a restricted key or a stand-in may not know."""
    try:
        created = ask("/v1/account", config, ctx, endpoint="accounts.retrieve").body.get("created")
    except (Config, NotFound, Refused):
        return None
    return created if isinstance(created, int) else None


def _page(events: tuple[RawEvent, ...], place: Place) -> tuple[Page, Place]:
    return Page(events=events, cursor=place.to_cursor(), total=estimate(place)), place


def _last_page(events: tuple[RawEvent, ...], place: Place, *, objects: int) -> tuple[Page, None]:
    resume = datetime.fromtimestamp(place.begun or 0, UTC) - OVERLAP
    total = place.seen + objects
    return Page(events=events, cursor=None, total=total, resume=f"since:{resume.isoformat()}"), None


def estimate(place: Place) -> int | None:
    """How many objects the walk will see, as if each list held as many and they came evenly over the years.

    Stripe's lists carry no count. Wrong in detail, it moves the right way and ends right, which is what a bar is for.
    """
    if place.stage not in LISTS or place.begun is None:
        return None
    walked = 0.0
    if place.until is not None and place.oldest is not None and place.oldest < place.begun:
        walked = min(max((place.begun - place.until) / (place.begun - place.oldest), 0.0), 1.0)
    share = (STAGES.index(place.stage) + walked) / len(STAGES)
    return max(round(place.seen / share), place.seen) if share > 0 else None
