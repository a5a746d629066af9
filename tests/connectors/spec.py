"""What a vendor's specification has against a request that a client made: a judge outside of our stand-ins.

A specification is a file of a connector's `spec/`: Swagger 2.0, cut down to what it demands of a request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Object = Mapping[str, Any]


def specification(folder: Path, name: str) -> Object:
    found: Object = json.loads((folder / name).read_text())
    return found


def template(request: Object, spec: Object) -> str | None:
    """The path of the operation that a request asks for; None if the specification has none."""
    for path, operations in spec["paths"].items():
        pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(path))
        if request["method"].lower() in operations and re.fullmatch(pattern, request["path"]):
            return str(path)
    return None


def complaints(request: Object, spec: Object) -> Iterator[str]:
    """`request` has a method, a path, a query, a body and its type, as the stand-ins list them."""
    path = template(request, spec)
    if path is None:
        yield f"no operation {request['method']} {request['path']}"
        return
    operation = spec["paths"][path][request["method"].lower()]
    parameters = {one["name"]: one for one in operation.get("parameters", ())}
    for name, one in parameters.items():
        if one["in"] == "query" and name in request["query"]:
            yield from (f"{name}: {why}" for why in _of_query(one, request["query"][name]))
        elif one["in"] == "query" and one.get("required"):
            yield f"{name} is missing"
        elif one["in"] == "body" and (request["body"] or one.get("required")):
            yield from (f"body{why}" for why in _of_schema(one["schema"], request["body"], spec))
            if request["type"] != "application/json":
                yield f"the body is {request['type']}"
    for name in request["query"].keys() - {name for name, one in parameters.items() if one["in"] == "query"}:
        yield f"unknown parameter {name}"
    if request["body"] and not any(one["in"] == "body" for one in parameters.values()):
        yield "a body where none belongs"


def _of_query(one: Object, value: str) -> Iterator[str]:
    if one.get("type") == "array":
        for item in value.split(","):
            yield from _of_query(one["items"], item)
    elif one.get("type") == "boolean" and value not in ("true", "false"):
        yield "no boolean"
    elif one.get("type") == "integer" and not re.fullmatch(r"-?\d+", value):
        yield "no integer"
    elif "maximum" in one and int(value) > one["maximum"]:
        yield f"more than {one['maximum']}"
    elif "enum" in one and value not in one["enum"]:
        yield f"not one of {one['enum']}"


KINDS: Mapping[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
}  # fmt: skip


def _of_schema(schema: Object, value: Any, spec: Object) -> Iterator[str]:
    if "$ref" in schema:
        schema = spec["definitions"][schema["$ref"].rpartition("/")[2]]
    kind = KINDS[schema["type"]]
    if not isinstance(value, kind) or (isinstance(value, bool) and schema["type"] != "boolean"):
        yield f": {type(value).__name__} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f": {value!r} is not one of {schema['enum']}"
    if isinstance(value, list):
        for item in value:
            yield from (f"[]{why}" for why in _of_schema(schema["items"], item, spec))
    if isinstance(value, dict):
        yield from _of_object(schema, value, spec)


def _of_object(schema: Object, value: Object, spec: Object) -> Iterator[str]:
    """`additionalProperties` is true, or what each further one must be; without it there must be none."""
    known, further = schema.get("properties", {}), schema.get("additionalProperties", False)
    yield from (f".{name} is missing" for name in schema.get("required", ()) if name not in value)
    for name, inner in value.items():
        wanted = known.get(name, further)
        if isinstance(wanted, Mapping):
            yield from (f".{name}{why}" for why in _of_schema(wanted, inner, spec))
    if (strange := value.keys() - known.keys()) and not further:
        yield f": unknown {sorted(strange)}"
