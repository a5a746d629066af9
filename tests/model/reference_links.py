"""The reference model's identity: which records are one person (SEMANTICS R13, R14). See `reference`."""

from __future__ import annotations

from typing import Any

from tests.model.encoding import micros, name_of
from tests.model.histories import Cut, History, Key, Merge, Say

from upkept.contract import Link

Doc = dict[str, Any]

NOBODY = {"noreply@x.example"}
UNCOUNTED = {"api", "console", "csv", "rules"}
CROWD = 100


def links_of(history: History) -> list[Doc]:
    found = []
    for said in history:
        if isinstance(said, Say) and isinstance(said.statement, Link):
            link = said.statement
            at = said.received_at if link.at is None else min(micros(link.at), said.received_at)
            a, b = (said.connection, link.a.type, link.a.id), (said.connection, link.b.type, link.b.id)
            found.append({"kind": "strong", "a": a, "b": b, "at": at, "id": name_of("link", list(a), list(b), at)})
        elif isinstance(said, Merge | Cut):
            kind = "merge" if isinstance(said, Merge) else "cut"
            name = name_of(kind, list(said.a), list(said.b), said.at)
            found.append({"kind": kind, "a": said.a, "b": said.b, "at": said.at, "id": name})
    return found


def components(records: dict[Key, Doc], links: list[Doc], *, enforced: bool) -> tuple[list[set[Key]], list[list[Key]]]:
    """Links by (strength, time, id), each taken unless a guard refuses it (R14)."""
    links = [k for k in links if k["a"] in records and k["b"] in records]
    admin = [k for k in links if k["kind"] != "strong"]
    # Of the admin links and cuts of one pair the newest counts; at one time the cut.
    admin = [k for k in admin if not any(newer(other, k) for other in admin)]
    cuts, merges = [k for k in admin if k["kind"] == "cut"], [k for k in admin if k["kind"] == "merge"]
    strong = [k for k in links if k["kind"] == "strong"] + claimed(records, "user_id", enforced=enforced)
    weak = claimed(records, "email", enforced=enforced)
    groups: list[set[Key]] = [{key} for key in records]
    for strength, chosen in (("admin", merges), ("strong", strong), ("weak", weak)):
        for link in sorted(chosen, key=lambda k: (k["at"], k["id"])):
            x = next(g for g in groups if link["a"] in g)
            y = next(g for g in groups if link["b"] in g)
            if x is not y and allowed(x, y, link, strength, records, cuts):
                groups.remove(y)
                x |= y
    newest_first = sorted(merges, key=lambda k: (k["at"], k["id"]), reverse=True)
    return groups, [[k["b"] for k in newest_first if {k["a"], k["b"]} <= group] for group in groups]


def newer(a: Doc, b: Doc) -> bool:
    if {a["a"], a["b"]} != {b["a"], b["b"]}:
        return False
    return bool((a["at"], a["kind"] == "cut", a["id"]) > (b["at"], b["kind"] == "cut", b["id"]))


def allowed(x: set[Key], y: set[Key], link: Doc, strength: str, records: dict[Key, Doc], cuts: list[Doc]) -> bool:
    for cut in cuts:
        across = (cut["a"] in x and cut["b"] in y) or (cut["b"] in x and cut["a"] in y)
        if across and (strength == "weak" or link["at"] <= cut["at"]):
            return False
    if strength == "admin":
        return True
    ids_x = {records[key]["user_id"] for key in x} - {None}
    ids_y = {records[key]["user_id"] for key in y} - {None}
    if ids_x - ids_y and ids_y - ids_x:
        return False
    counted_x, counted_y = sum(map(counts, x)), sum(map(counts, y))
    return strength == "strong" or not counted_x or not counted_y or counted_x + counted_y <= 10


def counts(key: Key) -> bool:
    return key[0] not in UNCOUNTED and not anonymous(key)


def anonymous(key: Key) -> bool:
    return key[:2] == ("app", "anonymous")


def claimed(records: dict[Key, Doc], kind: str, *, enforced: bool) -> list[Doc]:
    """Weak links (email) or user id links: each holding linked to the oldest that held the same then (R13)."""
    holdings = []
    for key, found in records.items():
        for i in found["held"]:
            if i["kind"] != kind or i["value"] in NOBODY:
                continue
            if i["verified"] or not (enforced or anonymous(key)):
                holdings.append((i["start"], key, i["end"], i["value"]))
        if kind == "user_id" and found["user_id"] is not None:
            runs = [i for i in found["held"] if i["kind"] == kind and i["value"] == found["user_id"]]
            holdings = [h for h in holdings if h[1] != key]
            sure = not runs or any(i["verified"] for i in runs)
            if sure or not (enforced or anonymous(key)):
                start = max((i["start"] for i in runs), default=0)
                holdings.append((start, key, None, found["user_id"]))
    if kind == "email":
        holdings = [h for h in holdings if older_than(h, holdings) < CROWD]
    links = []
    for start, key, end, value in holdings:
        older = [
            h
            for h in holdings
            if h[3] == value and h[:2] < (start, key) and (kind == "user_id" or overlap((h[0], h[2]), (start, end)))
        ]
        if older and min(older)[1] != key:
            name = "\x1f".join((kind, value, *key))
            links.append({"a": key, "b": min(older)[1], "at": start, "id": name})
    return links


def older_than(one: Any, holdings: list[Any]) -> int:
    """How many held the same address before; holdings of no time are none."""
    return sum(h[3] == one[3] and h[2] != h[0] and h[:2] < one[:2] for h in holdings)


def overlap(a: tuple[int, int | None], b: tuple[int, int | None]) -> bool:
    begin = max(a[0], b[0])
    return all(end is None or begin < end for end in (a[1], b[1]))
