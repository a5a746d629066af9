"""Writing back: opt-outs first, then what the hub knows better, in calls of up to 300 leads.

- A lead is changed by its id with `updateOnly`: an upsert by address would create people, and concurrent ones twice.
  One is created only where the hub asks for that (no record), with `createOnly`, and by one courier at a time
  (`pushers`): two that look for an address at once would both create it.
- An opt-out goes in a call of its own before anything else, so that a field Marketo does not take cannot hold it up.
- **The hole in durable unsubscribe**: a lead that opted out and moves to an address that did not is opted in by
  Marketo. So a lead whose address we change is read before, and if it was, or is to be, opted out, that is said in
  the same row as the address: no kill in between leaves it mailable. It is said once more after, in case Marketo
  applies its rule last (R9).
- Marketo answers for each record, in the order of the input. A call that it refuses as a whole is halved until the
  record that spoils it stands alone.
- Everything is absolute, so a second try with the same key changes nothing more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from upkept.contract import Context, Desired, Gone, Permanent, Pushed, RecordRef, Retryable, Skipped, UpkeptError
from upkept_marketo.client.api import ask
from upkept_marketo.client.errors import Refused
from upkept_marketo.client.read import AT_ONCE, is_plain, leads
from upkept_marketo.config import MarketoConfig
from upkept_marketo.fields import FULL_NAME, LEAD
from upkept_marketo.payload import flag, lead_id, written

LONGEST_BODY: Final = 900_000
"""Bytes of a call; Marketo takes a megabyte."""

REASON: Final = "Opted out (Upkept)"
GONE: Final = "1004"
THERE_ALREADY: Final = frozenset({"1005", "1007"})
READ_ONLY: Final = frozenset({"id", FULL_NAME, "createdAt", "updatedAt"})

Row = Mapping[str, Any]
Outcome = int | UpkeptError
"""When a record was written (unix seconds), or why it was not."""


@dataclass
class Work:
    """One desired state on its way: the lead it is about and what to say of it."""

    key: str
    state: Desired
    id: str | None
    fields: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = 0

    @property
    def says(self) -> str | None:
        return self.state.consent.get("*")

    @property
    def email(self) -> str | None:
        """The address that the lead is to bear, if that is said."""
        said = self.fields.get("email") or (self.state.email if self.id is None else None)
        return said if isinstance(said, str) else None

    @property
    def failed(self) -> bool:
        return isinstance(self.outcome, UpkeptError)

    def answer(self) -> Pushed | UpkeptError:
        if isinstance(self.outcome, UpkeptError):
            return self.outcome
        record = self.state.record if self.id is None else RecordRef(LEAD, self.id)
        at = datetime.fromtimestamp(self.outcome, UTC) if self.outcome else None
        return Pushed(record=record, fields=self.fields, at=at)


def push(state: Desired, config: MarketoConfig, ctx: Context, *, key: str) -> Pushed:
    """See `upkept.contract.Push`."""
    for _, answer in push_many({key: state}, config, ctx):
        if isinstance(answer, UpkeptError):
            raise answer
        return answer
    raise Permanent("Marketo: the push was not answered")


def push_many(
    states: Mapping[str, Desired], config: MarketoConfig, ctx: Context
) -> Iterator[tuple[str, Pushed | UpkeptError]]:
    """See `upkept.contract.PushMany`."""
    waiting: list[Work] = []
    for key, state in states.items():
        try:
            waiting.append(_work(key, state))
        except UpkeptError as error:
            yield key, error
    while waiting:
        turn, waiting = _apart(waiting)
        _erase([one for one in turn if one.state.erased], config, ctx)
        living = [one for one in turn if not one.state.erased]
        _write([one for one in living if one.id is not None], config, ctx)
        _create([one for one in living if one.id is None], config, ctx)
        yield from ((one.key, one.answer()) for one in turn)


def _work(key: str, state: Desired) -> Work:
    """Raises `Skipped` where there is nothing to do, `Permanent` for what Marketo will never take."""
    if state.record is not None and state.record.type != LEAD:
        raise Permanent(f"Marketo has no {state.record.type}")
    id = None if state.record is None else lead_id(state.record.id)
    if state.record is not None and id is None:
        raise Permanent("no lead of Marketo bears such an id")
    fields = {name: value for name, value in state.fields.items() if name not in READ_ONLY and "." not in name}
    one = Work(key, state, id, fields)
    if state.erased and id is None:
        raise Skipped("Marketo has no lead of this person")
    if not state.erased and id is not None and not fields and one.says is None:
        raise Skipped("nothing to tell Marketo")
    if id is None and one.email is None:
        raise Permanent("a new lead needs an email address")
    if one.email is not None and not is_plain(one.email):
        raise Permanent("Marketo takes ASCII addresses only")
    return one


def _apart(works: Sequence[Work]) -> tuple[list[Work], list[Work]]:
    """Those that one call may carry, no lead and no address twice, and the rest."""
    seen: set[str] = set()
    turn: list[Work] = []
    rest: list[Work] = []
    for one in works:
        marks = {mark for mark in (one.id, (one.email or "").lower()) if mark}
        if len(turn) < AT_ONCE and not marks & seen:
            turn.append(one)
        else:
            rest.append(one)
        seen |= marks
    return turn, rest


def _erase(works: Sequence[Work], config: MarketoConfig, ctx: Context) -> None:
    rows = [({"id": int(one.id or 0)}, one) for one in works]
    for one, outcome in _call("/rest/v1/leads/delete.json", {}, rows, config, ctx):
        # Who is gone already is as erased as can be.
        one.outcome = 0 if _is(outcome, GONE) else outcome


def _create(works: Sequence[Work], config: MarketoConfig, ctx: Context) -> None:
    """Create leads; those whose address is there already are looked for and updated instead."""
    rows = [({**one.fields, "email": one.email, **_consent(one)}, one) for one in works]
    for one, outcome in _call(
        "/rest/v1/leads.json", {"action": "createOnly", "lookupField": "email"}, rows, config, ctx
    ):
        one.outcome = outcome
        if isinstance(outcome, Refused) and outcome.code in THERE_ALREADY:
            same = _ids(one.email or "", config, ctx)
            if same:
                _update_each(one, same, config, ctx)
            else:
                one.outcome = Retryable("Marketo knows the address and does not find it yet; the hub asks again")


def _update_each(one: Work, ids: Sequence[str], config: MarketoConfig, ctx: Context) -> None:
    """All leads of an address (many may match, 1007) hear the same; the oldest is the one we answer with."""
    copies = [Work(one.key, one.state, id, {**one.fields}) for id in ids]
    _write(copies, config, ctx)
    one.id, one.outcome = copies[0].id, next((copy.outcome for copy in copies if copy.failed), copies[0].outcome)


def _write(works: Sequence[Work], config: MarketoConfig, ctx: Context) -> None:
    """Opt-outs, then the rest, then the opt-outs again of those whose address changed, who keep out in between."""
    _update([one for one in works if one.says == "opt_out"], _opt_out, config, ctx)
    rest = [one for one in works if not one.failed and (one.fields or one.says == "opt_in")]
    moving = [one for one in rest if "email" in one.fields]
    out = _opted_out(moving, config, ctx)
    stay_out = {one.id for one in moving if one.says == "opt_out" or (one.says is None and one.id in out)}

    def row(one: Work) -> Row:
        if one.id in stay_out:
            return {**one.fields, **_opt_out(one)}
        return {**one.fields, **({} if one.says == "opt_out" else _consent(one))}

    _update(rest, row, config, ctx)
    _update([one for one in moving if one.id in stay_out and not one.failed], _opt_out, config, ctx)


def _consent(one: Work) -> dict[str, Any]:
    match one.says:
        case "opt_out":
            return _opt_out(one)
        case "opt_in":
            return {"unsubscribed": False, "unsubscribedReason": None}
        case _:
            return {}


def _opt_out(_one: Work) -> dict[str, Any]:
    return {"unsubscribed": True, "unsubscribedReason": REASON}


def _opted_out(works: Sequence[Work], config: MarketoConfig, ctx: Context) -> set[str]:
    """Which of these leads are unsubscribed now."""
    ids = [one.id for one in works if one.id is not None]
    if not ids:
        return set()
    found, _ = leads("id", ids, config, ctx, fields=("id", "unsubscribed"))
    return {str(one["id"]) for one in found if flag(one.get("unsubscribed"))}


def _ids(email: str, config: MarketoConfig, ctx: Context) -> list[str]:
    found, _ = leads("email", [email], config, ctx, fields=("id", "email"))
    return sorted((str(one["id"]) for one in found), key=lambda id: (len(id), id))


def _update(works: Sequence[Work], say: Any, config: MarketoConfig, ctx: Context) -> None:
    rows = [({"id": int(one.id or 0), **say(one)}, one) for one in works]
    action = {"action": "updateOnly", "lookupField": "id"}
    for one, outcome in _call("/rest/v1/leads.json", action, rows, config, ctx):
        one.outcome = Gone("the lead is gone at Marketo: deleted or merged") if _is(outcome, GONE) else outcome


def _call(
    path: str, action: Mapping[str, str], rows: Sequence[tuple[Row, Work]], config: MarketoConfig, ctx: Context
) -> list[tuple[Work, Outcome]]:
    """One call for these rows, or several where they are too long for one or one of them spoils it."""
    if not rows:
        return []
    body = {**action, "input": [row for row, _ in rows]}
    halves = (rows[: len(rows) // 2], rows[len(rows) // 2 :])
    if len(rows) > 1 and len(written(body)) > LONGEST_BODY:
        return [one for half in halves for one in _call(path, action, half, config, ctx)]
    try:
        answer = ask(path, config, ctx, endpoint="deleteLeads" if "delete" in path else "syncLeads", json=body)
    except Refused as error:
        if len(rows) > 1:
            return [one for half in halves for one in _call(path, action, half, config, ctx)]
        return [(rows[0][1], error)]
    if len(answer.result) != len(rows):
        raise Retryable("Marketo syncLeads: the answer does not list every record; the hub asks again")
    for said, (_, one) in zip(answer.result, rows, strict=True):
        if one.id is None:
            one.id = lead_id(said.get("id"))
    return [(one, _outcome(said, answer.read_at)) for said, (_, one) in zip(answer.result, rows, strict=True)]


def _outcome(said: Mapping[str, Any], at: int) -> Outcome:
    """What Marketo says of one record."""
    if said.get("status") in ("created", "updated", "deleted"):
        return at
    reasons = said.get("reasons")
    first = reasons[0] if isinstance(reasons, list) and reasons and isinstance(reasons[0], Mapping) else {}
    code = str(first.get("code", ""))
    shown = code if code.isascii() and code.isdigit() and len(code) == 4 else "no code"
    return Refused(f"Marketo syncLeads ({shown}): the lead is not accepted as it is", code=shown)


def _is(outcome: Outcome, code: str) -> bool:
    return isinstance(outcome, Refused) and outcome.code == code
