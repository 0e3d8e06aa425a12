"""promptfoo's own providers as target: programs, addresses and custom code that are more than a model's name.

Each trial is one `promptfoo eval` of one test in a folder of its own: the composed prompt, the provider of the composed model axis as
the config has it (with the axis's settings on top), the query's columns as variables. promptfoo is found beside the config
(`node_modules/.bin`), on the path, or by npx where it has it already; it is never fetched. Files that the config names by `file://` are
found, for the folder of a trial holds links to all that lies beside the config.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bisect_ai.canonical import as_mapping, digest, json_object, plain, text_or_json
from bisect_ai.errors import ConfigError, Infeasible, TargetFailure
from bisect_ai.provider.redaction import line_of
from bisect_ai.queries.query import Query
from bisect_ai.release.references import read_mapping
from bisect_ai.targets.answer import Answer
from bisect_ai.targets.http_target import read_answer, sent_columns
from bisect_ai.targets.programs import Program, ProgramEnded
from bisect_ai.targets.target import check_known, positive
from bisect_ai.targets.workplace import Workplace

SETTINGS = frozenset({"kind", "config", "asserts", "deadline", "concurrency", "version"})
_QUIET = {
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "1",
    "PROMPTFOO_SELF_HOSTED": "1",
    "NO_COLOR": "1",
}
_CONFIG, _RESULTS = ".bisect-ai-config.json", ".bisect-ai-results.json"
_ONCE = ("--no-cache", "--no-write", "--no-table")
# Before the name of a variable that a column of the log's own has, such as `reference`.
_RENAMED = "var_"
_PARTS = ("provider", "model", "id")
# A tag or a variable of promptfoo's templates, with a filter or without.
_THEIRS = re.compile(r"\{%|\{\{-?\s*[A-Za-z_][\w.]*\s*(?:[|\[(][^{}]*)?-?\}\}")
_OUR_BRACES = re.compile(r"\{\{|\}\}|\{([A-Za-z_]\w*)\}")  # our variables become those of Nunjucks


class PromptfooTarget:
    """Answers of a promptfoo config's providers. Settings: `config`; `asserts` (a JSON file of each query's asserts, by its id, which
    promptfoo checks: the answer's score `passed`); `deadline` (seconds an answer, 300), `concurrency` (4), `version` (of the
    providers' code: part of a trial's identity). Asserts may be code, so they are of a file beside the settings, never of the log.
    """

    is_async = False
    is_local = True

    def __init__(self, settings: Mapping[str, Any], *, folder: Path) -> None:
        check_known(settings, SETTINGS, "promptfoo")
        if not isinstance(settings.get("config"), str):
            raise ConfigError("cannot read target: it needs `config`, the file of promptfoo's")
        path = folder / settings["config"]
        if not path.is_file():
            raise ConfigError(f"cannot read target.config: there is no file {path}")
        self._folder, self._config = path.resolve().parent, read_mapping(path, error=ConfigError)
        self._asserts = _asserts_in(settings.get("asserts"), folder)
        self._command = promptfoo_command(self._folder)
        self._seconds = positive(settings, "deadline", 300)
        self.deadline, self.concurrency = self._seconds + 10.0, int(positive(settings, "concurrency", 4))
        self._workplace: Workplace | None = None
        self._guard = threading.Lock()
        self.identity: Mapping[str, Any] = {
            "kind": "promptfoo",
            "config": digest(
                plain({key: self._config.get(key) for key in ("providers", "targets", "env")}, where="target.config")
            ),
            **({"asserts": digest(self._asserts)} if self._asserts else {}),
            **({"version": str(settings["version"])} if "version" in settings else {}),
        }

    def close(self) -> None:
        """Remove the folders."""
        with self._guard:
            workplace, self._workplace = self._workplace, None
        if workplace is not None:
            workplace.close()

    def __call__(self, query: Query, release: Mapping[str, Any], repeat: int, /) -> Answer:
        """The provider's answer. Raises `Infeasible` for a release whose provider the config does not have."""
        del repeat
        asked = self._eval_of(query, release)
        with self._guard:
            self._workplace = self._workplace or Workplace()
        place = Path(tempfile.mkdtemp(dir=self._workplace.folder))
        try:
            for entry in self._folder.iterdir():
                (place / entry.name).symlink_to(entry)
            (place / _CONFIG).write_text(json.dumps(asked), encoding="ascii")
            return self._evaluated(place, is_checked=bool(asked["tests"][0].get("assert")))
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def _eval_of(self, query: Query, release: Mapping[str, Any]) -> dict[str, Any]:
        columns: Any = plain(sent_columns(query), where="query")
        variables = {name: value for name, value in columns.items() if name != "id"}
        for name in [each for each in variables if each.startswith(_RENAMED)]:
            variables.setdefault(name.removeprefix(_RENAMED), variables[name])
        variables.setdefault("input", query.input)
        kept: dict[str, Any] = {
            key: self._config[key] for key in ("env", "nunjucksFilters", "extensions") if key in self._config
        }
        test: dict[str, Any] = {"vars": {name: _as_variable(value) for name, value in variables.items()}}
        if query.id in self._asserts:
            test["assert"] = self._asserts[query.id]
            test["options"] = as_mapping(self._config.get("defaultTest")).get("options") or {}  # such as who grades
        providers = [provider_of(release.get("model"), self._config, release.get("tools"))]
        return {**kept, "prompts": [prompt_of(release.get("prompt"))], "providers": providers, "tests": [test]}

    def _evaluated(self, place: Path, *, is_checked: bool) -> Answer:
        out = place / _RESULTS
        words = ["eval", "-c", str(place / _CONFIG), "-o", str(out), *_ONCE]
        own = {**_QUIET, "PROMPTFOO_CONFIG_DIR": str(place / ".bisect-ai-home"), **self._around}
        started = time.monotonic()
        try:
            program = Program([*self._command, *words], folder=place, environment=own)
        except ProgramEnded as ended:
            raise TargetFailure(f"cannot start promptfoo: {ended}") from ended
        until = started + self._seconds
        try:
            program.close_input()
            while program.line(until) is not None:
                pass
            program.wait(until)
        except TimeoutError:
            return Answer(error=f"TimeoutError: no answer within {self._seconds:g} s", outcome="timeout")
        finally:
            program.end()
        if not out.is_file():
            return Answer(error=line_of(f"promptfoo wrote no result: {program.why()}"), outcome="error")
        return answer_in_results(out.read_bytes(), is_checked=is_checked)

    @property
    def _around(self) -> dict[str, str]:
        assert self._workplace is not None
        return self._workplace.environment


