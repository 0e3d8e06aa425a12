"""A table of scores from elsewhere, attributed without any replay: one row for each query and cell, whatever ran them.

The analysis is that of `design: full` (attribution/designs/factorial.py): paired by query, Holm-adjusted, with
population intervals. Cells that
no query has are left out and what they alias is said; a query that lacks a cell which others have is an error: it could not be paired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bisect_ai.attribution.designs.factorial import table_of
from bisect_ai.attribution.designs.findings import conclude_scores
from bisect_ai.attribution.problem import Attribution, Floats, Ints, Problem, cluster_numbers, score_ends
from bisect_ai.attribution.stats.missing import Bounds, bound_loss, bounds_warning, comparable, failing_causes, with_bounds
from bisect_ai.attribution.stats.smallest_loss import DEFAULT, is_open, objection, relative, relative_note
from bisect_ai.canonical import digest
from bisect_ai.config import checked_part
from bisect_ai.errors import InputError
from bisect_ai.facts.report_view import Facts, build, told_report
from bisect_ai.facts.score_rows import (
    Axes,
    CrossedScores,
    Incomplete,
    Missing,
    ScoreRows,
    ScoresStudy,
    crossed_scores,
    score_rows,
)
from bisect_ai.queries.result_files import attribution_table, file_columns, result_paths
from bisect_ai.queries.score_columns import ColumnSource, column_source
from bisect_ai.report.report_values import Report, RunUsage, Verdict
from bisect_ai.result import Result
from bisect_ai.runs.frames import ScoreTrials
from bisect_ai.runs.ledger import Spending
from bisect_ai.scoring.metric import Metric


def attribute(
    table: Any,
    *,
    query: str = "query",
    score: str = "score",
    axes: Axes | None = None,
    bad_axes: str = "bad_axes",
    cluster: str | None = None,
    metric: str | None = None,
    higher_is_better: bool = True,
    tolerance: float | None = None,
    alpha: float = 0.05,
    incomplete: Incomplete = "error",
    missing: Missing = "failed",
    good: str = "good",
    bad: str = "bad",
) -> Result:
    """The verdict on a table of scores that something else measured: one row for each query and cell.

    `table`: a DataFrame, an Arrow table, a DuckDB relation, a list of mappings, or the path of a Parquet, CSV or JSONL file; the first
    three and Parquet are read by columns: 16 million rows take seconds. `query` and `score` name its columns. A row
    without a score is what `missing` says: "failed" (the call failed, which counts as the worst score) or "unscored" (nobody knows,
    so its pairs are left out); either way the loss's bounds over every value of them are told. Which axes a row took from the bad
    release is said by `axes`, the names of columns that hold 0 or 1 (False or True); or by a mapping of column to its pair of levels,
    `{"prompt": ("v1", "v2")}` for (good, bad), rows with other levels being left out; or by the column `bad_axes` with a list of names
    or text like "prompt+tools" (empty: the good release). Several rows of a query in a cell are averaged. `cluster` names a column
    (user, session) whose rows belong together. `tolerance` is in score points (default: 0.02 for scores between 0 and 1, else 5 % of
    the good release's mean), `alpha` the chance of a wrong name. `incomplete`: what to do with queries that lack a cell which others
    have: "error", "drop" them, or "keep" what they have. `good` and `bad` are the names for the report.

    Or `table` is the path of a tool's result file (promptfoo, Inspect, …), or a list of paths. Then axes are what the files say of
    their configurations (model, prompt, parameters, …), questions are paired as `compare` does, `metric` is the score, and `good` and
    `bad` name two configurations (else the first, and the last that differs from it in every axis).

    Raises `InputError` for whatever is wrong with the table.
    """
    if axes is None and (paths := result_paths(table)):
        results = attribution_table(
            paths, metric=metric, good=good if good != "good" else None, bad=bad if bad != "bad" else None
        )
        table, axes, cluster = results.rows, results.axes, "cluster"
        metric, good, bad = results.metric, results.good, results.bad
    said = checked_part(
        ScoresStudy,
        {
            "alpha": alpha,
            "tolerance": tolerance,
            "higher_is_better": higher_is_better,
            "missing": missing,
            "incomplete": incomplete,
        },
        where="attribute",
    )
    alpha, tolerance, higher_is_better = said.alpha, said.tolerance, said.higher_is_better is not False
    axes = [axes] if isinstance(axes, str) else axes
    rows = score_rows(_source_of(table), axes, query=query, score=score, bad_axes=bad_axes, cluster=cluster)
    meaning = Metric(higher_is_better=higher_is_better).as_seen(rows.score)
    crossed = crossed_scores(rows, incomplete=incomplete, missing=missing, metric=meaning)
    names, scores, trials, errors = rows.axes, crossed.scores, crossed.trials, crossed.errors
    tolerance, notes = _tolerance_of_table(rows, crossed, tolerance, metric or score)
    problem = _problem_of(rows, scores, tolerance=tolerance, alpha=alpha)
    found = _conclude_rows(problem, scores, trials, errors, all_queries=incomplete == "keep")
    if missing == "failed":
        found = _with_failing(found, rows, crossed)
    bounds = _bounds_of_missing(rows, crossed, missing)
    if bounds is not None:
        found = with_bounds(found, bounds, failed=missing == "failed", tolerance=tolerance)
    name = metric or score
    settings = {"rule": "factorial", "metric": name, "tolerance": tolerance, "alpha": alpha, "higher": higher_is_better}
    settings |= {} if missing == "failed" else {"missing": missing}
    told = Report(
        run=digest({**settings, "axes": names, "rows": _digest_of_rows(rows)})[:16],
        good=good,
        bad=bad,
        metric=name,
        higher_is_better=higher_is_better,
        percent=meaning.is_share,
        alpha=alpha,
        axes=names,
        design="table",
        verdict=Verdict(kind=found.kind),
        warnings=(*notes, *_table_warnings(trials, errors, missing), *([] if bounds is None else [bounds_warning(bounds)])),
        usage=RunUsage(calls=0, cached=len(rows.score), errors=int(errors.sum()), usd=0.0, tokens=0, seconds=0.0),
        decision=(
            f"an axis is named when its main effect costs quality at p < {alpha / 2:g} (two-sided) after Holm's correction over "
            f"{len(names)} axes; losses below {tolerance:g} are not acted on"
        ),
    )
    report = told_report(build(Facts(told, found)))
    observed = ScoreTrials(
        name, names, rows.query, rows.cell, rows.score, load_names=partial(getattr, rows, "names"), failed=missing == "failed"
    )
    return Result(report, Spending(cached=len(rows.score)), observed, regression=found.regression)


def _source_of(table: Any) -> ColumnSource:
    return file_columns(Path(table)) if isinstance(table, str | Path) else column_source(table)


def _tolerance_of_table(rows: ScoreRows, crossed: CrossedScores, given: float | None, metric: str) -> tuple[float, list[str]]:
    """The tolerance, with what is to be told of it. Raises `InputError` for one as large as the scale."""
    scores = rows.score[~np.isnan(rows.score)]
    is_share = not is_open(scores, None)
    if given is not None:
        wrong = objection(given, metric, lowest=0.0, highest=1.0) if is_share else None
        if wrong is not None:
            raise InputError(f"cannot attribute the table: {wrong}")
        return given, []
    good = crossed.known[:, 0]
    if is_share or np.isnan(good).all():
        return DEFAULT, []
    value = relative(good[~np.isnan(good)])
    return value, [relative_note(value)]


def _with_failing(found: Attribution, rows: ScoreRows, crossed: CrossedScores) -> Attribution:
    """The attribution with the word for each cause whose cost is mainly rows without a score."""
    if not crossed.errors.any() or found.kind != "cause":
        return found

    def paired(good: int, bad: int) -> Floats:
        both = crossed.asked[:, good] & crossed.asked[:, bad]
        return crossed.known[both][:, [good, bad]]

    worst = score_ends(None, float(np.nanmin(crossed.known)), float(np.nanmax(crossed.known)))[0]
    return failing_causes(found, paired, rows.axes, worst)


def _bounds_of_missing(rows: ScoreRows, crossed: CrossedScores, missing: Missing) -> Bounds | None:
    """What the rows without a score can do to the loss; None: nothing worth telling."""
    if not crossed.errors.any():
        return None
    both = crossed.asked[:, 0] & crossed.asked[:, -1]
    good, bad = crossed.known[both, 0], crossed.known[both, -1]
    n = int(both.sum())
    low, high = score_ends(None, float(np.nanmin(crossed.known)), float(np.nanmax(crossed.known)))
    gaps = np.isnan(good), np.isnan(bad)
    return bound_loss(
        good,
        bad,
        lowest=low,
        highest=high,
        weights=np.ones(n),
        clusters=cluster_numbers(rows.clusters, both),
        population=float("inf"),
        failed=gaps if missing == "failed" else (np.zeros(n, bool), np.zeros(n, bool)),
    )


def _problem_of(rows: ScoreRows, scores: Floats, *, tolerance: float, alpha: float) -> Problem:
    return Problem(
        axes=rows.axes, queries=len(scores), budget=len(rows.score), tolerance=tolerance, alpha=alpha, clusters=rows.clusters
    )


def _conclude_rows(problem: Problem, scores: Floats, trials: Ints, errors: Ints, *, all_queries: bool) -> Attribution:
    used = np.isfinite(scores).any(1)
    scores = scores if used.all() else scores[used]
    clusters = None if problem.clusters is None else problem.clusters[used]
    kept = replace(problem, queries=int(used.sum()), clusters=clusters)
    if kept.queries < 2:
        raise InputError("cannot attribute the table: it has fewer than 2 queries with a score; one query shows no variation")
    table = comparable(table_of(kept, scores), all_queries=all_queries)
    planned = int((trials > 0).sum())
    return conclude_scores(kept, table, trials=trials, errors=errors, infeasible=frozenset(), planned=planned)


def _table_warnings(trials: Ints, errors: Ints, missing: Missing) -> Iterable[str]:
    if errors.sum():
        how = (
            "taken as failed calls, which count as the worst score (missing='unscored' leaves their pairs out)"
            if missing == "failed"
            else "their pairs are left out"
        )
        yield f"{int(errors.sum())} of {int(trials.sum())} rows have no score: {how}"
    absent = int((trials == 0).sum())
    if absent:
        yield f"{absent} of {len(trials)} combinations are not in the table: interactions of three or more axes are taken as absent"


def _digest_of_rows(rows: ScoreRows) -> str:
    """SHA-256 over the arrays of the rows."""
    found = hashlib.sha256()
    for column, kind in ((rows.query, "<i8"), (rows.cell, "<i2"), (rows.score, "<f8")):
        found.update(np.ascontiguousarray(column, dtype=kind).data)
    return found.hexdigest()
