"""A run's broken queries as a test suite that stays: confirmed ones, and controls that always passed.

Confirmed: under every combination without the guilty axes the query passed, and under every one with all of them it failed, at least
`CONFIRMED` times in all. A control passed whenever it was asked. The suite asks the application of a bisect.yaml, as a run does, and
scores with the deciding metric; texts of the log are in a JSON file that is only ever read as data.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bisect_ai.canonical import plain
from bisect_ai.config import FILE, heed_secrets_of
from bisect_ai.errors import BisectError, ConfigError, InputError, TargetFailure
from bisect_ai.facts.report_view import metric_of_report
from bisect_ai.facts.saved_runs import kin_of, read_run, stored_trials
from bisect_ai.provider.redaction import describe, redact_all
from bisect_ai.provider.transport import close_connections
from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.query import Query
from bisect_ai.release.checkout import WORKTREE
from bisect_ai.release.references import read_mapping
from bisect_ai.report.json_edge import read
from bisect_ai.report.report_values import Report
from bisect_ai.runs.observations import Observation
from bisect_ai.runs.prepare import prepare, releases_of_run, settle
from bisect_ai.runs.prepared import Prepared
from bisect_ai.scoring.metric import Metric
from bisect_ai.scoring.scorer import score_answer
from bisect_ai.store.artefacts import write_new_files
from bisect_ai.targets.answer import Answer, as_answer

# Trials of a query, passes without the cause and failures with it together, below which it may have broken by chance.
CONFIRMED = 3
# Broken queries, and as many controls.
MOST = 40
# A score above it passes.
MIDDLE = 0.5
# Logged queries among which those of the suite are looked for: a random part of more.
_LOGGED = 200_000
# Columns of a record that say what was answered, not what was asked.
_LEFT_OUT = ("output", "scores", "release")


@dataclass(frozen=True)
class SuiteQueries:
    """Ids of queries that broke for sure, and of controls."""

    broken: tuple[str, ...]
    controls: tuple[str, ...]


def write_suite(kind: str, run: str, *, store: Path, config: Path, folder: Path, log: str | None = None) -> str:
    """Write the suite of a stored run into `folder`, which is made; says what was done. Raises `InputError`, `StoreError`."""
    found, chosen, metric = _chosen(run, store)
    queries = _logged(config, log, releases_of_run(read_run(store, found).settings, config))
    cases = [*_cases("broken", chosen.broken, queries), *_cases("control", chosen.controls, queries)]
    if not any(case["kind"] == "broken" for case in cases):
        raise InputError(
            f"cannot write a regression suite of run {run}: its broken queries are not in the log any more; name it with --log"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"cannot write the regression suite to {folder}: it is no empty folder; name another with --suite")
    settings = {"config": os.path.relpath(config.resolve(), folder.resolve()), "higher_is_better": metric.higher_is_better}
    cases = redact_all(cases)
    files = {
        "cases.json": json.dumps({**settings, "cases": cases}, indent=1, ensure_ascii=True) + "\n",
        **SUITES[kind](cases, found),
    }
    write_new_files(folder, files, what="the regression suite", then="name another folder with --suite")
    broken = sum(case["kind"] == "broken" for case in cases)
    return f"wrote {broken} broken queries and {len(cases) - broken} controls to {folder}"


def _chosen(run: str, store: Path) -> tuple[str, SuiteQueries, Metric]:
    stored = read_run(store, run)
    found, runs, report = stored.run, stored.runs, read(Report, stored.report)
    if not report.percent:
        raise InputError(
            f"cannot write a regression suite of run {found}: its metric {report.metric} is no score between 0 and 1"
        )
    metric = metric_of_report(report)
    guilty = {axis for cause in report.verdict.causes for axis in cause.axes} or set(runs[found]["axes"])
    trials = [trial for name in kin_of(found, runs) for trial in stored_trials(store, name, runs[name])]
    chosen = chosen_queries(trials, guilty, name=report.metric, metric=metric)
    if not chosen.broken:
        raise InputError(f"cannot write a regression suite of run {found}: no query broke for sure in it")
    return found, chosen, metric


def chosen_queries(trials: Iterable[Observation], guilty: set[str], *, name: str, metric: Metric) -> SuiteQueries:
    """Confirmed broken queries, those asked most first, and controls likewise."""
    with_, without, other = (defaultdict[str, list[bool]](list) for _ in range(3))
    for trial in trials:
        score = trial.score(name)
        if score is None:
            continue
        side = with_ if guilty <= set(trial.bad_axes) else other if guilty & set(trial.bad_axes) else without
        side[trial.query].append(_is_right(score, metric))
    both = [query for query in with_ if query in without]
    broken = [q for q in both if all(without[q]) and not any(with_[q]) and len(without[q]) + len(with_[q]) >= CONFIRMED]
    controls = [q for q in both if all(without[q]) and all(with_[q]) and all(other[q])]
    often = lambda q: (-len(with_[q]) - len(without[q]), q)  # noqa: E731 (a key)
    return SuiteQueries(tuple(sorted(broken, key=often)[:MOST]), tuple(sorted(controls, key=often)[:MOST]))


def _logged(config: Path, log: str | None, releases: Mapping[str, Any]) -> Mapping[str, Query]:
    given = {} if log is None else {"log": {"path": str(Path(log).absolute())}}
    settings, folder = settle({**given, **releases}, config=config)
    wanted = replace(settings.log.settings(settings.seed), sample=_LOGGED)
    return {query.id: query for query in load_queries(settings.log.path, settings=wanted, folder=folder).queries}


def _cases(kind: str, ids: Sequence[str], queries: Mapping[str, Query]) -> Iterator[dict[str, Any]]:
    for name in ids:
        if name in queries:
            record = {key: plain(value) for key, value in queries[name].items() if key not in _LEFT_OUT and value is not None}
            yield {"kind": kind, "query": record}


# -- the files of a suite beside its cases: the same for every run, so that no text of a log is ever code --------------------
def _promptfoo(cases: int) -> str:
    head = [
        "# Queries that a bad release once broke, and controls; their texts are in cases.json. Run: npx promptfoo eval",
        "description: bisect-ai regression suite",
        'prompts: ["case {{case}}"]',
        'providers: ["file://bisect_provider.py"]',
        "defaultTest: {assert: [{type: equals, value: pass}]}",
        "tests:",
    ]
    return "\n".join([*head, *(f"  - vars: {{case: {number}}}" for number in range(cases))]) + "\n"


def _dataset(cases: Sequence[Mapping[str, Any]], run: str) -> str:
    """The body of Langfuse's `POST /api/public/v2/datasets`, and under `items` those of `POST /api/public/dataset-items`."""
    name = f"bisect-ai-regression-{run}"
    told = {"description": "Queries that a bad release once broke, and controls.", "metadata": {"run": run}}
    items = [_item(case["kind"], case["query"], number, name) for number, case in enumerate(cases)]
    return json.dumps({"name": name, **told, "items": items}, indent=1, ensure_ascii=True) + "\n"


