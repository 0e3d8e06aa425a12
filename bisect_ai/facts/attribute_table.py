"""A table of scores from elsewhere, attributed without any replay: one row for each query and cell, whatever ran them.

The analysis is that of `design: full` (attribution/designs/factorial.py): paired by query, Holm-adjusted, with
population intervals. Cells that
no query has are left out and what they alias is said; a query that lacks a cell which others have is an error: it could not be paired.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bisect_ai.attribution.designs.factorial import table_of
from bisect_ai.attribution.designs.findings import conclude_scores
from bisect_ai.attribution.problem import Attribution, Floats, Ints, Problem, Trial
from bisect_ai.attribution.stats.missing import (
    Bounds,
    bound_loss,
    bounds_warning,
    comparable,
    score_ends,
    with_bounds,
    with_failing,
)
from bisect_ai.attribution.stats.tolerance import DEFAULT, is_open, objection, relative, relative_note
from bisect_ai.canonical import digest
from bisect_ai.errors import InputError
from bisect_ai.facts.report_view import Facts, build
from bisect_ai.provider.failure_text import redact_all
from bisect_ai.queries.grid import MOST_AXES, attribution_table, result_paths
from bisect_ai.report.json_edge import as_mapping
from bisect_ai.report.report_values import RunUsage
from bisect_ai.result import Result
from bisect_ai.runs.ledger import Spending
from bisect_ai.runs.observations import FinishedTrial, Observations
from bisect_ai.targets.answer import Answer

if TYPE_CHECKING:
    import pandas as pd

Axes = Sequence[str] | Mapping[str, tuple[Any, Any]]
Incomplete = Literal["error", "drop", "keep"]
Missing = Literal["failed", "unscored"]


@dataclass(frozen=True)
class Rows:
    """The table's rows as numbers: (rows,) query and cell numbers and scores (NaN: failed), and the names behind them."""

    axes: tuple[str, ...]
    queries: tuple[str, ...]
    query: Ints
    cell: Ints
    score: Floats
    clusters: Ints | None


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

    `table`: a DataFrame, a list of mappings, or the path of a CSV, JSONL or Parquet file. `query` and `score` name its columns. A row
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
    frame = _frame(table)
    marked, names = _marked(frame, axes, bad_axes)
    rows = _rows(marked, names, query=query, score=score, cluster=cluster)
    crossed = _crossed(rows, incomplete=incomplete, missing=missing, sign=1.0 if higher_is_better else -1.0)
    scores, trials, errors = crossed.scores, crossed.trials, crossed.errors
    tolerance, notes = _tolerance(rows, crossed, tolerance, metric or score)
    problem = _problem(rows, scores, tolerance=tolerance, alpha=alpha)
    found = _concluded(problem, scores, trials, errors, all_queries=incomplete == "keep")
    if missing == "failed":
        found = with_failing(found, _by_cell(rows, crossed), names, None)
    bounds = _bounds(rows, crossed, missing)
    if bounds is not None:
        found = with_bounds(found, bounds, failed=missing == "failed", tolerance=tolerance)
    observed = _observations(rows, metric or score, missing)
    name = metric or score
    settings = {"rule": "factorial", "metric": name, "tolerance": tolerance, "alpha": alpha, "higher": higher_is_better}
    settings |= {} if missing == "failed" else {"missing": missing}
    facts = Facts(
        run=digest({**settings, "axes": names, "rows": _plain_rows(rows)})[:16],
        good=good,
        bad=bad,
        metric=name,
        axes=names,
        design="table",
        alpha=alpha,
        sign=1.0 if higher_is_better else -1.0,
        bounded=bool(np.nanmin(rows.score) >= 0 and np.nanmax(rows.score) <= 1),
        attribution=found,
        warnings=[*notes, *_warnings(trials, errors, missing), *([] if bounds is None else [bounds_warning(bounds)])],
        usage=RunUsage(calls=0, cached=len(rows.score), errors=int(errors.sum()), usd=0.0, tokens=0, seconds=0.0),
        decision=(
            f"an axis is named when its main effect costs quality at p < {alpha / 2:g} (two-sided) after Holm's correction over "
            f"{len(names)} axes; losses below {tolerance:g} are not acted on"
        ),
    )
    report = redact_all(as_mapping(build(facts)))
    return Result(report, Spending(cached=len(rows.score)), observed, regression=found.regression)


