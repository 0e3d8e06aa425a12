"""`run --learn`: one pass of each release's program records what it sends to its provider, and that is written as two releases.

Of several questions the parts are kept that all of them share: the system text's common lines, the settings, the tools by name.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from bisect_ai.canonical import digest
from bisect_ai.config import FILE, heed_secrets_of
from bisect_ai.errors import BisectError, ConfigError, TargetFailure
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.release.load import Release
from bisect_ai.runs.prepare import settle
from bisect_ai.runs.release_files import check_no_key, write_release
from bisect_ai.store.artefacts import check_place, making_folder
from bisect_ai.targets.programs import ProgramEnded
from bisect_ai.targets.wire.release_pieces import SAMPLING
from bisect_ai.targets.wire.request_shapes import Body, RequestShape, shape_of_path
from bisect_ai.targets.wire.wire_target import WireTarget

QUESTIONS = 3
"""That each program is asked: one would take the question's own text, a date or a found document for a part of the release."""
_SHORTEST = 16
"""Characters of common lines that are kept as a text: shorter ones stand anywhere."""
Request = tuple[RequestShape, Body]
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
        sent = [_recorded_bodies(target, query, side) for query in queries]
    finally:
        target.close()
    if not any(sent):
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


def axes_sent(sent: Sequence[Sequence[tuple[str, Body]]]) -> dict[str, Any]:
    """The axes of a release from the (path, body) of the requests of some answers, in order.

    An answer may take several requests, each with its own system prompt, some to another model (`model_2`). Raises `BisectError` when
    none is of a known format.
    """
    places = list(_by_place(sent))
    if not places:
        raise BisectError("nothing that was sent is of a known format: chat completions, responses or messages")
    axes: dict[str, Any] = {}
    for number, model in enumerate(dict.fromkeys(str(place[0][1].get("model")) for place in places), 1):
        ours = [body for place in places for _, body in place if str(body.get("model")) == model]
        axes["model" if number == 1 else f"model_{number}"] = {"model": ours[0].get("model"), **_settings_sent(ours)}
    texts = _system_texts(places)
    if texts:
        axes["prompt"] = {"system": texts[0]} if len(texts) == 1 else {f"system_{n}": text for n, text in enumerate(texts, 1)}
    tools = _tools_sent(places)
    return {**axes, **({"tools": list(tools.values())} if tools else {})}


def _by_place(sent: Sequence[Sequence[tuple[str, Body]]]) -> Iterator[list[Request]]:
    """The first requests of the answers, the second ones and so on; at each place those to the model that is asked there most."""
    shaped = [[(shape_of_path(path.partition("?")[0]), body) for path, body in each] for each in sent]
    known = [[(shape, body) for shape, body in each if shape is not None] for each in shaped]
    for place in range(max(map(len, known), default=0)):
        here = [each[place] for each in known if place < len(each)]
        model = _most_common([body.get("model") for _, body in here])
        yield [(shape, body) for shape, body in here if body.get("model") == model]


def _settings_sent(bodies: Sequence[Body]) -> dict[str, Any]:
    """The sampling settings that all requests have alike."""
    first = bodies[0]
    return {key: first[key] for key in sorted(SAMPLING & set(first)) if all(body.get(key) == first[key] for body in bodies)}


def _system_texts(places: Sequence[Sequence[Request]]) -> list[str]:
    """What stays the same in the system prompts at each place; a later request of a loop repeats the first one's."""
    found: list[str] = []
    for place in places:
        texts = common_texts([_system(shape, body) for shape, body in place])
        found += [text for text in texts if not any(known in text for known in found)]
    return found


def _tools_sent(places: Sequence[Sequence[Request]]) -> dict[str, Any]:
    tools: dict[str, Any] = {}
    for shape, body in (request for place in places for request in place):
        for spot in shape.tools(body):
            description = {"description": spot.holder["description"]} if spot.holder.get("description") else {}
            schema = spot.holder.get(spot.schema_key) or {"type": "object", "properties": {}}
            tools.setdefault(spot.name, {"name": spot.name, **description, "parameters": schema})
    return tools


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
