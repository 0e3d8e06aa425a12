"""What `bisect.yaml` may hold, from the models that check it: as a JSON Schema for editors, and as the reference page of the guides."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any

from bisect_ai import config

# The one that the YAML language server of editors reads.
DRAFT = "http://json-schema.org/draft-07/schema#"
# What `bisect-ai init` calls the schema beside the bisect.yaml that names it.
SCHEMA_FILE = "bisect.schema.json"
_INTRO = """\
# Configuration reference

What `bisect.yaml` may hold. The same names are keywords of `bisect_ai.run`. This page is made from the models that check the file. Any
other key is refused, with the nearest known one.

`bisect-ai init` writes the same as a JSON Schema beside the file, and a first line that names it: `# yaml-language-server:
$schema=bisect.schema.json`. Editors with the YAML language server complete and check the file by it. `bisect-ai schema >
bisect.schema.json` writes it for a file that is there.
"""


def config_schema() -> dict[str, Any]:
    """The JSON Schema (draft 7) of bisect.yaml; what the models say of a key is its description."""
    found = _as_draft_7(config.Config.model_json_schema(ref_template="#/definitions/{model}"))
    told = _docstrings()
    for name, part in [("Config", found), *found["definitions"].items()]:
        part["additionalProperties"] = False
        for key, each in part["properties"].items():
            if text := told.get((name, key)):
                each["description"] = text
    log = found["properties"]["log"]  # a path alone stands for the mapping
    found["properties"]["log"] = {
        "anyOf": [{"type": "string"}, {"$ref": log["$ref"]}],
        "description": log.get("description", ""),
    }
    for key in ("axes", "pin"):  # so does one pattern for the list
        lists = found["properties"][key]["additionalProperties"]
        found["properties"][key]["additionalProperties"] = {"anyOf": [{"type": "string"}, lists]}
    return {"$schema": DRAFT, "title": "bisect.yaml", **{k: v for k, v in found.items() if k != "title"}}


def schema_text() -> str:
    """The schema as JSON, in ASCII."""
    return json.dumps(config_schema(), indent=1, ensure_ascii=True) + "\n"


def _as_draft_7(value: Any) -> Any:
    """A schema with the older names of what later drafts renamed."""
    if isinstance(value, list):
        return [_as_draft_7(each) for each in value]
    if not isinstance(value, dict):
        return value
    names = {"$defs": "definitions", "prefixItems": "items"}
    return {names.get(key, key): _as_draft_7(each) for key, each in value.items()}


def reference_page() -> str:
    """The reference as Markdown: a table of keys for each part of the file."""
    schema = config_schema()
    parts = [_table("The file", schema)]
    parts += [_table(f"`{path}`", part) for path, part in _parts(schema, schema)]
    return "\n".join([_INTRO, *parts])


def _docstrings() -> dict[tuple[str, str], str]:
    """Class and field to the text below the field; those of a base count for its subclasses."""
    classes = [node for node in ast.parse(inspect.getsource(config)).body if isinstance(node, ast.ClassDef)]
    found: dict[tuple[str, str], str] = {}
    for node in classes:
        for base in node.bases:
            name = base.id if isinstance(base, ast.Name) else ""
            found |= {(node.name, key): text for (above, key), text in tuple(found.items()) if above == name}
        for field, below in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and (text := _text_of(below)):
                found[node.name, field.target.id] = text
    return found


def _text_of(node: ast.stmt) -> str:
    value = node.value if isinstance(node, ast.Expr) else None
    return " ".join(value.value.split()) if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _parts(part: Mapping[str, Any], schema: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The mappings inside, by their path in the file."""
    for key, each in part["properties"].items():
        name = _reference(each)
        if name:
            below = schema["definitions"][name]
            yield f"{above}{key}", below
            yield from _parts(below, schema, f"{above}{key}.")


def _reference(each: Mapping[str, Any]) -> str:
    """The name of the part that a key holds; empty where it holds none."""
    refs = [one["$ref"] for one in (each, *each.get("anyOf", ())) if "$ref" in one]
    return refs[0].rpartition("/")[2] if refs else ""


def _table(title: str, part: Mapping[str, Any]) -> str:
    needed = part.get("required", ())
    rows = [
        f"| `{key}` | {_kind(each)} | {'needed' if key in needed else _default(each)} | {each.get('description', '')} |"
        for key, each in part["properties"].items()
    ]
    return "\n".join([f"## {title}\n", "| key | is | default | says |", "|---|---|---|---|", *rows, ""])


def _default(each: Mapping[str, Any]) -> str:
    value = each.get("default")
    return (
        ""
        if value is None or value in ({}, []) or _reference(each)
        else f"`{str(value).lower() if value is True or value is False else value}`"
    )


def _kind(each: Mapping[str, Any]) -> str:
    """What a value must be, in words."""
    if "anyOf" in each:
        return " or ".join(dict.fromkeys(_kind(one) for one in each["anyOf"] if one.get("type") != "null"))
    if "$ref" in each:
        return "mapping"
    if "enum" in each:
        return ", ".join(f"`{one}`" for one in each["enum"])
    return _NAMES.get(str(each.get("type")), "anything") + _limits(each)


def _limits(each: Mapping[str, Any]) -> str:
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    told = [f"{words[key]} {each[key]:g}" for key in words if key in each]
    return f", {', '.join(told)}" if told else ""


_NAMES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "mapping",
}
