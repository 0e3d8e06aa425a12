"""`init --from`: what was recorded as files that run: two releases, a log, a bisect.yaml, and what could not be known.

Which of our scorers gives the scores that a log has is tried on the logged answers, and taken where it gives the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.errors import QueryError
from bisect_ai.provider.redaction import redact_all
from bisect_ai.queries.documents import first_parts
from bisect_ai.queries.pairing import ID, SAMPLE, TASK, WAYS, Configuration, ResultRow, differing_settings, pair_up
from bisect_ai.queries.query import Query
from bisect_ai.queries.result_files import LOWER_IS_BETTER, ResultFiles, named_sources, read_results
from bisect_ai.queries.sample import LogSettings
from bisect_ai.queries.values import embedded, missing
from bisect_ai.runs.promptfoo_config import draft_config, is_promptfoo_config
from bisect_ai.runs.promptfoo_tests import (
    Draft,
    carried_asserts,
    carry_scorers,
    chat_of,
    column_of,
    prompt_axis,
    provider_axes,
    with_fallback,
)
from bisect_ai.runs.recorded_release import TASK_AXIS, RecordedRelease, doubled_braces, recorded_release
from bisect_ai.runs.release_writer import yaml_text
from bisect_ai.scoring.scorer import score_answer
from bisect_ai.scoring.scorers import build_scorers
from bisect_ai.store.artefacts import write_new_files
from bisect_ai.targets.answer import Answer

# Fields of a record that a replay reads.
KEPT = ("history", "tool_results", "reference", "cluster")
# Prompts and providers of a result file that are looked at.
MOST_PROMPTS = 500


def draft_results(sources: Sequence[str | Path], *, good: str | None = None, bad: str | None = None) -> Draft:
    """The draft of result files or traces. Raises `InputError` for what cannot be read."""
    found = read_results(sources, settings=LogSettings(sample=None), whole=True, folder=Path.cwd())
    first, second = _two_configurations(found, good, bad)
    prompts, providers = _promptfoo_parts(sources)
    releases = [_drafted_release(c, prompts, providers) for c in (first, second)]
    queries, rows = _queries(first, second)
    named = ", ".join(dict.fromkeys(c.source for c in (first, second)))
    draft = Draft(releases[0], releases[1], queries, [], named)
    if "promptfoo" in found.formats:
        carry_scorers(draft, carried_asserts([_test_of(row) for row in rows]))
    else:
        draft.scorers, told = recomputed([*first.rows, *second.rows])
        draft.notes += told
    _score_rows(draft, rows)
    _settle_task(draft)
    draft.say_uncarried(differing_settings(first, second))
    return draft


def _settle_task(draft: Draft) -> None:
    """Keeps the arguments of the task as an axis where they differ: only a program of the user's reads them."""
    first, second = (release.axes.get(TASK_AXIS) for release in (draft.good, draft.bad))
    if first == second:
        for release in (draft.good, draft.bad):
            release.axes.pop(TASK_AXIS, None)
        return
    for release in (draft.good, draft.bad):
        release.axes.setdefault(TASK_AXIS, {})
    names = sorted(name for name in {**(first or {}), **(second or {})} if (first or {}).get(name) != (second or {}).get(name))
    draft.notes.append(
        f"the task's arguments differ ({', '.join(names)[:80]}) and are the axis {TASK_AXIS}: what they mean is in your code, so write "
        f"answer(query, release) in app.py, which reads release[{TASK_AXIS!r}]"
    )


def _two_configurations(found: ResultFiles, good: str | None, bad: str | None) -> tuple[Configuration, Configuration]:
    """The good and the bad configuration: as named, else the first and the last; of one configuration itself."""
    if len(found.configurations) == 1:
        return found.configurations[0], found.configurations[0]
    first, *others = found.chosen(good, bad)
    return first, others[-1]


