"""Writing back: what a lead or contact should say, in as few calls as Salesforce allows.

Up to 200 records of one type go in one call of the collections API, each with a result of its own. Opt-outs go
first, what happened (see `tasks`) goes last, and
**a field that Salesforce does not take never holds up an opt-out**: it is then sent again alone.

**Who is made.** Nobody, unless the connection's rule asks for it (`record` is None): then a lead. With
`external_id_field` it is an upsert by the user id, which cannot make the same person twice; without it whoever already
bears the address is taken, and only if nobody does somebody is made.

**Idempotent.** Fields and consent are set, so a second try changes nothing more; what happened is found by its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Final

from upkept.contract import (
    Config,
    Context,
    Desired,
    Gone,
    Permanent,
    Pushed,
    RecordRef,
    Retryable,
    Skipped,
    UpkeptError,
)
from upkept_salesforce.client.api import rest
from upkept_salesforce.client.create import CONVERTED, QUIET, created
from upkept_salesforce.client.errors import Forbidden, NotFound, Refused, results
from upkept_salesforce.client.tasks import noted
from upkept_salesforce.config import SalesforceConfig
from upkept_salesforce.ids import full_id
from upkept_salesforce.objects import BY_TYPE, OPT_OUT, PEOPLE, Kind

TOGETHER: Final = 200
"""Records of one call to the collections API; Salesforce's own limit."""

FIRST: Final = ("update", "lead")

Answered = Iterator[tuple[str, Pushed | UpkeptError]]


def push(state: Desired, config: SalesforceConfig, ctx: Context, *, key: str) -> Pushed:
    """One person; raises `Skipped` where there is nothing to do, `Permanent` where Salesforce will never take it."""
    _, answer = next(iter(push_many({key: state}, config, ctx)))
    if isinstance(answer, UpkeptError):
        raise answer
    return answer


def push_many(states: Mapping[str, Desired], config: SalesforceConfig, ctx: Context) -> Answered:
    """Many, opt-outs first. Raises `Retryable` or `Config` where no further one can be answered."""
    groups: dict[tuple[str, str], dict[str, Desired]] = {}
    for key, state in sorted(states.items(), key=lambda pair: (not opts_out(pair[1]), pair[0])):
        groups.setdefault(_group(state), {})[key] = state
    for (what, of), group in sorted(groups.items(), key=lambda pair: (pair[0][0] == "note", pair[0] != FIRST)):
        kind = BY_TYPE.get(of)
        if what == "note":
            for some in _chunks(group):
                yield from _noted(some, config, ctx)
        elif what == "create":
            yield from _each(group, lambda state: created(state, body(state), config, ctx))
        elif kind is None or kind.type not in PEOPLE:
            yield from ((key, Skipped("only leads and contacts are written")) for key in group)
        else:
            for some in _chunks(group):
                yield from (_erase if what == "erase" else _update)(some, kind, config, ctx)


def opts_out(state: Desired) -> bool:
    """Whether it takes consent away."""
    return state.erased or "opt_out" in state.consent.values()


def body(state: Desired) -> dict[str, Any]:
    """The fields to write. Consent is about all mail: Salesforce has one checkbox."""
    said = {path: value for path, value in state.fields.items() if "." not in path}
    said.pop(OPT_OUT, None)
    match state.consent.get("*"):
        case "opt_out":
            said[OPT_OUT] = True
        case "opt_in":
            said[OPT_OUT] = False
    return said


def _group(state: Desired) -> tuple[str, str]:
    if state.event is not None:
        return "note", ""
    if state.record is None:
        return "create", ""
    return "erase" if state.erased else "update", state.record.type


def _update(some: Mapping[str, Desired], kind: Kind, config: SalesforceConfig, ctx: Context) -> Answered:
    bodies: dict[str, dict[str, Any]] = {}
    for key, state in some.items():
        id, said = full_id(state.record.id if state.record else None), body(state)
        if id is None or not said:
            yield key, Skipped("nothing of it is Salesforce's to hold")
        else:
            bodies[key] = {**said, "Id": id}
    again: dict[str, UpkeptError] = {}
    for key, at, error in _sent(bodies, kind, config, ctx):
        if error is None:
            yield key, _pushed(kind, bodies[key], at)
        elif isinstance(error, Refused) and CONVERTED not in error.codes and _can_be_less(bodies[key]):
            again[key] = error
        else:
            yield key, _ended(error)
    alone = {key: {"Id": bodies[key]["Id"], OPT_OUT: True} for key in again}
    for key, _, error in _sent(alone, kind, config, ctx):
        # The opt-out is in force there now; what was refused stays refused, and is somebody's to look at.
        yield key, again[key] if error is None else _ended(error)