def _frame(table: Any) -> pd.DataFrame:
    import pandas as pd

    if isinstance(table, str | Path):
        from bisect_ai.queries.recorded_table import read_table

        table = read_table(Path(table))
    frame = table if isinstance(table, pd.DataFrame) else pd.DataFrame(list(table))
    if not len(frame):
        raise InputError("cannot attribute the table: it has no rows; give one row for each query and cell")
    return frame


def _marked(frame: pd.DataFrame, axes: Axes | None, bad_axes: str) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The rows to use, with a column `_cell` (bit i: axis i is bad), and the names of the axes."""
    if axes is None:
        _need(frame, bad_axes, "which axes a row took from the bad release; or name the axes' columns by `axes`")
        sets = [_names_in(value) for value in frame[bad_axes]]
        names = tuple(dict.fromkeys(itertools.chain.from_iterable(sets)))
        cells = [sum(1 << names.index(axis) for axis in chosen) for chosen in sets]
    else:
        names = tuple(axes)
        frame, columns = _levels(frame, axes)
        cells = [sum(int(bit) << i for i, bit in enumerate(bits)) for bits in zip(*columns, strict=True)]
    if not 1 <= len(names) <= MOST_AXES:
        raise InputError(f"cannot attribute the table: it has {len(names)} axes; 1 to {MOST_AXES} can be told apart")
    return frame.assign(_cell=cells), names


def _names_in(value: Any) -> tuple[str, ...]:
    """The axes in a cell of `bad_axes`: a list, or text like "prompt+tools"; empty or missing: none."""
    if isinstance(value, str):
        return tuple(dict.fromkeys(part for part in re.split(r"[\s,;+|()\[\]'\"]+", value) if part))
    if isinstance(value, Iterable):
        return tuple(dict.fromkeys(str(part) for part in value))
    return ()


def _levels(frame: pd.DataFrame, axes: Axes) -> tuple[pd.DataFrame, list[list[bool]]]:
    for axis in axes:
        _need(frame, axis, "an axis")
    if isinstance(axes, Mapping):
        for axis, pair in axes.items():
            frame = frame[frame[axis].isin(list(_pair_of(axis, pair)))]
            if not len(frame):
                raise InputError(f"cannot attribute the table: no row has {pair[0]!r} or {pair[1]!r} in column {axis!r}")
        return frame, [list(frame[axis] == pair[1]) for axis, pair in axes.items()]
    return frame, [_bits(frame, axis) for axis in axes]


def _pair_of(axis: str, pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[0] == pair[1]:
        raise InputError(f"axis {axis!r}: give its two levels as (good, bad), got {pair!r}")
    return pair[0], pair[1]


def _bits(frame: pd.DataFrame, axis: str) -> list[bool]:
    bits = [_BITS.get(str(value).lower()) for value in frame[axis]]
    if None in bits:
        wrong = frame[axis].iloc[bits.index(None)]
        raise InputError(
            f"axis {axis!r}: its column must hold 0 or 1 (1: from the bad release), got {wrong!r}; for other levels give "
            f"axes={{{axis!r}: (good level, bad level)}}"
        )
    return [bool(bit) for bit in bits]


_BITS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def _need(frame: pd.DataFrame, column: str, what: str) -> None:
    if column not in frame.columns:
        have = ", ".join(map(str, list(frame.columns)[:20]))
        raise InputError(f"cannot attribute the table: it has no column {column!r} ({what}); its columns: {have}")


def _rows(frame: pd.DataFrame, axes: tuple[str, ...], *, query: str, score: str, cluster: str | None) -> Rows:
    import pandas as pd

    _need(frame, query, "the query; name another by `query`")
    _need(frame, score, "the score; name another by `score`")
    if cluster is not None:
        _need(frame, cluster, "the cluster")
    try:
        values = pd.to_numeric(frame[score]).to_numpy(float, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise InputError(f"cannot attribute the table: column {score!r} must hold numbers: {error}") from error
    if not np.isfinite(values).any():
        raise InputError(f"cannot attribute the table: column {score!r} has no score")
    numbers, names = pd.factorize(frame[query].astype(str))
    groups = None if cluster is None else _clusters(frame[cluster], numbers, len(names))
    return Rows(
        axes,
        tuple(map(str, names)),
        numbers,
        frame["_cell"].to_numpy(int),
        np.where(np.isfinite(values), values, np.nan),
        groups,
    )


def _clusters(column: pd.Series[Any], numbers: Ints, queries: int) -> Ints:
    """(queries,) the cluster of each query, by its first row."""
    import pandas as pd

    codes = pd.factorize(column.astype(str))[0]
    found = np.zeros(queries, int)
    found[numbers[::-1]] = codes[::-1]
    return found


@dataclass(frozen=True)
class Crossed:
    """The table by query and cell."""

    scores: Floats
    """(queries, cells) mean oriented scores; NaN where none."""
    known: Floats
    """The same over rows that have a score."""
    trials: Ints
    """(cells,) rows, and (`errors`) those without a score."""
    errors: Ints


def _crossed(rows: Rows, *, incomplete: Incomplete, missing: Missing, sign: float) -> Crossed:
    shape = (len(rows.queries), 1 << len(rows.axes))
    total, known, asked = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    place = (rows.query, rows.cell)
    np.add.at(asked, place, 1)
    np.add.at(known, place, np.isfinite(rows.score))
    np.add.at(total, place, np.nan_to_num(rows.score))
    scores = np.where(known > 0, sign * total / np.maximum(known, 1), np.nan)
    _check_cells(rows, asked)
    counted = scores
    if missing == "failed":
        worst = score_ends(None, float(np.nanmin(sign * rows.score)), float(np.nanmax(sign * rows.score)))[0]
        counted = np.where(asked > 0, (sign * total + worst * (asked - known)) / np.maximum(asked, 1), np.nan)
    counted = _completed(rows, counted, asked, incomplete)
    return Crossed(counted, scores, asked.sum(0).astype(int), (asked - known).sum(0).astype(int))


def _tolerance(rows: Rows, crossed: Crossed, given: float | None, metric: str) -> tuple[float, list[str]]:
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


def _by_cell(rows: Rows, crossed: Crossed) -> dict[int, dict[int, float]]:
    """Cell to its queries' mean scores; NaN: none of its rows has one."""
    found: dict[int, dict[int, float]] = {}
    for query, cell in zip(rows.query.tolist(), rows.cell.tolist(), strict=True):
        found.setdefault(cell, {})[query] = float(crossed.known[query, cell])
    return found


