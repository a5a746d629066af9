"""Proofs about the pure side of a connector: what it makes of what the vendor sent."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from upkept.contract import (
    LOWERING_ACTS,
    AnyConnector,
    Combine,
    Consent,
    Fact,
    Part,
    Permanent,
    RawEvent,
    RecordRef,
    Skipped,
    Statement,
    TimelineEvent,
    Whole,
)
from upkept.people.facts import Admitted, admit, canonical, decode, encode
from upkept.people.fold import Head, fold
from upkept.testing import fixtures
from upkept.testing.kit import Disproved, Kit, given
from upkept.testing.purity import worldly_calls

RECEIVED_AT: Final = 4_102_444_800_000_000
"""When the proofs say that everything arrived (microseconds, the year 2100): after any fixture was observed."""

SHUFFLES: Final = 20
MOST_KEYS: Final = 10
MOST_TOGETHER: Final = 5


def every_kind_has_a_fixture(kit: Kit) -> None:
    """A kind that a connector promises to understand is shown by at least one fixture."""
    missing = sorted(kit.connector.kinds - {one.kind for one in kit.loaded})
    if missing:
        raise Disproved(
            f"no fixture shows {', '.join(missing)}: record one each as "
            f"{kit.fixtures.name}/webhook/<kind>__<variant>.json, or take the kind out of `kinds`"
        )


def fixture_says_what_is_expected(kit: Kit, fixture: fixtures.Fixture) -> None:
    """A fixture makes the statements of its expected file."""
    events = fixture.events(kit.connector, kit.config)
    if fixture.kind not in {event.kind for event in events}:
        kinds = sorted({event.kind for event in events})
        raise Disproved(f"{fixture.path.name} is named for {fixture.kind}, but shows {kinds}: rename it")
    now_said = json.loads(json.dumps(fixtures.said(kit.connector, events)))
    if not fixture.expected.exists():
        raise Disproved(
            f"{fixture.expected.name} is missing. Check what the connector says, and save it:\n"
            f"{fixtures.written(now_said)}"
        )
    expected = json.loads(fixture.expected.read_bytes())
    if now_said != expected:
        raise Disproved(
            f"{fixture.path.name} no longer says what {fixture.expected.name} expects. It says:\n"
            f"{fixtures.written(now_said)}"
        )


def normalize_repeats_itself(kit: Kit) -> None:
    """The same event twice makes the same statements, and leaves the event and the field map as they were."""
    for event in kit.events:
        body, rules = bytes(bytearray(event.body)), kit.connector.fields.rules
        if _statements(kit.connector, event) != _statements(kit.connector, event):
            raise Disproved(
                f"{event.kind}: normalizing twice makes different statements; it must depend on nothing else"
            )
        if event.body != body or kit.connector.fields.rules != rules:
            raise Disproved(f"{event.kind}: normalize changed its arguments; they are shared, copy before you change")


def normalize_is_pure(kit: Kit) -> None:
    """`normalize` reads no clock, network, disk or dice: what it says must be the same at every rebuild."""
    for event in kit.events:
        _statements(kit.connector, event)  # what is loaded once, on first use, is not the proof's business
        with worldly_calls() as seen:
            _statements(kit.connector, event)
        if seen:
            raise Disproved(
                f"{event.kind}: normalize calls {', '.join(sorted(set(seen)))}; say what the event says, and leave "
                "`observed_at` None where the vendor gives no time"
            )


def unknown_kinds_are_skipped(kit: Kit) -> None:
    """An event of an unknown kind is `Skipped`, whatever is in it: vendors add kinds without asking."""
    bodies = [event.body for event in kit.events[:3]] or [b"{}"]
    for body in bodies:
        event = RawEvent(id="conformance", kind="conformance.no_such_kind", body=body)
        try:
            list(kit.connector.normalize(event, kit.connector.fields))
        except Skipped:
            continue
        except Exception as error:
            raise Disproved(
                f"an unknown kind raises {type(error).__name__}; raise Skipped, it is nobody's fault"
            ) from error
        raise Disproved("an unknown kind makes statements; raise Skipped for kinds that are not in `kinds`")


def broken_bodies_are_permanent(kit: Kit) -> None:
    """A body that cannot be read is `Permanent` (or skipped): kept for an engineer, not tried for ever."""
    broken = (b"", b"{", b"null", b"[]", b'"text"', b"{}", b"\xff\xfe", b'{"a":' * 5000, b"[" * 200_000)
    for kind in sorted(kit.connector.kinds):
        for body in broken:
            try:
                list(kit.connector.normalize(RawEvent(id="conformance", kind=kind, body=body), kit.connector.fields))
            except (Permanent, Skipped):
                continue
            except Exception as error:
                raise Disproved(
                    f"{kind} with the body {body[:12]!r}… raises {type(error).__name__}: {error}"
                ) from error


def statements_are_well_formed(kit: Kit) -> None:
    """Statements hold what the store can hold: aware times, scalars, flat timelines, owners of parts only."""
    for event, statement in stated(kit):
        for moment in (getattr(statement, "observed_at", None), getattr(statement, "at", None)):
            if isinstance(moment, datetime) and moment.tzinfo is None:
                raise Disproved(f"{event.kind}: a time without a zone; give aware UTC times")
        if isinstance(statement, Fact):
            _admissible(kit, event, statement)
            if statement.owner is not None and statement.record.type not in kit.connector.parts:
                raise Disproved(f"{event.kind}: {statement.record.type} has an owner; add the type to Connector.parts")
        if isinstance(statement, TimelineEvent):
            _well_formed_event(event, statement)


def own_fields_have_labels(kit: Kit) -> None:
    """What a part keeps for `summarize` alone, under names that begin with an underscore, has names for people, too."""
    seen = {(said.record.type, name) for _, said in stated(kit) if isinstance(said, Fact) for name in said.fields}
    labels = kit.connector.labels
    if bare := sorted({name for _, name in seen if name.startswith("_")} - labels.keys()):
        raise Disproved(f"{', '.join(bare)}: a dry run shows these; say in `labels` what people call them")
    shown = Counter((of, labels.get(name, name)) for of, name in seen)
    if twice := sorted(f"{of} {label}" for (of, label), times in shown.items() if times > 1):
        raise Disproved(f"two fields are both shown as {', '.join(twice)}; give each a label of its own")


def opt_outs_are_declared(kit: Kit) -> None:
    """Each `lowering` kind takes consent away in one of its fixtures, and no other kind does so unannounced."""
    lowering = {event.kind for event, statement in stated(kit) if _lowers(statement)}
    if undeclared := sorted(lowering - kit.connector.lowering):
        raise Disproved(f"{', '.join(undeclared)} can opt out: add it to `lowering`, or it is in force too late")
    if silent := sorted(kit.connector.lowering - lowering):
        raise Disproved(f"{', '.join(silent)} is in `lowering`, but no fixture of it opts anybody out")


def any_order_ends_equal(kit: Kit) -> None:
    """All fixtures, shuffled, doubled, cut and replayed, end in the same heads, timeline and summaries."""
    events = list(kit.events)
    wanted = ending(kit, events)
    for seed in range(SHUFFLES):
        dice = random.Random(seed)  # noqa: S311  # a failure must be repeatable
        replay = events * 2
        dice.shuffle(replay)
        cut = dice.randrange(len(replay) + 1)
        if ending(kit, replay[cut:] + replay) != wanted:
            raise Disproved(f"the order of events decides (shuffle {seed}): what depends on another event must not")


def records_combine_in_any_order(kit: Kit) -> None:
    """What records say together depends on them alone: not on their order, an earlier call or the world."""
    combine = given(kit.connector.combine)
    living = _living(kit)
    if len(living) < 2:
        raise Disproved("the fixtures show fewer than two living records: add one, that `combine` has some to combine")
    for seed in range(SHUFFLES):
        dice = random.Random(seed)  # noqa: S311  # a failure must be repeatable
        some = dice.sample(living, dice.randint(1, min(len(living), MOST_TOGETHER)))
        shown = [(dict(one.fields), dict(one.summary)) for one in some]
        wanted = _combined(combine, sorted(some, key=lambda one: one.ref))
        with worldly_calls() as seen:
            found = _combined(combine, some)
        names = ", ".join(one.ref.id for one in some)
        if seen:
            raise Disproved(f"combine calls {', '.join(sorted(set(seen)))}; it may look at nothing but the records")
        if found != wanted:
            raise Disproved(f"combine depends on the order of the records {names}, or on an earlier call")
        if shown != [(one.fields, one.summary) for one in some]:
            raise Disproved(f"combine changed what it was given of {names}; copy before you change")


def _living(kit: Kit) -> list[Whole]:
    """The records of the fixtures that are not deleted, summaries beside them, as if they were one person's."""
    heads = folded(kit, (statement for _, statement in stated(kit)))
    summaries = _summaries(kit.connector, heads)
    return [
        Whole(
            ref=ref,
            fields=_fields(head),
            summary={name: value for name, (value, _) in summaries.get(str(ref), {}).items()},
        )
        for ref, head in sorted(heads.items())
        if ref.type not in kit.connector.parts and not head.deleted
    ]


