"""promptfoo results: version 3 (`results.results`), version 2 (`results.table`), one row a line (JSONL), CSV and the SQLite database.

A prompt is rendered before it is sent: the question is the variable in it, not the old prompt. Repeats (`--repeat`) of one test are one
query with the mean of their scores.

The CSV export is a block of columns for each prompt and provider; the SQLite database holds all runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisect_ai.canonical import as_list, as_mapping, canonical, digest, mappings_in
from bisect_ai.errors import InputError, QueryError
from bisect_ai.queries.documents import HEAD as SCALARS
from bisect_ai.queries.formats.call_records import (
    FRAGMENT,
    Call,
    Format,
    Made,
    Piece,
    Split,
    Value,
    first,
    left_out,
    raw,
    records,
    rest,
    take,
)
from bisect_ai.queries.messages import (
    QUESTION_KEYS,
    Message,
    answer_message,
    answer_of,
    last_user,
    question_messages,
    read_messages,
)
from bisect_ai.queries.normalise import MAX_SCORE
from bisect_ai.queries.readers import BLOCK
from bisect_ai.queries.sample import OLD_PROMPT
from bisect_ai.queries.values import embedded, missing, name_of

SQLITE = b"SQLite format 3\0"
REASON = " > Grader Reason"
RESULTS = """
SELECT r.id, r.eval_id AS evalId, r.prompt_idx AS promptIdx, r.test_idx AS testIdx, r.test_case AS testCase, r.prompt, r.provider,
  r.response, r.error, r.failure_reason AS failureReason, r.success, r.score, r.grading_result AS gradingResult,
  r.named_scores AS namedScores, r.cost, r.latency_ms AS latencyMs, e.created_at AS createdAt, e.description, e.prompts
FROM eval_results r LEFT JOIN evals e ON e.id = r.eval_id ORDER BY r.eval_id, r.test_idx, r.prompt_idx, r.rowid
"""
JSON = ("testCase", "prompt", "provider", "response", "gradingResult", "namedScores")


def is_csv_row(value: Mapping[str, Any]) -> bool:
    """Whether a row is one of the CSV export."""
    return any(str(name).endswith(REASON) for name in value)


def csv_rows(value: Mapping[str, Any]) -> Iterator[Value]:
    """The row's outputs as rows of results, one for each prompt and provider."""
    outputs = [name.removesuffix(REASON) for name in value if name.endswith(REASON)]
    blocks = {f"{output} > {column}" for output in outputs for column in BLOCK}
    variables = {name: each for name, each in value.items() if name not in blocks and name not in outputs and each is not None}
    for index, output in enumerate(outputs):
        cells = {column: value.get(f"{output} > {column}") for column in BLOCK}
        provider, _, label = output.removeprefix("[").partition("] ")
        failed = cells["Status"] == "ERROR"
        yield {
            "promptIdx": index,
            "testIdx": None,
            "provider": {"id": provider},
            "prompt": {"label": label or output},
            "vars": variables,
            "response": {"output": value.get(output)},
            "success": None if failed else cells["Status"] == "PASS",
            "score": _promptfoo_number(cells["Score"]),
            "namedScores": embedded(cells["Named Scores"]),
            "failureReason": 2 if failed else 0,
            "reason": cells["Grader Reason"],
        }


def _promptfoo_number(cell: Any) -> float | None:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return None


def open_database(path: Path) -> Iterator[tuple[str, Value]] | None:
    """The results of all runs of a database; None: the file is none. Raises `QueryError` for a database of something else."""
    with path.open("rb") as stream:
        if stream.read(len(SQLITE)) != SQLITE:
            return None
    return _results(path)


def _results(path: Path) -> Iterator[tuple[str, Value]]:
    import sqlite3

    try:
        for row in _promptfoo_rows(path):
            named = {name: embedded(each) if name in JSON else each for name, each in row.items() if name != "prompts"}
            prompts, index = embedded(row["prompts"]), row["promptIdx"]
            known = prompts[index] if isinstance(prompts, list) and isinstance(index, int) and index < len(prompts) else {}
            run = {"evalId": row["evalId"], "results.timestamp": row["createdAt"], "config.description": row["description"]}
            yield "", {**named, "run": run, "template": as_mapping(known).get("raw")}
    except sqlite3.Error as error:
        raise QueryError(f"cannot read {path}: {str(error)[:80]}; it is no database of promptfoo, or damaged") from None