def _bounds(rows: Rows, crossed: Crossed, missing: Missing) -> Bounds | None:
    """What the rows without a score can do to the loss; None: nothing worth telling."""
    asked = np.zeros(crossed.scores.shape, bool)
    asked[rows.query, rows.cell] = True
    both = asked[:, 0] & asked[:, -1]
    good, bad = crossed.known[both, 0], crossed.known[both, -1]
    n = int(both.sum())
    clusters = np.arange(n) if rows.clusters is None else np.unique(rows.clusters[both], return_inverse=True)[1]
    low, high = score_ends(None, float(np.nanmin(crossed.known)), float(np.nanmax(crossed.known)))
    gaps = np.isnan(good), np.isnan(bad)
    return bound_loss(
        good,
        bad,
        lowest=low,
        highest=high,
        weights=np.ones(n),
        clusters=clusters,
        population=float("inf"),
        failed=gaps if missing == "failed" else (np.zeros(n, bool), np.zeros(n, bool)),
    )


def _check_cells(rows: Rows, asked: Floats) -> None:
    for cell, what in (
        (0, "the good release (no axis bad)"),
        (asked.shape[1] - 1, f"the bad release ({' + '.join(rows.axes)} bad)"),
    ):
        if not asked[:, cell].any():
            raise InputError(
                f"cannot attribute the table: it has no row for {what}, so there is no loss to explain; add those rows"
            )


