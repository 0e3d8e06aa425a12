"""What is drafted before it is written; and promptfoo's prompts, providers, tests and asserts as our templates, models, queries and
scorers: what is not carried is listed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bisect_ai.canonical import text_or_json
from bisect_ai.errors import InputError
from bisect_ai.queries.values import embedded
from bisect_ai.runs.recorded_release import PARAMETERS, RecordedRelease, doubled_braces, litellm_model

_VARIABLE = re.compile(r"\{\{-?\s*([A-Za-z_]\w*)\s*-?\}\}")  # an expression that is one variable
_CODE = re.compile(r"\{%.*?%\}|\{\{.*?\}\}", re.DOTALL)  # Nunjucks, which only promptfoo renders
# Columns of a log with a meaning of their own: a variable of that name is written as var_name.
OURS = {
    *(
        "id",
        "input",
        "messages",
        "history",
        "documents",
        "tool_results",
        "output",
        "scores",
        "release",
        "cluster",
        "at",
        "reference",
    )
}
EMBEDDING = "openai/text-embedding-3-large"
GRADER = "openai/gpt-4.1-2025-04-14"
CRITERIA = "The answer meets every criterion that the reference states."
# Asserts whose value may differ from test to test: it goes into a column of the log.
COMPARED: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "equals": ("exact", {"strip": False}),
    "contains": ("contains", {}),
    "icontains": ("contains", {"ignore_case": True}),
    "contains-all": ("contains", {}),
    "icontains-all": ("contains", {"ignore_case": True}),
    "contains-any": ("contains", {"mode": "any"}),
    "icontains-any": ("contains", {"mode": "any", "ignore_case": True}),
    "similar": ("embedding", {"model": EMBEDDING}),
    "llm-rubric": ("judge", {"model": GRADER, "rubric": CRITERIA}),
    "model-graded-closedqa": ("judge", {"model": GRADER, "rubric": CRITERIA}),
}
MEASURED = {"cost": "cost", "latency": "latency"}
# Asserts whose value is a setting of the scorer: carried where every test has the same.
WHOLE = {"regex": ("regex", "pattern"), "is-json": ("json_schema", "schema")}


def column_of(variable: str) -> str:
    """The column of the log that a variable is written to."""
    return f"var_{variable}" if variable in OURS else variable


def template(text: str) -> tuple[str, bool]:
    """A template of promptfoo as one of ours, and whether it holds code (filters, loops) that stays as text."""
    parts = _VARIABLE.split(text)
    written = [doubled_braces(part) if i % 2 == 0 else f"{{{column_of(part)}}}" for i, part in enumerate(parts)]
    return "".join(written), any(_CODE.search(part) for part in parts[::2])


def prompt_axis(raw: Any, label: str, unknown: list[str]) -> dict[str, Any]:
    """A prompt (text, or chat messages as JSON, YAML or a list) as the `prompt` axis."""
    messages = chat_of(raw)
    if messages is None:
        text, code = template(text_or_json(raw))
        _note_code(code, label, unknown)
        return {"user": text}
    filled = []
    for message in messages:
        text, code = template(str(message.get("content") or ""))
        _note_code(code, label, unknown)
        filled.append((str(message.get("role") or "user"), text))
    system = "\n\n".join(text for role, text in filled if role in ("system", "developer"))
    spoken = [(role, text) for role, text in filled if role not in ("system", "developer")]
    question = spoken.pop()[1] if spoken and spoken[-1][0] == "user" else "{input}"
    return {**({"system": system} if system else {}), "user": question, **_spoken_examples(spoken, label, unknown)}


def _note_code(code: bool, label: str, unknown: list[str]) -> None:
    told = f"prompt {label}: filters, loops and conditions of its template are not carried, they stand in it as text"
    if code and told not in unknown:
        unknown.append(told)


def chat_of(raw: Any) -> list[Mapping[str, Any]] | None:
    """The chat messages that a prompt is (as JSON, YAML or a list); None: it is a text."""
    value = embedded(raw)
    if isinstance(value, str) and value.lstrip().startswith("- role:"):
        value = _yaml(value)
    if isinstance(value, list) and value and all(isinstance(m, Mapping) and "role" in m for m in value):
        return list(value)
    return None


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _spoken_examples(spoken: Sequence[tuple[str, str]], label: str, unknown: list[str]) -> dict[str, Any]:
    pairs = list(zip(spoken[::2], spoken[1::2], strict=False))
    if len(spoken) % 2 == 0 and all(asked[0] == "user" and said[0] == "assistant" for asked, said in pairs):
        return {"examples": [{"input": asked[1], "output": said[1]} for asked, said in pairs]} if pairs else {}
    unknown.append(f"prompt {label}: turns before the question that are no pairs of user and assistant are not carried")
    return {}


def provider_axes(release: RecordedRelease, provider: Any) -> None:
    """Adds what a provider's entry says of model and tools to the release."""
    name, config = _provider_parts(provider)
    model = litellm_model(name)
    if model is None:
        release.axes["model"] = {"provider": name}
        release.unknown.append(
            f"{release.name}: {name} is a program or an address, no model that litellm calls; write answer(query, release) in app.py"
        )
        return
    known = {parameter: config[parameter] for parameter in PARAMETERS if config.get(parameter) is not None}
    release.axes["model"] = {"model": model, **known}
    if isinstance(config.get("tools"), list) and config["tools"]:
        release.axes["tools"] = config["tools"]
    elif config.get("tools"):
        release.unknown.append(f"{release.name}: the tools of provider {name} are in another file; write them in axes.tools")
    left = sorted(key for key in config if key not in (*PARAMETERS, "tools", "apiKey"))
    if left:
        release.unknown.append(f"{release.name}: settings of provider {name} that are not carried: {', '.join(left[:8])}")


