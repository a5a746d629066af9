"""Which attribute a vendor field feeds, as data.

A `FieldMap` is a table of `Rule`s: the vendor's object type and dotted path, our attribute, and a *named*
converter. An operator overrides it in `upkept.toml`:

    [connections.stripe.fields]
    "customer.metadata.tier" = "tier"                                   # add
    "customer.balance" = { attribute = "credit", convert = "money" }    # change
    "customer.phone" = false                                            # drop
    "customer.metadata.plan" = { attribute = "plan", direction = "out" }  # the hub tells, the vendor does not

Anything that needs an `if` belongs in the connector's `normalize`, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal

from upkept.contract.errors import Config
from upkept.contract.values import Scalar

Convert = Callable[[Any, Mapping[str, Any]], Scalar]
"""From the vendor's value (and the object around it) to ours; None for a value of the wrong shape."""

Render = Callable[[Scalar], Any]
"""From our value to the vendor's: what its converter reads back as the same value."""

Direction = Literal["in", "out", "both"]
"""Who tells whom: the vendor us, we the vendor, or each the other what it learnt last."""
DIRECTIONS: Final[Mapping[str, Direction]] = {"in": "in", "out": "out", "both": "both"}

NOTE: Final = "_"
"""Begins the name of a field that a record keeps and nobody is shown."""

DEFAULT_USER_ID_KEYS: Final = ("user_id", "userId", "external_id", "uid")
"""Metadata keys under which vendors carry the customer's own user id (SEMANTICS R13)."""


def plain(value: Any, _around: Mapping[str, Any]) -> Scalar:
    """A scalar as it is; an object or a list becomes known-empty."""
    return value if isinstance(value, bool | int | float | str) else None


def text(value: Any, _around: Mapping[str, Any]) -> Scalar:
    """A scalar as a string, trimmed; an empty one is known-empty."""
    if isinstance(value, str):
        return value.strip() or None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def boolean(value: Any, _around: Mapping[str, Any]) -> Scalar:
    return value if isinstance(value, bool) else None


