"""A promptfoo config as a draft: its prompts and providers are releases, its tests the questions, its asserts the scorers.

Files that it names are read where they lie below its own folder and hold text, JSON, YAML or CSV; code is never run.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bisect_ai.canonical import text_or_json
from bisect_ai.errors import ConfigError, InputError
from bisect_ai.release.references import read_mapping
from bisect_ai.release.source_files import decode_utf8, path_inside, read_inside
from bisect_ai.release.strict import parse_strict_json, parse_yaml
from bisect_ai.runs.promptfoo_tests import (
    CARRIED_KINDS,
    Draft,
    carried_asserts,
    draft_tests,
    own_provider,
    prompt_axis,
    provider_axes,
)
from bisect_ai.runs.recorded_release import RecordedRelease

TEXTS = (".txt", ".md", ".j2", ".json", ".yaml", ".yml")
# Tests that are drafted.
MOST_TESTS = 20_000
# Tests that one test with lists of variables may stand for.
MOST_COMBINATIONS = 1_000
# Characters of a prompt's label in a release's name.
LABEL = 40
# In what is noted of a release: what matters only where promptfoo does not run it.
_OURS = ("app.py", "filters, loops and conditions")
_METADATA = "__metadata:"
_EXPECTED = re.compile(r"__expected\d*$")  # columns of a CSV of tests that hold assertions
# An assert as a cell of a CSV holds it; what is none is a text that the answer equals.
_TYPED = re.compile(
    r"""(not-)?(
        i?contains(?:-all|-any)? | contains-(?:html|json|sql|xml) | is-(?:html|json|sql|xml|refusal|valid-function-call)
        | is-valid-openai-(?:function|tools)-call | equals | starts-with | regex | levenshtein | word-count | cost | latency
        | similar(?::cosine|:dot|:euclidean)? | bleu | gleu | meteor | rouge-n | perplexity(?:-score)? | classifier | moderation
        | guardrails | (?:answer|conversation)-relevance | context-(?:faithfulness|recall|relevance) | factuality | g-eval | pi
        | (?:agent|llm|search)-rubric | model-graded-(?:closedqa|factuality) | select-best | max-score | human | webhook | ruby
        | finish-reason | tool-call-f1 | skill-used | trace-(?:error-spans|span-count|span-duration)
        | trajectory:(?:goal-success|step-count|tool-args-match|tool-sequence|tool-used)
    )(?:\((\d+(?:\.\d+)?)\))?(?::(.*))?""",
    re.DOTALL | re.VERBOSE,
)
# An assertion that is code: JavaScript, or Python.
_CODE = re.compile(r"(?:(javascript|fn|eval):|file://\S+\.[cm]?[jt]s\b|(python):|file://\S+\.py\b)")
# The score that the target gives whose asserts promptfoo checks.
PASSED = "passed"


def is_promptfoo_config(path: str | Path) -> bool:
    """Whether the file is a config of promptfoo and not a result file."""
    file = Path(path)
    if file.suffix.lower() not in (".yaml", ".yml", ".json") or not file.is_file():
        return False
    try:
        told = read_mapping(file, error=ConfigError)
    except InputError:
        return False
    return "prompts" in told and bool({"providers", "targets"} & set(told)) and "results" not in told


def draft_config(path: str | Path, *, good: str | None = None, bad: str | None = None) -> Draft:
    """The draft of a config: its first provider with its first prompt is good, the last with the last bad, or those named.

    Raises `InputError` for what cannot be read.
    """
    reader = _ConfigReader(Path(path))
    releases = dict(reader.releases())
    if not releases:
        raise InputError(f"cannot draft from {reader.name}: it has no prompt or no provider that can be read")
    first = _one_of(good, releases, next(iter(releases)), "good")
    last = _one_of(bad, releases, list(releases)[-1], "bad")
    tests = list(itertools.islice(reader.tests(), MOST_TESTS))
    draft = draft_tests(releases[first], releases[last], tests, reader.name)
    draft.notes += reader.notes
    if not (draft.good.calls_a_model and draft.bad.calls_a_model):
        draft.config = str(path)
        for name in {first, last}:
            own = releases[name]
            raw, provider = reader.parts[name]
            own.axes["model"] = own_provider(provider)
            own.axes["prompt"] = {"user": text_or_json(raw)}  # promptfoo fills it
            own.axes.pop("tools", None)  # the provider has them
            own.unknown = [line for line in own.unknown if not any(word in line for word in _OURS)]
        _let_promptfoo_check(draft, tests, reader.notes)
    return draft


def _let_promptfoo_check(draft: Draft, tests: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
    """Where tests have different asserts, or ones that we have no scorer for, whether a test passed is promptfoo's to say."""
    asserts = [test.get("assert") or [] for test in tests]
    types = {tuple(sorted(str(each.get("type")) for each in listed if isinstance(each, Mapping))) for listed in asserts}
    if not any(asserts) or (len(types) == 1 and not carried_asserts(tests).left_out):
        return
    draft.asserts = {str(query["id"]): listed for query, listed in zip(draft.queries, asserts, strict=True) if listed}
    measured = [scorer for scorer in draft.scorers if scorer["kind"] in CARRIED_KINDS]
    draft.scorers = [{"kind": "answer", "name": PASSED, "score": PASSED, "bounded": [0, 1]}, *measured]
    draft.notes = [
        *notes,
        f"tests have different asserts: promptfoo checks them itself ({PASSED}: all of a test's asserts pass), and asks and pays for "
        "the models of those that need one; options of single tests are not carried",
    ]
    if without := len(tests) - len(draft.asserts):
        draft.queries = [query for query in draft.queries if query["id"] in draft.asserts]
        draft.notes.append(f"{without} tests without an assert are left out: nothing says whether their answers are right")