def own_provider(provider: Any) -> dict[str, Any]:
    """A model axis for the target promptfoo: the provider by its label, else its id, with its settings, but for a key."""
    name, config = _provider_parts(provider)
    label = provider.get("label") if isinstance(provider, Mapping) else None
    return {"provider": str(label or name), **{str(k): v for k, v in config.items() if k not in ("apiKey", "provider")}}


def _provider_parts(provider: Any) -> tuple[str, Mapping[str, Any]]:
    if isinstance(provider, Mapping):
        if "id" not in provider and len(provider) == 1:
            name, inner = next(iter(provider.items()))
            return str(name), _entry_config(inner)
        return str(provider.get("id") or ""), _entry_config(provider)
    return str(provider), {}


def _entry_config(entry: Any) -> Mapping[str, Any]:
    found = entry.get("config") if isinstance(entry, Mapping) else None
    return found if isinstance(found, Mapping) else {}


# -- asserts -------------------------------------------------------------------------------------------------------------
@dataclass
class CarriedAsserts:
    """The scorers that asserts became, the columns that they read by test, and what was not carried."""

    scorers: list[dict[str, Any]]
    # For each test, the columns of its query.
    columns: list[dict[str, Any]]
    # Asserts that were not carried, by type and reason, with the number of tests.
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def carried_asserts(tests: Sequence[Mapping[str, Any]]) -> CarriedAsserts:
    """What the asserts of the tests (each with `vars` and `assert`) become."""
    found = CarriedAsserts([], [{} for _ in tests])
    listed = [list(_flat_asserts(test.get("assert"))) for test in tests]
    groups: dict[tuple[str, str], dict[int, list[Mapping[str, Any]]]] = {}
    for number, asserts in enumerate(listed):
        for each in asserts:
            name = str(each.get("metric") or str(each.get("type")).replace("-", "_"))
            groups.setdefault((str(each.get("type")), name), {}).setdefault(number, []).append(each)
    for (kind, name), by_test in sorted(groups.items(), key=lambda group: -len(group[1])):
        taken = {str(scorer["name"]) for scorer in found.scorers}
        own = next(n for n in (name, *(f"{name}_{i}" for i in range(2, 99))) if n not in taken)  # never a loop without end
        _carry_asserts(found, kind, own, by_test, tests)
    return found