def unix_time(value: Any, _around: Mapping[str, Any]) -> Scalar:
    """Unix seconds, kept as the integer our users know from Intercom's attributes."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def iso_time(value: Any, _around: Mapping[str, Any]) -> Scalar:
    """An ISO 8601 time as UTC."""
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


CONVERTERS: Final[Mapping[str, Convert]] = {
    "plain": plain,
    "text": text,
    "boolean": boolean,
    "unix_time": unix_time,
    "iso_time": iso_time,
}
"""Converters every connector has; a connector may add its own (`FieldMap.converters`)."""


def as_it_is(value: Scalar) -> Any:
    """The value as JSON has it; a time in ISO 8601."""
    return value.isoformat() if isinstance(value, datetime) else value


def as_text(value: Scalar) -> Any:
    return value if value is None or isinstance(value, str) else str(as_it_is(value))


RENDERERS: Final[Mapping[str, Render]] = {
    "plain": as_it_is,
    "text": as_text,
    "boolean": as_it_is,
    "unix_time": as_it_is,
    "iso_time": as_it_is,
}
"""The way back of each converter; a connector may add its own (`FieldMap.renderers`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`path` of an object of type `of` feeds `attribute` through the converter of that name, or is fed by it."""

    of: str
    path: str
    attribute: str
    convert: str = "plain"
    direction: Direction = "in"

    @property
    def holds(self) -> str:
        """The field of the vendor's record that says what the vendor holds."""
        return f"{NOTE}{self.attribute}" if self.direction == "out" else self.attribute


@dataclass(frozen=True, kw_only=True)
class FieldMap:
    """A connector's rules as configured for one connection. Only what has a renderer can go out."""

    rules: tuple[Rule, ...]
    converters: Mapping[str, Convert] = field(default_factory=dict)
    renderers: Mapping[str, Render] = field(default_factory=dict)
    user_id_keys: tuple[str, ...] = DEFAULT_USER_ID_KEYS

    def for_type(self, of: str) -> tuple[Rule, ...]:
        """The rules of one object type."""
        return self._by_type.get(of, ())

    def __post_init__(self) -> None:
        by_type: dict[str, list[Rule]] = {}
        for rule in self.rules:
            if rule.convert not in CONVERTERS and rule.convert not in self.converters:
                known = ", ".join(sorted({*CONVERTERS, *self.converters}))
                raise Config(f"unknown converter {rule.convert!r} for {rule.of}.{rule.path}; known are: {known}")
            if rule.direction != "in" and rule.convert not in RENDERERS and rule.convert not in self.renderers:
                raise Config(f'{rule.of}.{rule.path}: nothing writes what {rule.convert!r} reads; use direction "in"')
            by_type.setdefault(rule.of, []).append(rule)
        object.__setattr__(self, "_by_type", {of: tuple(rules) for of, rules in by_type.items()})

    _by_type: Mapping[str, tuple[Rule, ...]] = field(init=False, repr=False, compare=False)

    def apply(self, of: str, source: Mapping[str, Any]) -> dict[str, Scalar]:
        """The mapped fields of one vendor object. An absent path says nothing; a null one is known-empty.

        What the vendor holds of a field that only goes out is a note about it, and no word of the vendor's.
        """
        said: dict[str, Scalar] = {}
        for rule in self.for_type(of):
            found, value = _at(source, rule.path)
            if not found:
                continue
            convert = CONVERTERS.get(rule.convert) or self.converters[rule.convert]
            said[rule.holds] = None if value is None else convert(value, source)
        return said

    def outgoing(self, of: str) -> tuple[Rule, ...]:
        """The rules by which a vendor's object of this type is written."""
        return tuple(rule for rule in self.for_type(of) if rule.direction != "in")

    def written(self, rule: Rule, value: Scalar) -> Any:
        """Our value in the vendor's terms; None empties the vendor's field."""
        return (RENDERERS.get(rule.convert) or self.renderers[rule.convert])(value)

    def read(self, rule: Rule, value: Any) -> Scalar:
        """The vendor's value in our terms, where nothing around it is known."""
        return None if value is None else (CONVERTERS.get(rule.convert) or self.converters[rule.convert])(value, {})

    def overridden(self, overrides: Mapping[str, Any], *, where: str) -> FieldMap:
        """These rules with an operator's overrides; raises `Config` that names the key and the cure."""
        changed = {(rule.of, rule.path): rule for rule in self.rules}
        for rule in _parsed(overrides, where=where):
            if rule.attribute:
                changed[rule.of, rule.path] = rule
            else:
                changed.pop((rule.of, rule.path), None)
        try:
            return replace(self, rules=tuple(changed.values()))
        except Config as error:
            raise Config(f"{where}: {error}") from None


def _at(source: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    value: Any = source
    for step in path.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return False, None
        value = value[step]
    return True, value


def _parsed(overrides: Mapping[str, Any], *, where: str) -> Iterator[Rule]:
    for key, value in overrides.items():
        of, _, path = key.partition(".")
        if not of or not path:
            raise Config(f'{where}: "{key}" must be "<object>.<path>", for example "customer.metadata.tier"')
        match value:
            case False:
                yield Rule(of=of, path=path, attribute="")
            case str() if value:
                yield Rule(of=of, path=path, attribute=value)
            case {"attribute": str(attribute), **rest} if attribute and not rest.keys() - {"convert", "direction"}:
                convert, direction = str(rest.get("convert", "plain")), str(rest.get("direction", "in"))
                if direction not in DIRECTIONS:
                    raise Config(f'{where}: the direction of "{key}" must be "in", "out" or "both"')
                yield Rule(of=of, path=path, attribute=attribute, convert=convert, direction=DIRECTIONS[direction])
            case _:
                raise Config(
                    f'{where}: "{key}" must be an attribute name, '
                    '{ attribute = "…", convert = "…", direction = "…" } or false'
                )
