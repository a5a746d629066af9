"""Writing many members: one batch operation in place of hundreds of calls.

https://mailchimp.com/developer/marketing/guides/run-async-requests-batch-endpoint/: `POST /batches` takes the calls,
`GET /batches/{id}` says when they are done, and `response_body_url` is where a tar.gz of their answers can be had. An
account may have 500 batches waiting, so nothing is put into a second one while the first is at work: which keys went
into which batch is kept, and whoever tries again looks there, with whatever else is to be written by then.

A few states are written one by one, which is sooner. So is every one that the batch could not write: `push` knows
what to do about a lock or a profile that is refused, and says what became of it. And so is **whoever would be
subscribed**: nobody can take a call out of a batch again, and an opt-out that was acknowledged meanwhile would be
undone when it runs. A batch run late takes somebody's mail away at worst.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import tarfile
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from upkept.contract import Config, Context, Desired, Permanent, Pushed, Retryable, Skipped, UpkeptError
from upkept_mailchimp.client.api import ask, host_of
from upkept_mailchimp.client.errors import NotFound
from upkept_mailchimp.client.push import Change, change_of, push, pushed
from upkept_mailchimp.config import MailchimpConfig

FEW: Final = 10
FEW_OPT_OUTS: Final = 50
"""So many are written one by one. A batch takes Mailchimp a quarter of a minute at best."""

PATIENCE: Final = 20.0
"""Seconds that we wait for batches; the next try goes on waiting."""

BUDGET: Final = 60.0
"""Seconds after which no further state is written by itself: who holds on longer loses its turn."""

PAUSES: Final = (0.2, 0.5, 1.0, 2.0)
OPEN: Final = "batches"
KEPT: Final = 3 * 3_600.0
"""Seconds that a batch is remembered; Mailchimp keeps its answers for a week."""

LARGEST: Final = 64 << 20
MEMBERS_OF_TAR: Final = 10_000
TIMEOUT: Final = httpx.Timeout(20.0, connect=5.0)

Answers = Mapping[str, tuple[int, Mapping[str, Any]]]
Answered = tuple[str, Pushed | UpkeptError]


def push_many(states: Mapping[str, Desired], config: MailchimpConfig, ctx: Context) -> Iterator[Answered]:
    """See `upkept.contract.PushMany`. Opt-outs first."""
    until = time.monotonic() + BUDGET
    changes: dict[str, Change] = {}
    for key, state in states.items():
        try:
            changes[key] = change_of(state, config)
        except (Skipped, Permanent) as error:
            yield key, error
    outs = [key for key, change in changes.items() if change.wish == "opt_out" and not change.erased]
    rest = [key for key, change in changes.items() if change.wish is None and not change.erased]
    together = [key for group, few in ((outs, FEW_OPT_OUTS), (rest, FEW)) if len(group) > few for key in group]
    alone = sorted(changes.keys() - set(together))
    for key in alone:
        if changes[key].wish == "opt_out":
            yield key, _alone(key, states[key], config, ctx, until)
    named = _begun({key: changes[key] for key in together}, config, ctx)
    for key in alone:
        if changes[key].wish != "opt_out":
            yield key, _alone(key, states[key], config, ctx, until)
    yield from _ended(named, changes, states, config, ctx, until)


def _alone(key: str, state: Desired, config: MailchimpConfig, ctx: Context, until: float) -> Pushed | UpkeptError:
    if time.monotonic() > until:
        raise Retryable("Mailchimp: the rest is written in the next turn", after=1.0)
    try:
        return push(state, config, ctx, key=key)
    except (Retryable, Config):
        raise
    except UpkeptError as error:
        return error


def _begun(changes: Mapping[str, Change], config: MailchimpConfig, ctx: Context) -> dict[str, str]:
    """The keys of these changes by their names in batches; what is in none yet is put into a new one."""
    named = {_name(key, change): key for key, change in changes.items()}
    at_work = _at_work(ctx)
    under_way = {name for names in at_work.values() for name in names}
    if new := {name: changes[key] for name, key in named.items() if name not in under_way}:
        body = {"operations": operations(new)}
        begun = ask("batches.start", config, ctx, lambda client: client.batches.start(body))
        at_work[_id(begun)] = list(new)
        _keep(at_work, ctx)
    return named


def _ended(
    named: Mapping[str, str], changes: Mapping[str, Change], states: Mapping[str, Desired], config: MailchimpConfig,
    ctx: Context, until: float,
) -> Iterator[Answered]:  # fmt: skip
    """What batches have done by now; raises `Retryable` for the rest."""
    at_work = _at_work(ctx)
    for id in [id for id, names in at_work.items() if named.keys() & set(names)]:
        batch = _waited_for(id, config, ctx)
        answers = {} if batch is None else read_answers(_downloaded(batch, config, ctx))
        for name in at_work[id] if batch is not None else ():
            if (key := named.get(name)) is not None:
                yield (
                    key,
                    _answered(name, changes[key], states[key], answers) or _alone(key, states[key], config, ctx, until),
                )
        del at_work[id]
        _keep(at_work, ctx)
        if batch is None:
            raise Retryable("Mailchimp no longer knows a batch; the hub writes it again", after=1.0)


def _name(key: str, change: Change) -> str:
    """One try of one state: what is to be written may be another by the next."""
    said = json.dumps([change.body, change.marks], sort_keys=True)
    return f"{key}.{hashlib.sha256(said.encode()).hexdigest()[:8]}"


def _answered(name: str, change: Change, state: Desired, answers: Answers) -> Pushed | None:
    """What Mailchimp holds of a member; None if it did not take all of it."""
    wanted = (*(["member"] if change.body else []), *(["tags"] if change.tags else []))
    found = {part: answers.get(f"{name}/{part}") for part in wanted}
    if any(one is None or not 200 <= one[0] < 300 for one in found.values()):
        return None
    stored = found.get("member")
    return pushed(change, state, stored[1] if stored else {}, locked=False)


def _at_work(ctx: Context) -> dict[str, list[str]]:
    """Batch id -> the names that it writes."""
    try:
        kept = json.loads(ctx.token(OPEN) or "{}")
    except ValueError:
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(at_work: Mapping[str, list[str]], ctx: Context) -> None:
    ctx.keep_token(OPEN, json.dumps(at_work), seconds=KEPT)


def operations(changes: Mapping[str, Change]) -> list[dict[str, Any]]:
    """The calls of a batch, by the names of what they write."""
    found: list[dict[str, Any]] = []
    for key, change in changes.items():
        path = f"/lists/{change.audience}/members/{change.hash}"
        if change.body:
            found.append({
                "method": "PUT" if change.new else "PATCH", "path": path, "params": {"skip_merge_validation": "true"},
                "body": json.dumps(change.body), "operation_id": f"{key}/member",
            })  # fmt: skip
        if change.tags:
            found.append({"method": "POST", "path": f"{path}/tags", "body": json.dumps(change.marks),
                          "operation_id": f"{key}/tags"})  # fmt: skip
    return found


def _waited_for(id: str, config: MailchimpConfig, ctx: Context) -> Mapping[str, Any] | None:
    """A batch that is done; None if Mailchimp knows none of this id. Raises `Retryable` while it is at work."""
    begun, turn = time.monotonic(), 0
    while True:
        try:
            batch = ask("batches.status", config, ctx, lambda client: client.batches.status(id))
        except NotFound:
            return None
        if batch.get("status") == "finished":
            return batch
        if time.monotonic() - begun > PATIENCE:
            raise Retryable("Mailchimp is still at work on a batch; the hub asks again", after=15.0)
        time.sleep(PAUSES[min(turn, len(PAUSES) - 1)])
        turn += 1


def _id(batch: Mapping[str, Any]) -> str:
    id = batch.get("id")
    if not isinstance(id, str) or not id.isalnum():
        raise Retryable("Mailchimp batches: the answer is not a batch; the hub asks again")
    return id


def _downloaded(batch: Mapping[str, Any], config: MailchimpConfig, ctx: Context) -> bytes:
    """The archive of answers. It lies elsewhere and needs no key, so none is sent."""
    url = str(batch.get("response_body_url") or "")
    if not url.startswith("https://") and urlsplit(url).netloc != urlsplit(host_of(config)).netloc:
        raise Retryable("Mailchimp batches: the answers are at no safe address; the hub asks again")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # below that it logs the address, which opens the archive
    found = bytearray()
    ctx.permit()
    try:
        with ctx.slot(), httpx.stream("GET", url, timeout=TIMEOUT, follow_redirects=False) as answer:
            if answer.status_code != 200:
                raise Retryable(f"Mailchimp batches.answers (HTTP {answer.status_code}): the hub asks again")
            for chunk in answer.iter_raw():
                found += chunk
                if len(found) > LARGEST:
                    raise Permanent("Mailchimp batches: the answers are larger than any batch of ours makes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Retryable(f"Mailchimp batches.answers ({type(error).__name__}): the hub asks again") from None
    return bytes(found)


def read_answers(archive: bytes) -> dict[str, tuple[int, Mapping[str, Any]]]:
    """Status and object of each call by its name. Nothing is unpacked to disk, and nothing large to memory."""
    found: dict[str, tuple[int, Mapping[str, Any]]] = {}
    read = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r|gz") as tar:
            for number, entry in enumerate(tar):
                read += max(entry.size, 0)
                if number > MEMBERS_OF_TAR or read > LARGEST:
                    raise Permanent("Mailchimp batches: the answers are larger than any batch of ours makes")
                file = tar.extractfile(entry) if entry.isfile() and entry.name.endswith(".json") else None
                for one in json.loads(file.read()) if file else ():
                    found[str(one["operation_id"])] = int(one["status_code"]), _object(one.get("response"))
    except (tarfile.TarError, OSError, EOFError, ValueError, LookupError, TypeError, RecursionError):
        raise Retryable("Mailchimp batches: the answers cannot be read; the hub asks again") from None
    return found


def _object(response: Any) -> Mapping[str, Any]:
    try:
        value = json.loads(response) if isinstance(response, str) and response else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
