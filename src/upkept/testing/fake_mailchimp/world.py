"""What the Mailchimp stand-in knows: audiences, their members, and who may not be subscribed again.

Times have a grain of one second, as Mailchimp's have. A member that leaves or bounces by itself is in a *compliance
state*: no API call subscribes it again, only the person. One that was unsubscribed over the API may be subscribed
again.

`source` is how a member first came and stays; whoever subscribes it again, the time of its opt-in is renewed.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from upkept.testing.fake_mailchimp.faults import Faults, Problem
from upkept.testing.fake_mailchimp.hooks import Hook, Postman

Object = dict[str, Any]

STATUSES: Final = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional")
MOST_PENDING: Final = 500
HIDDEN: Final = ("compliance",)
"""What Mailchimp knows of a member and does not show."""

PLAIN: Final = ("email_type", "language", "vip", "location", "ip_signup", "timestamp_signup", "ip_opt", "timestamp_opt")
"""Written as they are said: a program may name any time and address as those of an opt-in."""


def hash_of(email: str) -> str:
    return hashlib.md5(email.lower().encode(), usedforsecurity=False).hexdigest()


@dataclass
class Audience:
    """One list. `members` is by hash, `forgotten` are hashes of those that were erased for good."""

    id: str
    name: str
    members: dict[str, Object] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    merge_fields: dict[str, str] = field(default_factory=lambda: {"FNAME": "text", "LNAME": "text", "PHONE": "phone"})
    required: set[str] = field(default_factory=set)
    groups: dict[str, Object] = field(default_factory=dict)
    tags: dict[str, int] = field(default_factory=dict)
    webhooks: dict[str, Hook] = field(default_factory=dict)


@dataclass
class World:
    """Everything, behind one lock. The clock runs unless `frozen` is a unix second."""

    faults: Faults = field(default_factory=Faults)
    audiences: dict[str, Audience] = field(default_factory=dict)
    batches: dict[str, Object] = field(default_factory=dict)
    requests: deque[Object] = field(default_factory=lambda: deque(maxlen=5_000))
    lock: threading.RLock = field(default_factory=threading.RLock)
    frozen: float | None = None
    offset: float = 0.0
    busy: int = 0
    peak: int = 0
    seed: int = 0
    address: str = ""

    def __post_init__(self) -> None:
        self.postman = Postman(self.faults, seed=self.seed)

    def now(self) -> int:
        return int(time.time() + self.offset if self.frozen is None else self.frozen)

    def stamp(self) -> str:
        return datetime.fromtimestamp(self.now(), UTC).isoformat()

    def audience(self, id: str) -> Audience:
        if id not in self.audiences:
            raise Problem(404, "Resource Not Found", "The requested resource could not be found.")
        return self.audiences[id]

    def add_audience(self, id: str, name: str = "") -> Audience:
        return self.audiences.setdefault(id, Audience(id, name or f"Audience {id}"))

    def member(self, audience: Audience, named: str) -> Object:
        """By hash, address or contact id."""
        hash = hash_of(named) if "@" in named else named
        found = audience.members.get(hash) or next(
            (one for one in audience.members.values() if one["contact_id"] == named), None
        )
        if found is None:
            raise Problem(404, "Resource Not Found", "The requested resource could not be found.")
        return found

    def shown(self, member: Object) -> Object:
        """As the API answers it."""
        return {name: value for name, value in member.items() if name not in HIDDEN}

    def created(self, audience: Audience, email: str, said: Object, *, source: str) -> Object:
        """A new member, not yet in its audience."""
        now = self.stamp()
        subscribed = said.get("status") == "subscribed"
        return {
            "id": hash_of(email),
            "email_address": email,
            "unique_email_id": hash_of(f"address {email}")[:10],
            "contact_id": hash_of(f"{audience.id} {email}"),
            "full_name": "",
            "web_id": len(audience.members) + 1,
            "email_type": "html",
            "status": said.get("status", "subscribed"),
            "unsubscribe_reason": "",
            "merge_fields": dict.fromkeys(audience.merge_fields, ""),
            "interests": {id: False for group in audience.groups.values() for id in group["interests"]},
            "stats": {"avg_open_rate": 0, "avg_click_rate": 0},
            "ip_signup": "",
            "timestamp_signup": "",
            "ip_opt": "198.51.100.7" if subscribed else "",
            "timestamp_opt": now if subscribed else "",
            "member_rating": 2,
            "last_changed": now,
            "language": "",
            "vip": False,
            "email_client": "",
            "location": {"latitude": 0, "longitude": 0, "country_code": "", "timezone": ""},
            "source": source,
            "tags_count": 0,
            "tags": [],
            "list_id": audience.id,
            "_links": [{"rel": "self", "href": "https://us6.api.mailchimp.com/3.0/…", "method": "GET"}],
            "compliance": False,
        }

    def change(self, audience: Audience, member: Object, said: Object, *, by: str, valid: bool = True) -> None:
        """Write what was said; `by` is who did (user, admin, api). Raises `Problem` and then changes nothing."""
        email = str(said.get("email_address", member["email_address"])).strip()
        status = said.get("status", member["status"])
        self._check(audience, member, said, email, status, by=by, valid=valid)
        before = {name: member[name] for name in ("status", "email_address", "merge_fields", "interests", "vip")}
        member["merge_fields"] = {**member["merge_fields"], **_known(said.get("merge_fields"), audience.merge_fields)}
        member["interests"] = {**member["interests"], **_known(said.get("interests"), member["interests"])}
        names = (member["merge_fields"].get("FNAME"), member["merge_fields"].get("LNAME"))
        member["full_name"] = " ".join(str(one) for one in names if one)
        if status == "subscribed" != member["status"]:
            member.update(timestamp_opt=self.stamp(), ip_opt="198.51.100.7", compliance=False, unsubscribe_reason="")
        member.update({name: said[name] for name in PLAIN if name in said})
        if status in ("unsubscribed", "cleaned") and by != "api":
            member["compliance"] = True
        member["status"] = status
        self._rename(audience, member, email)
        after = {name: member[name] for name in before}
        if after != before or said.get("touch"):
            member["last_changed"] = self.stamp()

    def _check(
        self, audience: Audience, member: Object, said: Object, email: str, status: Any, *, by: str, valid: bool
    ) -> None:
        if status not in (*STATUSES, "archived") or "@" not in email:
            raise _invalid("status" if "@" in email else "email_address", "Please provide a valid value.")
        if by == "api" and status in ("subscribed", "pending") and member["compliance"] and status != "pending":
            raise Problem(
                400,
                "Member In Compliance State",
                f"{email} is in a compliance state due to unsubscribe, bounce, or compliance review and cannot be "
                "subscribed.",
            )
        for tag, value in (said.get("merge_fields") or {}).items():
            if audience.merge_fields.get(tag) == "number" and not str(value).replace(".", "", 1).isdigit() and value:
                raise _invalid(tag, "Please enter a number.")
        merged = {**member["merge_fields"], **(said.get("merge_fields") or {})}
        if valid and (missing := sorted(tag for tag in audience.required if not merged.get(tag))):
            raise _invalid(missing[0], "This value should not be blank.")
        if hash_of(email) != member["id"] and hash_of(email) in audience.members:
            raise Problem(400, "Invalid Resource", f"{email} is already a list member.")

    def _rename(self, audience: Audience, member: Object, email: str) -> None:
        audience.members.pop(member["id"], None)
        member["email_address"], member["id"] = email, hash_of(email)
        audience.members[member["id"]] = member

    def tag(self, audience: Audience, member: Object, name: str, *, on: bool) -> None:
        """Tags leave `last_changed` as it is."""
        kept = [one for one in member["tags"] if one["name"] != name]
        if on:
            kept.append({"id": audience.tags.setdefault(name, len(audience.tags) + 1), "name": name})
        member["tags"], member["tags_count"] = kept, len(kept)

    def tell(self, audience: Audience, type: str, by: str, data: Object) -> None:
        """Send a webhook of this type to whoever wants it of this source."""
        fired = datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%d %H:%M:%S")
        for hook in audience.webhooks.values():
            if hook.wants(type, by):
                self.postman.tell(hook.url, {"type": type, "fired_at": fired, "data": {**data, "list_id": audience.id}})

    def told_of(self, member: Object) -> Object:
        """What a webhook shows of a member."""
        groups = self.audiences[member["list_id"]].groups
        names = {id: name for group in groups.values() for id, name in group["interests"].items()}
        chosen = [names[id] for id, on in member["interests"].items() if on and id in names]
        return {
            "id": member["unique_email_id"],
            "email": member["email_address"],
            "email_type": member["email_type"],
            "ip_opt": member["ip_opt"],
            "web_id": str(member["web_id"]),
            "merges": {"EMAIL": member["email_address"], **member["merge_fields"], "INTERESTS": ",".join(chosen)},
        }


def _known(said: Any, known: Object) -> Object:
    return {name: value for name, value in (said or {}).items() if name in known}


def _invalid(name: str, message: str) -> Problem:
    problem = Problem(400, "Invalid Resource", "The resource submitted could not be validated.")
    problem.errors = [{"field": name, "message": message}]
    return problem