def _one_of(asked: str | None, known: Mapping[str, RecordedRelease], otherwise: str, side: str) -> str:
    if asked is None:
        return otherwise
    fitting = [name for name in known if asked == name or asked in name.split(" · ")]
    if len(fitting) != 1:
        raise InputError(
            f"cannot draft: --{side} {asked!r} names {len(fitting)} of the config's releases; they are {'; '.join(known)}"
        )
    return fitting[0]


class _ConfigReader:
    """One config with the files that it names."""

    def __init__(self, path: Path) -> None:
        self.name, self._folder = path.name, path.resolve().parent
        self._told = read_mapping(path, error=ConfigError)
        self.notes: list[str] = []
        # Release to its prompt's template and its provider's entry.
        self.parts: dict[str, tuple[Any, Any]] = {}

    def releases(self) -> Iterator[tuple[str, RecordedRelease]]:
        """Every provider with every prompt, by name."""
        prompts = list(self._prompts(self._told.get("prompts")))
        given = self._told.get("providers") or self._told.get("targets") or []
        for provider in given if isinstance(given, list) else [given]:
            for label, raw in prompts:
                release = RecordedRelease("")
                provider_axes(release, provider)
                model = release.axes["model"]
                called = provider.get("label") if isinstance(provider, Mapping) else None
                name = f"{called or model.get('model') or model.get('provider')} · {label}"
                release.name = name if name not in self.parts else f"{name} {len(self.parts) + 1}"
                self.parts[release.name] = raw, provider
                release.unknown = [line.removeprefix(": ") for line in release.unknown]
                release.axes["prompt"] = prompt_axis(raw, label, release.unknown)
                yield release.name, release

    # -- prompts -------------------------------------------------------------------------------------------------------
    def _prompts(self, given: Any) -> Iterator[tuple[str, Any]]:
        """(label, template) of each prompt."""
        if isinstance(given, Mapping):
            given = [{"raw": key, "label": label} for key, label in given.items()]
        for each in given if isinstance(given, list) else [given]:
            entry = each if isinstance(each, Mapping) else {"raw": each}
            raw = entry.get("raw") or entry.get("id") or entry.get("content")
            for number, template in enumerate(self._templates(raw)):
                label = str(entry.get("label") or (raw if isinstance(raw, str) else "prompt"))
                short = " ".join(label.removeprefix("file://").split())[:LABEL]
                yield short if not number else f"{short} {number + 1}", template

    def _templates(self, raw: Any) -> Iterator[Any]:
        if not isinstance(raw, str):
            yield raw
            return
        written = raw.removeprefix("file://")
        if raw.startswith("file://") or (
            "\n" not in raw and Path(written).suffix.lower() in (*TEXTS, ".py", ".js", ".ts", ".csv")
        ):
            text = self._text(written, "prompt")
            if text is not None:
                yield from (
                    (part.strip("\n") for part in re.split(r"(?m)^---\s*$", text)) if written.endswith(".txt") else [text]
                )
            return
        yield raw

    def _text(self, written: str, what: str) -> str | None:
        """The text of a file that the config names; None: it is no text, or cannot be read, which is noted."""
        if Path(written).suffix.lower() not in (*TEXTS, ".csv", ".jsonl"):
            self.notes.append(f"{what} {written}: code and templates of programs are not carried")
            return None
        try:
            return decode_utf8(read_inside(self._folder, path_inside(self._folder, self._folder, written)), written)
        except InputError as error:
            self.notes.append(f"{what} {written}: {error}")
            return None

    # -- tests ---------------------------------------------------------------------------------------------------------
    def tests(self) -> Iterator[dict[str, Any]]:
        """Every test with the defaults of all, one for each combination of its variables."""
        common = self._told.get("defaultTest")
        common = common if isinstance(common, Mapping) else {}
        for test in self._listed(self._told.get("tests")):
            variables = {**(common.get("vars") or {}), **self._variables(test.get("vars"))}
            asserts = [*(test.get("assert") or []), *(common.get("assert") or [])]
            for each in itertools.islice(_combinations(variables), MOST_COMBINATIONS):
                yield {"vars": each, "assert": asserts, **{key: test.get(key) for key in ("description", "metadata")}}

    def _listed(self, given: Any) -> Iterator[Mapping[str, Any]]:
        for each in given if isinstance(given, list) else [given]:
            if isinstance(each, Mapping) and ("vars" in each or "assert" in each):
                yield each
            elif isinstance(each, str):
                yield from self._from_file(each.removeprefix("file://"))
            elif each is not None:
                self.notes.append("tests: an entry that is neither a test nor a file is not carried")

    def _from_file(self, written: str) -> Iterator[Mapping[str, Any]]:
        text = self._text(written, "tests")
        if text is None:
            return
        if written.endswith(".csv"):
            yield from (_row_test(row) for row in csv.DictReader(io.StringIO(text)))
            return
        if written.endswith(".jsonl"):
            value: Any = [parse_strict_json(line, written) for line in text.splitlines() if line.strip()]
        else:
            value = (parse_strict_json if written.endswith(".json") else parse_yaml)(text, written)
        for each in value if isinstance(value, list) else ():
            if isinstance(each, Mapping):
                yield each if "vars" in each else {"vars": each}

    def _variables(self, given: Any) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            return {}
        found = {}
        for name, value in given.items():
            if isinstance(value, str) and value.startswith("file://"):
                value = self._text(value.removeprefix("file://"), f"variable {name}")
            found[str(name)] = value
        return found