def _promptfoo_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a database that is opened to read only, and whose schema may do nothing."""
    import sqlite3

    database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        database.row_factory = sqlite3.Row
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA query_only = ON")
        for row in database.execute(RESULTS):
            yield dict(row)
    finally:
        database.close()


ROW = {
    "id": ("id",),
    "score": ("score",),
    "success": ("success", "pass"),
    "named": ("namedScores", "gradingResult.namedScores"),
}
PROMPT, OUTPUT = ("prompt.raw", "prompt"), ("response.output", "text")
FIELDS = {
    "model": ("provider.id", "provider"),
    "prompt_label": ("prompt.label",),
    "release": ("vars.release", "testCase.metadata.release", "metadata.release"),
    "cluster": ("vars.user", "testCase.metadata.user", "vars.session"),
    "usage": ("tokenUsage", "response.tokenUsage"),
    "usd": ("cost",),
    "params": ("provider.config",),
}
RUN = {
    "run_id": ("evalId",),
    "run_at": ("results.timestamp", "metadata.evaluationCreatedAt", "metadata.exportedAt"),
    "run_name": ("config.description",),
}
ROWS, BODY, HEAD, PROMPTS = "results.results.item", "results.table.body.item", "results.table.head", "results.prompts.item"
# Assertions whose value is what the answer should be or hold.
COMPARED = {"equals", "contains", "icontains", "starts-with", "similar", "levenshtein"}
REPEAT = "repeat of another record"
_PLACEHOLDER = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)")  # the first variable of a Nunjucks expression


def _is_promptfoo(path: str, value: Value) -> bool:
    return path == BODY or {"promptIdx", "testIdx"} <= set(value) or is_csv_row(value)


def _split_promptfoo() -> Split:
    head: dict[str, Any] = {}
    run: dict[str, Any] = {}
    templates: list[str] = []

    def split(path: str, value: Value) -> Iterator[Piece]:
        if path == SCALARS:
            run.update(value)
        elif path == PROMPTS:
            templates.append(str(value.get("raw") or ""))
        elif path == HEAD:
            head.update(value)
        elif path == BODY:
            yield from (_piece(row, run, templates) for row in _table_row(value, head))
        elif is_csv_row(value):
            yield from (_piece(row, run, templates) for row in csv_rows(value))
        else:
            yield _piece(value, run, templates)

    return split


def _piece(row: Value, run: Value, templates: Sequence[str]) -> Piece:
    """A row of its run, in one group with its repeats."""
    own = {**run, **as_mapping(row.get("run"))}
    index, variables = row.get("promptIdx"), dict(as_mapping(first(row, ("vars", "testCase.vars"))))
    template = templates[index] if isinstance(index, int) and 0 <= index < len(templates) else row.get("template")
    told = [index, row.get("provider"), variables, first(row, ("testCase.assert",)), own.get("evalId")]
    group = _promptfoo_digest(told if variables else [*told, row.get("testIdx"), row.get("id")])
    return Piece(group, {"run": own, "row": row, "vars": variables, "template": template or ""}, local=True)


def _promptfoo_digest(value: Any) -> str:
    try:
        return digest(value)
    except InputError:
        return canonical(str(value))


def _table_row(value: Value, head: Mapping[str, Any]) -> Iterator[Value]:
    names, prompts = head.get("vars") or [], head.get("prompts") or []
    variables = dict(zip(names, as_list(value.get("vars")), strict=False))
    for index, output in enumerate(as_list(value.get("outputs"))):
        prompt = as_mapping(prompts[index] if index < len(prompts) else None)
        given = output if isinstance(output, Mapping) else {"text": output}
        shown = {"raw": given.get("prompt") or prompt.get("raw"), "label": prompt.get("label") or prompt.get("display")}
        test = {"testCase": value.get("test"), "testIdx": value.get("testIdx"), "promptIdx": index}
        own = {"template": prompt.get("raw"), "vars": variables, "prompt": shown}
        yield {"provider": prompt.get("provider"), **test, **given, **own}


def _promptfoo_records(values: Sequence[Value]) -> Iterator[Made]:
    made = [next(records([_promptfoo_call(value)])) for value in values]
    kept = [each.record for each in made if each.record is not None]
    if not kept:
        yield from made
        return
    if len(kept) > 1:
        kept[0]["repeats"] = [{"output": each["output"], "scores": each.get("scores") or {}} for each in kept]
        kept[0]["scores"] = _promptfoo_means([each.get("scores") or {} for each in kept])
    yield Made(kept[0])
    yield from left_out(len(kept) - 1, REPEAT)
    yield from (each for each in made if each.record is None)


def _promptfoo_means(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each score over the repeats that have it."""
    listed = {name: [scores[name] for scores in scored if name in scores] for scores in scored for name in scores}
    return {name: sum(known) / len(known) for name, known in listed.items()}


