"""`upkept explain` for people: who they are, and for every value who said so, when, by which rule, what lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from upkept.cli.output import print_lines, print_table

SHARED: Final = "is it shared? put it under blocked_addresses, then: upkept rebuild"
END_OF_TIME: Final = 253_402_300_800
"""Unix seconds of the year 10000, where `datetime` ends."""


def show(said: Mapping[str, Any]) -> None:
    """The whole person."""
    print_lines(_head(said))
    print()
    columns = ("attribute", "value", "said by", "at", "rule", "instead of")
    print_table(columns, [_row(n, one) for n, one in said["attributes"].items()], empty="nothing is known of them")
    rows = [(r["connection"], r["type"], r["id"], "deleted" if r["deleted"] else "", r["upkept_id"])
            for r in said["records"]]  # fmt: skip
    print_table(("record of", "type", "id there", "", "id here"), rows, empty="")
    print_lines(_tail(said))


def show_attribute(name: str, one: Mapping[str, Any]) -> None:
    """One value, and everything that it beat."""
    print(f"{name} = {_value(name, one['value'])}")
    print(f"  {one['source']} said so at {one['at']} (rule: {one['rule']})")
    for share in one.get("made_of", ()):
        print(f"  made of {_value(name, share['value'])} of {share['id']} at {share['at']}")
    for lost in one["lost"]:
        print(f"  it beats {_value(name, lost['value'])} of {lost['source']} at {lost['at']}")


def show_consent(said: Mapping[str, Any]) -> None:
    """The state of every channel, and every statement behind it with its evidence."""
    for channel, one in said["consent"].items():
        print(_consent(channel, one))
        rows = [_entry(entry) for entry in one["ledger"]]
        columns = ("at", "act", "topic", "said by", "counts", "binds", "reason", "evidence")
        print_table(columns, rows, empty="nobody said anything")
    for address, one in said["deliverability"].items():
        print(f"mail to {address}: {one['state']}")
        rows = [(e["at"], e["act"], e["source"], e["reason"], e["evidence"]) for e in one["ledger"]]
        if rows:
            print_table(("at", "act", "said by", "reason", "evidence"), rows, empty="")
        print_lines(f"  {lock['source']} refuses it in {lock['audience']}: {lock['reason']}" for lock in one["locks"])


def _head(said: Mapping[str, Any]) -> Iterable[str]:
    named = " ".join(part for part in (said["name"], f"<{said['email']}>" if said["email"] else None) if part)
    external = f", user id {said['external_id']}" if said["external_id"] else ""
    yield f"{named or 'somebody without a name'}: {said['role']} {said['id']}{external}"
    if said["archived"]:
        yield "archived"
    for channel, one in said["consent"].items():
        yield _consent(channel, one)
    for address, one in said["deliverability"].items():
        if one["state"] != "ok" or one["locks"]:
            refused = f", refused by {', '.join(lock['source'] for lock in one['locks'])}" if one["locks"] else ""
            yield f"mail to {address}: {one['state']}{refused}"


def _consent(channel: str, one: Mapping[str, Any]) -> str:
    because = one["because"]
    why = f" since {one['since']}: {because['act']} told by {because['source']}" if because else ""
    reason = f" ({because['reason']})" if because and because["reason"] else ""
    topics = "".join(f"; {topic}: {state}" for topic, state in one["topics"].items())
    return f"consent to {channel}: {one['state']}{why}{reason}{topics}"


def _tail(said: Mapping[str, Any]) -> Iterable[str]:
    for name in ("tags", "segments", "companies", "aliases"):
        if said[name]:
            yield f"{name}: {', '.join(said[name])}"
    if said["timeline"]:
        yield "timeline: " + ", ".join(f"{name} x{count}" for name, count in said["timeline"].items())
    for one in said["conflicts"]:
        if one["with"] is None:
            yield f"kept apart from older records with its address: {one['reason']}; {SHARED}"
        else:
            yield f"kept apart from {one['with']}: {one['reason']}; one person all the same? upkept merge"


def _row(name: str, one: Mapping[str, Any]) -> tuple[Any, ...]:
    lost = "; ".join(f"{_value(name, other['value'])} ({other['source']})" for other in one["lost"])
    return name, _value(name, one["value"]), one["source"], one["at"], one["rule"], lost


def _entry(one: Mapping[str, Any]) -> tuple[Any, ...]:
    counts = "qualified" if one["qualified"] else "" if one["verified"] else "unverified"
    binds = " and ".join(one["binds"])
    return one["at"], one["act"], one["topic"], one["source"], counts, binds, one["reason"], one["evidence"]


def _value(name: str, value: Any) -> str:
    """A value as text; a moment that is kept in unix seconds, as those named `…_at` are, with its date."""
    if name.endswith(("_at", "_since")) and type(value) is int and 0 <= value < END_OF_TIME:
        return f"{value} ({datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M} UTC)"
    return _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "(empty)"
    return str(value).lower() if isinstance(value, bool) else str(value)
