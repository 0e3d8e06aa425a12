"""A table of scores as arrays: which query and cell each row belongs to, and the mean score of each query in each cell."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from bisect_ai.attribution.problem import Bools, Floats, Ints, names_of, score_ends
from bisect_ai.config import LogOptions
from bisect_ai.errors import InputError
from bisect_ai.queries.pairing import MOST_AXES
from bisect_ai.queries.score_columns import CodedColumn, ColumnSource, TakenColumns
from bisect_ai.queries.values import tidy
from bisect_ai.scoring.metric import Metric

Axes = Sequence[str] | Mapping[str, tuple[Any, Any]]
Incomplete = Literal["error", "drop", "keep"]
Missing = Literal["failed", "unscored"]
CellNumbers = NDArray[np.int16]
# Of scores: the squares of larger ones, summed, leave the range of floats.
LARGEST = 1e100


class ScoresStudy(BaseModel):
    """What a test of scores that are there takes as keywords (`attribute`, `compare`, `onset`)."""

    model_config = ConfigDict(extra="forbid", defer_build=True)

    # How they are read.
    log: LogOptions = Field(default_factory=LogOptions)
    # The chance of a wrong claim.
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    # The smallest loss worth acting on.
    tolerance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    # None: by the metric's name.
    higher_is_better: bool | None = None
    # What a row without a score is.
    missing: Missing = "unscored"
    # What becomes of questions that lack a combination which others have.
    incomplete: Incomplete = "error"
    # Of the search for segments.
    seed: int = 0


@dataclass(frozen=True)
class ScoreRows:
    """The table's rows as numbers: (rows,) query and cell numbers and scores (NaN: failed), and the names behind them."""

    axes: tuple[str, ...]
    query: Ints
    cell: CellNumbers
    score: Floats
    # (queries,)
    clusters: Ints | None
    load_names: Callable[[], Sequence[str]]
    # Queries.
    size: int

    @cached_property
    def names(self) -> Sequence[str]:
        """The name of each query, read when first asked for."""
        return self.load_names()


def score_rows(
    source: ColumnSource, axes: Axes | None, *, query: str, score: str, bad_axes: str, cluster: str | None
) -> ScoreRows:
    """The rows of a table. Raises `InputError` for whatever is wrong with its columns."""
    if axes is not None and (not isinstance(axes, Iterable) or len(set(axes)) < len(list(axes))):
        raise InputError(f"cannot attribute the table: axes is {axes!r:.60}; name each axis' column once")
    marking = [bad_axes] if axes is None else list(axes)
    _check_names(source, axes, marking)
    _need_column(source, query, "the query; name another by `query`")
    _need_column(source, score, "the score; name another by `score`")
    if cluster is not None:
        _need_column(source, cluster, "the cluster")
    taken = source.take(list(dict.fromkeys([*marking, query, *([] if cluster is None else [cluster])])), score)
    if not len(taken.numbers):
        raise InputError("cannot attribute the table: it has no rows; give one row for each query and cell")
    names, cell, kept = _cells_of_rows(taken, axes, marking)
    return _numbered_rows(taken, names, cell, kept, query=query, score=score, cluster=cluster)


def _check_names(source: ColumnSource, axes: Axes | None, marking: Sequence[str]) -> None:
    for name in marking:
        what = "which axes a row took from the bad release; or name the axes' columns by `axes`" if axes is None else "an axis"
        _need_column(source, name, what)
    if isinstance(axes, Mapping):
        for axis, pair in axes.items():
            _check_pair(axis, pair)


def _need_column(source: ColumnSource, column: str, what: str) -> None:
    if column not in source.names:
        have = ", ".join(source.names[:20])
        raise InputError(f"cannot attribute the table: it has no column {column!r} ({what}); its columns: {have}")


def _check_pair(axis: str, pair: Any) -> None:
    if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[0] == pair[1]:
        raise InputError(f"axis {axis!r}: give its two levels as (good, bad), got {pair!r}")


# -- the cell of each row --------------------------------------------------------------------------------------------
def _cells_of_rows(
    taken: TakenColumns, axes: Axes | None, marking: Sequence[str]
) -> tuple[tuple[str, ...], CellNumbers, Bools | None]:
    """The names of the axes, (rows,) cells (bit i: axis i is bad), and which rows count (None: all)."""
    columns = [taken.coded[name] for name in marking]
    if axes is None:
        sets = [_names_in(value) for value in columns[0].values]
        names = tuple(dict.fromkeys(itertools.chain.from_iterable(sets)))
        _check_count(names)
        masks = [sum(1 << names.index(axis) for axis in chosen) for chosen in sets]
        return names, _row_values(columns[0], masks), None
    names = tuple(axes)
    _check_count(names)
    kept = None
    if isinstance(axes, Mapping):
        kept = _at_levels(axes, columns)
        bits = [
            [_is_level(value, pair[1]) for value in column.values] for column, pair in zip(columns, axes.values(), strict=True)
        ]
    else:
        bits = [_bad_bits(axis, column) for axis, column in zip(axes, columns, strict=True)]
    cell = np.zeros(len(taken.numbers), np.int16)
    for i, (column, each) in enumerate(zip(columns, bits, strict=True)):
        cell |= _row_values(column, [int(bit) << i for bit in each])
    return names, cell, kept