def _combined(combine: Combine, records: Sequence[Whole]) -> bytes:
    said = combine(records)
    for name, one in said.items():
        if strange := sorted(set(one.used) - {record.ref for record in records}):
            raise Disproved(f"combine used {strange[0]} for {name}, which it was not given")
    try:
        return canonical({name: [encode(one.value), *map(list, one.used)] for name, one in said.items()})
    except TypeError as error:
        raise Disproved(f"combine says what the hub cannot store: {error}") from error


def ending(kit: Kit, events: Sequence[RawEvent]) -> dict[str, Any]:
    """The heads that these events amount to, their timeline and the summaries of those that own parts."""
    heads = folded(kit, (statement for event in events for statement in _statements(kit.connector, event)))
    told = {
        (s.record, s.id): fixtures.plain(s)
        for event in events
        for s in _statements(kit.connector, event)
        if isinstance(s, TimelineEvent)
    }
    return {
        "heads": {str(ref): head.dump() for ref, head in sorted(heads.items())},
        "timeline": [told[key] for key in sorted(told)],
        "summaries": _summaries(kit.connector, heads),
    }


def folded(kit: Kit, statements: Iterator[Statement]) -> dict[RecordRef, Head]:
    """The head of each record and part."""
    facts: dict[RecordRef, list[Admitted]] = defaultdict(list)
    for statement in statements:
        if isinstance(statement, Fact):
            facts[statement.record].append(admit(kit.connection, statement, received_at=RECEIVED_AT))
    return {ref: fold([one.fact for one in admitted]) for ref, admitted in facts.items()}


