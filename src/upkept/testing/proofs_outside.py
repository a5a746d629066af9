"""Proofs about the doors of a connector: who may come in, and what happens when the vendor is not well."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final

from upkept.contract import Desired, Fact, Happened, Page, Pushed, RawEvent, Rejected, Request, Skipped, UpkeptError
from upkept.testing.kit import Disproved, Kit, LentContext, given, listening
from upkept.testing.proofs import ending, stated
from upkept.testing.sick_vendor import SICKNESSES, sick_vendor

LONG_AGO: Final = timedelta(hours=1)
MOST_PAGES: Final = 1_000
GARBAGE: Final = (
    b"",
    b"\x00",
    b"{",
    b"null",
    b"[]",
    b"7",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"a":' * 70 + b"1" + b"}" * 70,
)


def authentic_requests_come_in(kit: Kit) -> None:
    """What the vendor sent is let in."""
    now = _now()
    for fixture in (one for one in kit.loaded if one.is_webhook):
        _verify(kit, _sign(kit, fixture.body, now), now)


def event_ids_last(kit: Kit) -> None:
    """The events of a request have ids that stay the same when it is sent again."""
    for fixture in (one for one in kit.loaded if one.is_webhook):
        ids = [[event.id for event in fixture.events(kit.connector, kit.config)] for _ in range(2)]
        if ids[0] != ids[1] or not all(ids[0]) or len(set(ids[0])) != len(ids[0]):
            raise Disproved(f"{fixture.path.name}: event ids must be there, differ, and be the same for each delivery")


def forged_requests_are_refused(kit: Kit) -> None:
    """A request from somebody who knows another secret is refused, and so is one with a changed byte in its body."""
    now = _now()
    good = _sign(kit, _body(kit), now)
    _refused(replace(kit, config=_strange(kit.config)), good, now, "another secret")
    if "body" in kit.covers:
        _refused(kit, _tampered(good), now, "a changed body")


def unsigned_requests_are_refused(kit: Kit) -> None:
    """A request without any proof of origin is refused, and so is (where `sign` is given) one with an empty one."""
    now = _now()
    bare = Request(body=_body(kit), headers={})
    _refused(kit, bare, now, "no headers and no token")
    if kit.sign is not None:
        good = _sign(kit, bare.body, now)
        _refused(kit, replace(good, headers=dict.fromkeys(good.headers, ""), token=""), now, "empty headers")


def stale_requests_are_refused(kit: Kit) -> None:
    """A request signed an hour ago is refused, and so is one signed an hour from now."""
    now = _now()
    for then, what in ((now - LONG_AGO, "an hour old"), (now + LONG_AGO, "an hour in the future")):
        _refused(kit, _sign(kit, _body(kit), then), now, what)


def garbage_is_refused(kit: Kit) -> None:
    """A body that cannot be read is `Rejected` or `Skipped`, signed (where `sign` is given) or not, never a crash."""
    split = given(kit.connector.split)
    now = _now()
    for body in GARBAGE:
        request = Request(body=body, headers={}) if kit.sign is None else _sign(kit, body, now)
        try:
            if kit.sign is not None:
                _verify(kit, request, now)
            list(split(request, kit.config))
        except (Rejected, Skipped):
            continue
        except Exception as error:
            raise Disproved(f"the body {body[:12]!r}… raises {type(error).__name__} at the door: {error}") from error


def a_second_pull_adds_nothing(kit: Kit) -> None:
    """Pulling an unchanged vendor again changes nothing, and a pull cut at any page continues to the same end."""
    pull = given(kit.connector.pull)
    with given(kit.vendor)() as config:
        first, second = (_pages(pull(None, config, LentContext())) for _ in range(2))
        once, again = ([event for page in pages for event in page.events] for pages in (first, second))
        if not once:
            raise Disproved("the vendor of the proof has nothing to pull: give it some data")
        wanted = _values(ending(kit, once))
        if _values(ending(kit, again)) != wanted or _values(ending(kit, once + again)) != wanted:
            raise Disproved("a second pull of an unchanged vendor changes what is known")
        for number, page in enumerate(first[:-1]):
            rest = _pages(pull(page.cursor, config, LentContext()))
            resumed = [event for page in (*first[: number + 1], *rest) for event in page.events]
            if _values(ending(kit, resumed)) != wanted:
                raise Disproved(f"a pull cut after page {number + 1} does not continue to the same end")
    if first[-1].resume is None:
        raise Disproved("the last page names no `resume`: where does the next incremental pull begin?")


def no_foreign_error_escapes(kit: Kit) -> None:
    """Whatever the vendor answers, only our errors come out: the class says who acts next."""
    for where, error in _sick_calls(kit, LentContext()):
        if error is not None and not isinstance(error, UpkeptError):
            raise Disproved(f"{where}: {type(error).__name__} escapes; translate it where the SDK is called") from error


def no_secret_is_logged(kit: Kit) -> None:
    """No configured secret is in a log line, an error or a `repr`, at any level, whatever goes wrong."""
    context = LentContext()
    texts = [("repr of the configuration", repr(kit.config))]
    with listening() as heard:
        if kit.connector.verify is not None and kit.sign is not None:
            now = _now()
            good = _sign(kit, _body(kit), now)
            for request in (_tampered(good), replace(good, headers={}, token=""), replace(good, body=b"{")):
                texts += [
                    ("an error at the door", _told(error)) for error in _errors(partial(_verify, kit, request, now))
                ]
        texts += [(where, _told(error)) for where, error in _sick_calls(kit, context) if error is not None]
    texts += [("a log line", line) for line in (*heard.lines, *context.lines)]
    for secret in kit.secrets():
        for where, text in texts:
            if secret in text:
                raise Disproved(f"a secret stands in {where}; name the key, never its value")


def _tampered(good: Request) -> Request:
    return replace(good, body=good.body[:-1] + bytes([good.body[-1] ^ 1]))


def _strange(config: Any) -> Any:
    """The configuration with every secret exchanged for another."""
    others: dict[str, Any] = {}
    for spec in fields(config):
        value = getattr(config, spec.name)
        if spec.metadata.get("secret") and value:
            others[spec.name] = f"{value}~" if isinstance(value, str) else tuple(f"{item}~" for item in value)
    return replace(config, **others)


def _sick_calls(kit: Kit, context: LentContext) -> Iterator[tuple[str, Exception | None]]:
    """Every ability against every sickness: what came out of it."""
    if "base_url" not in {spec.name for spec in fields(kit.config)}:
        return
    for sickness in SICKNESSES:
        with sick_vendor(sickness) as url:
            config = replace(kit.config, base_url=url)
            for ability, call in _abilities(kit, config, context):
                yield f"{ability} when the vendor has «{sickness.name}»", next(iter(_errors(call)), None)


def _abilities(kit: Kit, config: Any, context: LentContext) -> Iterator[tuple[str, Callable[[], object]]]:
    connector = kit.connector
    if (probe := connector.probe) is not None:
        yield "probe", lambda: probe(config, context)
    if (pull := connector.pull) is not None:
        since = (context.now - LONG_AGO).isoformat()
        yield "pull", lambda: list(islice(pull(None, config, context), 3))
        yield "an incremental pull", lambda: list(islice(pull(f"since:{since}", config, context), 3))
    if (push := connector.push) is not None:
        for key, state in _states(kit).items():
            yield f"push of {key}", partial(push, state, config, context, key=key)
    if (push_many := connector.push_many) is not None:
        yield "a push of many", lambda: _raised(push_many(_states(kit), config, context))
    if (fetch := connector.fetch) is not None:
        for event in _fetchable(kit):
            yield f"fetch of {event.kind}", partial(fetch, event, config, context)
    if (fetch_many := connector.fetch_many) is not None and (events := [e for e in _fetchable(kit) if e.thin]):
        yield "a fetch of many", lambda: list(fetch_many(events, config, context))


def _states(kit: Kit) -> dict[str, Desired]:
    """An opt-out, an erasure and, where events are told, one for one record of each type that the fixtures state."""
    facts = (said for _, said in stated(kit) if isinstance(said, Fact))
    records = {fact.record.type: fact.record for fact in facts if fact.record.type not in kit.connector.parts}
    event = Happened(name="charge failed", at=_now(), source="conformance", metadata={"amount": 1})
    states: list[tuple[str, dict[str, Any]]] = [
        ("an opt-out", {"consent": {"*": "opt_out"}}),
        ("an erasure", {"erased": True}),
        ("an event", {"event": event}),
    ]
    return {
        f"{said} of a {type_}": replace(Desired(person="conformance", record=record), **state)
        for type_, record in sorted(records.items())
        for said, state in states
        if "event" not in state or type_ in kit.connector.told_on
    }


def _raised(answers: Iterator[tuple[str, Pushed | UpkeptError]]) -> None:
    for _, answer in answers:
        if isinstance(answer, Exception):
            raise answer


def _fetchable(kit: Kit) -> Iterator[RawEvent]:
    for kind in sorted(kind for kind in kit.connector.kinds if kind.startswith("read.")):
        yield RawEvent(id="conformance_1", kind=kind, body=b"")
    for fixture in kit.loaded:
        yield from (event for event in fixture.events(kit.connector, kit.config) if event.thin)


def _pages(pulled: Iterator[Page]) -> list[Page]:
    pages = list(islice(pulled, MOST_PAGES))
    if not pages or pages[-1].cursor is not None:
        raise Disproved("a pull must end in a page without a cursor")
    return pages


def _values(ended: dict[str, Any]) -> dict[str, Any]:
    """What is known, without when it was read: a later look at the same is no news (R5)."""
    return {
        "heads": {
            ref: {name: value for *_, values in head.get("f", ()) for name, value in values.items()}
            for ref, head in ended["heads"].items()
        },
        "timeline": ended["timeline"],
        "summaries": ended["summaries"],
    }


def _refused(kit: Kit, request: Request, now: datetime, what: str) -> None:
    try:
        _verify(kit, request, now)
    except Rejected as error:
        if error.status not in (400, 401, 403) or not str(error):
            raise Disproved(f"{what}: refused with status {error.status} and no reason") from error
        return
    except Exception as error:
        raise Disproved(f"{what}: {type(error).__name__} at the door; raise Rejected") from error
    raise Disproved(f"{what}: the request is let in")


def _verify(kit: Kit, request: Request, now: datetime) -> None:
    given(kit.connector.verify)(request, kit.config, now=now)


def _sign(kit: Kit, body: bytes, now: datetime) -> Request:
    return given(kit.sign)(body, now)


def _body(kit: Kit) -> bytes:
    return next((one.body for one in kit.loaded if one.is_webhook), b'{"a":1}')


def _errors(call: Callable[[], object]) -> list[Exception]:
    try:
        call()
    except Exception as error:
        return [error]
    return []


def _told(error: Exception) -> str:
    """An error with its causes, as a log would show it."""
    return "".join(traceback.format_exception(error))


def _now() -> datetime:
    return datetime.now(UTC)