def _sent(
    bodies: Mapping[str, Mapping[str, Any]], kind: Kind, config: SalesforceConfig, ctx: Context
) -> Iterator[tuple[str, datetime, UpkeptError | None]]:
    """Update, and say of each when it was asked for and what was wrong with it.

    Two states of one record go in two calls: one call takes none.
    """
    left = dict(bodies)
    while left:
        some: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for key, said in left.items():
            some.setdefault(str(said["Id"]), (key, said))
        keys = [key for key, _ in some.values()]
        records = [{"attributes": {"type": kind.name}, **said} for _, said in some.values()]
        endpoint = f"{kind.name} update"
        answer = rest("PATCH", "composite/sobjects", config, ctx, endpoint=endpoint, headers=QUIET,
                      json={"allOrNone": False, "records": records})  # fmt: skip
        for key, error in zip(keys, results(answer.body, len(keys), endpoint=endpoint), strict=True):
            yield key, answer.at, error
            del left[key]


def _noted(some: Mapping[str, Desired], config: SalesforceConfig, ctx: Context) -> Answered:
    """A task that may not be made pauses nothing: opt-outs go the same way."""
    left = dict(some)
    try:
        for key, answer in noted(some, config, ctx):
            del left[key]
            yield key, answer
    except Forbidden as error:
        yield from ((key, Permanent(str(error))) for key in left)
    except (Retryable, Config):
        raise
    except UpkeptError as error:
        yield from ((key, error) for key in left)


def _erase(some: Mapping[str, Desired], kind: Kind, config: SalesforceConfig, ctx: Context) -> Answered:
    ids = {key: full_id(state.record.id if state.record else None) for key, state in some.items()}
    yield from ((key, Skipped("no record of Salesforce's")) for key, id in ids.items() if id is None)
    wanted = sorted({id for id in ids.values() if id is not None})
    if not wanted:
        return
    endpoint = f"{kind.name} delete"
    answer = rest("DELETE", "composite/sobjects", config, ctx, endpoint=endpoint,
                  params={"ids": ",".join(wanted), "allOrNone": "false"})  # fmt: skip
    ended = dict(zip(wanted, results(answer.body, len(wanted), endpoint=endpoint), strict=True))
    for key, id in ids.items():
        if id is not None:
            error = ended[id]
            gone = error is None or isinstance(error, NotFound)
            yield key, Pushed(record=RecordRef(kind.type, id)) if gone else error or Permanent("")


def _pushed(kind: Kind, said: Mapping[str, Any], at: datetime) -> Pushed:
    fields = {path: value for path, value in said.items() if path != "Id"}
    return Pushed(record=RecordRef(kind.type, str(said["Id"])), fields=fields, at=at)


def _can_be_less(said: Mapping[str, Any]) -> bool:
    return said.get(OPT_OUT) is True and len(said) > 2


def _ended(error: UpkeptError) -> UpkeptError:
    if isinstance(error, Refused) and CONVERTED in error.codes:
        return Skipped("a converted lead can no longer be changed: its contact is what counts")
    if isinstance(error, NotFound):
        return Gone("Salesforce deleted it, or merged it into another, which is a record of its own")
    return error


def _each(group: Mapping[str, Desired], do: Any) -> Answered:
    for key, state in group.items():
        try:
            yield key, do(state)
        except (Retryable, Config):
            raise
        except UpkeptError as error:
            yield key, error


def _chunks(group: Mapping[str, Desired]) -> Iterator[dict[str, Desired]]:
    pairs: Iterable[tuple[str, Desired]] = iter(group.items())
    while some := dict(islice(pairs, TOGETHER)):
        yield some
