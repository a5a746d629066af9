"""The REST API of the Salesforce stand-in: what is below `/services/data/v…/`."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from upkept.testing.fake_salesforce.org import INTEGRATION, Org, seconds
from upkept.testing.fake_salesforce.shapes import RELATIONS, SCHEMAS, ApiError, Row, whole_id
from upkept.testing.fake_salesforce.soql import Query, parsed

MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """One call: its path below the version in steps, its parameters, its JSON and headers (in lower case)."""

    method: str
    steps: tuple[str, ...]
    params: dict[str, str]
    json: Any
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Api:
    """Cursors of queries and bulk jobs by id, over the rows of `org`."""

    org: Org
    prefix: str = "/services/data/v62.0"
    cursors: dict[str, tuple[Query, list[Row]]] = field(default_factory=dict)
    jobs: dict[str, Row] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def answer(self, asked: Asked) -> Answered:
        """Raises `ApiError`."""
        match asked.method, asked.steps:
            case "GET", ("query" | "queryAll" as how,):
                return self._query(asked.params.get("q", ""), everything=how == "queryAll")
            case "GET", ("query" | "queryAll", locator):
                return self._more(locator)
            case "GET", ("sobjects", table, "describe"):
                return self._describe(table)
            case "GET", ("sobjects", table, "deleted"):
                return Answered(200, self.org.deleted(self._seen(table), *self._window(asked)))
            case "POST", ("sobjects", table):
                id = self.org.create(self._seen(table), asked.json, by=INTEGRATION)
                return Answered(201, {"id": id, "success": True, "errors": []})
            case "GET", ("sobjects", table, id):
                return Answered(200, self._shown(self._seen(table), self.org.standing(table, id), None))
            case "PATCH", ("sobjects", table, id):
                self._update(self._seen(table), id, asked.json)
                return Answered(204)
            case "DELETE", ("sobjects", table, id):
                self.org.delete(self._seen(table), id, by=INTEGRATION)
                return Answered(204)
            case "PATCH", ("sobjects", table, name, value):
                return self._upsert(self._seen(table), name, unquote(value), asked.json)
            case "PATCH", ("composite", "sobjects"):
                return Answered(200, self._each(asked.json, self._update_one))
            case "POST", ("composite", "sobjects"):
                return Answered(200, self._each(asked.json, self._create_one))
            case "DELETE", ("composite", "sobjects"):
                rows = [{"Id": id} for id in asked.params.get("ids", "").split(",")]
                return Answered(200, self._each({"records": rows}, self._delete_one))
            case "GET", ("limits",):
                return Answered(200, {"DailyApiRequests": {"Max": 100_000, "Remaining": 99_000}})
            case _, ("jobs", "query", *rest):
                return self._job(asked, rest)
        raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")

    def _seen(self, table: str) -> str:
        if table not in SCHEMAS or table in self.org.faults.hidden:
            raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
        return table

    def _window(self, asked: Asked) -> tuple[int, int]:
        return seconds(asked.params.get("start")) // 60 * 60, seconds(asked.params.get("end")) // 60 * 60

    def _describe(self, table: str) -> Answered:
        hidden = self.org.faults.hidden
        seen = [name for name in SCHEMAS[self._seen(table)] if f"{table}.{name}" not in hidden]
        fields = [{"name": name, "type": SCHEMAS[table][name]} for name in seen]
        createable = table not in self.org.faults.read_only
        return Answered(200, {"name": table, "createable": createable, "fields": fields})

    def _query(self, soql: str, *, everything: bool) -> Answered:
        query = parsed(soql, frozenset(self.org.faults.hidden))
        rows = self.org.found(query, everything=everything)
        if query.columns is None:
            return Answered(200, {"totalSize": len(rows), "done": True, "records": []})
        locator = f"01g5fX00000{next(self._numbers):07d}"
        self.cursors[locator] = query, [self._shown(query.table, row, query.columns) for row in rows]
        return self._more(f"{locator}-0")

    def _more(self, locator: str) -> Answered:
        name, _, start = locator.rpartition("-")
        if name not in self.cursors:
            raise ApiError(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        (_, rows), at, page = self.cursors[name], int(start), self.org.faults.page
        done = at + page >= len(rows)
        body: Row = {"totalSize": len(rows), "done": done, "records": rows[at : at + page]}
        if not done:
            body["nextRecordsUrl"] = f"{self.prefix}/query/{name}-{at + page}"
        return Answered(200, body)

    def _shown(self, table: str, row: Row, columns: tuple[str, ...] | None) -> Row:
        shown: Row = {"attributes": {"type": table, "url": f"{self.prefix}/sobjects/{table}/{row['Id']}"}}
        for name in columns or SCHEMAS[table]:
            parent, _, leaf = name.rpartition(".")
            if not parent:
                shown[name] = row.get(name)
                continue
            column, of = RELATIONS[parent]
            other = self.org.tables[of].get(row.get(column) or "")
            shown[parent] = {"attributes": {"type": of}, leaf: other[leaf]} if other else None
        return shown

    def _update(self, table: str, id: str, values: Row) -> None:
        known = whole_id(id)
        if self.org.faults.locked.get(known, 0) > 0:
            self.org.faults.locked[known] -= 1
            raise ApiError(400, "UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record")
        self.org.update(table, id, values, by=INTEGRATION)

    def _upsert(self, table: str, name: str, value: str, values: Row) -> Answered:
        if name in values:
            raise ApiError(400, "INVALID_FIELD", f"The {name} field should not be specified in the sobject data.")
        found = self.org.by_external_id(table, name, value)
        if len(found) > 1:
            urls = [f"{self.prefix}/sobjects/{table}/{row['Id']}" for row in found]
            return Answered(300, urls)
        if found:
            self._update(table, found[0]["Id"], values)
        id = found[0]["Id"] if found else self.org.create(table, {**values, name: value}, by=INTEGRATION)
        return Answered(200 if found else 201, {"id": id, "success": True, "errors": [], "created": not found})

    def _each(self, said: Row, do: Callable[[Row], str]) -> list[Row]:
        records = said.get("records", [])
        if len(records) > MOST:
            raise ApiError(400, "EXCEEDED_MAX_SIZE_REQUEST", f"record limit reached. cannot submit more than {MOST}")
        ids = [row["Id"] for row in records if "Id" in row]
        if len(set(ids)) < len(ids):
            raise ApiError(400, "DUPLICATE_VALUE", "duplicate ids in one call")
        results: list[Row] = []
        for row in records:
            try:
                results.append({"id": do(row), "success": True, "errors": []})
            except ApiError as error:
                results.append({"success": False, "errors": [error.shown(name="statusCode")]})
        return results

    def _create_one(self, row: Row) -> str:
        return self.org.create(self._seen(row["attributes"]["type"]), row, by=INTEGRATION)

    def _update_one(self, row: Row) -> str:
        table, id = row["attributes"]["type"], str(row["Id"])
        self._update(table, id, {name: value for name, value in row.items() if name not in ("Id", "attributes")})
        return whole_id(id)

    def _delete_one(self, row: Row) -> str:
        id = whole_id(str(row["Id"]))
        table = next((name for name, rows in self.org.tables.items() if id in rows), "")
        self.org.delete(table, id, by=INTEGRATION)
        return id

    def _job(self, asked: Asked, rest: list[str]) -> Answered:
        faults = self.org.faults
        if asked.method == "POST" and not rest:
            query = parsed(asked.json["query"], frozenset(faults.hidden))
            if query.columns is None or asked.json["operation"] not in ("query", "queryAll"):
                raise ApiError(400, "API_ERROR", "not a bulk query")
            id = f"7505fX00000{next(self._numbers):07d}"
            everything = asked.json["operation"] == "queryAll"
            self.jobs[id] = {"query": query, "rows": self.org.found(query, everything=everything), "looks": 0}
            return Answered(200, {"id": id, "state": "UploadComplete"})
        job = self.jobs.get(rest[0])
        if job is None:
            raise ApiError(404, "NOT_FOUND", "The requested resource does not exist")
        if len(rest) == 1:
            job["looks"] += 1
            if faults.bulk_lost and job["looks"] >= faults.bulk_lost:
                faults.bulk_lost = 0
                del self.jobs[rest[0]]
            done = "JobComplete" if job["looks"] > faults.bulk_looks else "InProgress"
            state = "Failed" if faults.bulk_fails else done
            return Answered(200, {"id": rest[0], "state": state, "numberRecordsProcessed": len(job["rows"])})
        return self._results(job, int(asked.params.get("locator") or 0), int(asked.params.get("maxRecords", 5000)))

    def _results(self, job: Row, start: int, most: int) -> Answered:
        rows, query = job["rows"], job["query"]
        file = io.StringIO()
        out = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        out.writerow(query.columns)
        for row in rows[start : start + most]:
            shown = self._shown(query.table, row, query.columns)
            out.writerow([_in_csv(shown, name) for name in query.columns])
        text = file.getvalue()
        if self.org.faults.bulk_cut:
            self.org.faults.bulk_cut = False
            text = text[: -len(text) // 3]
        locator = str(start + most) if start + most < len(rows) else "null"
        headers = {"Sforce-Locator": locator, "Content-Type": "text/csv"}
        return Answered(200, text.encode(), headers)


def _in_csv(shown: Row, name: str) -> str:
    parent, _, leaf = name.rpartition(".")
    value = (shown.get(parent) or {}).get(leaf) if parent else shown.get(name)
    if isinstance(value, bool):
        return "true" if value else "false"
    text = "" if value is None else str(value)
    return text.replace("+0000", "Z") if SCHEMAS["Lead"].get(name) == "datetime" else text
