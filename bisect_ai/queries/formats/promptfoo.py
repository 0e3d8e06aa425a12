"""promptfoo results: version 3 (`results.results`), version 2 (`results.table`), and one row a line (JSONL)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bisect_ai.canonical import canonical, digest
from bisect_ai.errors import InputError
from bisect_ai.queries.formats.table import Format, Piece, Split, Value, first, rest, take
from bisect_ai.queries.messages import answer_of, read_messages
from bisect_ai.queries.turns import FRAGMENT, Call, Made, records
from bisect_ai.queries.values import embedded

ROW = {
    "id": ("id",),
    "prompt": ("prompt.raw", "prompt"),
    "output": ("response.output", "text"),
    "score": ("score",),
    "success": ("success", "pass"),
    "named": ("namedScores", "gradingResult.namedScores"),
}
FIELDS = {
    "model": ("provider.id", "provider"),
    "prompt_label": ("prompt.label",),
    "release": ("vars.release", "testCase.metadata.release", "metadata.release"),
    "cluster": ("vars.user", "testCase.metadata.user", "vars.session"),
    "error": ("error",),
    "usage": ("tokenUsage", "response.tokenUsage"),
    "usd": ("cost",),
}
ROWS, BODY, HEAD = "results.results.item", "results.table.body.item", "results.table.head"
COMPARED = {"equals", "contains", "icontains", "starts-with", "similar", "levenshtein"}
"""Assertions whose value is what the answer should be or hold."""


def _suits(path: str, value: Value) -> bool:
    return path in (BODY, HEAD) or {"promptIdx", "testIdx"} <= set(value)


def _split() -> Split:
    head: dict[str, Any] = {}

    def split(path: str, value: Value) -> Iterator[Piece]:
        if path == HEAD:
            head.update(value)
        elif path == BODY:
            yield from (Piece(None, row) for row in _table_row(value, head))
        else:
            yield Piece(None, value)

    return split


def _table_row(value: Value, head: Mapping[str, Any]) -> Iterator[Value]:
    names, prompts = head.get("vars") or [], head.get("prompts") or []
    listed, outputs = (each if isinstance(each, list) else [] for each in (value.get("vars"), value.get("outputs")))
    variables = dict(zip(names, listed, strict=False))
    for index, output in enumerate(outputs):
        prompt = prompts[index] if index < len(prompts) and isinstance(prompts[index], Mapping) else {}
        given = output if isinstance(output, Mapping) else {"text": output}
        raw = given.get("prompt") or prompt.get("raw")
        shown = {"raw": raw, "label": prompt.get("label") or prompt.get("display")}
        test = {"testCase": value.get("test"), "testIdx": value.get("testIdx"), "promptIdx": index}
        yield {"provider": prompt.get("provider"), **test, **given, "vars": variables, "prompt": shown}


def _build(values: Sequence[Value]) -> Iterator[Made]:
    for value in values:
        found = take(value, ROW)
        prompt = found.get("prompt")
        messages = read_messages(prompt) or (
            [{"role": "user", "content": prompt}] if isinstance(prompt, str) and prompt else []
        )
        fields = take(value, FIELDS)
        shown = {"model": fields.get("model"), "prompt": fields.get("prompt_label")}
        answer = answer_of(found.get("output"))
        yield from records(
            [
                Call(
                    str(found.get("id") or _made_id(value)),
                    first(value, ("timestamp",)),
                    messages,
                    None if answer is None else {"role": "assistant", "content": answer},
                    problem="" if prompt else FRAGMENT,
                    fields={
                        **fields,
                        "scores": _scores(value, found),
                        "reference": _reference(value),
                        "versions": {name: str(each) for name, each in shown.items() if each is not None},
                    },
                    extra=rest(value, {"": ("id", "response", "score", "namedScores")}),
                )
            ]
        )


def _made_id(value: Value) -> str:
    """Rows of older versions have no id: what was asked of which prompt and provider, and what came back."""
    parts = {name: value.get(name) for name in ("promptIdx", "testIdx", "provider", "vars", "text", "response")}
    try:
        return f"{value.get('testIdx')}-{value.get('promptIdx')}-{digest(parts)[:12]}"
    except InputError:
        return canonical(str(parts))


def _scores(value: Value, found: Value) -> dict[str, float]:
    """The row's scores; none where the provider or the grader failed, since then they say nothing of the answer."""
    if value.get("failureReason") == 2 or first(value, ("gradingResult.metadata.graderError",)):
        return {}
    named = found["named"] if isinstance(found.get("named"), Mapping) else {}
    given = {"score": found.get("score"), "success": found.get("success"), **named}
    return {str(name): float(each) for name, each in given.items() if isinstance(each, bool | int | float)}


def _reference(value: Value) -> Any:
    """What the only comparing assertion compares with; None when there are several or none."""
    listed = embedded(first(value, ("testCase.assert", "test.assert")))
    found = [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []
    compared = [each.get("value") for each in found if str(each.get("type")) in COMPARED]
    return compared[0] if len(compared) == 1 else first(value, ("vars.reference", "vars.expected", "vars.__expected"))


PROMPTFOO = Format("promptfoo", frozenset({ROWS, BODY, HEAD, "item", ""}), _suits, _split, _build)
