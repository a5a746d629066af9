"""A small Mailchimp: two audiences, told of by unsigned webhooks and by reads of their members.

A webhook is a hint, but for an opt-out, a bounce or a complaint; the member is read. A read within the second of a
change shows what stood at that moment, and its time of arrival says so; a later one shows the member as `last_changed`
left it, whenever it arrives. Tags, and that a member is gone, have no time but that of the read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from bench.prove.vendors.told import ADDRESSES, NAMES, NEWS, SECOND, Log
from tests.model.histories import Key

from upkept_mailchimp.client.read import enveloped
from upkept_mailchimp.member import hash_of
from upkept_mailchimp.normalize import MOVED
from upkept_mailchimp.payload import MOVE, Read, written

NAME: Final = "mailchimp"
ASKING: Final = "a6b5da1054"
"""The audience whose forms ask for a confirmation; who leaves it opts out of everything."""
TOPICAL: Final = "b7c6eb2165"
"""The audience of a topic of its own."""
TOPICS: Final = {ASKING: "*", TOPICAL: NEWS}
FORM: Final = "Hosted Signup Form"
SETTLED: Final = 5
"""Seconds after which a read shows all that the second of a change brought."""

Member = dict[str, Any]


class Mailchimp:
    """Members by audience and hash. `tags` is what is kept beside a member."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.members: dict[tuple[str, str], Member] = {}
        self.tags: dict[tuple[str, str], dict[str, bool]] = {}

    @property
    def ops(self) -> tuple[Callable[[], None], ...]:
        return (
            self.add, self.confirm, self.confirm, self.leave, self.leave, self.readmit, self.readmit, self.edit,
            self.tag, self.move, self.bounce, self.complain, self.archive, self.remove, self.pull,
        )  # fmt: skip

    def add(self) -> None:
        """A teammate or a program puts an address on the list: a list's word, and nobody's wish."""
        member = self._taken_up(self.log.one(ADDRESSES))
        if member is not None and member["status"] == "":
            member.update(status="subscribed", source="Admin Add", timestamp_opt=self._iso(), ip_opt="")
            self._changed(member, "subscribe")

    def confirm(self) -> None:
        """The person fills in a form and, in the audience that asks, follows the link in the mail."""
        member = self._taken_up(self.log.one(ADDRESSES))
        if member is not None:
            member.update(status="subscribed", source=FORM, timestamp_opt=self._iso(), ip_opt="198.51.100.7")
            self._changed(member, "subscribe", own=True)

    def leave(self) -> None:
        member = self._member("subscribed")
        if member is not None:
            member["status"] = "unsubscribed"
            self._opted_out("opt_out", member, TOPICS[member["list_id"]])
            self._changed(member, "unsubscribe", action="unsub", reason="manual")

    def readmit(self) -> None:
        """A program sets the member back to subscribed, and with that the time of its opt-in; the source stays."""
        member = self._member("unsubscribed")
        if member is not None:
            member.update(status="subscribed", timestamp_opt=self._iso())
            self._changed(member, "subscribe")

    def edit(self) -> None:
        member = self._member()
        if member is not None:
            first = self.log.one((*NAMES, ""))
            member.update(full_name=first, language=self.log.one(("en", "ga")), merge_fields={"FNAME": first})
            self._changed(member, "profile")

    def tag(self) -> None:
        """Tags change without a trace: a read shows them."""
        member = self._member()
        if member is not None:
            self.tags[_place(member)] = {self.log.one(("vip", "late")): self.log.chance(0.7)}
            self._read(member)

    def bounce(self) -> None:
        member = self._member("subscribed")
        if member is not None:
            member["status"] = "cleaned"
            self._changed(member, "cleaned", reason="hard")

    def complain(self) -> None:
        """Whoever reports mail as spam wants none of it, whatever the topic."""
        member = self._member("subscribed")
        if member is not None and self.log.chance(0.3):
            member["status"] = "unsubscribed"
            self._opted_out("complaint", member, "*")
            self._changed(member, "unsubscribe", action="unsub", reason="abuse")

    def archive(self) -> None:
        """Tidying, and no wish of the person."""
        member = self._member()
        if member is not None:
            member["status"] = "archived"
            self._changed(member, "unsubscribe", action="archive", reason="manual")

    def remove(self) -> None:
        """Deleted for good: a read finds nobody."""
        member = self._member()
        if member is None or self.log.chance(0.5):
            return
        del self.members[_place(member)]
        gone = Read(member["list_id"], TOPICS[member["list_id"]], False, {}, {}, {"id": member["id"], "deleted": True})
        event = enveloped(gone)
        self.log.event(NAME, event.kind, event.id, event.body, undated=True)
        self.log.ends(_key(member))

    def move(self) -> None:
        """A member takes another address, which the hub sees confirmed: a new record, and the end of the old one."""
        log, member = self.log, self._member()
        address = log.one(ADDRESSES)
        if member is None or self._is_taken(member["list_id"], address) or not log.may_change(_key(member)):
            return
        del self.members[_place(member)]
        old = dict(member)
        member.update(id=hash_of(address), email_address=address, last_changed=self._iso())
        self.members[_place(member)] = member
        hint = {"old_email": old["email_address"], "new_email": address, "list_id": member["list_id"]}
        id = self._webhook("upemail", hint)
        now = self._shown(member)
        body = written({"object": MOVE, "old": old["id"], "new": now.said()})
        log.event(NAME, MOVED, f"{id}:confirmed", body, undated=True)
        log.ends(_key(old))
        self._say(member)

    def pull(self) -> None:
        """Somebody's state, once the second of its change is over."""
        member = self._member()
        if member is not None and self.log.now >= _changed_at(member) + SETTLED * SECOND:
            self._read(member)

    def close(self) -> None:
        """The last pull lists everybody."""
        for member in self.members.values():
            self._read(member)

    def _taken_up(self, address: str) -> Member | None:
        """The member of one of the audiences with this address, a new one if need be; None where it just went."""
        audience = self.log.one((ASKING, ASKING, TOPICAL))
        known = self.members.get((audience, hash_of(address)))
        if known is not None:
            return known
        if self._is_taken(audience, address):
            return None
        member: Member = {
            "id": hash_of(address), "email_address": address, "full_name": "", "status": "", "list_id": audience,
            "merge_fields": {"FNAME": ""}, "interests": {}, "unsubscribe_reason": "", "email_type": "html",
            "ip_signup": "", "timestamp_signup": "", "ip_opt": "", "timestamp_opt": "", "language": "en", "vip": False,
            "source": "",
        }  # fmt: skip
        self.members[_place(member)] = member
        return member

    def _is_taken(self, audience: str, address: str) -> bool:
        """Whether somebody is or, in this very second, was there: a delete of that second would outrank the return."""
        key = (NAME, "member", f"{audience}/{hash_of(address)}")
        return (audience, hash_of(address)) in self.members or not self.log.may_change(key)

    def _member(self, *status: str) -> Member | None:
        found = [one for one in self.members.values() if not status or one["status"] in status]
        return self.log.one(found) if found else None

    def _opted_out(self, act: str, member: Member, topic: str) -> None:
        self.log.act(act, NAME, _key(member), member["email_address"], topic=topic)

    def _changed(self, member: Member, kind: str, *, own: bool = False, **said: str) -> None:
        """What a webhook tells at once, and the read that it leads to; `own`: the webhook is of subscribers' acts."""
        member["last_changed"] = self._iso()
        self._webhook(kind, {**said, "email": member["email_address"], "list_id": member["list_id"]})
        if self.log.chance(0.7):
            self._read(member, own=own)

    def _webhook(self, kind: str, data: dict[str, str]) -> str:
        said = {"type": kind, "fired_at": f"{self.log.moment:%Y-%m-%d %H:%M:%S}"}
        said |= {f"data[{name}]": value for name, value in data.items()}
        self.log.webhook(NAME, urlencode(said).encode())
        return f"{kind}:{self.log.number()}"

    def _read(self, member: Member, *, own: bool = False) -> None:
        """A fresh read, and one that shows tags, says something by the time at which it was made."""
        event = enveloped(replace(self._shown(member), told_at=f"{self.log.moment:%Y-%m-%d %H:%M:%S}" if own else ""))
        fresh = self.log.now < _changed_at(member) + SETTLED * SECOND
        undated = fresh or bool(self.tags.get(_place(member)))
        self.log.event(NAME, event.kind, event.id, event.body, undated=undated)
        self._say(member, own=own)

    def _shown(self, member: Member) -> Read:
        audience = member["list_id"]
        return Read(
            audience, TOPICS[audience], audience == ASKING, {}, dict(self.tags.get(_place(member), {})), dict(member)
        )

    def _say(self, member: Member, *, own: bool = False) -> None:
        """What a read of this member means."""
        key, address, topic = _key(member), member["email_address"], TOPICS[member["list_id"]]
        self.log.holds(key, address)
        if member["status"] == "unsubscribed":
            self.log.act("opt_out", NAME, key, address, at=_changed_at(member), topic=topic)
        if member["status"] == "subscribed":
            qualified = own and member["list_id"] == ASKING
            opted_at = _us(member["timestamp_opt"])
            self.log.act("opt_in", NAME, key, address, at=opted_at, topic=topic, qualified=qualified)

    def _iso(self) -> str:
        return self.log.moment.isoformat()


def _place(member: Member) -> tuple[str, str]:
    return member["list_id"], member["id"]


def _key(member: Member) -> Key:
    return (NAME, "member", f"{member['list_id']}/{member['id']}")


def _changed_at(member: Member) -> int:
    return _us(member["last_changed"])


def _us(iso: str) -> int:
    return int(datetime.fromisoformat(iso).astimezone(UTC).timestamp()) * SECOND