# -- releases ------------------------------------------------------------------------------------------------------------
def _promptfoo_parts(sources: Sequence[str | Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What promptfoo's result files say of their config: the prompts' templates by label, the providers' entries by id."""
    prompts: dict[str, Any] = {}
    providers: dict[str, Any] = {}
    for _, path in named_sources(sources, Path.cwd()):
        for where, found in first_parts(path, ("results.prompts.item", "config.providers.item").__contains__, MOST_PROMPTS):
            if where == "config.providers.item":
                providers.setdefault(str(found.get("label") or found.get("id")), found)
            else:
                prompts.setdefault(str(found.get("label") or found.get("raw")), found.get("raw"))
    return prompts, providers


def _drafted_release(c: Configuration, prompts: Mapping[str, Any], providers: Mapping[str, Any]) -> RecordedRelease:
    records = [row.record for row in c.rows if row.record is not None]
    release = recorded_release(c.name, records)
    if not any("promptIdx" in record for record in records):
        return release
    release.unknown = [line for line in release.unknown if "system prompt" not in line]
    if (entry := providers.get(str(c.settings.get("model") or records[0].get("model")))) is not None:
        release.unknown = [line for line in release.unknown if "app.py" not in line]
        provider_axes(release, entry)
    label = str(records[0].get("prompt_label") or "")
    raw = prompts.get(label)
    if raw is not None:
        release.axes["prompt"] = prompt_axis(raw, label, release.unknown)
    elif (template := inferred_template(records)) is not None:
        release.axes["prompt"] = template
    else:
        release.unknown.append(
            f"{release.name}: the prompt's template is not in the file, and the prompts as sent do not show it"
        )
    return release


def inferred_template(records: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The `prompt` axis behind prompts as they were sent: their texts with the variables' values taken out; None: no one template."""
    found = [_taken_out(record) for record in records]
    return found[0] if found and found[0] is not None and all(each == found[0] for each in found) else None


def _as_sent(record: Mapping[str, Any]) -> dict[str, str] | None:
    """System prompt and question as they were sent: promptfoo keeps the rendered prompt beside its variables."""
    shown = record.get("prompt")
    raw = shown.get("raw") if isinstance(shown, Mapping) else record.get("input")
    messages = chat_of(raw)
    if messages is None:
        return {"system": str(record.get("system") or ""), "user": raw} if isinstance(raw, str) else None
    system = "\n\n".join(str(m.get("content") or "") for m in messages if m.get("role") == "system")
    return {"system": system, "user": str(messages[-1].get("content") or "")} if messages[-1].get("role") == "user" else None


def _taken_out(record: Mapping[str, Any]) -> dict[str, Any] | None:
    variables = {str(k): v for k, v in (embedded(record.get("vars")) or {}).items() if isinstance(v, str) and v}
    parts = _as_sent(record)
    if not variables or parts is None:
        return None
    for part, text in parts.items():
        written = doubled_braces(text)
        for name, value in sorted(variables.items(), key=lambda each: -len(each[1])):
            written = written.replace(doubled_braces(value), f"{{{column_of(name)}}}")
        parts[part] = written
    return {name: text for name, text in parts.items() if text}


# -- questions -----------------------------------------------------------------------------------------------------------
def _queries(first: Configuration, second: Configuration) -> tuple[list[dict[str, Any]], list[ResultRow]]:
    """A record for each question that either was asked, as the good one was asked it, and the row behind each."""
    chosen: dict[str, tuple[str, ResultRow]] = {}
    try:
        pairs = pair_up([first, second]) if first is not second else None
    except QueryError:  # traffic of two times: what one was asked the other was not
        pairs = None
    if pairs is None:
        for c in (first, second):
            for row in c.rows:
                way = next((way for way in WAYS if way in row.keys), ID)
                chosen.setdefault(row.keys.get(way) or digest(row.question)[:12], (way, row))
    else:
        for groups in pairs.groups:
            for key, answers in groups.items():
                chosen.setdefault(key, (pairs.way, answers[0]))
    rows = [row for _, row in chosen.values()]
    names = _numbered_names([_test_name(way, key, row) for key, (way, row) in chosen.items()])
    return [_query(name, row) for name, row in zip(names, rows, strict=True)], rows


def _test_name(way: str, key: str, row: ResultRow) -> str:
    if way in (TASK, SAMPLE):
        return row.keys[SAMPLE]
    number = (row.record or {}).get("testIdx")
    return f"test-{number}" if isinstance(number, int) else row.keys.get(ID) or key[:12]


def _numbered_names(names: Sequence[str]) -> list[str]:
    """The names, those that came before with a number behind."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return found


def _query(name: str, row: ResultRow) -> dict[str, Any]:
    record = row.record or {}
    variables = embedded(record.get("vars"))
    given = {column_of(str(k)): v for k, v in variables.items()} if isinstance(variables, Mapping) else {}
    facts = embedded(record.get("metadata"))
    plain = (
        {str(k): v for k, v in facts.items() if isinstance(v, str | bool | int | float)} if isinstance(facts, Mapping) else {}
    )
    kept = {key: record[key] for key in KEPT if not missing(record.get(key)) and record[key] != []}
    return {
        "id": name,
        "input": row.question,
        **{k: v for k, v in plain.items() if k not in given and k not in record},
        **given,
        **kept,
    }


def _test_of(row: ResultRow) -> dict[str, Any]:
    record = row.record or {}
    case = embedded(record.get("testCase")) or embedded(record.get("test")) or {}
    asserts = case.get("assert") if isinstance(case, Mapping) else None
    return {"vars": embedded(record.get("vars")) or {}, "assert": asserts}


def _score_rows(draft: Draft, rows: Sequence[ResultRow]) -> None:
    """The logged answer and those of its scores that a scorer gives; a fallback where nothing can be scored."""
    names = {str(s["name"]) for s in draft.scorers}
    for query, row in zip(draft.queries, rows, strict=True):
        if row.output and not row.failed:
            scores = {name: value for name, value in row.scores.items() if name in names}
            query.update(
                {
                    "release": draft.good.name,
                    "output": (row.record or {}).get("output"),
                    **({"scores": scores} if scores else {}),
                }
            )
    with_fallback(draft)


CANDIDATES: tuple[Mapping[str, Any], ...] = (
    {"kind": "exact"},
    {"kind": "exact", "ignore_case": True},
    {"kind": "contains"},
    {"kind": "contains", "ignore_case": True},
    {"kind": "contains", "mode": "any"},
    {"kind": "numeric"},
)
# The part of the logged scores that a scorer must give, too.
AGREES = 0.99
# Logged scores below which any scorer may agree by chance.
FEWEST = 3
# Rows that are tried.
MOST = 500


def recomputed(rows: Sequence[ResultRow]) -> tuple[list[dict[str, Any]], list[str]]:
    """A scorer for each logged score that one of ours gives too, and a sentence on each that none does."""
    names = sorted({name for row in rows for name in row.scores} - LOWER_IS_BETTER)
    scorers, told = [], []
    for name in names:
        known = [(row, row.scores[name]) for row in rows if name in row.scores and row.reference and not row.failed][:MOST]
        found = next((each for each in CANDIDATES if _agrees_with_log(each, known)), None)
        if found is None:
            told.append(
                f"score {name}: none of the built-in scorers gives what was logged; write your own ({{kind: python}}) or a judge"
            )
            continue
        scorers.append({**found, "name": name, "expected": "reference"})
        if len({score for _, score in known}) == 1:
            told.append(
                f"score {name}: {found['kind']} gives what was logged, but all logged scores are alike, so check that it is meant"
            )
    return scorers, told


def _agrees_with_log(settings: Mapping[str, Any], known: Sequence[tuple[ResultRow, float]]) -> bool:
    """Whether the scorer gives the logged score of nearly every row."""
    if len(known) < FEWEST:
        return False
    scorer = build_scorers([{**settings, "name": "tried"}])["tried"]
    same = 0
    for row, logged in known:
        query = Query({"id": "", "input": row.question, "reference": (row.record or {}).get("reference")})
        same += score_answer(scorer, query, Answer(text=str((row.record or {}).get("output") or ""))).value == logged
    return same >= AGREES * len(known)


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
