"""Writing one member: the opt-out and the profile, in one call where Mailchimp lets us.

- **Never around a lock** (R11). If Mailchimp refuses to subscribe somebody, the rest is written without it and the
  answer says `locked`. Nobody is deleted and added again, and no confirmation is sent to who left there.
- **Consent first.** A profile that Mailchimp does not take must not hold up an opt-out: then the opt-out goes alone.
- **Nobody is deleted.** Who was erased here is archived there; `delete-permanent` would bar the address for ever.
- Status is written for consent alone, never from a mapping; a merge field that an audience requires
  (`skip_merge_validation`) holds nothing up.

All of it says how things should be, so the same again changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from upkept.contract import Context, Desired, Gone, Permanent, Pushed, RecordRef, Retryable, Skipped
from upkept.contract.fields import iso_time
from upkept_mailchimp.client.api import ask, tell
from upkept_mailchimp.client.audience import is_there
from upkept_mailchimp.client.errors import Locked, NotFound, Refused
from upkept_mailchimp.config import ALL, MailchimpConfig, topic_of
from upkept_mailchimp.member import MEMBER, hash_of, is_hash, parted, ref

WRITABLE: Final = frozenset({"email_address", "email_type", "interests", "language", "location", "merge_fields", "vip"})
YES_OR_NO: Final = frozenset({"interests", "vip"})
"""What Mailchimp takes no empty text for: nothing is a no."""

TAGS: Final = "tags"


@dataclass(frozen=True, slots=True)
class Change:
    """What one state asks of one member. `wish` is what becomes of the subscription; `new` if it may not be there
    yet.
    """

    audience: str
    hash: str
    topic: str
    wish: Literal["opt_out", "opt_in"] | None = None
    profile: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, bool] = field(default_factory=dict)
    email: str | None = None
    new: bool = False
    erased: bool = False

    @property
    def status(self) -> dict[str, str]:
        """Of the body: the subscription."""
        return {} if self.wish is None else {"status": "unsubscribed" if self.wish == "opt_out" else "subscribed"}

    @property
    def body(self) -> dict[str, Any]:
        """All of it. Who is new is subscribed only if an opt-in says so; else mail about purchases may reach it."""
        body: dict[str, Any] = {**self.status, **self.profile}
        if self.new:
            body |= {"email_address": self.email, "status_if_new": self.status.get("status", "transactional")}
        return body

    @property
    def marks(self) -> dict[str, Any]:
        """The body of the call that sets tags. `is_syncing` starts no automation."""
        marks = [{"name": name, "status": "active" if on else "inactive"} for name, on in sorted(self.tags.items())]
        return {"tags": marks, "is_syncing": True}


def push(state: Desired, config: MailchimpConfig, ctx: Context, *, key: str) -> Pushed:
    """Bring one member to the desired state; see above. `key` is not needed."""
    change = change_of(state, config)
    if change.erased:
        return _archived(change, config, ctx)
    answer: Mapping[str, Any] = {}
    locked = False
    if change.body:
        answer, locked = _written(change, config, ctx)
    if change.tags:
        _tagged(change, config, ctx)
    return pushed(change, state, answer, locked=locked)


def change_of(state: Desired, config: MailchimpConfig) -> Change:
    """What a state asks for. Raises `Skipped` if that is nothing, `Permanent` if Mailchimp cannot be told it."""
    if state.record is None:
        if not state.email or not config.audiences:
            raise Skipped("Mailchimp push: nobody there, and no address to add")
        audience, hash, new = config.audiences[0], hash_of(state.email), True
    else:
        named = parted(state.record.id) if state.record.type == MEMBER else None
        if named is None:
            raise Permanent(f"Mailchimp push: {state.record.type} {state.record.id} is no member of an audience")
        (audience, hash), new = named, False
    if audience not in config.audiences:
        error = Permanent if state.erased or state.consent else Skipped  # who must be told that must not be forgotten
        raise error(f"Mailchimp push: for its members name {audience} in `audiences` of this connection")
    topic = topic_of(config, audience)
    profile, tags = _fields(state.fields)
    change = Change(audience, hash, topic, _wish(state, topic), profile, tags, state.email, new, state.erased)
    if not (change.erased or change.body or change.tags):
        raise Skipped("Mailchimp push: nothing of it is this member's")
    return change


def pushed(change: Change, state: Desired, answer: Mapping[str, Any], *, locked: bool) -> Pushed:
    """What Mailchimp holds now. An address that was changed has made another member of it."""
    held = str(answer.get("id"))
    record = None if change.new and not answer else ref(change.audience, held if is_hash(held) else change.hash)
    return Pushed(
        record=record,
        fields={path: _held(path, value, answer) for path, value in state.fields.items()},
        at=_at(answer),
        locked=frozenset({change.topic}) if locked else frozenset(),
    )


def _wish(state: Desired, topic: str) -> Literal["opt_out", "opt_in"] | None:
    """An opt-out of everything stands above all; else what is said of the audience's topic, else of everything."""
    if state.consent.get(ALL) == "opt_out":
        return "opt_out"
    return state.consent.get(topic) or state.consent.get(ALL)


