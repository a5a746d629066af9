"""The contract: a connector is a frozen value made of small functions.

There is no base class and there are no flags; an ability that a vendor lacks is `None`. The hub finds a
connector by the entry-point group `upkept.connectors`, validates its configuration, and calls it from the
steps of the flow. `docs/connectors.md` is the guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from upkept.contract.fields import FieldMap
from upkept.contract.values import Page, RawEvent, RecordRef, Request, Said, Statement

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


class Pull(Protocol[C_in]):
    def __call__(self, cursor: str | None, config: C_in, ctx: Context, /) -> Iterator[Page]:
        """Pages from `cursor` on; `None` begins a full walk, `since:<ISO time>` an incremental one."""


class Push(Protocol[C_in]):
    def __call__(self, state: Mapping[str, Said], config: C_in, ctx: Context, /, *, key: str) -> None:
        """Bring the vendor to the desired state; idempotent by `key`."""


class ProbeCredentials(Protocol[C_in]):
    def __call__(self, config: C_in, ctx: Context, /) -> Probe:
        """Ask the vendor whether the credentials are good; raise `Config` if not."""


@dataclass(frozen=True, kw_only=True)
class Connector(Generic[C]):
    """One vendor, as data and small functions.

    `kinds` are the event kinds it promises to understand, one fixture each; `lowering` those that can carry
    an opt-out. `survives` names the fields that outlive a vendor delete (R12), `parts` the record types that are parts
    of an owner (R2), whether or not an event names the owner. `labels` are the names by which people know fields that a
    part keeps for `summarize` alone, under names of its own. `combine` is asked where a person has several records of
    the connection, and is given those that live. `api_calls` per second and `api_slots` at once are the vendor's quota
    for one account; where each endpoint has a limit of its own, the lower of the two.
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
    fetch: Fetch[C] | None = None
    pull: Pull[C] | None = None
    push: Push[C] | None = None
    probe: ProbeCredentials[C] | None = None
    api_calls: float = 10.0
    api_slots: int = 5
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