def promptfoo_command(folder: Path) -> list[str]:
    """How promptfoo is called here. Raises `ConfigError`: it is not there."""
    for parent in (folder, *folder.parents):
        own = parent / "node_modules" / ".bin" / "promptfoo"
        if own.exists():
            return [str(own)]
    if (found := shutil.which("promptfoo")) is not None:
        return [found]
    if (npx := shutil.which("npx")) is not None and _npx_has_it():
        return [npx, "--no-install", "promptfoo"]
    raise ConfigError(
        "target of kind promptfoo: promptfoo is not installed here; `npm install promptfoo` beside the config, or give a model's name "
        "and take target: {kind: litellm}"
    )


def _npx_has_it() -> bool:
    """Whether npx has fetched promptfoo before."""
    cache = Path(os.environ.get("NPM_CONFIG_CACHE") or Path.home() / ".npm") / "_npx"
    return any(cache.glob("*/node_modules/.bin/promptfoo"))


def provider_of(axis: Any, config: Mapping[str, Any], tools: Any = None) -> Any:
    """The config's entry of the provider that a model axis names, with the axis's settings. Raises `Infeasible`: it has none."""
    settings = as_mapping(axis)
    part = next((key for key in _PARTS if key in settings), None)
    name = axis if isinstance(axis, str) else "" if part is None else str(settings[part])
    given = config.get("providers") or config.get("targets") or []
    entries = [_entry_of(each) for each in (given if isinstance(given, list) else [given])]
    found = next(
        (entry for entry in entries if name in (entry["id"], entry.get("label"), str(entry["id"]).replace(":", "/"))), None
    )
    if found is None:
        have = ", ".join(str(entry.get("label") or entry["id"]) for entry in entries[:6])
        raise Infeasible(f"the promptfoo config has no provider {name[:60]!r}; it has {have}")
    more = {**{key: value for key, value in settings.items() if key != part}, **({"tools": tools} if tools is not None else {})}
    return {**found, "config": {**(found.get("config") or {}), **more}} if more else found


