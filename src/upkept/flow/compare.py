"""What a page of a pull says that the store does not know yet (R5): the rest never reaches the inbox.

Only reads (`read.<type>`) are compared, with the heads of their records. An event's own id tells whether it is
known. A read that cannot be understood goes on to the inbox, where it fails visibly. The opt-outs of what is news are
in force with the commit that stores it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection as Store

from upkept.contract import Consent, Fact, Link, RawEvent, Skipped, Statement
from upkept.flow import opt_outs
from upkept.flow.bells import Bell, bells_for
from upkept.flow.hub import Hub
from upkept.flow.opt_outs import OptOut
from upkept.people.consent import ConsentFact, admit_consent, record_subject
from upkept.people.facts import MAILS, Admitted, admit, admit_link
from upkept.people.fold import Head, says_nothing_new
from upkept.people.head import EMPTY
from upkept.people.owed import Heard, heard, is_said_again
from upkept.people.values import Json, RecordKey
from upkept.registry import Connection
from upkept.store import claims, consent, inbox, records
from upkept.store.inbox import Arrival
from upkept.store.row_key import row_key

READ = "read."


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one record as the store has it and as the vendor does. Absent values are None.

    `new` if the store knows nothing of the record yet.
    """

    record: str
    type: str
    source_id: str
    new: bool
    field: str
    ours: Json
    theirs: Json


@dataclass(slots=True)
class Compared:
    """A page, compared: `news` go to the inbox, with what of them takes consent away in `opt_outs`, by event id;
    `shown` are the records (id -> type) that the page listed."""

    news: list[RawEvent] = field(default_factory=list)
    opt_outs: dict[str, list[ConsentFact]] = field(default_factory=dict)
    known: int = 0
    shown: dict[str, str] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)


def compare(hub: Hub, connection: Connection, events: Sequence[RawEvent], *, received_at: int) -> Compared:
    """Sort a page into news and what is known. Reads only."""
    compared = Compared()
    said: list[tuple[RawEvent, list[Admitted], set[str]]] = []
    for event in events:
        if not event.kind.startswith(READ) or event.thin:
            compared.news.append(event)
            mark = opt_outs.lowering(connection, event.kind)
            _note(compared, event, opt_outs.read(hub, connection, event, mark, received_at=received_at))
            continue
        try:
            statements = opt_outs.statements(connection, event, received_at=received_at)
        except Skipped:
            compared.known += 1
            continue
        except Exception as error:
            compared.news.append(event)
            if opt_outs.lowering(connection, event.kind) != "no":
                opt_outs.unreadable(connection, event, error)
            continue
        _note(compared, event, opt_outs.among(hub, connection.name, statements, received_at=received_at))
        facts = [admit(connection.name, one, received_at=received_at) for one in statements if isinstance(one, Fact)]
        said.append((event, facts, _apart(hub, connection, statements, received_at)))
    heads = _heads(hub, (fact for _, facts, _ in said for fact in facts))
    known = _known(hub, {id_ for *_, ids in said for id_ in ids})
    words = _words(hub, connection, (fact for _, facts, _ in said for fact in facts))
    for event, facts, apart in said:
        compared.shown.update((hub.record_id(fact.key), fact.key.type) for fact in facts if _is_whole(connection, fact))
        unchanged = all(
            says_nothing_new(head := heads.get(hub.record_id(fact.key)), fact.fact)
            and not is_said_again(fact.fact, (head or EMPTY).cells, words.get(fact.key, ()))
            for fact in facts
        )
        # What happened to an object is told with its facts, so an event alone is never known.
        if unchanged and apart <= known and (facts or apart):
            compared.known += 1
            continue
        compared.news.append(event)
        for fact in facts:
            compared.differences.extend(_differences(hub.record_id(fact.key), fact, heads))
    return compared


def _apart(hub: Hub, connection: Connection, statements: Sequence[Statement], received_at: int) -> set[str]:
    """The ids of what is said beside facts, consent and links: with the vendor's times in them they are the same again.

    One that has only the time of its arrival is a new one each time, and so always news.
    """
    ids: set[str] = set()
    for one in statements:
        if isinstance(one, Consent):
            said = admit_consent(connection.name, one, received_at=received_at, subject=hub.subject)
            ids |= {fact.id for fact in said}
        elif isinstance(one, Link):
            ids.add(admit_link(connection.name, one, received_at=received_at).id)
    return ids


