"""The contract: a connector is a frozen value made of small functions.

There is no base class and there are no flags; an ability that a vendor lacks is `None`. The hub finds a
connector by the entry-point group `upkept.connectors`, validates its configuration, and calls it from the
steps of the flow. `docs/connectors.md` is the guide.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from upkept.contract.errors import UpkeptError
from upkept.contract.fields import FieldMap
from upkept.contract.values import Page, RawEvent, RecordRef, Request, Said, Scalar, Statement

C = TypeVar("C")
C_in = TypeVar("C_in", contravariant=True)


class Log(Protocol):
    """A structured logger; secrets and personal data are masked by the hub."""

    def info(self, event: str, /, **context: object) -> object: ...
    def warning(self, event: str, /, **context: object) -> object: ...


class Context(Protocol):
    """What the hub lends a connector that talks to its vendor. Quotas hold across all workers."""

    @property
    def now(self) -> datetime: ...
    @property
    def log(self) -> Log: ...

    def permit(self, n: int = 1) -> None:
        """Wait for `n` calls of the vendor account's quota; raise `Retryable` if it takes too long."""

    def slot(self) -> AbstractContextManager[None]:
        """Hold one of the vendor account's concurrent calls."""

    def token(self, name: str) -> str | None:
        """A cached access token, or None if it is absent or about to expire."""

    def keep_token(self, name: str, value: str, *, seconds: float) -> None:
        """Cache an access token for all workers, encrypted at rest."""


class Part(NamedTuple):
    """A folded part of a record (a subscription, a charge)."""

    ref: RecordRef
    fields: Mapping[str, Said]
    deleted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A record that is not deleted, one of several that the connection has of one person.

    `fields` is what it says itself, `summary` what `summarize` made of its parts.
    """

    ref: RecordRef
    fields: Mapping[str, Said]
    summary: Mapping[str, Said]


class Summary(NamedTuple):
    """A field made of several parts, or of several records; its stamp is the newest among those it used (R2)."""

    value: Said
    used: tuple[RecordRef, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The answer to "are the credentials good?": which account, and what is missing."""

    account: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """An event of a person's timeline that a vendor is told of: `name` as the timeline shows it, `source` the
    connection that brought it. What of its metadata is named like a secret was left out."""

    name: str
    at: datetime
    source: str
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What a vendor should say of one person, as far as it does not say so yet.

    `record` is what to change; None: the vendor has none of this person, and the connection's rule asks for one.
    `fields` are in the vendor's terms, by path (`FieldMap.written`); None empties one. `consent` says per topic of
    this connection (`*`: all) that the person opted out, or, where a qualified opt-in decides, opted in again (R8).
    `erased`: the person was erased here; everything else is empty then. `event`: note on `record` that this happened;
    everything else is empty then, so that it neither holds up a field or an opt-out nor fails with one.
    """

    person: str
    record: RecordRef | None
    email: str | None = None
    user_id: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    consent: Mapping[str, Literal["opt_out", "opt_in"]] = field(default_factory=dict)
    erased: bool = False
    event: Happened | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What the vendor holds after a push. It is an acknowledgement and no news (R6).

    `record` is what was changed or made. `fields` are the fields sent as the vendor stored them, by path. `at` is
    the vendor's time of the change, or one before it; None if it tells none. `locked` names topics whose opt-in it
    refused (R11).
    """

    record: RecordRef | None
    fields: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    locked: frozenset[str] = frozenset()


class Normalize(Protocol):
    def __call__(self, event: RawEvent, fields: FieldMap, /) -> Iterable[Statement]:
        """Say what happened. Pure: no clock, network or SDK; the payload is left untouched.

        Raises `Skipped` for what is not ours and `Permanent` for what cannot be read.
        """


class Summarize(Protocol):
    def __call__(self, fields: Mapping[str, Said], parts: Iterable[Part], /) -> Mapping[str, Summary]:
        """Fold parts into fields of their owner. Pure, and independent of the order of `parts`.

        A name that begins with an underscore is a note to `combine`: it is kept with the record and shown to nobody.
        """


class Combine(Protocol):
    def __call__(self, records: Iterable[Whole], /) -> Mapping[str, Summary]:
        """What records of one person say together. Pure, and independent of the order of `records`.

        An attribute left out goes by its policy, as if they were of different connections. `WITHDRAWN` says that
        together they say nothing. `used` are the records the value was made of or chosen from, the deciding ones first.
        """


class Verify(Protocol[C_in]):
    def __call__(self, request: Request, config: C_in, /, *, now: datetime) -> None:
        """Raise `Rejected` unless the request is authentic and fresh."""