def _summaries(connector: AnyConnector, heads: dict[RecordRef, Head]) -> dict[str, Any]:
    """Each owner's summary; parts in one order, then in the other, which must not matter."""
    if connector.summarize is None:
        return {}
    parts: dict[RecordRef, list[Part]] = defaultdict(list)
    for ref, head in sorted(heads.items()):
        if head.owner is not None:
            owner = RecordRef(*head.owner)
            parts[owner].append(Part(ref=ref, fields=_fields(head), deleted=head.deleted))
    summaries = {}
    for owner, owned in parts.items():
        fields = _fields(heads[owner]) if owner in heads else {}
        summary = dict(connector.summarize(fields, owned))
        if summary != dict(connector.summarize(fields, list(reversed(owned)))):
            raise Disproved(f"summarize depends on the order of the parts of {owner.type} {owner.id}")
        if strange := sorted({ref for one in summary.values() for ref in one.used} - {part.ref for part in owned}):
            raise Disproved(f"summarize used {strange[0]}, which it was not given")
        summaries[str(owner)] = {name: (one.value, one.used) for name, one in sorted(summary.items())}
    return summaries


def _fields(head: Head) -> dict[str, Any]:
    return {name: decode(cell.value) for name, cell in head.cells.items()}


def _statements(connector: AnyConnector, event: RawEvent) -> list[Statement]:
    try:
        return list(connector.normalize(event, connector.fields))
    except Skipped:
        return []


def stated(kit: Kit) -> Iterator[tuple[RawEvent, Statement]]:
    """Everything the fixtures say."""
    return ((event, statement) for event in kit.events for statement in _statements(kit.connector, event))


def _lowers(statement: Statement) -> bool:
    return isinstance(statement, Consent) and statement.act in LOWERING_ACTS


def _admissible(kit: Kit, event: RawEvent, fact: Fact) -> None:
    try:
        admit(kit.connection, fact, received_at=RECEIVED_AT)
    except (TypeError, ValueError) as error:
        raise Disproved(f"{event.kind}: a fact that the hub cannot store: {error}") from error


def _well_formed_event(event: RawEvent, said: TimelineEvent) -> None:
    if not said.id or not said.name:
        raise Disproved(f"{event.kind}: a timeline event without a name or an id")
    if len(said.metadata) > MOST_KEYS:
        raise Disproved(f"{event.kind}: {len(said.metadata)} keys of metadata; {MOST_KEYS} are kept, choose them")
    for name, value in said.metadata.items():
        if not isinstance(value, bool | int | float | str | datetime | None):
            raise Disproved(f"{event.kind}: metadata {name!r} is a {type(value).__name__}; timelines are flat")