def _entry_of(entry: Any) -> dict[str, Any]:
    if isinstance(entry, Mapping) and "id" not in entry and len(entry) == 1:
        name, inner = next(iter(entry.items()))
        return {"id": str(name), **as_mapping(inner)}
    return dict(entry) if isinstance(entry, Mapping) else {"id": str(entry)}


def prompt_of(axis: Any) -> Any:
    """A prompt axis in promptfoo's spelling: a text, or messages as JSON where there is a system text."""
    if isinstance(axis, str):
        return _doubled(axis)
    part = as_mapping(axis)
    user = _doubled(str(part.get("user") or "{input}"))
    if not part.get("system"):
        return {"raw": user, "label": "prompt"}
    system = _doubled(str(part["system"]))
    return {"raw": json.dumps([{"role": "system", "content": system}, {"role": "user", "content": user}]), "label": "prompt"}


def _doubled(text: str) -> str:
    """Our template as one of promptfoo's: `{name}` as `{{name}}`, doubled braces single. A template of promptfoo's stays as it is."""
    if _THEIRS.search(text):
        return text
    return _OUR_BRACES.sub(lambda found: f"{{{{{found[1]}}}}}" if found[1] else found[0][0], text)


def _asserts_in(named: Any, folder: Path) -> dict[str, Any]:
    """Query id to its asserts. Raises `ConfigError`."""
    if named is None:
        return {}
    path = folder / str(named)
    if not isinstance(named, str) or not path.is_file():
        raise ConfigError(f"cannot read target.asserts: there is no file {str(named)[:80]}; `init --from` writes one")
    found = plain(dict(read_mapping(path, error=ConfigError)), where="target.asserts")
    assert isinstance(found, dict)
    return found


def answer_in_results(written: bytes, *, is_checked: bool = False) -> Answer:
    """The answer in a result file of one test; `is_checked`: with whether it passed, as the score `passed`."""
    try:
        results = (json_object(written) or {})["results"]
        row = (results["results"] if isinstance(results, Mapping) else results)[0]
    except (KeyError, IndexError, TypeError):
        return Answer(error="promptfoo's result file has no result", outcome="malformed")
    response = as_mapping(row.get("response"))
    error = response.get("error") or (row.get("error") if not response else None)
    if error:
        return Answer(error=line_of(str(error)), outcome="error")
    tokens = as_mapping(response.get("tokenUsage"))
    said = {"input_tokens": tokens.get("prompt"), "output_tokens": tokens.get("completion"), "usd": response.get("cost")}
    usage = {key: value for key, value in said.items() if value is not None}
    try:
        passed = {"scores": {"passed": row.get("success") is True}} if is_checked else {}
        return read_answer({"text": _text_of_output(response.get("output")), **({"usage": usage} if usage else {}), **passed})
    except ValueError as wrong:
        return Answer(error=line_of(wrong), outcome="malformed")


def _as_variable(value: Any) -> str:
    """A value as text that promptfoo does not take for the name of a file: a question must not read one."""
    text = _text_of_output(value)
    return f" {text}" if text.startswith("file:") else text


def _text_of_output(value: Any) -> str:
    return "" if value is None else text_or_json(value)
