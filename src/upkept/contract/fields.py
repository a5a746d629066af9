"""Which attribute a vendor field feeds, as data.

A `FieldMap` is a table of `Rule`s: the vendor's object type and dotted path, our attribute, and a *named*
converter. An operator overrides it in `upkept.toml`:

    [connections.stripe.fields]
    "customer.metadata.tier" = "tier"                                   # add
    "customer.balance" = { attribute = "credit", convert = "money" }    # change
    "customer.phone" = false                                            # drop

Anything that needs an `if` belongs in the connector's `normalize`, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from upkept.contract.errors import Config
from upkept.contract.values import Scalar

Convert = Callable[[Any, Mapping[str, Any]], Scalar]
"""From the vendor's value (and the object around it) to ours; None for a value of the wrong shape."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`path` of an object of type `of` feeds `attribute` through the converter of that name."""

    of: str
    path: str
    attribute: str
    convert: str = "plain"


@dataclass(frozen=True, kw_only=True)
class FieldMap:
    """A connector's rules as configured for one connection."""

    rules: tuple[Rule, ...]
    converters: Mapping[str, Convert] = field(default_factory=dict)
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
            by_type.setdefault(rule.of, []).append(rule)
        object.__setattr__(self, "_by_type", {of: tuple(rules) for of, rules in by_type.items()})

    _by_type: Mapping[str, tuple[Rule, ...]] = field(init=False, repr=False, compare=False)

    def apply(self, of: str, source: Mapping[str, Any]) -> dict[str, Scalar]:
        """The mapped fields of one vendor object. An absent path says nothing; a null one is known-empty."""
        said: dict[str, Scalar] = {}
        for rule in self.for_type(of):
            found, value = _at(source, rule.path)
            if not found:
                continue
            convert = CONVERTERS.get(rule.convert) or self.converters[rule.convert]
            said[rule.attribute] = None if value is None else convert(value, source)
        return said

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
            case {"attribute": str(attribute), **rest} if attribute and not rest.keys() - {"convert"}:
                yield Rule(of=of, path=path, attribute=attribute, convert=str(rest.get("convert", "plain")))
            case _:
                raise Config(
                    f'{where}: "{key}" must be an attribute name, {{ attribute = "…", convert = "…" }} or false'
                )