def _flat_asserts(asserts: Any) -> Iterator[Mapping[str, Any]]:
    for each in asserts if isinstance(asserts, list) else ():
        if isinstance(each, Mapping) and each.get("type") == "assert-set":
            yield from _flat_asserts(each.get("assert"))
        elif isinstance(each, Mapping):
            yield each


def _carry_asserts(
    found: CarriedAsserts,
    kind: str,
    name: str,
    by_test: Mapping[int, Sequence[Mapping[str, Any]]],
    tests: Sequence[Mapping[str, Any]],
) -> None:
    """Adds the scorer of one type of assert, or says why there is none."""
    n = len(by_test)
    if kind in MEASURED:
        found.scorers.append({"kind": MEASURED[kind], "name": name})
        found.notes.append(f"{kind}: its threshold is not carried, the {kind} itself is told")
    elif kind in WHOLE:
        word, key = WHOLE[kind]
        values = [each.get("value") for asserts in by_test.values() for each in asserts]
        same = n == len(tests) and len(values) == n and all(value == values[0] for value in values)
        if (
            not same
            or (kind == "regex" and not isinstance(values[0], str))
            or (kind == "is-json" and isinstance(values[0], str))
        ):
            found.left_out[f"{kind} (its value is not the same in every test)"] += n
            return
        found.scorers.append({"kind": word, "name": name, key: values[0] if values[0] is not None else {}})
    elif kind in COMPARED:
        _carry_compared(found, kind, name, by_test, tests)
    else:
        found.left_out[kind] += n


def _carry_compared(
    found: CarriedAsserts,
    kind: str,
    name: str,
    by_test: Mapping[int, Sequence[Mapping[str, Any]]],
    tests: Sequence[Mapping[str, Any]],
) -> None:
    word, settings = COMPARED[kind]
    expected = {number: _expected_values(asserts, tests[number].get("vars") or {}) for number, asserts in by_test.items()}
    usable = {number: values for number, values in expected.items() if values and (word == "contains" or len(values) == 1)}
    if len(usable) < len(expected):
        found.left_out[f"{kind} (its value is in a file, computed, or one of several)"] += len(expected) - len(usable)
    if not usable:
        return
    column = "reference" if not any("reference" in columns for columns in found.columns) else f"expected_{name}"
    for number, values in usable.items():
        found.columns[number][column] = values[0] if len(values) == 1 else values
    reads = {"reference" if word == "judge" else "expected": column}
    found.scorers.append({"kind": word, "name": name, **settings, **reads})
    if word in ("judge", "embedding"):
        found.notes.append(f"{kind}: {settings['model']} stands in for promptfoo's own model, and its threshold is not carried")