KNOWN = ("id", "error", "response", "score", "namedScores", "vars", "run", "template")
VERDICT = ("success", "pass")  # what a row came to, also where its grader failed: then it says nothing of the answer


def _promptfoo_call(value: Value) -> Call:
    row, run = value["row"], value["run"]
    found, prompt = take(row, ROW), raw(row, PROMPT)
    messages, is_old = _asked_in_promptfoo(prompt, value["vars"], str(value["template"]))
    fields = take(row, FIELDS)
    shown = {"model": fields.get("model"), "prompt": fields.get("prompt_label")}
    failed = _promptfoo_failed(row)
    scores = {} if failed else _promptfoo_scores(row, found)
    return Call(
        name_of(found.get("id")) or _made_id(row),
        first(row, ("timestamp",)),
        messages,
        None if failed else answer_message(answer_of(raw(row, OUTPUT))),
        problem="" if messages else FRAGMENT,
        fields={
            **take(run, RUN),
            **fields,
            **({"error" if failed else "objection": row["error"]} if row.get("error") else {}),
            "scores": scores,
            "reference": _promptfoo_reference(row),
            "vars": value["vars"],
            "versions": {name: name_of(each) for name, each in shown.items() if not missing(each)},
            OLD_PROMPT: is_old or None,
        },
        extra=rest(row, {"": KNOWN if scores else (*KNOWN, *VERDICT)}),
    )


def _asked_in_promptfoo(prompt: Any, variables: Value, template: str) -> tuple[list[Message], bool]:
    """The messages that ask the question, and whether an old prompt is inside it.

    The question is the one variable that a template holds, or the one that is named like a question; a prompt whose last message is a
    variable and nothing else stays as it is.
    """
    messages = read_messages(prompt) or question_messages(prompt)
    texts = {name: text for name, text in variables.items() if isinstance(text, str) and text.strip()}
    shown = last_user(messages) or ""
    if not messages:
        return question_messages(_chosen_by_promptfoo(texts, list(texts))), False
    named = [name for name in dict.fromkeys(_PLACEHOLDER.findall(template)) if name in texts]
    inside = named or [name for name, text in texts.items() if text in shown]
    question = next((texts[name] for name in inside if texts[name] == shown), None) or _chosen_by_promptfoo(texts, inside)
    if question is None or question not in shown:
        return messages, bool(inside or _PLACEHOLDER.search(template))
    asked = max(i for i, each in enumerate(messages) if each["role"] == "user")
    return [*messages[:asked], {"role": "user", "content": question}], False


def _chosen_by_promptfoo(texts: Mapping[str, str], among: Sequence[str]) -> str | None:
    likely = next((name for name in QUESTION_KEYS if name in among), among[0] if len(among) == 1 else None)
    return None if likely is None else texts[likely]


def _made_id(value: Value) -> str:
    """Rows of older versions have no id: what was asked of which prompt and provider, and what came back."""
    parts = {name: value.get(name) for name in ("promptIdx", "testIdx", "provider", "vars", "text", "response")}
    return f"{value.get('testIdx')}-{value.get('promptIdx')}-{_promptfoo_digest(parts)[:12]}"


def _promptfoo_failed(row: Value) -> bool:
    """Whether no answer came. The `error` of a row whose assertions failed is what these object to, which scores the answer."""
    if row.get("failureReason") in (0, 1, 2):
        return bool(row["failureReason"] == 2)
    return bool(row.get("error")) and row["error"] != first(row, ("gradingResult.reason",))


def _promptfoo_scores(value: Value, found: Value) -> dict[str, float]:
    """The row's scores; none where the grader failed, since then they say nothing of the answer."""
    if first(value, ("gradingResult.metadata.graderError",)):
        return {}
    given = {"score": found.get("score"), "success": found.get("success"), **as_mapping(found.get("named"))}
    return {
        str(name): float(each) for name, each in given.items() if isinstance(each, bool | int | float) and abs(each) < MAX_SCORE
    }


def _promptfoo_reference(value: Value) -> Any:
    """What the only comparing assertion compares with; None when there are several or none."""
    found = mappings_in(first(value, ("testCase.assert", "test.assert")))
    compared = [each.get("value") for each in found if str(each.get("type")) in COMPARED]
    return compared[0] if len(compared) == 1 else first(value, ("vars.reference", "vars.expected", "vars.__expected"))


PARTS = frozenset({SCALARS, ROWS, BODY, HEAD, PROMPTS, "item", ""})
PROMPTFOO = Format(
    "promptfoo", PARTS, _is_promptfoo, _split_promptfoo, _promptfoo_records, open_database, frozenset({SCALARS, HEAD, PROMPTS})
)
