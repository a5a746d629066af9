"""The reference model: SEMANTICS worked out as plainly as possible, with no regard to speed.

It shares no code with `upkept.people`, knows no arrival order (a history is a set to it), keeps no state between
calls, and computes everything from all statements at once, mostly by comparing each with each.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any

from tests.model.encoding import encoded, micros, name_of
from tests.model.histories import (
    FIRST_PARTY,
    SURVIVES,
    Erase,
    History,
    Key,
    Say,
    combine,
    summarize,
)
from tests.model.reference_links import anonymous, components, links_of

from upkept.contract import WITHDRAWN, Consent, Fact, Part, RecordRef, TimelineEvent, Whole

__all__ = ["consent", "consents_of", "digest", "encoded", "people"]

Doc = dict[str, Any]

MAX = {"last_seen_at"}
MIN = {"signed_up_at"}
LOWERING = {"opt_out", "complaint", "block"}
FIVE_MINUTES = 5 * 60 * 1_000_000


def digest(history: History, *, enforced: bool = False) -> str:
    """One hash over every person and their consent."""
    return sha256(encoded(people(history, enforced=enforced)).encode()).hexdigest()


def people(history: History, *, enforced: bool = False) -> list[Doc]:
    """Every person as `{"person": Person.doc(), "consent": {topic: state}}`, sorted by their record keys."""
    facts = unique([fact_of(e) for e in history if isinstance(e, Say) and isinstance(e.statement, Fact)])
    links = links_of(history)
    consents = consents_of(history)
    erased = covered(facts, [e for e in history if isinstance(e, Erase)])
    facts = [f for f in facts if f["key"] not in erased and f["owner"] not in erased]
    parts = {f["key"] for f in facts if f["key"][1] == "plan"}
    standing = {f["key"] for f in facts} | {f["owner"] for f in facts if f["owner"]}
    standing |= {end for link in links for end in (link["a"], link["b"])}
    standing |= {s["record"] for s in consents if s["record"]}
    standing |= {happened_to(e) for e in history if isinstance(e, Say) and isinstance(e.statement, TimelineEvent)}
    records = {key: record(key, facts) for key in standing - parts - erased}
    consents += [one for s in consents if s["unnamed"] and s["record"] in records for one in meant(s, records)]
    groups, targets = components(records, links, enforced=enforced)
    found = [
        {
            "person": person(together([records[key] for key in sorted(group)]), merges),
            "consent": {topic: consent([records[key] for key in group], consents, topic) for topic in ("*", "news")},
        }
        for group, merges in zip(groups, targets, strict=True)
    ]
    return sorted(found, key=lambda p: p["person"]["keys"])


def happened_to(said: Say) -> Key:
    event = said.statement
    assert isinstance(event, TimelineEvent)
    return (said.connection, event.record.type, event.record.id)


# A. Facts


def fact_of(said: Say) -> Doc:
    fact = said.statement
    assert isinstance(fact, Fact)
    observed = said.received_at if fact.observed_at is None else micros(fact.observed_at)
    key = (said.connection, fact.record.type, fact.record.id)
    doc: Doc = {}
    if fact.fields:
        doc["f"] = {name: value_of(value) for name, value in fact.fields.items()}
    if fact.claims:
        doc["c"] = {kind: None if v is None else normal(kind, v) for kind, v in fact.claims.items()}
        if not fact.verified:
            doc["v"] = False
    if fact.deleted is not None:
        doc["d"] = fact.deleted
    if fact.owner is not None:
        doc["o"] = [fact.owner.type, fact.owner.id]
    if fact.snapshot:
        doc["n"] = True
    if fact.makes_user:
        doc["u"] = True
    run = [] if said.run is None else [said.run]
    at = min(observed, said.received_at)
    return {
        "key": key,
        "owner": (said.connection, fact.owner.type, fact.owner.id) if fact.owner else None,
        "at": at,
        "order": (at, int(fact.kind), fact.sequence, name_of(list(key), observed, fact.sequence, fact.kind, doc, *run)),
        "doc": doc,
    }


def value_of(value: Any) -> Any:
    if value is WITHDRAWN:
        return {"$w": 1}
    if isinstance(value, datetime):
        return {"$t": micros(value)}
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, float) and value == 0:
        return 0.0
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return float(value)
    return value


def normal(kind: str, value: str) -> str | None:
    if kind == "email":
        return value.strip().lower()
    if kind == "phone":
        kept = "".join(c for c in value if c in "+0123456789")
        return kept if len(kept) >= 5 else None
    return None if value == "null" else value


def unique(facts: list[Doc]) -> list[Doc]:
    """A fact seen twice counts once, with the time it was first admitted at."""
    return [f for n, f in enumerate(facts) if not any(f["order"][3] == g["order"][3] for g in facts[:n])]


def covered(facts: list[Doc], erasures: list[Erase]) -> set[Key]:
    """Records that an erasure forbids: by key, or whole because of an identifier they ever stated (R12)."""
    dead: set[Key] = {key for e in erasures for key in e.keys}
    for key in {f["key"] for f in facts}:
        mine = [f for f in facts if f["key"] == key]
        created = min(f["at"] for f in mine)
        stated = {c for f in mine for c in f["doc"].get("c", {}).items()}
        for erasure in erasures:
            for kind, value in erasure.identifiers:
                came_back = kind != "user_id" and key[0] in FIRST_PARTY and created > erasure.at
                if (kind, value) in stated and not came_back:
                    dead.add(key)
    return dead | {f["key"] for f in facts if f["owner"] in dead}


# A record and its parts


def record(key: Key, facts: list[Doc]) -> Doc:
    mine = sorted((f for f in facts if f["key"] == key), key=lambda f: f["order"])
    plans = sorted({f["key"] for f in facts if f["key"][1] == "plan" and owner_of(f["key"], facts) == key})
    deleted = is_deleted(mine)
    cells = cells_of(mine)
    parts = []
    for plan in plans:
        said = sorted((f for f in facts if f["key"] == plan), key=lambda f: f["order"])
        fields = {name: cell["value"] for name, cell in cells_of(said).items()}
        parts.append((Part(ref=RecordRef(*plan[1:]), fields=fields, deleted=is_deleted(said)), said[-1]["order"]))
    own = {name: cell["value"] for name, cell in cells.items()}
    summary = summarize({}, [part for part, _ in parts]) if key[0] == "bill" else {}
    for name, one in summary.items():
        if not name.startswith("_"):
            newest = max(order for part, order in parts if part.ref in one.used)
            cells[name] = {"value": one.value, "since": newest}
    if deleted:
        cells = {name: cell for name, cell in cells.items() if name in SURVIVES.get(key[0], ())}
    ids = [f["doc"]["c"]["user_id"] for f in mine if f["doc"].get("c", {}).get("user_id") is not None]
    return {
        "key": key,
        "cells": cells,
        "whole": Whole(ref=RecordRef(*key[1:]), fields=own, summary={name: one.value for name, one in summary.items()}),
        "deleted": deleted,
        "user": any(f["doc"].get("u") for f in mine),
        "user_id": ids[-1] if ids else None,
        "held": intervals(mine),
    }


def owner_of(part: Key, facts: list[Doc]) -> Key | None:
    said = sorted((f for f in facts if f["key"] == part and f["owner"]), key=lambda f: f["order"])
    return said[-1]["owner"] if said else None


def is_deleted(facts: list[Doc]) -> bool:
    said = [(f["at"], f["doc"]["d"]) for f in facts if "d" in f["doc"]]
    return any(d and not any(not other and later > at for later, other in said) for at, d in said)


def cells_of(facts: list[Doc]) -> dict[str, Doc]:
    cells = {}
    for name in {name for f in facts for name in f["doc"].get("f", {})}:
        said = [f for f in facts if name in f["doc"].get("f", {})]
        values = [f["doc"]["f"][name] for f in said]
        if name in MAX | MIN:
            value = extreme(values, largest=name in MAX)
            first = next(f for f, v in zip(said, values, strict=True) if same(v, value))
            cells[name] = {"value": value, "since": first["order"]}
            continue
        began = len(said) - 1
        while began > 0 and said[began]["doc"].get("n") and same(values[began - 1], values[began]):
            began -= 1
        cells[name] = {"value": values[-1], "since": said[began]["order"]}
    return cells


def same(a: Any, b: Any) -> bool:
    return encoded(a) == encoded(b) or (type(a) in (int, float) and type(b) in (int, float) and a == b)


def extreme(values: Iterable[Any], *, largest: bool) -> Any:
    """A real value counts before known-empty, and that before withdrawn."""
    found = list(values)
    real = [v for v in found if v is not None and v != {"$w": 1}]
    if not real:
        return None if None in found else {"$w": 1}
    return (max if largest else min)(real, key=lambda v: v["$t"] if isinstance(v, dict) else v)


def intervals(facts: list[Doc]) -> list[Doc]:
    """From the fact that states a claim to the one that ends it: another value, an empty one, or a delete."""
    found: list[Doc] = []
    for kind in ("email", "user_id", "phone"):
        held: Doc | None = None
        for n, fact in enumerate(facts):
            claims = fact["doc"].get("c", {})
            says_other = kind in claims and held is not None and claims[kind] != held["value"]
            if held is not None and (fact["doc"].get("d") or says_other):
                held["end"] = fact["at"]
                held = None
            if claims.get(kind) is None:
                continue
            if is_deleted(facts[: n + 1]):  # stated by what is deleted: held for no time, but said at that time
                sure = fact["doc"].get("v", True)
                said = {"kind": kind, "value": claims[kind], "start": fact["at"], "end": fact["at"], "verified": sure}
                if not any((i["kind"], i["value"]) == (kind, claims[kind]) for i in found):
                    found.append(said)
                continue
            if held is None:
                held = {"kind": kind, "value": claims[kind], "start": fact["at"], "end": None, "verified": False}
                found.append(held)
            held["verified"] = held["verified"] or fact["doc"].get("v", True)
    return found


# R4. The person


def together(records: list[Doc]) -> list[Doc]:
    """Where `bill` has several records of a person, what the living ones say together stands for what each says."""
    mine = [r for r in records if r["key"][0] == "bill"]
    living = [r for r in mine if not r["deleted"]]
    if len(mine) < 2 or not living:
        return records
    joint = {}
    for name, one in combine([r["whole"] for r in living]).items():
        used = [r for r in living if r["whole"].ref in one.used]
        told = [order for r in used for order in told_at(name, r)] or [o for r in living for o in told_at("", r)]
        if told:
            joint[name] = {"value": value_of(one.value), "since": max(told)}
    found = []
    for r in records:
        cells = {name: cell for name, cell in r["cells"].items() if r not in mine or name not in joint}
        found.append({**r, "cells": {**cells, **joint} if r is mine[0] else cells})
    return found


def told_at(name: str, record: Doc) -> list[Any]:
    """When a record said this; one that never did counts by its newest word."""
    cells = record["cells"]
    return [cells[name]["since"]] if name in cells else [max(c["since"] for c in cells.values())] if cells else []


def person(records: list[Doc], targets: list[Key]) -> Doc:
    attributes = {}
    for name in {name for r in records for name in r["cells"]}:
        value = decided(name, records)
        if value is not None:
            attributes[name] = value
    tags = sorted(n[4:] for n, v in attributes.items() if n.startswith("tag:") and v is True)
    companies = sorted(n[8:] for n, v in attributes.items() if n.startswith("company:") and v is True)
    attributes = {n: v for n, v in attributes.items() if not n.startswith(("tag:", "company:"))}
    holders = sorted((not r["user"], r["key"], r["user_id"]) for r in records if r["user_id"] is not None)
    held = [h[2] for target in targets for h in holders if h[1] == target] + [h[2] for h in holders]
    if held or any(r["user"] for r in records):
        role = "user"
    else:
        role = "visitor" if all(anonymous(r["key"]) for r in records) and "email" not in attributes else "lead"
    return {
        "keys": [list(r["key"]) for r in records],
        "role": role,
        "external_id": attributes.get("external_id") or (held[0] if held else None),
        "email": attributes.get("email"),
        "name": attributes.get("name"),
        "attributes": attributes,
        "tags": tags,
        "companies": companies,
        "archived": all(r["deleted"] for r in records),
    }


def decided(name: str, records: list[Doc]) -> Any:
    said = [(r["cells"][name]["since"], r["key"], r["cells"][name]["value"]) for r in records if name in r["cells"]]
    said = [s for s in said if s[2] != {"$w": 1}]
    rules = sorted(s for s in said if s[1][0] == "rules")
    others = [s for s in said if s[1][0] != "rules"]
    if name in MAX | MIN:
        value = extreme([s[2] for s in others], largest=name in MAX) if others else None
    else:
        value = max(others, key=lambda s: s[:2])[2] if others else None
    return rules[-1][2] if value is None and rules else value


# B. Consent


def consents_of(history: History) -> list[Doc]:
    found = []
    for said in history:
        if not isinstance(said, Say) or not isinstance(said.statement, Consent):
            continue
        c = said.statement
        address = normal("email", c.address) if c.address and c.verified else None
        found.append(
            {
                "act": c.act,
                "at": said.received_at if c.at is None else min(micros(c.at), said.received_at),
                "topic": c.topic,
                "clock": said.connection,
                "qualified": c.qualified and c.verified and bool(c.evidence),
                "lifts": c.act == "lift" and c.verified and bool(c.reason),
                "address": address,
                "unnamed": c.act in LOWERING and c.verified and address is None and c.record is not None,
                "record": (said.connection, c.record.type, c.record.id) if c.record else None,
            }
        )
    return found


def meant(said: Doc, records: dict[Key, Doc]) -> list[Doc]:
    """R9: an opt-out that names no address is of those its record held then or later, else of the last before."""
    held = [i for i in records[said["record"]]["held"] if i["kind"] == "email" and i["verified"]]
    before = [i for i in held if i["start"] <= said["at"]]
    found = [i for i in held if i["end"] is None or i["end"] >= said["at"]]
    if before and not any(i in found for i in before):
        found += [i for i in before if not any(other["end"] > i["end"] for other in before)]
    return [{**said, "address": i["value"], "record": None} for i in found]


def consent(records: list[Doc], consents: list[Doc], topic: str) -> str:
    """R8: subscribed iff one qualified opt-in is later than every opt-out in scope."""
    addresses = {i["value"] for r in records for i in r["held"] if i["kind"] == "email" and i["end"] is None}
    keys = {r["key"] for r in records}
    scope = [s for s in consents if s["record"] in keys or s["address"] in addresses]
    scope = [s for s in scope if s["topic"] in ("*", topic)]
    outs = [s for s in scope if s["act"] == "opt_out"]
    complaints = [s for s in scope if s["act"] in ("complaint", "block")]
    if any(not any(lift["lifts"] and later(lift, c) for lift in scope) for c in complaints):
        return "unsubscribed"
    ins = [s for s in scope if s["act"] == "opt_in"]
    if outs:
        won = [r for r in ins if r["qualified"] and all(later(r, u) for u in outs)]
        return "subscribed" if won else "unsubscribed"
    return "subscribed" if ins else "unknown"


def later(a: Doc, b: Doc) -> bool:
    """Beyond the doubt of two clocks; what is said of one topic answers no other topic's statement."""
    skew = 0 if a["clock"] == b["clock"] else FIVE_MINUTES
    return bool(a["at"] > b["at"] + skew) and b["topic"] in ("*", a["topic"])