def _expected_values(asserts: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> list[Any]:
    """The expected values of one test, variables filled in; empty when one of them cannot be known."""
    values: list[Any] = []
    for each in asserts:
        given = each.get("value")
        for value in given if isinstance(given, list) and str(each.get("type")).endswith(("-all", "-any")) else [given]:
            filled = _filled_template(value, variables)
            if filled is None or (isinstance(filled, str) and filled.startswith(("file://", "package:"))):
                return []
            values.append(filled)
    return values


def _filled_template(value: Any, variables: Mapping[str, Any]) -> Any:
    """The value with `{{name}}` replaced by the test's variables; None where code or an unknown variable stands in it."""
    if not isinstance(value, str):
        return value
    if _CODE.search(_VARIABLE.sub("", value)) or any(name not in variables for name in _VARIABLE.findall(value)):
        return None
    return _VARIABLE.sub(lambda found: str(variables[found[1]]), value)


FALLBACK: Mapping[str, Any] = {"kind": "length", "name": "words", "unit": "words"}
CARRIED_KINDS = ("cost", "latency")


@dataclass
class Draft:
    """Two releases and what a run of them needs, before anything is written."""

    good: RecordedRelease
    bad: RecordedRelease
    queries: list[dict[str, Any]]
    scorers: list[dict[str, Any]]
    source: str
    # What was not carried, and what to check.
    notes: list[str] = field(default_factory=list)
    # The promptfoo config whose providers answer; None: models that litellm calls, or a function of the user's.
    config: str | None = None
    # Query id to the asserts that promptfoo checks itself, where no scorer of ours speaks for every test.
    asserts: dict[str, Any] = field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The score that decides: of what was carried the first that says right or wrong."""
        return str(next((s for s in self.scorers if s["kind"] not in CARRIED_KINDS), self.scorers[0])["name"])

    @property
    def unknown(self) -> list[str]:
        """What could not be known, each once."""
        return list(dict.fromkeys((*self.good.unknown, *self.bad.unknown)))

    @property
    def is_one(self) -> bool:
        """Whether both releases are the same: the files held one configuration."""
        return self.good.axes == self.bad.axes

    def say_uncarried(self, differing: Sequence[Mapping[str, str]]) -> None:
        """Notes what the files say of themselves that differs (`axis`, `good`, `bad`), where no axis carries any of it."""
        told = (f"{each['axis']} ({each['good'][:40] or 'none'} -> {each['bad'][:40] or 'none'})" for each in differing)
        if self.is_one and (listed := ", ".join(told)):
            self.notes.append(f"the files say that this differs, and no axis carries it: {listed}")


# -- scorers -------------------------------------------------------------------------------------------------------------
def carry_scorers(draft: Draft, carried: CarriedAsserts) -> None:
    """Takes over the scorers of asserts, with their columns and what was left out."""
    draft.scorers = list(carried.scorers)
    for query, columns in zip(draft.queries, carried.columns, strict=True):
        if columns:
            query.pop("reference", None)
        query.update(columns)
    draft.notes += list(_left_out(carried))
    deciding = [s for s in draft.scorers if s["kind"] not in CARRIED_KINDS]
    if len(deciding) > 1:
        draft.notes.append(
            f"promptfoo passes a test when all its asserts pass; here {draft.metric} decides, the others are told beside it"
        )


def _left_out(carried: CarriedAsserts) -> Iterator[str]:
    for kind, n in carried.left_out.most_common():
        yield f"asserts of type {kind} are not carried ({n} {'test' if n == 1 else 'tests'})"
    yield from carried.notes


def with_fallback(draft: Draft) -> None:
    """A scorer that stands in, and that it does, where none says right or wrong."""
    if not any(s["kind"] not in CARRIED_KINDS for s in draft.scorers):
        draft.scorers.insert(0, dict(FALLBACK))
        draft.notes.append(
            "no scorer says right or wrong: words stands in; write one, or a judge, before you believe a verdict"
        )


def draft_tests(first: RecordedRelease, second: RecordedRelease, tests: Sequence[Mapping[str, Any]], source: str) -> Draft:
    """The draft of two releases and the tests of a promptfoo config. Raises `InputError` without tests."""
    if not tests:
        raise InputError(f"cannot draft from {source}: it has no tests that can be read; its questions come from them")
    queries = [_asked_test(number, test) for number, test in enumerate(tests)]
    draft = Draft(first, second, queries, [], source)
    carry_scorers(draft, carried_asserts(tests))
    with_fallback(draft)
    return draft


def _asked_test(number: int, test: Mapping[str, Any]) -> dict[str, Any]:
    variables = {str(k): v for k, v in (test.get("vars") or {}).items()}
    texts = {k: v for k, v in variables.items() if isinstance(v, str)}
    asked = next((texts[name] for name in ("question", "input", "query", "message", "prompt", "text") if name in texts), None)
    question = (
        asked if asked is not None else max(texts.values(), key=len, default=str(test.get("description") or f"test {number}"))
    )
    metadata = test.get("metadata")
    told = {str(k): v for k, v in metadata.items() if isinstance(v, str)} if isinstance(metadata, Mapping) else {}
    columns = {column_of(k): v for k, v in {**told, **variables}.items()}
    return {"id": f"test-{number}", "input": question, **columns}
