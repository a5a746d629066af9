"""The tables of the Stripe stand-in: one list of objects, newest first, with Stripe's paging.

https://docs.stripe.com/api/pagination, https://docs.stripe.com/api/errors
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from upkept.testing.fake_stripe.forms import Params, integer

Object = dict[str, Any]


class ApiError(Exception):
    """An answer of Stripe's that is an error."""

    def __init__(self, status: int, message: str, **details: Any) -> None:
        super().__init__(message)
        self.status = status
        self.details = {"type": "invalid_request_error", "message": message, **details}
        self.headers: dict[str, str] = {}


def missing(of: str, id: str, *, param: str = "id", status: int = 404) -> ApiError:
    return ApiError(status, f"No such {of}: '{id}'", code="resource_missing", param=param)


class Table:
    """Objects of one type in the order of their creation. Stored objects are sparse: shapes fill in the rest."""

    def __init__(self, of: str) -> None:
        self.of = of
        self.rows: dict[str, Object] = {}
        self._order: list[str] = []
        self._place: dict[str, int] = {}
        self._sorted = True

    def add(self, row: Object) -> Object:
        if self._order and row["created"] < self.rows[self._order[-1]]["created"]:
            self._sorted = False
        self._place[row["id"]] = len(self._order)
        self._order.append(row["id"])
        self.rows[row["id"]] = row
        return row

    def get(self, id: Any, *, param: str = "id", status: int = 404) -> Object:
        row = self.rows.get(str(id))
        if row is None:
            raise missing(self.of, str(id), param=param, status=status)
        return row

    def page(self, params: Params, where: Callable[[Object], bool]) -> tuple[list[Object], bool]:
        """One page, newest first, and whether more follow (for `ending_before`: precede)."""
        limit = integer(params.get("limit"), 10) or 0
        if not 1 <= limit <= 100:
            raise ApiError(400, "This value must be between 1 and 100 (inclusive).", param="limit")
        backwards = "ending_before" in params
        if backwards and "starting_after" in params:
            raise ApiError(400, "You may only specify one of these parameters: ending_before, starting_after.")
        created = created_filter(params.get("created"))
        found: list[Object] = []
        for row in self._walk(params, backwards=backwards):
            if row.get("deleted") or not created(row["created"]) or not where(row):
                continue
            if len(found) == limit:
                return (found[::-1] if backwards else found), True
            found.append(row)
        return (found[::-1] if backwards else found), False

    def _walk(self, params: Params, *, backwards: bool) -> Iterator[Object]:
        if not self._sorted:
            self._order.sort(key=lambda id: self.rows[id]["created"])
            self._place = {id: place for place, id in enumerate(self._order)}
            self._sorted = True
        cursor = params.get("ending_before" if backwards else "starting_after")
        if cursor is None:
            places = range(len(self._order)) if backwards else range(len(self._order) - 1, -1, -1)
        else:
            place = self._cursor(cursor, "ending_before" if backwards else "starting_after")
            places = range(place + 1, len(self._order)) if backwards else range(place - 1, -1, -1)
        for place in places:
            yield self.rows[self._order[place]]

    def _cursor(self, id: str, param: str) -> int:
        row = self.get(id, param=param, status=400)
        if row.get("deleted"):
            raise missing(self.of, id, param=param, status=400)
        return self._place[id]


def created_filter(said: Any) -> Callable[[int], bool]:
    """Stripe's `created`: a second, or bounds `gt`, `gte`, `lt`, `lte`."""
    if said is None:
        return lambda _created: True
    if not isinstance(said, Mapping):
        exact = int(said)
        return lambda created: created == exact
    bounds = {name: int(value) for name, value in said.items()}
    return lambda created: (
        created > bounds.get("gt", -1)
        and created >= bounds.get("gte", -1)
        and created < bounds.get("lt", created + 1)
        and created <= bounds.get("lte", created)
    )