def _combinations(variables: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One mapping for each combination of the variables that are lists, as promptfoo runs them."""
    lists = {name: value for name, value in variables.items() if isinstance(value, list) and value}
    for chosen in itertools.product(*lists.values()):
        yield {**variables, **dict(zip(lists, chosen, strict=True))}


def _row_test(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of a CSV of tests: its columns are variables, `__expected` columns are asserts."""
    variables = {name: value for name, value in row.items() if name and not name.startswith("__")}
    asserts = [_typed(value) for name, value in row.items() if name and _EXPECTED.fullmatch(name) and value]
    told = {name.removeprefix(_METADATA): value for name, value in row.items() if name and name.startswith(_METADATA)}
    return {"vars": variables, "assert": asserts, "description": row.get("__description"), "metadata": told}


def _typed(text: str) -> dict[str, Any]:
    text = text.strip()
    if (code := _CODE.match(text)) is not None:
        is_python = bool(code[2]) or ".py" in code[0]
        return {
            "type": "python" if is_python else "javascript",
            "value": text if text.startswith("file://") else text[code.end() :].strip(),
        }
    text = f"llm-rubric:{text.removeprefix('grade:')}" if text.startswith("grade:") else text
    found = _TYPED.fullmatch(text)
    if found is None:
        return {"type": "equals", "value": text}
    kind, value = f"{found[1] or ''}{found[2]}", found[4] and found[4].strip()
    if kind.endswith(("-all", "-any")) and value:
        value = [part.strip() for part in next(csv.reader([value], skipinitialspace=True))]
    return {"type": kind, "value": value, **({"threshold": float(found[3])} if found[3] else {})}
