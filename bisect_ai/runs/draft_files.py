"""`init --from`: the draft written as two releases, a log and a bisect.yaml, with a sentence on everything that could not be known."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisect_ai.provider.redaction import redact_all
from bisect_ai.runs.draft import Draft, draft_results
from bisect_ai.runs.promptfoo_config import draft_config, is_promptfoo_config
from bisect_ai.runs.recorded_release import RecordedRelease
from bisect_ai.runs.release_writer import yaml_text
from bisect_ai.store.artefacts import write_new_files

LOG = "logs/questions.jsonl"
ASSERTS = "promptfoo-asserts.json"
# The cap on calls that is written: the one that `init` writes.
CALLS = 2000
_HEAD = "# {}\n# Values may be files: {{file: …}}, {{dir: …}}, {{table: …, id: …, text: …}}; names of axes are free.\n"
_STUDY = """\
# bisect-ai: which change in the bad release lowered quality? Written by `bisect-ai init --from {}`.
# Paths are relative to this file. `bisect-ai diff releases/good.yaml releases/bad.yaml`, then `bisect-ai plan`, then `bisect-ai run`.
"""


def write_draft(sources: Sequence[str | Path], folder: Path, *, good: str | None = None, bad: str | None = None) -> list[str]:
    """Writes the files; the lines that say what was written, what was not carried and what to do next.

    Raises `InputError` for what cannot be read, for a file that is there already, and for what cannot be written.
    """
    if len(sources) == 1 and is_promptfoo_config(sources[0]):
        draft = draft_config(sources[0], good=good, bad=bad)
    else:
        draft = draft_results(sources, good=good, bad=bad)
    files = dict(_draft_files(draft, folder))
    clean = redact_all(files)
    write_new_files(folder, clean)
    return list(_written_lines(draft, folder, clean, hidden=clean != files))


def _written_lines(draft: Draft, folder: Path, files: Mapping[str, str], *, hidden: bool) -> Iterator[str]:
    yield from (f"wrote {folder / name}" for name in files)
    yield f"good: {draft.good.name}; bad: {draft.bad.name}; {len(draft.queries)} questions; scored by {draft.metric}"
    if draft.is_one:
        yield "both releases are the same, by what is recorded; change in releases/bad.yaml what the bad release changed"
    elif differing := [
        axis for axis in {**draft.good.axes, **draft.bad.axes} if draft.good.axes.get(axis) != draft.bad.axes.get(axis)
    ]:
        yield f"they differ in: {', '.join(differing)}"
    if hidden:
        yield "not carried: what looked like a credential was taken out"
    yield from (f"not carried or to check: {line}" for line in draft.notes)
    yield from (f"not known: {line}" for line in draft.unknown)
    yield "not known: what the tool does beside prompt, model and tools (code around them, retrieval, caching); name it as further axes"
    yield "next: read the two releases, then `bisect-ai diff`, `bisect-ai plan`, `bisect-ai run`"


def _draft_files(draft: Draft, folder: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every file, bisect.yaml last."""
    for side, release in (("good", draft.good), ("bad", draft.bad)):
        yield from _release_files(side, release, draft.source)
    yield LOG, "".join(json.dumps(query, ensure_ascii=True) + "\n" for query in draft.queries)
    if draft.asserts:
        yield ASSERTS, json.dumps(draft.asserts, indent=1, ensure_ascii=True) + "\n"
    yield "bisect.yaml", _STUDY.format(_short_line(draft.source)) + yaml_text(_study(draft, folder))


def _short_line(text: str) -> str:
    return " ".join(text.split())[:80]


def _release_files(side: str, release: RecordedRelease, source: str) -> Iterator[tuple[str, str]]:
    """A release file, and beside it what is large or nested: files are data, whatever they hold."""
    axes: dict[str, Any] = {}
    for axis, value in release.axes.items():
        if axis == "corpus":
            name = f"corpus-{side}.jsonl"
            rows = ({"id": key, "text": text} for key, text in value["documents"].items())
            yield f"releases/{name}", "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)
            axes[axis] = {**value, "documents": {"table": name, "id": "id", "text": "text"}}
        elif _is_plain_axis(value):
            pages = {key: f"{side}-{axis}-{key}.txt" for key, text in value.items() if isinstance(text, str) and "\n" in text}
            yield from ((f"releases/{page}", value[key]) for key, page in pages.items())
            axes[axis] = {**value, **{key: {"file": page} for key, page in pages.items()}}
        else:
            name = f"{axis}-{side}.json"
            yield f"releases/{name}", json.dumps(value, indent=1, ensure_ascii=True) + "\n"
            axes[axis] = {"file": name}
    content = {
        "release": release.name,
        "axes": axes,
        "provenance": {axis: {"why": f"as recorded in {source}"} for axis in axes},
    }
    yield f"releases/{side}.yaml", _HEAD.format(f"the {side} release, from {_short_line(source)}") + yaml_text(content)


def _is_plain_axis(value: Any) -> bool:
    """Whether a value can stand in a release file: no mapping inside, which might read as a reference."""
    values = value.values() if isinstance(value, Mapping) else [value]
    return all(isinstance(each, str | bool | int | float) for each in values) and not set(value) <= {
        "file",
        "dir",
        "env",
        "git",
    }


def _target(draft: Draft, folder: Path) -> dict[str, Any]:
    if draft.config is not None:
        asserts = {"asserts": ASSERTS} if draft.asserts else {}
        return {"kind": "promptfoo", "config": os.path.relpath(draft.config, folder), **asserts}
    if draft.good.calls_a_model and draft.bad.calls_a_model:
        return {"kind": "litellm"}
    return {"kind": "python", "function": "app:answer"}


def _study(draft: Draft, folder: Path) -> dict[str, Any]:
    return {
        "good": "releases/good.yaml",
        "bad": "releases/bad.yaml",
        "log": {"path": LOG, "sample": min(max(len(draft.queries), 2), 400)},
        "target": _target(draft, folder),
        "scorers": draft.scorers,
        "metric": draft.metric,
        "tolerance": 0.02,
        "alpha": 0.05,
        "budget": {"calls": CALLS},
        "store": ".bisect-ai",
        "seed": 0,
    }