def _check_count(names: Sequence[str]) -> None:
    if not 1 <= len(names) <= MOST_AXES:
        raise InputError(f"cannot attribute the table: it has {len(names)} axes; 1 to {MOST_AXES} can be told apart")


def _row_values(column: CodedColumn, by_value: Sequence[int]) -> CellNumbers:
    """(rows,) what stands for each row's value; 0: it has none."""
    return np.array([*by_value, 0], np.int16)[column.codes]


def _names_in(value: Any) -> tuple[str, ...]:
    """The axes in a cell of `bad_axes`: a list, or text like "prompt+tools"; empty or missing: none."""
    if isinstance(value, str):
        return tuple(dict.fromkeys(part for part in re.split(r"[\s,;+|()\[\]'\"]+", value) if part))
    if isinstance(value, Iterable):
        return tuple(dict.fromkeys(str(part) for part in value))
    return ()


def _at_levels(axes: Mapping[str, tuple[Any, Any]], columns: Sequence[CodedColumn]) -> Bools | None:
    """Which rows have one of the two levels in every axis; None: all."""
    kept = np.ones(len(columns[0].codes), bool)
    for (axis, pair), column in zip(axes.items(), columns, strict=True):
        kept &= _row_values(column, [int(any(_is_level(value, level) for level in pair)) for value in column.values]) > 0
        if not kept.any():
            raise InputError(f"cannot attribute the table: no row has {pair[0]!r} or {pair[1]!r} in column {axis!r}")
    return None if kept.all() else kept


def _is_level(value: Any, level: Any) -> bool:
    """Whether a value is this level, in either's words: the process that reads Parquet gives dates as text and decimals as numbers."""
    return bool(value == level) or (type(value) is not type(level) and _plain_value_of(value) == _plain_value_of(level))


def _plain_value_of(value: Any) -> Any:
    in_utc = value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value
    return tidy(in_utc, where="a value")


def _written(value: Any) -> str:
    """How a value is written, whatever held it."""
    return value if isinstance(value, str) else str(_plain_value_of(value))


def _bad_bits(axis: str, column: CodedColumn) -> list[bool]:
    bits = [_BITS.get(_written(value).lower()) for value in column.values]
    if None in bits or column.codes.min() < 0:
        wrong = column.values[bits.index(None)] if None in bits else None
        raise InputError(
            f"axis {axis!r}: its column must hold 0 or 1 (1: from the bad release), got {wrong!r}; for other levels give "
            f"axes={{{axis!r}: (good level, bad level)}}"
        )
    return [bool(bit) for bit in bits]


_BITS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


# -- queries and clusters --------------------------------------------------------------------------------------------
def _numbered_rows(
    taken: TakenColumns,
    axes: tuple[str, ...],
    cell: CellNumbers,
    kept: Bools | None,
    *,
    query: str,
    score: str,
    cluster: str | None,
) -> ScoreRows:
    codes, values, names = taken.coded[query].codes, taken.numbers, taken.coded[query]
    groups = None if cluster is None else taken.coded[cluster].codes
    if kept is not None:
        cell, codes, values = cell[kept], codes[kept], values[kept]
        groups = None if groups is None else groups[kept]
    finite = np.isfinite(values)
    _check_size(values, score)
    if not finite.any():
        raise InputError(f"cannot attribute the table: column {score!r} has no score")
    if codes.min() < 0:
        raise InputError(
            f"cannot attribute the table: {int((codes < 0).sum())} rows have nothing in column {query!r}, so nobody knows which query "
            "they belong to; name the query in every row, or leave them out"
        )
    numbers, load, size = _renumbered_queries(codes, names)
    scores = values if finite.all() else np.where(finite, values, np.nan)
    return ScoreRows(
        axes, numbers, cell, scores, None if groups is None else _query_clusters(groups, numbers, size), load, size
    )


def _check_size(values: Floats, score: str) -> None:
    with np.errstate(invalid="ignore"):
        large = np.flatnonzero(np.abs(values) > LARGEST)
    if large.size:
        raise InputError(
            f"cannot attribute the table: column {score!r} holds {values[large[0]]:g}, beyond {LARGEST:g}; leave the cell empty where "
            "there is no score, or give the scores in a larger unit"
        )