def _known(hub: Hub, ids: set[str]) -> set[str]:
    if not ids:
        return set()
    with hub.store.read() as open_store:
        return consent.known(open_store, sorted(ids)) | claims.known_links(open_store, sorted(ids))


def _words(hub: Hub, connection: Connection, facts: Iterable[Admitted]) -> dict[RecordKey, list[Heard]]:
    """What the vendor said of the mail of these records beside showing them."""
    subjects = {
        hub.subject("record", record_subject(fact.key)): fact.key
        for fact in facts
        if any(name.startswith(MAILS) for name in fact.fact.doc.get("f", ()))
    }
    if not subjects:
        return {}
    with hub.store.read() as open_store:
        found = consent.about(open_store, sorted(subjects))
    return {
        subjects[subject]: heard((one for one in about if one.connection == connection.name), {})
        for subject, about in found.items()
    }


def _note(compared: Compared, event: RawEvent, said: list[ConsentFact]) -> None:
    if said:
        compared.opt_outs.setdefault(event.id, []).extend(said)


def _heads(hub: Hub, facts: Iterable[Admitted]) -> dict[str, Head]:
    ids = sorted({hub.record_id(fact.key) for fact in facts})
    if not ids:
        return {}
    with hub.store.read() as open_store:
        return records.heads(open_store, ids)


def _is_whole(connection: Connection, fact: Admitted) -> bool:
    """A record, not a part of one: parts come and go with their owners."""
    return fact.owner is None and fact.key.type not in connection.connector.parts


def _differences(record: str, fact: Admitted, heads: dict[str, Head]) -> Iterator[Difference]:
    new = record not in heads
    head = heads.get(record, Head())
    doc, key = fact.fact.doc, fact.key
    for name, theirs in sorted(doc.get("f", {}).items()):
        cell = head.cells.get(name)
        if cell is None or cell.value != theirs:
            yield Difference(record, key.type, key.id, new, name, None if cell is None else cell.value, theirs)
    for kind, theirs in sorted(doc.get("c", {}).items()):
        if head.held(kind) != theirs:
            yield Difference(record, key.type, key.id, new, kind, head.held(kind), theirs)
    if doc.get("d") is not None and doc["d"] != head.deleted:
        yield Difference(record, key.type, key.id, new, "deleted", head.deleted, doc["d"])


def keep(
    open_store: Store, arrivals: Sequence[Arrival], said: Mapping[str, Sequence[ConsentFact]], *, now: int
) -> dict[int, Arrival]:
    """Store what a vendor was asked for, and put its opt-outs (`said`, by event id) in force; the new rows by id.

    A read whose id was seen before says something new all the same (the comparison found so, or it was asked for
    just now): it is kept under an id of its own.
    """
    by_key = {(one.connection, one.dedup_key): one for one in arrivals}
    new = inbox.store(open_store, arrivals)
    again = {
        key: replace(one, dedup_key=f"{one.dedup_key}@{one.received_at}")
        for key, one in by_key.items()
        if key not in new and one.kind.startswith(READ)
    }
    if again:
        by_key |= {(one.connection, one.dedup_key): one for one in again.values()}
        new |= inbox.store(open_store, list(again.values()))
    in_force = list(_in_force(arrivals, said, again, new))
    if in_force:
        consent.insert(open_store, in_force, now=now)
    return {row: by_key[key] for key, row in new.items()}


def _in_force(
    arrivals: Iterable[Arrival],
    said: Mapping[str, Sequence[ConsentFact]],
    again: Mapping[tuple[str, str], Arrival],
    new: Mapping[tuple[str, str], int],
) -> Iterator[OptOut]:
    first = {row_key(*key) for key in new}
    for arrival in arrivals:
        kept = again.get((arrival.connection, arrival.dedup_key), arrival)
        key = row_key(kept.connection, kept.dedup_key)
        facts = said.get(arrival.dedup_key, ())
        yield from opt_outs.in_force(((fact, key) for fact in facts), first, {arrival.received_at})


def bells(new: Mapping[int, Arrival]) -> tuple[Bell, ...]:
    """Who is to be rung for new rows: `apply`, or `fetch` for thin ones."""
    plain = bells_for((row, one.lane) for row, one in sorted(new.items()) if not one.thin)
    thin = bells_for(((row, "outbound") for row, one in sorted(new.items()) if one.thin), task="fetch")
    return (*plain, *thin)
