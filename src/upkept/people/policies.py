"""Which of several statements about an attribute counts, as data (SEMANTICS R4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from upkept.people.values import Json

RuleName = Literal["lww", "authority", "max", "min", "union"]

FILLING_CONNECTION: Final = "rules"
"""The connection whose values rank last and fill only what is empty."""


@dataclass(frozen=True, slots=True)
class Policy:
    """`authority`: the first of `groups` with a connection that states the attribute decides, by stamp inside it.

    Connections in no group come after all groups.
    """

    rule: RuleName = "lww"
    groups: tuple[tuple[str, ...], ...] = ()


LWW: Final = Policy()


@dataclass(frozen=True)
class Policies:
    """The workspace's policies; an attribute without one is `lww`. Of equal stamps the higher rank wins (R3).

    A change takes effect by a rebuild run.
    """

    by_attribute: Mapping[str, Policy] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)
    extremes: Mapping[str, bool] = field(init=False, repr=False, compare=False)
    """The attributes of rule `max` (True) and `min` (False): their fold needs no order."""

    def __post_init__(self) -> None:
        extremes = {
            name: policy.rule == "max" for name, policy in self.by_attribute.items() if policy.rule in ("max", "min")
        }
        object.__setattr__(self, "extremes", extremes)


_LATEST = ("last_seen_at", "last_request_at", "last_contacted_at", "last_replied_at")
_LATEST_OF_EMAIL = ("last_email_opened_at", "last_email_clicked_at")
_EARLIEST = ("signed_up_at", "first_seen_at")

DEFAULT_POLICIES: Final = Policies(
    {
        **dict.fromkeys((*_LATEST, *_LATEST_OF_EMAIL), Policy("max")),
        **dict.fromkeys(_EARLIEST, Policy("min")),
        "tags": Policy("union"),
        "companies": Policy("union"),
    }
)


def magnitude(value: Json) -> tuple[int, float | str]:
    """Where a value stands under `max` and `min`: any real value before known-empty before withdrawn.

    The first item is the class, of which the highest always wins; the second orders inside it.
    """
    if isinstance(value, dict):
        return (3, value["$t"]) if "$t" in value else (0, 0)
    if value is None:
        return (1, 0)
    if isinstance(value, str):
        return (2, value)
    return (3, value)


def beats(value: Json, other: Json, *, largest: bool) -> bool:
    """Whether `value` is strictly more extreme than `other`."""
    a, b = magnitude(value), magnitude(other)
    if a[0] != b[0]:
        return a[0] > b[0]
    # Inside one class both are numbers or both are strings.
    return a[1] != b[1] and (a[1] > b[1]) == largest  # type: ignore[operator]
