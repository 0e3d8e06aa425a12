"""What `demo`, `init` and `schema` write: the bundled incident, commented starter files, recipes for CI and schedules, and the JSON
Schema of bisect.yaml, from the models that check it, which is the reference page of the guides too.

All recipes keep store and history from run to run, whatever the run ends with, and show "could not tell" (exit code 3) as a warning.
"""

from __future__ import annotations

import ast
import inspect
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bisect_ai import config
from bisect_ai.errors import InputError
from bisect_ai.store.artefacts import write_new_files

_PACKAGE = Path(__file__).parents[1]
_PACKAGED = _PACKAGE / "_helpdesk"
# A file that only the bundled incident has.
_OF_DEMO = "stand_in.py"
_CHECKOUT = _PACKAGE.parent / "fixtures" / "helpdesk"
# What `init` writes, in this order.
_STARTER = ("bisect.yaml", "releases/good.yaml", "releases/bad.yaml", "logs/sample.jsonl")


def demo_source() -> Path:
    """The folder of the bundled incident: packaged, or in a source checkout."""
    for folder in (_PACKAGED, _CHECKOUT):
        if (folder / "bisect.yaml").is_file():
            return folder
    raise InputError("the bundled incident is missing from this installation; install bisect-ai again")


def write_demo(folder: Path) -> str:
    """Copy the incident into `folder`, leaving files that are there alone; says what was done."""
    source = demo_source()
    if (folder / "bisect.yaml").is_file() and not (folder / _OF_DEMO).exists():
        raise InputError(f"cannot write the demo to {folder}: it holds a bisect.yaml of another incident; name another folder")
    if (folder / "bisect.yaml").is_file():
        return f"using the incident in {folder} (delete the folder to start afresh)"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"cannot write the demo to {folder}: it is not an empty folder; name another")
    _copy(source, folder)
    return f"wrote the incident to {folder}: two releases, a corpus, tools, a log and a stand-in model; now solving it"


def _copy(source: Path, folder: Path) -> None:
    """Raises `InputError` with nothing left behind: a part of the incident would be taken for all of it the next time."""
    is_new, ignored = not folder.exists(), shutil.ignore_patterns("__pycache__", ".bisect-ai")
    try:
        shutil.copytree(source, folder, ignore=ignored, dirs_exist_ok=True)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if not is_new:
            folder.mkdir(exist_ok=True)
        raise InputError(f"cannot write to {folder}: {_first_reason(error)}; name another folder") from error


def _first_reason(error: OSError) -> str:
    """Why a copy failed; `copytree` lists each of its files, with the reason as text."""
    listed = error.args[0] if isinstance(error, shutil.Error) and error.args else None
    if not isinstance(listed, list) or not listed:
        return error.strerror or str(error)
    return str(listed[0][2]).partition("] ")[2].partition(": ")[0] or str(listed[0][2])


def write_starter(folder: Path) -> str:
    """Write the starter files into `folder`; refuses to touch files that are there."""

    files = {name: _text_of_file(f"init/{name}") for name in _STARTER} | {SCHEMA_FILE: schema_text()}
    write_new_files(folder, files)
    lines = [f"wrote {folder / name}" for name in files]
    return "\n".join(
        [*lines, "next: put your releases and log in place, then `bisect-ai diff`, `bisect-ai plan`, `bisect-ai run`"]
    )


# Kind to the file's place in the folder.
RECIPES = {
    "github": ".github/workflows/bisect-ai.yml",
    "gitlab": "bisect-ai.gitlab-ci.yml",
    "cron": "bisect-ai.cron",
    "kubernetes": "bisect-ai.kubernetes.yaml",
}


def write_recipe(kind: str, folder: Path) -> str:
    """Write the recipe into `folder`; refuses to touch a file that is there. Says what was done."""
    place = Path(RECIPES[kind])
    write_new_files(folder, {str(place): _text_of_file(f"recipes/{place.name}")})
    return f"wrote {folder / place}: what it needs is said in its first lines"


def _text_of_file(name: str) -> str:
    return (Path(__file__).parent / "starting" / name).read_text(encoding="utf-8")


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
