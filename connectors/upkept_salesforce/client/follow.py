"""Following changes: pages of what was committed just now, between two pulls.

A pull that follows does not end at once: for `ROUND` seconds it brings each change as it is committed, then it ends,
and the next one goes on behind the last change. Every `SWEEP` seconds it reads by `SystemModstamp` as well, which finds
what the stream did not tell: those of an expired replay id, of an object that was not chosen. The first time it goes
through all that Salesforce keeps (72 hours), passing over what a sweep has read: a subscription that begins "now"
would miss what happens between two of them. An overflow (more changes than the stream carries) leads to a full walk.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Final

from upkept.contract import Context, Permanent, RawEvent
from upkept_salesforce.change import HEADER, changes
from upkept_salesforce.client import pubsub
from upkept_salesforce.config import SalesforceConfig

ROUND: Final = 60
SWEEP: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """Where a pull that follows stands. Times are unix seconds.

    `replay` is the last change seen, in hexadecimal. `since` and `swept` are where the next sweep begins and when
    the last one did. `until` is the end of this round (0: not begun), `turns` how often was listened in it.
    """

    replay: str = ""
    since: int
    swept: int = 0
    until: int = 0
    turns: int = 0

    def to_cursor(self) -> str:
        return json.dumps({"follow": asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_cursor(cls, cursor: str) -> Following | None:
        """None for a cursor of another kind; raises `Permanent` for one this version did not write."""
        if not cursor.startswith('{"follow":'):
            return None
        try:
            made = cls(**json.loads(cursor)["follow"])
            bytes.fromhex(made.replay)
        except (ValueError, TypeError) as error:
            raise Permanent("the pull's cursor cannot be read; begin again with `upkept resync --full`") from error
        return made

    def is_due(self, now: float) -> bool:
        """Is it time to sweep?"""
        return now - self.swept >= SWEEP


@dataclass(frozen=True, slots=True)
class Heard:
    """What one turn brought, where it stands then, and whether everything has to be read again."""

    events: tuple[RawEvent, ...]
    place: Following
    walk: bool = False


def listen(place: Following, config: SalesforceConfig, ctx: Context) -> Heard:
    """One turn: up to two seconds, less if something is told."""
    now = int(ctx.now.timestamp())
    place = replace(place, until=place.until or now + ROUND, turns=place.turns + 1)
    try:
        heard = pubsub.changes(bytes.fromhex(place.replay), config, ctx)
    except pubsub.ReplayLost:
        ctx.log.warning("salesforce no longer has the last change that was seen; what changed since is read instead")
        return Heard((), replace(place, replay="", swept=0))
    events: list[RawEvent] = []
    walk = False
    for one in heard:
        if _committed(one) < place.since:
            continue  # the sweep has read it
        try:
            told = None if one.body is None else changes(one.id, one.body, one.schema,
                                                         user_id_field=config.external_id_field)  # fmt: skip
        except Permanent:
            told = None
        if told is None:
            ctx.log.warning("a change of salesforce's cannot be read; what changed since is read instead", id=one.id)
            place = replace(place, swept=0)
            continue
        events += told.events
        walk = walk or bool(told.walk)
    if heard:
        place = replace(place, replay=heard[-1].replay.hex())
    return Heard(tuple(events), place, walk)


def _committed(one: pubsub.Change) -> float:
    """When, in unix seconds; the end of time for what cannot be read."""
    header = (one.body or {}).get(HEADER)
    at = header.get("commitTimestamp") if isinstance(header, dict) else None
    return at / 1000 if isinstance(at, int) else inf
