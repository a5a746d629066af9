"""A vendor that is written to: it keeps people, each value in a form of its own, and tells the hub of each change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.flow.stage import Nothing, Stage, at

from upkept.contract import (
    Connector,
    Context,
    Desired,
    Fact,
    FactKind,
    FieldMap,
    Happened,
    Permanent,
    Pushed,
    RawEvent,
    RecordRef,
    Rule,
    UpkeptError,
)
from upkept.flow.push import push
from upkept.registry import Connection
from upkept.sources import STATEMENTS, VENDOR_RANK
from upkept.sources.envelope import decode
from upkept.store import outbox

RULES = (
    Rule(of="person", path="city", attribute="city", direction="both"),
    Rule(of="person", path="plan", attribute="plan", direction="out"),
    Rule(of="person", path="note", attribute="desk_note"),
)


@dataclass
class Desk:
    """`form` is how it stores a text; `fails` raises for the next calls, `refuses` whenever that person is told of.

    `meanwhile` is what happens between calls and their answers. `calls` are what it took, by person; `tried` are the
    keys of all it was asked. `noted` are the events it took, each once, by key; `declines` are names of events that it
    does not take.
    """

    name: str = "desk"
    form: Callable[[Any], Any] = lambda value: value
    tells: bool = True
    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)
    fails: list[UpkeptError] = field(default_factory=list)
    refuses: dict[str, Exception] = field(default_factory=dict)
    meanwhile: list[Callable[[], object]] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    noted: dict[str, tuple[str, Happened]] = field(default_factory=dict)
    declines: set[str] = field(default_factory=set)

    @property
    def heard(self) -> list[tuple[str, str]]:
        """(its person, name) of the events it noted, in the order in which it did."""
        return [(id_, event.name) for id_, event in self.noted.values()]

    def push(self, state: Desired, _config: Nothing, _ctx: Context, /, *, key: str) -> Pushed:
        self.tried.append(key)
        if self.fails:
            raise self.fails.pop(0)
        if self.meanwhile:
            self.meanwhile.pop(0)()
        ref = state.record or RecordRef("person", f"new {state.user_id}")
        if ref.id in self.refuses:
            raise self.refuses[ref.id]
        if state.event is not None:
            if state.event.name in self.declines:
                raise Permanent(f"no {state.event.name} here")
            self.noted.setdefault(key, (ref.id, state.event))
            return Pushed(record=ref)
        self.calls.append((ref.id, dict(state.fields), dict(state.consent)))
        if state.erased:
            del self.people[ref.id]
            return Pushed(record=ref)
        held = self.people.setdefault(ref.id, {})
        stored = {name: self.form(value) for name, value in state.fields.items()}
        held.update(stored)
        self.out |= {ref.id for act in state.consent.values() if act == "opt_out"}
        self.out -= {ref.id for act in state.consent.values() if act == "opt_in"}
        return Pushed(record=ref, fields=stored if self.tells else {})

    def normalize(self, event: RawEvent, fields: FieldMap, /) -> Iterator[Any]:
        for said in decode(event.body):
            if isinstance(said, Fact):
                said = replace(said, fields=fields.apply("person", said.fields))
            yield said

    def fact(self, id_: str, second: float, *, ours: bool = False) -> Fact:
        """What it says of a person now."""
        fields = dict(self.people[id_])
        return Fact(record=RecordRef("person", id_), fields=fields, observed_at=at(second), ours=ours)

    def read(self, id_: str, second: float) -> Fact:
        """The same, read by the hub, and whether it mails this person."""
        return replace(self.fact(id_, second), mails={"*": id_ not in self.out}, kind=FactKind.READ_BACK, snapshot=True)

    def connection(self, **options: Any) -> Connection:
        connector = Connector(
            name=self.name, config=Nothing, kinds=frozenset({STATEMENTS}), fields=FieldMap(rules=RULES),
            normalize=self.normalize, lowering=frozenset({STATEMENTS}), push=self.push, creates="person",
            tells=lambda _: (), told_on=("person",),
        )  # fmt: skip
        return Connection(
            name=self.name, connector=replace(connector, **options.pop("connector", {})), config=Nothing(),
            fields=FieldMap(rules=RULES), account=self.name, rank=VENDOR_RANK, **options,
        )  # fmt: skip


def with_desks(on: Stage, *connections: Connection) -> Stage:
    """The stage with these vendors too."""
    on.hub = replace(on.hub, connections={**on.hub.connections, **{one.name: one for one in connections}})
    return on


def pushed(on: Stage) -> int:
    """Push all that is due now; how many rows are left, dead ones too."""
    for _ in range(100):
        with on.hub.store.read() as connection:
            due = outbox.due(connection, now=on.now)
        if not due:
            break
        push(on.hub, [row for _, row in due], now=on.clock)
    return on.count_of("outbox")


def left(on: Stage) -> Mapping[str, Any]:
    """The one row of the outbox."""
    (row,) = on.rows("SELECT state, lane, attempts, reason FROM outbox")
    return dict(zip(("state", "lane", "attempts", "reason"), row, strict=True))