def _completed(rows: Rows, scores: Floats, asked: Floats, incomplete: Incomplete) -> Floats:
    present = asked.any(0)
    lacking = np.flatnonzero((asked[:, present] == 0).any(1))
    if not lacking.size or incomplete == "keep":
        return scores
    if incomplete == "drop":
        whole = np.setdiff1d(np.arange(len(scores)), lacking)
        if len(whole) < 2:
            raise InputError("cannot attribute the table: fewer than 2 queries have every cell; run the missing ones")
        dropped = scores.copy()
        dropped[lacking] = np.nan
        return dropped
    first = lacking[0]
    cell = int(np.flatnonzero(present & (asked[first] == 0))[0])
    raise InputError(
        f"the table is incomplete: {len(lacking)} of {len(scores)} queries lack a cell that others have (first "
        f"{rows.queries[first]!r}, which lacks {_cell_name(cell, rows.axes)}); run them, or pass incomplete='drop' (leave those "
        "queries out) or 'keep' (use what they have)"
    )


def _cell_name(cell: int, axes: Sequence[str]) -> str:
    names = [axis for i, axis in enumerate(axes) if cell >> i & 1]
    return " + ".join(names) + " bad" if names else "the good release"


def _problem(rows: Rows, scores: Floats, *, tolerance: float, alpha: float) -> Problem:
    if not 0 < alpha < 1 or tolerance < 0:
        raise InputError(
            f"cannot attribute the table: alpha must lie between 0 and 1 (got {alpha:g}), tolerance not below 0 ({tolerance:g})"
        )
    return Problem(
        axes=rows.axes, queries=len(scores), budget=len(rows.score), tolerance=tolerance, alpha=alpha, clusters=rows.clusters
    )


def _concluded(problem: Problem, scores: Floats, trials: Ints, errors: Ints, *, all_queries: bool) -> Attribution:
    used = np.isfinite(scores).any(1)
    clusters = None if problem.clusters is None else problem.clusters[used]
    kept = Problem(
        axes=problem.axes,
        queries=int(used.sum()),
        budget=problem.budget,
        tolerance=problem.tolerance,
        alpha=problem.alpha,
        clusters=clusters,
    )
    if kept.queries < 2:
        raise InputError("cannot attribute the table: it has fewer than 2 queries with a score; one query shows no variation")
    table = comparable(table_of(kept, scores[used]), all_queries=all_queries)
    planned = int((trials > 0).sum())
    return conclude_scores(kept, table, trials=trials, errors=errors, infeasible=frozenset(), planned=planned)


def _warnings(trials: Ints, errors: Ints, missing: Missing) -> Iterable[str]:
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


def _observations(rows: Rows, metric: str, missing: Missing) -> Observations:
    found = Observations([metric])
    seen: dict[tuple[int, int], int] = {}
    for query, cell, score in zip(rows.query.tolist(), rows.cell.tolist(), rows.score.tolist(), strict=True):
        repeat = seen[query, cell] = seen.get((query, cell), -1) + 1
        names = tuple(axis for a, axis in enumerate(rows.axes) if cell >> a & 1)
        unscored = bool(np.isnan(score))
        failed = "no score in the table" if unscored and missing == "failed" else None
        identity = digest({"query": rows.queries[query], "cell": cell, "repeat": repeat})
        value = None if unscored else score
        found.add(
            FinishedTrial(
                rows.queries[query],
                Trial(query, cell, repeat),
                names,
                identity,
                Answer(error=failed),
                {metric: value},
                None,
                False,
                True,
            )
        )
    return found


def _plain_rows(rows: Rows) -> list[list[Any]]:
    return [
        [rows.queries[q], int(c), None if np.isnan(s) else float(s)]
        for q, c, s in zip(rows.query, rows.cell, rows.score, strict=True)
    ]
