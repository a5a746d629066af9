"""What happens to members of the Mailchimp stand-in, whoever did it: the change, and the webhooks that tell of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from upkept.testing.fake_mailchimp.faults import Problem
from upkept.testing.fake_mailchimp.world import Audience, Object, World, hash_of


def add(world: World, audience: Audience, email: str, said: Object, *, by: str, valid: bool = True) -> Object:
    """Add who is not there, or change who is (who was archived comes back)."""
    known = audience.members.get(hash_of(email))
    if known is not None:
        return change(world, audience, known, said, by=by, valid=valid)
    if hash_of(email) in audience.forgotten:
        raise Problem(
            400, "Forgotten Email Not Subscribed", f"{email} was permanently deleted and cannot be re-imported."
        )
    source = said.get("source") or ("API - Generic" if by == "api" else "Hosted Signup Form")
    member = world.created(audience, email, said, source=source)
    world.change(audience, member, {**said, "email_address": email}, by=by, valid=valid)
    member["compliance"] = False
    if member["status"] == "subscribed":
        world.tell(audience, "subscribe", by, {**world.told_of(member), "ip_signup": member["ip_opt"]})
    return member


def change(
    world: World, audience: Audience, member: Object, said: Object, *, by: str, valid: bool = True, why: str = "manual"
) -> Object:
    """Change a member and tell of it: each thing that changed has a webhook of its own, in no useful order."""
    before = {name: member[name] for name in ("status", "email_address", "merge_fields", "interests")}
    world.change(audience, member, said, by=by, valid=valid)
    if member["email_address"] != before["email_address"]:
        if any(member[name] != before[name] for name in ("merge_fields", "interests")):
            world.tell(audience, "profile", by, world.told_of(member))
        moved = {"new_id": member["unique_email_id"], "new_email": member["email_address"]}
        world.tell(audience, "upemail", by, {**moved, "old_email": before["email_address"]})
    elif any(member[name] != before[name] for name in ("merge_fields", "interests")):
        world.tell(audience, "profile", by, world.told_of(member))
    if member["status"] != before["status"]:
        _told(world, audience, member, by, why)
    return member


def archive(world: World, audience: Audience, member: Object, *, by: str) -> None:
    if member["status"] == "archived":
        raise Problem(405, "Method Not Allowed", "The requested method and resource are not compatible.")
    member["status"], member["last_changed"] = "archived", world.stamp()
    world.tell(audience, "unsubscribe", by, {**world.told_of(member), "action": "archive", "reason": "manual"})


def erase(world: World, audience: Audience, member: Object) -> None:
    """For good: the address can never be added again."""
    del audience.members[member["id"]]
    audience.forgotten.add(member["id"])


def _told(world: World, audience: Audience, member: Object, by: str, why: str) -> None:
    match member["status"]:
        case "subscribed":
            world.tell(audience, "subscribe", by, {**world.told_of(member), "ip_signup": member["ip_signup"]})
        case "unsubscribed":
            how = {"action": "unsub", "reason": why, "campaign_id": "cb398d21d2"}
            world.tell(audience, "unsubscribe", by, {**world.told_of(member), **how})
        case "cleaned":
            how = {"campaign_id": "4fjk2ma9xd", "reason": "abuse" if why == "abuse" else "hard"}
            world.tell(audience, "cleaned", by, {**how, "email": member["email_address"]})


def seed(world: World, said: Object) -> Object:
    """`{"audience", "members": n, "statuses"?: {status: share of n}, "one_second"?: bool}`: no webhooks."""
    audience = world.add_audience(str(said["audience"]))
    start, made = len(audience.members), int(said.get("members", 0))
    statuses = [status for status, count in (said.get("statuses") or {}).items() for _ in range(count)]
    now = world.now()
    for n in range(made):
        email = f"{said.get('prefix', 'm')}{start + n}@example.com"
        status = statuses[n] if n < len(statuses) else "subscribed"
        member = world.created(audience, email, {"status": status}, source="Import")
        member["merge_fields"]["FNAME"], member["full_name"] = f"M{start + n}", f"M{start + n}"
        member["compliance"] = status in ("unsubscribed", "cleaned")
        if not said.get("one_second"):
            member["last_changed"] = _stamp(now - made - 3_600 + n // 3)
        else:
            member["last_changed"] = _stamp(now - 3_600)
        audience.members[member["id"]] = member
    return {"members": len(audience.members)}


def _stamp(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()


def act(world: World, said: Object) -> Object:
    """`{"act", "audience", "email", …}`: what a person or an admin does in Mailchimp's own pages."""
    audience, name, by = world.audience(str(said["audience"])), str(said["act"]), str(said.get("by", "user"))
    email = str(said.get("email", ""))
    rest: dict[str, Any] = {
        k: v for k, v in said.items() if k not in ("act", "audience", "email", "by", "why", "to", "tag")
    }
    if name == "campaign":
        told = {"id": "5aa2102003", "subject": "News", "status": "sent", "reason": ""}
        world.tell(audience, "campaign", by, told)
        return {}
    if name == "subscribe":
        return world.shown(add(world, audience, email, {"status": "subscribed", **rest}, by=by, valid=False))
    member = world.member(audience, email)
    match name:
        case "unsubscribe" | "clean":
            status = "unsubscribed" if name == "unsubscribe" else "cleaned"
            change(world, audience, member, {"status": status}, by=by, valid=False, why=str(said.get("why", "manual")))
        case "profile":
            change(world, audience, member, rest, by=by, valid=False)
        case "upemail":
            change(world, audience, member, {"email_address": said["to"], **rest}, by=by, valid=False)
        case "tag" | "untag":
            world.tag(audience, member, str(said["tag"]), on=name == "tag")
        case "archive":
            archive(world, audience, member, by=by)
        case "erase":
            erase(world, audience, member)
        case _:
            raise Problem(404, "Unknown Act", name)
    return world.shown(member)
