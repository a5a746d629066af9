"""As much SOQL as connectors write: SELECT … FROM … WHERE (AND, OR, comparisons, IN) ORDER BY … LIMIT …."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from upkept.testing.fake_salesforce.shapes import RELATIONS, SCHEMAS, ApiError, Row, second_of, whole_id

_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<time>\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d))|(?P<date>\d{4}-\d\d-\d\d)
    |(?P<number>-?\d+(?:\.\d+)?)|(?P<sign><=|>=|!=|<>|[=<>(),])|(?P<word>[A-Za-z_][\w.]*))""",
    re.VERBOSE,
)
Test = Callable[[Row], bool]
Order = tuple[str, bool]


@dataclass(frozen=True, slots=True)
class Query:
    """`columns` None is COUNT(). `order` has (field, descending)."""

    columns: tuple[str, ...] | None
    table: str
    test: Test
    order: tuple[Order, ...]
    limit: int | None


def parsed(soql: str, hidden: frozenset[str]) -> Query:
    """Raises `ApiError` as Salesforce would. `hidden` are objects ("Task") and fields ("Lead.Phone") not to be seen."""
    return _Parser(soql, hidden).query()


class _Parser:
    def __init__(self, soql: str, hidden: frozenset[str]) -> None:
        self._tokens = list(_tokens(soql))
        self._at = 0
        self._hidden = hidden
        self._table = ""

    def query(self) -> Query:
        self._want("SELECT")
        names = self._names()
        self._want("FROM")
        self._table = self._word()
        if self._table not in SCHEMAS or self._table in self._hidden:
            raise ApiError(400, "INVALID_TYPE", f"sObject type '{self._table}' is not supported.")
        counting = names == ["COUNT()"]
        if not counting:
            for name in names:
                self._known(name)
        test: Test = self._any() if self._is("WHERE") else lambda _row: True
        order: list[Order] = []
        if self._is("ORDER"):
            self._want("BY")
            while True:
                order.append((self._known(self._word()), self._is("DESC")))
                self._is("ASC")
                if not self._is(","):
                    break
        limit = int(self._next()[1]) if self._is("LIMIT") else None
        if self._at < len(self._tokens):
            self._malformed()
        return Query(None if counting else tuple(names), self._table, test, tuple(order), limit)

    def _names(self) -> list[str]:
        names = [self._word()]
        if names == ["COUNT"] and self._is("("):
            self._want(")")
            return ["COUNT()"]
        while self._is(","):
            names.append(self._word())
        return names

    def _known(self, name: str) -> str:
        parent, _, leaf = name.rpartition(".")
        if parent:
            column, table = RELATIONS.get(parent, ("", ""))
            good = column in SCHEMAS[self._table] and leaf in SCHEMAS.get(table, {})
        else:
            good = name in SCHEMAS[self._table] and f"{self._table}.{name}" not in self._hidden
        if not good:
            message = f"No such column '{name}' on entity '{self._table}'. If you are attempting to use a custom field…"
            raise ApiError(400, "INVALID_FIELD", message)
        return name

    def _any(self) -> Test:
        tests = [self._all()]
        while self._is("OR"):
            tests.append(self._all())
        return tests[0] if len(tests) == 1 else lambda row: any(test(row) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._is("AND"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda row: all(test(row) for test in tests)

    def _one(self) -> Test:
        if self._is("("):
            inner = self._any()
            self._want(")")
            return inner
        name = self._known(self._word())
        if SCHEMAS[self._table].get(name) == "textarea":
            message = f"field '{name}' can not be filtered in a query call"
            raise ApiError(400, "INVALID_FIELD", message)
        if self._is("IN"):
            self._want("(")
            values = [self._value(name)]
            while self._is(","):
                values.append(self._value(name))
            self._want(")")
            return lambda row: comparable(row.get(name)) in values
        kind, sign = self._next()
        if kind != "sign" or sign not in _COMPARE:
            self._malformed()
        value = self._value(name)
        return lambda row: _COMPARE[sign](comparable(row.get(name)), value)

    def _value(self, name: str) -> Any:
        kind, token = self._next()
        match kind:
            case "text":
                text = re.sub(r"\\(.)", r"\1", token[1:-1])
                of = SCHEMAS[self._table].get(name)
                return comparable(whole_id(text) if of in ("id", "reference") and len(text) == 15 else text)
            case "time":
                return second_of(token.replace("Z", "+00:00"))
            case "number":
                return float(token)
            case "date":
                return token
            case "word" if token.lower() in ("true", "false", "null"):
                return {"true": True, "false": False, "null": None}[token.lower()]
        return self._malformed()

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            self._malformed()
        self._at += 1
        return self._tokens[self._at - 1]

    def _word(self) -> str:
        kind, token = self._next()
        return token if kind == "word" else self._malformed()

    def _is(self, word: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at][1].upper() == word:
            self._at += 1
            return True
        return False

    def _want(self, word: str) -> None:
        if not self._is(word):
            self._malformed()

    def _malformed(self) -> Any:
        raise ApiError(400, "MALFORMED_QUERY", f"unexpected token at {self._at}")


def comparable(value: Any) -> Any:
    """Times compare as seconds, text without its case, as Salesforce does, ids as they are."""
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\S+", value):
        return second_of(value)
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z0-9]{18}", value):
        return value.lower()
    return value


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda one, other: one is not None and other is not None and compare(one, other)


_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda one, other: one == other,
    "!=": lambda one, other: one != other,
    "<>": lambda one, other: one != other,
    "<": _ordered(lambda one, other: one < other),
    ">": _ordered(lambda one, other: one > other),
    "<=": _ordered(lambda one, other: one <= other),
    ">=": _ordered(lambda one, other: one >= other),
}


def _tokens(soql: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(soql.rstrip()):
        found = _TOKEN.match(soql, at)
        if found is None or found.lastgroup is None:
            raise ApiError(400, "MALFORMED_QUERY", f"unexpected character at {at}")
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()
