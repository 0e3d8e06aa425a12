"""The operations of an OpenAPI 3 document as tools: one each, its parameters and the fields of its body as one object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from bisect_ai.canonical import as_list, as_mapping
from bisect_ai.errors import ReleaseError

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# Characters that providers take in a tool's name.
_LONGEST = 64
_DEEPEST = 12  # references to references: hostile documents go in circles


def operations(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A tool `{name, description, parameters}` for each operation, in the document's order.

    Named by `operationId`, else by method and path. Raises `ReleaseError` naming what cannot be read.
    """
    version, paths = str(document.get("openapi")), document.get("paths")
    if not version.startswith("3"):
        raise ReleaseError(f"cannot read the tools axis: it is OpenAPI {version[:20]}; convert it to OpenAPI 3")
    if not isinstance(paths, Mapping):
        raise ReleaseError(
            "cannot read the tools axis: it is an OpenAPI document without paths, so without tools; give its paths"
        )
    for path, item in paths.items():
        entry = _resolved_part(document, item, f"paths.{path}")
        for method, operation in entry.items():
            if method in METHODS and isinstance(operation, Mapping):
                yield _operation(document, str(path), method, entry, operation)


def _operation(
    document: Mapping[str, Any], path: str, method: str, item: Mapping[str, Any], operation: Mapping[str, Any]
) -> dict[str, Any]:
    where = f"{method} {path}"
    name = _operation_name(str(operation.get("operationId") or f"{method}_{path.strip('/')}"))
    told = operation.get("description") or operation.get("summary")
    fields, required = _operation_parameters(document, [item.get("parameters"), operation.get("parameters")], where)
    body = operation.get("requestBody")
    if body is not None:
        _add_body(document, _resolved_part(document, body, where), fields, required, where)
    schema = {"type": "object", "properties": fields, **({"required": required} if required else {})}
    return {"name": name, **({"description": str(told)} if told else {}), "parameters": schema}


def _operation_name(given: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", given).strip("_")[:_LONGEST] or "operation"


def _operation_parameters(document: Mapping[str, Any], lists: list[Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Fields and the required ones, the operation's over its path's."""
    found: dict[str, tuple[Any, bool]] = {}
    for listed in lists:
        for each in as_list(listed):
            one = _resolved_part(document, each, where)
            if not isinstance(one.get("name"), str):
                raise ReleaseError(
                    f"cannot read the tools axis: a parameter of {where} has no name; correct the OpenAPI document"
                )
            if one.get("in") in ("header", "cookie"):
                continue  # the client's, not the model's
            content = one.get("content")
            inner = next(iter(content.values()), {}) if isinstance(content, Mapping) else one
            schema = _whole_schema(document, inner.get("schema") or {}, where)
            told = {"description": one["description"]} if one.get("description") else {}
            found[one["name"]] = ({**told, **schema}, bool(one.get("required")) or one.get("in") == "path")
    return {name: schema for name, (schema, _) in found.items()}, [name for name, (_, needed) in found.items() if needed]


def _add_body(
    document: Mapping[str, Any], body: Mapping[str, Any], fields: dict[str, Any], required: list[str], where: str
) -> None:
    content = as_mapping(body.get("content"))
    kinds = [kind for kind in content if "json" in str(kind)] or list(content)
    if not kinds:
        return
    schema = _whole_schema(document, as_mapping(content[kinds[0]]).get("schema") or {}, where)
    inner, needed = _fields_of(schema)
    if inner is not None and not fields.keys() & inner.keys():
        fields.update(inner)
        required += [name for name in needed if body.get("required", False) and name not in required]
    else:
        fields["body"] = schema
        required += ["body"] if body.get("required") else []


def _fields_of(schema: Mapping[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """Fields and required ones of a schema of objects: of all that it is composed of, and of each that it may be.

    None: it is of something else, or says nothing of its fields.
    """
    kind, own, needed = schema.get("type", "object"), schema.get("properties"), list(schema.get("required") or ())
    if "object" not in (kind if isinstance(kind, list) else [kind]):
        return None, []
    fields = dict(as_mapping(own))
    known = isinstance(own, Mapping)
    for how in ("allOf", "oneOf", "anyOf"):
        parts = [_fields_of(part) for part in schema.get(how) or () if isinstance(part, Mapping) and part.get("type") != "null"]
        if any(inner is None for inner, _ in parts):
            return None, []
        for inner, wanted in parts:
            for name, value in (inner or {}).items():
                fields[name] = value if fields.get(name, value) == value else _either(fields[name], value)
            needed += [n for n in wanted if n not in needed and (how == "allOf" or all(n in others for _, others in parts))]
        known = known or bool(parts)
    return (fields, needed) if known else (None, [])


def _either(one: Any, other: Any) -> dict[str, Any]:
    """A schema for a field that two alternatives describe each in its own way."""
    told = one["anyOf"] if isinstance(one, Mapping) and set(one) == {"anyOf"} else [one]
    return {"anyOf": [*told, *([] if other in told else [other])]}


def _resolved_part(document: Mapping[str, Any], value: Any, where: str) -> Mapping[str, Any]:
    """A part of the document, a reference to another part of it followed."""
    for _ in range(_DEEPEST):
        if not isinstance(value, Mapping):
            raise ReleaseError(
                f"cannot read the tools axis: {where[:80]} is a {type(value).__name__} where OpenAPI has a mapping"
            )
        if "$ref" not in value:
            return value
        value = _referred(document, str(value["$ref"]), where)
    raise ReleaseError(
        f"cannot read the tools axis: the references of {where[:80]} go in a circle; correct the OpenAPI document"
    )


def _referred(document: Mapping[str, Any], reference: str, where: str) -> Any:
    if not reference.startswith("#/"):
        raise ReleaseError(
            f"cannot read the tools axis: {where[:80]} refers to {reference[:80]!r}, outside the document; bundle it into one file"
        )
    found: Any = document
    for part in reference[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, Mapping) or key not in found:
            raise ReleaseError(f"cannot read the tools axis: {where[:80]} refers to {reference[:80]!r}, which is not there")
        found = found[key]
    return found


def _whole_schema(document: Mapping[str, Any], schema: Any, where: str) -> dict[str, Any]:
    """A schema with its references put in; one that contains itself is any value there."""
    made = _put_in(document, schema, where, ())
    return made if isinstance(made, dict) else {}


def _put_in(document: Mapping[str, Any], value: Any, where: str, seen: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        reference = value.get("$ref")
        if isinstance(reference, str):
            if reference in seen or len(seen) > _DEEPEST:
                return {}
            return _put_in(document, _referred(document, reference, where), where, (*seen, reference))
        return {key: _put_in(document, each, where, seen) for key, each in value.items()}
    return [_put_in(document, each, where, seen) for each in value] if isinstance(value, list) else value