def _renumbered_queries(codes: Ints, column: CodedColumn) -> tuple[Ints, Callable[[], Sequence[str]], int]:
    """Queries numbered in the order in which they come up; such as are written alike are one, the number 1 and the text "1"."""
    import pandas as pd

    codes = codes.astype(np.int64, copy=False)
    seen = np.zeros(int(codes.max()) + 1, bool)
    seen[codes] = True
    if not seen.all():
        codes, kept = pd.factorize(codes)
        return codes, lambda: [_written(column.values[i]) for i in kept.tolist()], len(kept)
    if not column.may_mix:
        return codes, lambda: list(map(_written, column.values)), len(seen)
    alike, names = pd.factorize(np.array(list(map(_written, column.values)), object))
    return alike[codes], names.tolist, len(names)


def _query_clusters(codes: Ints, numbers: Ints, queries: int) -> Ints:
    """(queries,) the cluster of each query, by its first row; a query that is in none is one of its own."""
    found = np.zeros(queries, np.int64)
    found[numbers[::-1]] = codes[::-1]
    alone = np.flatnonzero(found < 0)
    found[alone] = int(codes.max()) + 1 + np.arange(len(alone))
    return found


# -- queries by cells ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class CrossedScores:
    """The table by query and cell."""

    # (queries, cells) mean oriented scores; NaN where none.
    scores: Floats
    # The same over rows that have a score.
    known: Floats
    # (queries, cells) whether there is a row.
    asked: Bools
    # (cells,) rows, and (`errors`) those without a score.
    trials: Ints
    errors: Ints


def crossed_scores(rows: ScoreRows, *, incomplete: Incomplete, missing: Missing, metric: Metric) -> CrossedScores:
    """The rows by query and cell, several of a query in a cell averaged."""
    shape = (rows.size, 1 << len(rows.axes))
    place = rows.query * shape[1] + rows.cell
    has_score = ~np.isnan(rows.score)
    counts = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)
    asked = counts > 0
    _check_corners(rows, asked)
    if has_score.all():
        known, total = counts, _sums_by_place(place, rows.score, shape)
    else:
        known = np.bincount(place[has_score], minlength=counts.size).reshape(shape)
        total = _sums_by_place(place[has_score], rows.score[has_score], shape)
    del place
    total *= metric.sign
    with np.errstate(invalid="ignore"):  # none of none is NaN
        counted = scores = total / known
        if missing == "failed" and known is not counts:
            worst = score_ends(None, float(np.nanmin(metric.sign * rows.score)), float(np.nanmax(metric.sign * rows.score)))[0]
            counted = (total + worst * (counts - known)) / counts
    del total
    counted = _with_missing_filled(rows, counted, asked, incomplete)
    return CrossedScores(counted, scores, asked, counts.sum(0), (counts - known).sum(0))


def _sums_by_place(place: Ints, values: Floats, shape: tuple[int, int]) -> Floats:
    """Sums of the values at each place of a table of this shape."""
    return np.bincount(place, values, shape[0] * shape[1]).reshape(shape).astype(float, copy=False)


def _check_corners(rows: ScoreRows, asked: Bools) -> None:
    for cell, what in (
        (0, "the good release (no axis bad)"),
        (asked.shape[1] - 1, f"the bad release ({' + '.join(rows.axes)} bad)"),
    ):
        if not asked[:, cell].any():
            raise InputError(
                f"cannot attribute the table: it has no row for {what}, so there is no loss to explain; add those rows"
            )


def _with_missing_filled(rows: ScoreRows, scores: Floats, asked: Bools, incomplete: Incomplete) -> Floats:
    present = asked.any(0)
    lacking = np.flatnonzero((asked < present).any(1))
    if not lacking.size or incomplete == "keep":
        return scores
    if incomplete == "drop":
        if len(scores) - len(lacking) < 2:
            raise InputError("cannot attribute the table: fewer than 2 queries have every cell; run the missing ones")
        dropped = scores.copy()
        dropped[lacking] = np.nan
        return dropped
    first = lacking[0]
    cell = int(np.flatnonzero(present & ~asked[first])[0])
    raise InputError(
        f"the table is incomplete: {len(lacking)} of {len(scores)} queries lack a cell that others have (first "
        f"{rows.names[first]!r}, which lacks {_cell_words(cell, rows.axes)}); run them, or pass incomplete='drop' (leave those "
        "queries out) or 'keep' (use what they have)"
    )


def _cell_words(cell: int, axes: Sequence[str]) -> str:
    names = names_of(cell, axes)
    return " + ".join(names) + " bad" if names else "the good release"