def _item(kind: str, query: Mapping[str, Any], number: int, dataset: str) -> Mapping[str, object]:
    return {
        "datasetName": dataset,
        "id": hashlib.sha256(f"{dataset} {query['id']}".encode()).hexdigest()[:32],
        "input": {key: value for key, value in query.items() if key != "reference"},
        "expectedOutput": query.get("reference"),
        "metadata": {"case": number, "kind": kind},
        "status": "ACTIVE",
    }


def _files(*names: str) -> dict[str, str]:
    return {name: (Path(__file__).parent / "suites" / f"{name}.txt").read_text(encoding="utf-8") for name in names}


# Tool to its files, for the cases of a run.
SUITES: Mapping[str, Callable[[Sequence[Mapping[str, Any]], str], Mapping[str, str]]] = {
    "pytest": lambda cases, run: _files("test_regression.py"),  # noqa: ARG005 - as every suite is built
    "promptfoo": lambda cases, run: {"promptfooconfig.yaml": _promptfoo(len(cases)), **_files("bisect_provider.py")},  # noqa: ARG005
    "inspect": lambda cases, run: _files("inspect_regression.py"),  # noqa: ARG005
    "langfuse": lambda cases, run: {"dataset.json": _dataset(cases, run), **_files("langfuse_regression.py")},
}


# -- what a suite calls ------------------------------------------------------------------------------------------------
def cases_pass(folder: Path, numbers: Sequence[int] | None = None) -> list[bool]:
    """Whether each case of the suite in `folder` passes, or of `numbers` among them, answered once.

    BISECT_CONFIG names other settings than those of the suite, BISECT_RELEASE the release (a file from here, else as the settings
    would name it), else it is their `bad`. Raises as `case_scores` does.
    """
    suite = read_mapping(folder / "cases.json", error=ConfigError)
    queries = [case["query"] for case in suite["cases"]]
    asked = queries if numbers is None else [queries[number] for number in numbers]
    config = os.environ.get("BISECT_CONFIG") or folder / suite["config"]
    metric = Metric(higher_is_better=suite["higher_is_better"])
    return [_is_right(score, metric) for score in case_scores(config, asked, release=_named_release())]


def _is_right(score: float, metric: Metric) -> bool:
    """Whether a share lies on the better side of the middle."""
    return metric.sign * (score - MIDDLE) > 0


def _named_release() -> str | None:
    named = os.environ.get("BISECT_RELEASE")
    return str(Path(named).absolute()) if named and Path(named).is_file() else named


def case_scores(config: str | Path, queries: Sequence[Mapping[str, Any]], *, release: Any = None) -> list[float]:
    """The deciding score of each query, answered once by a release: as `release` names it, else the `bad` of the settings, or where
    they name none the working tree as it is.

    One call a query. Raises `InputError`, and `TargetFailure` when a query got no answer or no score.
    """
    given = dict.fromkeys(("good", "bad"), release or {"git": WORKTREE}) if release or not _names_bad(config) else {}
    records = [dict(query) for query in queries]
    settings, folder = settle({**given, "log": {"sample": None}}, config=config, queries=records)
    prepared = prepare(settings, folder=folder, queries=records, alone=True)
    scores = asyncio.run(_asked(prepared))
    return [scores[str(record["id"])] for record in records]


def _names_bad(config: str | Path) -> bool:
    """Whether a settings file does; one for `run v1..v2` need not."""
    path = Path(config)
    return "bad" in heed_secrets_of(path / FILE if path.is_dir() else path)


async def _asked(prepared: Prepared) -> dict[str, float]:
    found: dict[str, float] = {}
    try:
        for query in prepared.sample.queries:
            answer = await _answer(prepared, query)
            score = score_answer(prepared.metric, query, answer)
            if score.value is None:
                raise TargetFailure(f"query {query.id} got no score: {answer.error or score.error or 'the scorer gave none'}")
            found[query.id] = score.value
    finally:
        close = getattr(prepared.target, "close", None)
        if close is not None:
            close()
        await close_connections()
    return found


async def _answer(prepared: Prepared, query: Query) -> Answer:
    try:
        returned = await asyncio.to_thread(prepared.target, query, prepared.bad.axes, 0)  # it may run a loop of its own
        return as_answer(await returned if inspect.isawaitable(returned) else returned)
    except BisectError:
        raise
    except Exception as error:  # the user's code may raise anything
        raise TargetFailure(f"query {query.id} got no answer: {describe(error)}") from error
