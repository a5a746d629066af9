"""The values a connector makes and receives.

A connector turns what its vendor sends (`RawEvent`) into what happened (`Fact`, `Consent`, `Link`,
`TimelineEvent`). Everything here is immutable, knows no clock and no network, and names things only
inside the connection that said them: the hub adds the connection's name.

Times are aware UTC datetimes. An *absent* field says nothing, `None` says "known to be empty", and
`WITHDRAWN` says "I no longer state this" (SEMANTICS R1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from typing import Final, Literal, NamedTuple


class Withdrawn(Enum):
    """The type of the one value `WITHDRAWN`."""

    WITHDRAWN = "withdrawn"


WITHDRAWN: Final = Withdrawn.WITHDRAWN

Scalar = bool | int | float | str | datetime | None
"""What an attribute can hold: int64, finite float, string, boolean, UTC time or known-empty."""

Said = Scalar | Withdrawn
"""What a fact can say about a field."""


class FactKind(IntEnum):
    """How a fact was learnt; the higher wins a tie of times (SEMANTICS R3).

    `ANSWER` is the hub's own: what a vendor answered to a push. A connector never says so.
    """

    ANSWER = -1
    IMPORT = 0
    EVENT = 1
    READ_BACK = 2


class RecordRef(NamedTuple):
    """One thing a connection calls a person, or a part of one: `("customer", "cus_9")`."""

    type: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What one event says about one record, or about one part of a record.

    `owner` set makes `record` a *part* (a subscription, a charge) of that owner; it may be learnt late.
    `snapshot` says the event shows the whole object, so an unchanged value is no news (R5).
    `deleted` is True for a vendor delete, False for "it stood at that time", None for silence.
    `claims` are identifiers (`email`, `user_id`, `phone`) the record holds from now on; None ends one.
    `mails` says, by topic (`*` is everything), whether the vendor would mail this record as it is; no consent follows
    from it. A vendor that would, though it was told of an opt-out, is told again.
    `observed_at` None means the vendor gives no time: the inbox's `received_at` is taken. `ours`: the vendor says that
    the hub's own account changed it last, so what differs from what was pushed is the vendor's form of it (R6).
    """

    record: RecordRef
    fields: Mapping[str, Said] = field(default_factory=dict)
    claims: Mapping[str, str | None] = field(default_factory=dict)
    mails: Mapping[str, bool] = field(default_factory=dict)
    observed_at: datetime | None = None
    sequence: int = 0
    kind: FactKind = FactKind.EVENT
    owner: RecordRef | None = None
    snapshot: bool = False
    deleted: bool | None = None
    verified: bool = True
    makes_user: bool = False
    ours: bool = False


ConsentAct = Literal[
    "opt_out", "opt_in", "complaint", "block", "lift", "bounce_soft", "bounce_hard", "deliverable", "lock"
]
LOWERING_ACTS: Final = frozenset({"opt_out", "complaint", "block"})
"""Acts that take consent away; they are in force when the hub answers 2xx (SEMANTICS B)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """One consent or deliverability statement (SEMANTICS B).

    It binds the `address` and the `record` it names (R9). `opt_in` counts against an opt-out only when
    `qualified`: the person's own act, with `evidence`. `lift` is an audited admin act with a `reason`; only it
    ends a `complaint` or `block`. `bounce_*` and `deliverable` are deliverability, not consent (R10); `lock` is
    a vendor's compliance lock (R11), `topic` then naming the audience.
    """

    act: ConsentAct
    record: RecordRef | None = None
    address: str | None = None
    channel: str = "email"
    topic: str = "*"
    at: datetime | None = None
    qualified: bool = False
    verified: bool = True
    reason: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Two records of this connection are one person: a vendor's merge, conversion or changed address."""

    a: RecordRef
    b: RecordRef
    at: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """Something that happened to a person: `charge succeeded`. `id` is the same for every delivery of it (R16)."""

    record: RecordRef
    name: str
    id: str
    at: datetime | None = None
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


Statement = Fact | Consent | Link | TimelineEvent
"""Whatever `normalize` yields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawEvent:
    """One change as the vendor worded it. `id` is stable across deliveries and deduplicates them.

    `kind` is the vendor's word (`customer.updated`), or `read.<type>` for an object read back or listed.
    `thin` events carry only a reference: the hub calls `fetch` and normalizes the answer instead.
    `received_at` is fixed by the hub when it stores the event; a connector leaves it None.
    """

    id: str
    kind: str
    body: bytes
    thin: bool = False
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A webhook request as it came: raw bytes, header names in lower case, the path token if any.

    `received_at` is set by the hub.
    """

    body: bytes
    headers: Mapping[str, str]
    method: str = "POST"
    token: str = ""
    received_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One step of a pull: the events of a page and the cursor to continue after them.

    `cursor` None ends the pull; `resume` on that last page is where the next incremental pull begins.
    `total` is the vendor's own count of objects, or an estimate, if there is one.
    """

    events: tuple[RawEvent, ...]
    cursor: str | None
    total: int | None = None
    resume: str | None = None
