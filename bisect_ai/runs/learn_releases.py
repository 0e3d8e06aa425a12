"""`run --learn`: one pass of each release's program records what it sends to its provider, and that is written as two releases.

Of several questions the parts are kept that all of them share: the system text's common lines, the settings, the tools by name.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.config import FILE, heed_secrets_of
from bisect_ai.errors import BisectError, ConfigError, TargetFailure
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.release.load import Release
from bisect_ai.runs.prepare import check_no_key, settle
from bisect_ai.runs.release_files import write_release
from bisect_ai.store.artefacts import check_place, making_folder
from bisect_ai.targets.programs import ProgramEnded
from bisect_ai.targets.wire.release_pieces import SAMPLING
from bisect_ai.targets.wire.request_shapes import Body, RequestShape, shape_of_path
from bisect_ai.targets.wire.wire_target import WireTarget

QUESTIONS = 3
"""That each program is asked: one would take the question's own text, a date or a found document for a part of the release."""
_SHORTEST = 16
"""Characters of common lines that are kept as a text: shorter ones stand anywhere."""
FILES = {side: f"releases/learned-{side}.yaml" for side in ("good", "bad")}


def learn_releases(config: Path, overrides: Mapping[str, Any], good_program: str) -> tuple[dict[str, Any], list[str]]:
    """The two releases as overrides of bisect.yaml, written as files if they are not there; and what was done, a line each.

    Raises `InputError` for what is wrong, `TargetFailure` when a program sends nothing or cannot run.
    """
    config = config / FILE if config.is_dir() else config
    beside = config.resolve().parent
    paths = {side: beside / name for side, name in FILES.items()}
    given = {side: str(path) for side, path in paths.items()}
    target = overrides.get("target") or heed_secrets_of(config).get("target")
    if not isinstance(target, Mapping) or target.get("kind") != "wire" or not target.get("run"):
        raise ConfigError("--learn needs the bad release's program: write it after --, such as -- python my_agent.py")
    settings, folder = settle({**overrides, **given}, config=config)
    if all(path.is_file() for path in paths.values()):
        return given, [f"using {FILES['good']} and {FILES['bad']}, learnt before; delete them to learn anew"]
    queries = load_queries(settings.log.path, settings=settings.log.settings(settings.seed), folder=folder).queries[:QUESTIONS]
    programs = {"good": _program_words(good_program), "bad": settings.target["run"]}
    lines = []
    with making_folder(paths["good"].parent, what="the releases", then="nothing was asked"):
        for path in paths.values():
            check_place(path)
        for side, run in programs.items():
            axes = _axes_of({**settings.target, "run": run}, queries, folder, side)
            release = Release(f"learned-{side}", axes, {}, digest(axes))
            check_no_key(release)
            write_release(release, paths[side])
            lines.append(f"wrote {FILES[side]}: what the {side} release's program sent for {len(queries)} questions")
    return given, lines


def _program_words(program: str) -> list[str]:
    try:
        return shlex.split(program)
    except ValueError as bad:
        raise ConfigError(f"cannot read --learn {program!r}: {bad}") from bad


def _axes_of(settings: Mapping[str, Any], queries: Sequence[Query], folder: Path, side: str) -> dict[str, Any]:
    target = WireTarget(settings, folder=folder, good={}, bad={})
    try:
        sent = [body for query in queries for body in _recorded_bodies(target, query, side)]
    finally:
        target.close()
    if not sent:
        raise TargetFailure(
            f"the {side} release's program sent nothing through the base URL that it was given: it has to read OPENAI_BASE_URL or "
            "ANTHROPIC_BASE_URL from its environment"
        )
    return axes_sent(sent)


def _recorded_bodies(target: WireTarget, query: Query, side: str) -> list[tuple[str, Body]]:
    try:
        return target.record(query).bodies
    except ProgramEnded as ended:
        raise TargetFailure(f"the {side} release's program does not run: {ended}; mend it, run again") from ended


def axes_sent(sent: Sequence[tuple[str, Body]]) -> dict[str, Any]:
    """The axes of a release from the (path, body) of requests. Raises `BisectError` when none is of a known format."""
    known = [(shape, body) for path, body in sent if (shape := shape_of_path(path.partition("?")[0])) is not None]
    if not known:
        raise BisectError("nothing that was sent is of a known format: chat completions, responses or messages")
    model = _most_common([body.get("model") for _, body in known])
    ours = [(shape, body) for shape, body in known if body.get("model") == model]
    settings = {
        key: ours[0][1][key]
        for key in sorted(SAMPLING & set(ours[0][1]))
        if all(b.get(key) == ours[0][1][key] for _, b in ours)
    }
    axes: dict[str, Any] = {"model": {"model": model, **settings}}
    texts = common_texts([_system(shape, body) for shape, body in ours])
    if texts:
        axes["prompt"] = {"system": texts[0]} if len(texts) == 1 else {f"system_{n}": text for n, text in enumerate(texts, 1)}
    tools: dict[str, Any] = {}
    for shape, body in ours:
        for spot in shape.tools(body):
            description = {"description": spot.holder["description"]} if spot.holder.get("description") else {}
            schema = spot.holder.get(spot.schema_key) or {"type": "object", "properties": {}}
            tools.setdefault(spot.name, {"name": spot.name, **description, "parameters": schema})
    return {**axes, **({"tools": list(tools.values())} if tools else {})}


def _most_common(values: Sequence[Any]) -> Any:
    return max(values, key=lambda value: sum(json.dumps(each) == json.dumps(value) for each in values))


def _system(shape: RequestShape, body: Body) -> str:
    return "\n".join(spot.text for spot in shape.texts(body) if spot.role == "system")


def common_texts(texts: Sequence[str]) -> list[str]:
    """The runs of lines that all texts share, in order: what stays the same from question to question."""
    runs = [texts[0].split("\n")] if texts and texts[0] else []
    for text in texts[1:]:
        lines = text.split("\n")
        runs = [part for run in runs for part in _shared_runs(run, lines)]
    joined = ("\n".join(run).strip() for run in runs)
    return [text for text in joined if len(text) >= _SHORTEST or (text and len(runs) == 1)]


def _shared_runs(run: list[str], lines: list[str]) -> list[list[str]]:
    blocks = SequenceMatcher(None, run, lines, autojunk=False).get_matching_blocks()
    return [run[block.a : block.a + block.size] for block in blocks if block.size]