class Split(Protocol[C_in]):
    def __call__(self, request: Request, config: C_in, /) -> Iterable[RawEvent]:
        """One request to its events, each with a stable id. Raises `Rejected` or `Skipped`."""


class Fetch(Protocol[C_in]):
    def __call__(self, event: RawEvent, config: C_in, ctx: Context, /) -> RawEvent:
        """Read what a thin event points at, or read an object back (`kind` `read.<type>`, `id` its id)."""


class FetchMany(Protocol[C_in]):
    def __call__(
        self, events: Sequence[RawEvent], config: C_in, ctx: Context, /
    ) -> Iterator[tuple[RawEvent, RawEvent]]:
        """What several thin events point at, in as few calls as the vendor allows: each event with what was read.

        Who is left out, and all that were not answered when it raises, are read by `fetch`, one at a time.
        """


class Pull(Protocol[C_in]):
    def __call__(self, cursor: str | None, config: C_in, ctx: Context, /) -> Iterator[Page]:
        """Pages from `cursor` on; `None` begins a full walk, `since:<ISO time>` an incremental one."""


class Push(Protocol[C_in]):
    def __call__(self, state: Desired, config: C_in, ctx: Context, /, *, key: str) -> Pushed:
        """Bring the vendor to the desired state; idempotent by `key`, which is the same for every try.

        The key of an event names it for ever, whatever became of the hub's own memory: look for it before making it.
        Raises `Skipped` where there is nothing to do, `Permanent` where the vendor will never take it.
        """


class PushMany(Protocol[C_in]):
    def __call__(
        self, states: Mapping[str, Desired], config: C_in, ctx: Context, /
    ) -> Iterator[tuple[str, Pushed | UpkeptError]]:
        """Many at once, by key, in as few calls as the vendor allows; each answer as soon as it is known.

        Raises `Retryable` or `Config` where no further one can be answered; the others are tried again.
        """


class ProbeCredentials(Protocol[C_in]):
    def __call__(self, config: C_in, ctx: Context, /) -> Probe:
        """Ask the vendor whether the credentials are good; raise `Config` if not."""


class Tells(Protocol[C_in]):
    def __call__(self, config: C_in, /) -> Collection[str]:
        """The names of the events that the operator wants the vendor to be told of; raises `Config`."""


@dataclass(frozen=True, kw_only=True)
class Connector(Generic[C]):
    """One vendor, as data and small functions.

    `kinds` are the event kinds it promises to understand, one fixture each; `lowering` those that can carry
    an opt-out. `survives` names the fields that outlive a vendor delete (R12), `parts` the record types that are parts
    of an owner (R2), whether or not an event names the owner. `labels` are the names by which people know fields that a
    part keeps for `summarize` alone, under names of its own. `combine` is asked where a person has several records of
    the connection, and is given those that live.

    `receipt` is the content type and the body that tell the vendor that a webhook was taken, where a 2xx is not enough.
    `api_calls` per second and `api_slots` at once are the vendor's quota for one account; where each endpoint has a
    limit of its own, the lower of the two. `pushers` write at a time, over all processes of a hub: one, where two that
    meet would make two records of one person. `push_many` takes at most `most_at_once` desired states. `creates` is the
    type of record that `push` can make where the vendor has none of a person; the operator's rule says for whom.

    `tells` says which events `push` is given, `told_on` the types of record it can note them on, the best first. What
    the vendor shows of them later must not become events of its own.
    """

    name: str
    config: type[C]
    kinds: frozenset[str]
    fields: FieldMap
    normalize: Normalize
    lowering: frozenset[str] = frozenset()
    survives: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    summarize: Summarize | None = None
    combine: Combine | None = None
    verify: Verify[C] | None = None
    split: Split[C] | None = None
    receipt: tuple[str, bytes] | None = None
    fetch: Fetch[C] | None = None
    fetch_many: FetchMany[C] | None = None
    pull: Pull[C] | None = None
    push: Push[C] | None = None
    push_many: PushMany[C] | None = None
    probe: ProbeCredentials[C] | None = None
    api_calls: float = 10.0
    api_slots: int = 5
    pushers: int = 2
    most_at_once: int = 100
    creates: str | None = None
    tells: Tells[C] | None = None
    told_on: tuple[str, ...] = ()
    first_party: bool = False


AnyConnector = Connector[Any]


def secret(*, default: Any = ..., help: str = "") -> Any:
    """Mark a configuration field as secret: `env:NAME` in `upkept.toml`, masked everywhere, its `repr` included."""
    metadata = {"secret": True, "help": help}
    return (
        field(metadata=metadata, repr=False)
        if default is ...
        else field(default=default, metadata=metadata, repr=False)
    )
