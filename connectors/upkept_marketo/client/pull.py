"""Pulling: a full walk by bulk extracts, or the activities since the last pull.

- **Walk**: all leads by the time they were created, then the activities of the last 90 days. What happens meanwhile is
  in the activities from `begun` on, and there the next incremental pull begins.
- **Activities**: three lists, from one moment on. `leadchanges` brings new leads and changed fields, an opt-out by
  form, CRM or API among them; `activities` the unsubscribes by link, bounces, merges and what goes on the timeline;
  `deletedleads` the deletes, which Marketo keeps for 14 days: what is older falls to the walk.
- A change names the lead and no address. So the leads of a page that matter are read with it, in one call.
- A page is one step. Its cursor holds all that is needed to go on, so a kill at any page loses nothing. A list that
  reaches what happened after the pull began ends: a busy subscription would keep it going for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from upkept.contract import Config, Context, Page, Permanent, RawEvent, Retryable, cursors
from upkept_marketo.client import export
from upkept_marketo.client.api import Answer, ask
from upkept_marketo.client.names import known_fields, types
from upkept_marketo.client.place import Place
from upkept_marketo.client.read import envelope, leads
from upkept_marketo.client.rows import ACTIVITY, activity
from upkept_marketo.config import MarketoConfig, first_day
from upkept_marketo.fields import NAMES
from upkept_marketo.normalize import CHANGED, CREATED, DELETED, HAPPENED, TYPES
from upkept_marketo.payload import lead_id, moment, written

LISTED: Final[Mapping[str, str]] = {"changes": "leadchanges", "activities": "activities", "deleted": "deletedleads"}
STAGES: Final = tuple(LISTED)
OVERLAP: Final = timedelta(minutes=10)
"""An activity may be listed a little after it was logged."""

DELETES_KEPT: Final = timedelta(days=13)
"""Of the 14 days that Marketo keeps them (Marketo Activities Data Retention Policy)."""

HISTORY: Final = 90 * export.DAY
MOST_TYPES: Final = 10
"""Activity types that one call may ask for."""

PAGE: Final = "300"
OLDEST_IDS: Final = tuple(str(number) for number in range(1, 301))
YEARS: Final = 10 * 365 * export.DAY
"""How far back a walk begins where neither `since` nor the first leads tell."""

WEIGHTY: Final = frozenset({"unsubscribed", "emailInvalid", "blackListed", "email"})
"""Fields whose change is of an address, so that the lead is read with it."""


def pull(cursor: str | None, config: MarketoConfig, ctx: Context) -> Iterator[Page]:
    """Pages from `cursor` on; `None` begins a full walk, `since:<ISO time>` an incremental pull.

    Raises our errors only; the pages before the error stand, and their last cursor continues.
    """
    place: Place | None = _beginning(cursor, ctx)
    while place is not None:
        page, place, later = _step(place, config, ctx)
        yield page
        if later:
            raise Retryable("Marketo prepares the export; the hub asks again")


def _beginning(cursor: str | None, ctx: Context) -> Place:
    if cursor is None:
        return Place(stage="leads")
    since = cursors.since(cursor)
    if since is None:
        return Place.from_cursor(cursor)
    if since < ctx.now - DELETES_KEPT:
        ctx.log.info("marketo keeps deletes for 14 days; all leads are walked instead", since=since.isoformat())
        return Place(stage="leads")
    return Place(stage="changes", since=int(since.timestamp()))


def _step(place: Place, config: MarketoConfig, ctx: Context) -> tuple[Page, Place | None, bool]:
    if place.stage in LISTED:
        return (*_list_step(place, config, ctx), False)
    if place.stage in ("leads", "history"):
        return _walk_step(place, config, ctx)
    raise Permanent("the pull's cursor names an unknown stage; begin again with `upkept resync --full`")


def _walk_step(place: Place, config: MarketoConfig, ctx: Context) -> tuple[Page, Place | None, bool]:
    if place.slice is None:
        place = _walk_begins(place, config, ctx)
        return Page(events=(), cursor=place.to_cursor()), place, False
    if place.slice >= (place.begun or 0):
        if place.stage == "history":
            return (*_last_page((), place), False)
        place = place.stage_begins("history")
        return Page(events=(), cursor=place.to_cursor(), total=place.seen or None), place, False
    if place.stage == "leads":
        rows, after, later = export.step(place, {}, known_fields(config, ctx), config, ctx)
        read_at = place.read_at or 0
        events = [envelope([_typed(row)], read_at=read_at) for row in rows]
    else:
        names = _wanted(config, ctx)
        if not names:
            return (*_last_page((), place), False)
        rows, after, later = export.step(place, {"activityTypeIds": list(names)}, ACTIVITY, config, ctx)
        events = [_event(activity(row), names) for row in rows]
    after = replace(after, seen=place.seen + len(events))
    return Page(events=tuple(events), cursor=after.to_cursor(), total=_estimate(after)), after, later


def _walk_begins(place: Place, config: MarketoConfig, ctx: Context) -> Place:
    """Where the stretches of an export begin."""
    if place.stage == "history":
        before = (place.begun or 0) - HISTORY
        return replace(place, start=before, slice=before)
    oldest, read_at = leads("id", OLDEST_IDS, config, ctx, fields=("id", "createdAt"))
    day = first_day(config)
    start = None if day is None else int(day.timestamp()) - export.DAY
    if start is None:
        created = [at for one in oldest if (at := moment(one.get("createdAt"))) is not None]
        start = int(min(created).timestamp()) - export.DAY if created else read_at - YEARS
    return replace(place, begun=read_at, start=start, slice=start)


def _typed(row: Mapping[str, str | None]) -> dict[str, Any]:
    """A row as the REST API would show the lead, as far as it matters here."""
    return {**row, "id": int(row.get("id") or 0)} if str(row.get("id") or "").isdigit() else dict(row)


def _list_step(place: Place, config: MarketoConfig, ctx: Context) -> tuple[Page, Place | None]:
    names: Mapping[int, tuple[str, str]] = {}
    params: dict[str, str] = {"batchSize": PAGE}
    if place.stage == "changes":
        params["fields"] = ",".join(name for name in known_fields(config, ctx) if name not in ("id", "updatedAt"))
        names = {number: (CREATED, name) for name, number in types(config, ctx).items() if name == "New Lead"}
    elif place.stage == "activities":
        names = _wanted(config, ctx)
        if not names:
            return _stage_ends((), place)
        params["activityTypeIds"] = ",".join(map(str, sorted(names)))
    if place.token is None:
        place = _opened(place, config, ctx)
    listed = LISTED[place.stage]
    path = "/rest/v1/activities.json" if listed == "activities" else f"/rest/v1/activities/{listed}.json"
    answer = ask(path, config, ctx, endpoint=listed, params={**params, "nextPageToken": place.token or ""})
    place = replace(place, begun=place.begun or answer.read_at)
    found = answer.result
    if place.stage == "deleted":
        events = [_named(DELETED, "Delete Lead", one) for one in found]
    elif place.stage == "changes":
        events = _changes(found, names, config, ctx)
    else:
        events = _activities(found, names, config, ctx)
    if answer.body.get("moreResult") is not True or _is_past(found, place):
        return _stage_ends(tuple(events), place)
    after = place.advanced(_next(answer, listed), events=len(events), endpoint=listed)
    return Page(events=tuple(events), cursor=after.to_cursor()), after


def _opened(place: Place, config: MarketoConfig, ctx: Context) -> Place:
    """The paging token for where the activities of this pull begin, the same for all its lists."""
    since = datetime.fromtimestamp(place.since or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    answer = ask("/rest/v1/activities/pagingtoken.json", config, ctx, endpoint="pagingtoken",
                 params={"sinceDatetime": since})  # fmt: skip
    token = _next(answer, "pagingtoken")
    return replace(place, first=token, token=token, begun=place.begun or answer.read_at)


def _next(answer: Answer, endpoint: str) -> str:
    token = answer.body.get("nextPageToken")
    if not isinstance(token, str) or not token:
        raise Retryable(f"Marketo {endpoint}: the answer holds no paging token; the hub asks again")
    return token


def _is_past(found: Sequence[Mapping[str, Any]], place: Place) -> bool:
    """Whether a page reaches what happened after the pull began: the next pull begins before that."""
    times = [at.timestamp() for one in found if (at := moment(one.get("activityDate"))) is not None]
    return bool(times) and min(times) > (place.begun or 0)


def _stage_ends(events: tuple[RawEvent, ...], place: Place) -> tuple[Page, Place | None]:
    following = STAGES.index(place.stage) + 1
    if following == len(STAGES):
        return _last_page(events, place)
    after = place.stage_begins(STAGES[following], events=len(events))
    return Page(events=events, cursor=after.to_cursor()), after


def _last_page(events: tuple[RawEvent, ...], place: Place) -> tuple[Page, None]:
    resume = datetime.fromtimestamp(place.begun or place.since or 0, UTC) - OVERLAP
    return Page(events=events, cursor=None, total=place.seen + len(events), resume=f"since:{resume.isoformat()}"), None


def _wanted(config: MarketoConfig, ctx: Context) -> Mapping[int, tuple[str, str]]:
    """The activity types to ask for by number: our kind and Marketo's name for each. Changes and deletes have lists of
    their own."""
    there = types(config, ctx)
    elsewhere = {CHANGED, CREATED, DELETED}
    ours = {there[name]: (kind, name) for name, kind in TYPES.items() if kind not in elsewhere and name in there}
    others = {there[name]: (HAPPENED, name) for name in config.activities if name in there and name not in TYPES}
    if len(ours) + len(others) > MOST_TYPES:
        raise Config(f"`activities` of this connection names more than {MOST_TYPES - len(ours)} activity types")
    return {**ours, **others}


def _changes(
    found: Sequence[Mapping[str, Any]], created: Mapping[int, tuple[str, str]], config: MarketoConfig, ctx: Context
) -> list[RawEvent]:
    """The changes of a page, with the leads whose address they are about."""
    kinds = [CHANGED if one.get("fields") else created.get(one.get("activityTypeId", 0), ("",))[0] for one in found]
    told = [(one, kind) for one, kind in zip(found, kinds, strict=True) if kind]
    known, read_at = _known([one for one, kind in told if kind == CREATED or _is_weighty(one)], config, ctx)
    events = []
    for number, (one, kind) in enumerate(told):
        if kind == CREATED:
            events.append(_named(CREATED, "New Lead", one))
            continue
        lead = known.get(str(one.get("leadId")), {})
        later = (other for other, _ in told[number + 1 :] if other.get("leadId") == one.get("leadId"))
        more = {
            "email": next(filter(None, map(_address_before, later)), lead.get("email")),
            "lead": {name: lead[name] for name in NAMES if name in lead},
        }
        events.append(
            _named(CHANGED, "Change Data Value", one, **{name: value for name, value in more.items() if value})
        )
    return events + [envelope([lead], read_at=read_at) for lead in known.values()]


def _address_before(change: Mapping[str, Any]) -> str | None:
    """The address a lead had before a change, if the change is of it."""
    for field in change.get("fields") or ():
        if isinstance(field, Mapping) and field.get("name") == "email" and isinstance(field.get("oldValue"), str):
            return str(field["oldValue"])
    return None


def _is_weighty(change: Mapping[str, Any]) -> bool:
    """Whether it is of an address, or of a part of a name whose other part is not said."""
    names = {field.get("name") for field in change.get("fields") or () if isinstance(field, Mapping)}
    return bool(names & WEIGHTY) or (bool(names & set(NAMES)) and not names >= set(NAMES))


def _activities(
    found: Sequence[Mapping[str, Any]], names: Mapping[int, tuple[str, str]], config: MarketoConfig, ctx: Context
) -> list[RawEvent]:
    """The activities of a page, with the leads that opted out, bounced or took in others, as they are now."""
    about = [one for one in found if names.get(one.get("activityTypeId", 0), (HAPPENED,))[0] != HAPPENED]
    known, read_at = _known(about, config, ctx)
    addresses = {id: lead["email"] for id, lead in known.items() if lead.get("email")}
    events = [_event(one, names, addresses.get(str(one.get("leadId")))) for one in found]
    return events + [envelope([lead], read_at=read_at) for lead in known.values()]


def _known(
    about: Sequence[Mapping[str, Any]], config: MarketoConfig, ctx: Context
) -> tuple[dict[str, Mapping[str, Any]], int]:
    """The leads of these activities that are still there, by id, and when they were read."""
    ids = list(dict.fromkeys(id for one in about if (id := lead_id(one.get("leadId"))) is not None))
    if not ids:
        return {}, 0
    found, read_at = leads("id", ids, config, ctx)
    return {str(one["id"]): one for one in found}, read_at


def _event(found: Mapping[str, Any], names: Mapping[int, tuple[str, str]], email: str | None = None) -> RawEvent:
    kind, name = names.get(found.get("activityTypeId", 0), (HAPPENED, "activity"))
    return _named(kind, name, found, **({"email": email} if email and kind != HAPPENED else {}))


def _named(kind: str, name: str, found: Mapping[str, Any], **more: Any) -> RawEvent:
    guid = found.get("marketoGUID") or found.get("id")
    if not isinstance(guid, str | int) or isinstance(guid, bool):
        raise Retryable("Marketo activities: one without an id; the hub asks again")
    return RawEvent(id=f"{kind}:{guid}", kind=kind, body=written({"type": name, "activity": found, **more}))


def _estimate(place: Place) -> int | None:
    """How many events the walk will see, as if they came evenly over the years. Marketo counts nothing beforehand."""
    if place.start is None or place.slice is None or place.begun is None or place.begun <= place.start:
        return place.seen or None
    share = min((place.slice - place.start) / (place.begun - place.start), 1.0)
    return max(round(place.seen / share), place.seen) if share > 0 and place.stage == "leads" else place.seen or None
