"""References in a release, resolved once and frozen: `file`, `dir`, `table`, `env`, `git`, `openapi`, `registry`; in snapshots `mcp`.

A mapping is a reference only when its keys are exactly those of one kind and their values are texts. What a reference
brings in is data: it is parsed (`.json`, `.yaml`, `.yml`) or taken as text, never searched for references, never filled
in like a template, never run.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from bisect_ai.canonical import Json, plain
from bisect_ai.errors import ReleaseError
from bisect_ai.release.document_tables import read_document_table
from bisect_ai.release.git import read_blob, read_commit, read_git
from bisect_ai.release.openapi import operations
from bisect_ai.release.prompt_exports import exported_prompt
from bisect_ai.release.quoting import shown
from bisect_ai.release.rooted_files import check_spelling, decode_utf8, path_inside, read_folder, read_inside
from bisect_ai.release.sources import Keys, ReleaseSource
from bisect_ai.release.strict import parse_strict_json, parse_yaml

_SINGLE = ("file", "dir", "env", "git", "openapi", "registry", "mcp")
_KINDS = {frozenset({kind}): kind for kind in _SINGLE} | {frozenset({"table", "id", "text"}): "table"}
_SECRET_NAME = re.compile(
    r"(^|_)((API|ACCESS|SECRET|PRIVATE)?KEY|TOKEN|SECRETS?|\w*PASSWORD|PASSWD|PWD|CREDENTIALS?)(_|$)", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"(sk|pk|rk|ghp|gho|ghs|github_pat|glpat|xox[abp]|hf|AKIA|AIza|eyJ)[-_A-Za-z0-9]{16,}.*", re.DOTALL)


McpTools = Callable[[str, Path], list[dict[str, Any]]]
"""From an MCP server (its command or URL) and the folder that it runs in, to its tools."""


@dataclass(frozen=True)
class Committed:
    """A folder at a commit, where references start: `folder` is from the top of the repository, empty for the top itself."""

    repo: Path
    commit: str
    folder: str

    def path(self, written: str) -> str:
        """The path that a reference means, from the top. Raises `ReleaseError` when it leads out of the repository."""
        check_spelling(written)
        whole = posixpath.normpath(posixpath.join(self.folder, written))
        if whole.split("/")[0] in ("..", "."):
            raise ReleaseError(f"the path {shown(written)} leads outside the repository; name a file in it")
        return whole


@dataclass
class Resolver:
    """Turns one release's references into values; `sources` collects, by axis, the commits that git references came from."""

    root: Path
    folder: Path
    allow_env: Collection[str] = ()
    sources: dict[str, list[str]] = field(default_factory=dict)
    found: dict[Keys, ReleaseSource] = field(default_factory=dict)
    """Where the value at each reference came from, by the keys that lead to it (the axis first)."""
    at: Committed | None = None
    """Where files are read instead of the working folder: at a commit."""
    mcp: McpTools | None = None
    """Asks an MCP server for its tools; None: a release is loaded, and nothing runs for that."""

    def axis(self, name: str, value: Json) -> Json:
        """`value` with every reference in it resolved. Raises `ReleaseError` naming the key."""
        self._axis = name
        return self._resolve(value, f"axes.{name}", (name,))

    def _resolve(self, value: Json, where: str, keys: Keys) -> Json:
        if isinstance(value, list):
            return [self._resolve(item, f"{where}[{i}]", (*keys, i)) for i, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        kind = _KINDS.get(frozenset(value))
        if kind is None or not all(isinstance(item, str) for item in value.values()):
            return {key: self._resolve(item, f"{where}.{key}", (*keys, key)) for key, item in value.items()}
        self._keys = keys
        try:
            return self._fetch(kind, value)
        except ReleaseError as bad:
            raise ReleaseError(f"{shown(where)}: {bad}") from bad

    def _fetch(self, kind: str, reference: Mapping[str, Any]) -> Json:
        if kind == "env":
            return self._env(reference["env"])
        if kind == "git":
            return self._git(reference["git"])
        if kind == "mcp":
            return self._mcp(reference["mcp"])
        if self.at is not None:
            return self._committed(self.at, kind, reference)
        real = path_inside(self.root, self.folder, reference[kind])
        self.found[self._keys] = ReleaseSource(real.parent, real.name, None, whole=kind == "dir")
        if kind == "dir":
            return dict(read_folder(self.root, real))
        if kind == "table":
            return dict(read_document_table(self.root, real, reference["id"], reference["text"]))
        return _content(kind, decode_utf8(read_inside(self.root, real), real.name), reference[kind])

    def _committed(self, at: Committed, kind: str, reference: Mapping[str, Any]) -> Json:
        """A file, folder or table as it was at a commit."""
        path = at.path(reference[kind])
        self.found[self._keys] = ReleaseSource(at.repo, path, at.commit, whole=kind == "dir")
        if kind == "table":
            with TemporaryDirectory(prefix="bisect-ai-") as folder:
                copy = Path(folder).resolve() / PurePosixPath(path).name
                copy.write_bytes(read_blob(at.repo, at.commit, path))
                return dict(read_document_table(copy.parent, copy, reference["id"], reference["text"]))
        if kind in ("file", "openapi", "registry"):
            return _content(kind, decode_utf8(read_blob(at.repo, at.commit, path), path), path)
        content = read_commit(at.repo, at.commit, path).content
        if isinstance(content, str):
            raise ReleaseError(f"{shown(path)} at {at.commit} is a file; name a folder, or use 'file'")
        return dict(content)

    def _mcp(self, server: str) -> Json:
        if self.mcp is None:
            raise ReleaseError(
                f"the tools of the MCP server {shown(server)} are asked for by `bisect-ai snapshot` alone; load the snapshot it writes"
            )
        return plain(self.mcp(server, self.folder), where="tools")

    def _env(self, name: str) -> str:
        value = os.environ.get(name) if name and "=" not in name and "\0" not in name else None
        if value is None:
            raise ReleaseError(f"the environment variable {shown(name)} is not set; set it, or write the value")
        if name not in self.allow_env and (_SECRET_NAME.search(name) or _SECRET_VALUE.fullmatch(value)):
            raise ReleaseError(
                f"the environment variable {shown(name)} looks like a credential, and a release is hashed, stored and shown;"
                " keep credentials in the environment, where the target finds them"
            )
        return value

    def _git(self, reference: str) -> Json:
        found = read_git(self.folder, reference)
        self.sources.setdefault(self._axis, []).append(found.source)
        whole = not isinstance(found.content, str)
        self.found[self._keys] = ReleaseSource(self.folder, found.path, found.commit, whole=whole)
        if isinstance(found.content, str):
            return _parsed_by_suffix(found.content, found.path)
        return dict(found.content)


def _content(kind: str, text: str, name: str) -> Json:
    """What a file holds: as it is, of an OpenAPI document one tool for each operation, of a registry's export the prompt."""
    value = _parsed_by_suffix(text, name)
    if kind == "registry":
        return exported_prompt(value, name)
    if kind != "openapi":
        return value
    if not isinstance(value, dict):
        raise ReleaseError(f"{shown(name)} is no OpenAPI document; name a .json or .yaml file")
    return list(operations(value))


def _parsed_by_suffix(text: str, name: str) -> Json:
    """By suffix: JSON and YAML parsed, all else the exact text."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix == ".json":
        return parse_strict_json(text, name)
    return parse_yaml(text, name) if suffix in (".yaml", ".yml") else text