def _fields(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bool]]:
    """Paths as the objects of a body, and the tags, which have a call of their own."""
    profile: dict[str, Any] = {}
    tags: dict[str, bool] = {}
    for path, value in sorted(fields.items()):
        first, _, rest = path.partition(".")
        if first == TAGS and rest:
            tags[rest] = value is True
            continue
        if first not in WRITABLE:
            raise Permanent(f"Mailchimp push: member.{path} cannot be written; set its direction to in (`fields`)")
        at, *steps = profile, *path.split(".")
        for step in steps[:-1]:
            at = at.setdefault(step, {})
        empty = False if first in YES_OR_NO else ""
        at[steps[-1]] = empty if value is None else value
    return profile, tags


def _written(change: Change, config: MailchimpConfig, ctx: Context) -> tuple[Mapping[str, Any], bool]:
    """The member as it is then, and whether its opt-in was refused."""
    try:
        answer = _put(change, change.body, config, ctx)
    except Locked:
        if change.wish == "opt_out":  # it gets no mail, which is what was asked for
            return {}, False
        if change.wish is None and not change.new:
            raise
        rest = dict(change.profile)
        return (_put(change, rest, config, ctx) if rest and not change.new else {}), True
    except Refused:
        if change.wish == "opt_out" and change.profile:
            alone = {name: value for name, value in change.body.items() if name not in change.profile}
            _put(change, alone, config, ctx)
        raise
    if change.wish == "opt_out" and answer.get("status") == "subscribed":
        raise Retryable("Mailchimp members.update: the member is still subscribed; the hub writes again")
    return answer, False


def _put(change: Change, body: Mapping[str, Any], config: MailchimpConfig, ctx: Context) -> Mapping[str, Any]:
    """PATCH changes who is there; PUT makes who is not, and leaves a status alone that it does not name."""
    endpoint = "members.set" if change.new else "members.update"

    def call(client: Any) -> Any:
        write = client.lists.set_list_member if change.new else client.lists.update_list_member
        said = "true"  # of a boolean the SDK makes `True`
        return write(change.audience, change.hash, dict(body), skip_merge_validation=said)

    try:
        answer = ask(endpoint, config, ctx, call)
    except NotFound as error:
        is_there(change.audience, config, ctx)
        raise Gone("Mailchimp push: no such member any more; there is nobody to tell") from error
    if "email_address" not in body and answer.get("id") != change.hash:
        raise Retryable(f"Mailchimp {endpoint}: the answer is not the member that was written; the hub writes again")
    return answer


def _tagged(change: Change, config: MailchimpConfig, ctx: Context) -> None:
    try:
        tell(
            "members.tags", config, ctx,
            lambda client: client.lists.update_list_member_tags(change.audience, change.hash, change.marks),
        )  # fmt: skip
    except NotFound as error:
        is_there(change.audience, config, ctx)
        raise Gone("Mailchimp push: no such member any more; there is nobody to tag") from error


def _archived(change: Change, config: MailchimpConfig, ctx: Context) -> Pushed:
    """Archive a member. Who is not there, or is archived already (405), needs it no more."""
    record = RecordRef(MEMBER, f"{change.audience}/{change.hash}")
    try:
        tell(
            "members.archive", config, ctx,
            lambda client: client.lists.delete_list_member(change.audience, change.hash),
        )  # fmt: skip
    except NotFound:
        is_there(change.audience, config, ctx)
    except Refused as error:
        if error.title.lower() != "method not allowed":
            raise
    return Pushed(record=record)


def _held(path: str, sent: Any, answer: Mapping[str, Any]) -> Any:
    """A field as Mailchimp stored it; as it was sent, if the answer does not show it."""
    at: Any = answer
    for step in path.split("."):
        if not isinstance(at, Mapping) or step not in at or path.startswith(f"{TAGS}."):
            return sent
        at = at[step]
    return at


def _at(answer: Mapping[str, Any]) -> datetime | None:
    found = iso_time(answer.get("last_changed"), {})
    return found if isinstance(found, datetime) else None
