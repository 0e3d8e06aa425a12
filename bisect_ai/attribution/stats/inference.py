"""Estimates of contrasts from a table of scores, paired by query, with cluster-robust intervals.

The sampling unit is the query (or the declared cluster). A contrast is estimated by the same combination of weighted cell
means; its variance is that of the sum of the queries' influence values, clusters added up first (the sandwich of Liang and
Zeger 1986, with the G/(G-1) correction and t quantiles on G - 1 degrees of freedom). With no missing score it is the mean and
the standard error of per-query differences.

The intervals speak of the queries in the log. When the sample is a large part of the log, the part of the variance that lies
between queries shrinks by the finite population correction (Cochran 1977, section 2.6), the part that is run-to-run noise does
not. The noise is read off the interactions: most contrasts of high order hold nothing else, so the median of their mean squares
is an estimate that errs upwards (the idea of Lenth 1989). A judge's noise is no part of what the correction takes away either, and
cells that share a verdict do not show it: `verdicts` says how it is carried.

Where chance put queries into a few cells each, without regard to how they answer (`LevelledTable`), the cell means come from
generalised least squares with one variance between queries and one within (a saturated model of the cells: Zeger, Liang and Albert
1988), so cells that share queries are compared within them; the working variances may be wrong, the sandwich of query influences
holds all the same.

The scores of a fixed design are a linear model in statsmodels too, the regression that the report's contrasts come from: score =
const + sum over sets T of axes of effect(T) x(T), where x(T) is minus the product over T of (1/2 if bad, else -1/2). So the
coefficient of an axis is its main effect and that of a set its factorial interaction (Box, Hunter and Hunter 2005, ch. 5), in score
points, positive when the change costs quality: `interaction_contrast`. Weighted least squares; the errors are clustered
by query, or by the declared cluster (Liang and Zeger 1986), with t quantiles on clusters less one.

Its values agree with the contrasts to rounding wherever every term can be told apart. Its errors are larger by statsmodels' sqrt((n
- 1) / (n - p)) for n scores and p terms, and have no finite population correction: they speak of queries to come, not of the log.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bisect_ai.attribution.problem import (
    Bools,
    Estimate,
    Floats,
    Ints,
    JudgeNoise,
    cluster_numbers,
    interaction_contrast,
    share_of,
)

# Queries from which a table keeps sums over them, instead of going through them for each contrast: 60 contrasts of 10^6
# queries in 16 cells take 5 s one by one and 0.4 s so.
LARGE = 1 << 15
# The part of what adds up to a variance below which it is taken from the queries after all: sums lose the digits that
# cancel.
CANCELLED = 1e-4


def t_quantile(freedom: float, level: float = 0.975) -> float:
    """The quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, level))


def t_tail(value: float, freedom: float) -> float:
    """The probability above `value` by Student's t."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -value))


def z_quantile(level: float) -> float:
    """The quantile of the normal."""
    from scipy.special import ndtri

    return float(ndtri(level))


@dataclass(frozen=True)
class Fit:
    """A contrast's estimate, its standard error and degrees of freedom; `queries` is how many had a part in it."""

    value: float
    error: float
    freedom: int
    queries: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """The central interval by Student's t."""
        half = self.error * t_quantile(self.freedom, (1 + level) / 2)
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """Two-sided p-value of "no effect", never below that of a sign test: a few queries prove little, however alike they are."""
        if self.value == 0:
            return 1.0
        smallest = 0.5**self.freedom
        return max(smallest, 2 * t_tail(abs(self.value) / self.error, self.freedom)) if self.error else smallest


@dataclass(frozen=True)
class ScoreTable:
    """Scores of queries in cells. Higher is better; NaN: no score."""

    # (n, cells)
    scores: Floats
    # (n,) logged queries that each sampled one stands for.
    weights: Floats
    # (n,) cluster numbers 0..G-1.
    clusters: Ints
    # Queries in the log; infinity when unknown.
    population: float
    # The noise of the verdicts that the scores rest on; None: no judge gave them.
    judge: JudgeNoise | None = None

    @cached_property
    def present(self) -> Floats:
        """(n, cells) 1 where there is a score."""
        return (~np.isnan(self.scores)).astype(float)

    @cached_property
    def is_complete(self) -> bool:
        """Whether every query has a score in every cell."""
        return not bool(np.isnan(self.scores).any())

    @cached_property
    def filled(self) -> Floats:
        """(n, cells) the scores, 0 where there is none."""
        return self.scores if self.is_complete else np.where(np.isnan(self.scores), 0.0, self.scores)

    @cached_property
    def mass(self) -> Floats:
        """(cells,) total weight of the scores in each cell."""
        return np.asarray(self.weights @ self.present)

    @cached_property
    def means(self) -> Floats:
        """(cells,) weighted mean score, NaN where a cell has none."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((self.weights @ self.filled) / self.mass)

    @cached_property
    def influence(self) -> Floats:
        """(n, cells) influence of each query on each cell's mean; columns sum to 0."""
        found = self.filled - np.nan_to_num(self.means)  # in place from here: a table may take a tenth of the memory
        if not self.is_complete:
            found *= self.present
        found *= self.weights[:, None]
        found /= np.where(self.mass > 0, self.mass, 1.0)
        return found

    @cached_property
    def by_cluster(self) -> Floats:
        """(G, cells) influence summed within clusters."""
        if self._is_large and np.array_equal(self.clusters, np.arange(len(self.clusters))):
            return self.influence
        return np.column_stack([np.bincount(self.clusters, column) for column in self.influence.T])

    def covariance(self, contrasts: Floats) -> Floats:
        """(m, m) cluster-robust covariance of m contrasts (rows), finite population correction included."""
        raw = self.raw_covariance(contrasts)
        if not self._sampled:
            return raw
        shrink = np.sqrt(1 - self._sampled * (1 - self._noise_shares(contrasts, np.diag(raw))))
        return np.asarray(raw * np.outer(shrink, shrink))

    def raw_covariance(self, contrasts: Floats) -> Floats:
        """(m, m) without the correction: of queries like these; of a large table from the cells' own, unless that would cancel away."""
        groups = len(self.by_cluster)
        scale = groups / max(groups - 1, 1)
        if self._is_large:
            raw = contrasts @ self._cluster_products @ contrasts.T
            if (
                np.diag(raw) > CANCELLED * np.diag(np.abs(contrasts) @ np.abs(self._cluster_products) @ np.abs(contrasts.T))
            ).all():
                return np.asarray(raw * scale)
        parts = self.by_cluster @ contrasts.T
        return np.asarray(parts.T @ parts * scale)

    @property
    def _is_large(self) -> bool:
        return len(self.scores) >= LARGE

    @cached_property
    def _cluster_products(self) -> Floats:
        """(cells, cells) sums over clusters of the products of two cells' influences."""
        return np.asarray(self.by_cluster.T @ self.by_cluster)

    def fit(self, contrast: Floats) -> Fit | None:
        """The contrast's fit, or None when one of its cells has no score."""
        used = np.abs(contrast) > 0
        if not (self.mass[used] > 0).all():
            return None
        queries, groups = self._counts_of_used(used)
        value = float(contrast[used] @ self.means[used])
        error = float(np.sqrt(self.covariance(contrast[None])[0, 0]))
        value, error = (x if abs(x) > self._rounding_left else 0.0 for x in (value, error))
        return Fit(value, error, max(groups - 1, 1), queries)

    def _counts_of_used(self, used: Bools) -> tuple[int, int]:
        """The queries, and the clusters, that have a score in any of the `used` cells."""
        if self._is_large:
            queries, groups = (int(counts[shapes[:, used].any(1)].sum()) for shapes, counts in self._shapes_of_cells)
            return queries, groups
        rows = self.present[:, used].any(1)
        return int(rows.sum()), int((np.bincount(self.clusters[rows]) > 0).sum())

    @cached_property
    def _shapes_of_cells(self) -> list[tuple[Bools, Ints]]:
        """For queries, then clusters: the different sets of cells (sets, cells) that they have scores in, and how many have each."""
        if self.is_complete:
            groups = int(np.count_nonzero(np.bincount(self.clusters)))
            return [(np.ones((1, len(self.mass)), bool), np.array([count])) for count in (len(self.scores), groups)]
        by_cluster = np.column_stack([np.bincount(self.clusters, column) for column in self.present.T])
        return [_different_rows(present > 0) for present in (self.present, by_cluster)]

    @cached_property
    def _rounding_left(self) -> float:
        """What sums of scores that cancel may leave: a difference as small is none, whatever it is to its equally small error."""
        return 1e-10 * float(np.nanmax(np.abs(self.scores), initial=0.0))

    @cached_property
    def noise(self) -> float | None:
        """Run-to-run variance of one trial, erring upwards; None when the cells don't tell it."""
        k = self.scores.shape[1].bit_length() - 1
        whole = self.scores[~np.isnan(self.scores).any(1)] if k >= 2 else self.scores[:0]
        if len(whole) < 2:
            return None
        orders = [s for size in range(2, k + 1) for s in itertools.combinations(range(k), size)]
        highest = np.array([interaction_contrast(k, s) for s in orders])
        squares = ((whole @ highest.T) ** 2).mean(0)
        if self.judge is not None and self.judge.variance is not None:  # what verdicts put in is added for itself
            rows = ~np.isnan(self.scores).any(1)
            whole_of = JudgeNoise(self.judge.variance, self.judge.verdicts[rows])
            squares = np.maximum(squares - whole_of.of(highest, np.ones_like(whole)) / len(whole), 0.0)
        return float(np.median(squares / (highest**2).sum(1)))

    @property
    def _sampled(self) -> float:
        return float(min(1.0, self.weights.size / self.population))

    def _noise_shares(self, contrasts: Floats, variances: Floats) -> Floats:
        """(m,) the part of each contrast's variance that is run-to-run noise, 1 when unknown."""
        if self.noise is None or (self.judge is not None and self.judge.variance is None):
            return np.ones(len(contrasts))
        per_cell = (self.weights[:, None] ** 2 * self.present).sum(0) / np.where(self.mass > 0, self.mass, 1.0) ** 2
        noisy = self.noise * (contrasts**2 @ per_cell) + self.judged(contrasts)
        return np.asarray(np.clip(noisy / np.where(variances > 0, variances, np.inf), 0, 1))

    def judged(self, contrasts: Floats) -> Floats:
        """(m,) the part of each contrast's variance that is the judge's noise; 0 without a judge."""
        loads = self.weights[:, None] * self.present / np.where(self.mass > 0, self.mass, 1.0)
        return np.zeros(len(contrasts)) if self.judge is None else self.judge.of(contrasts, loads)


def _different_rows(rows: Bools) -> tuple[Bools, Ints]:
    """The different rows of a table of booleans and how often each stands there."""
    packed = np.packbits(rows, axis=1)
    _, first, counts = np.unique(packed.view(f"V{packed.shape[1]}")[:, 0], return_index=True, return_counts=True)
    return rows[first], counts


def paired_table(good: Floats, bad: Floats, *, weights: Floats | None = None, clusters: Ints | None = None) -> ScoreTable:
    """Two cells on the queries (n,) that have both scores (NaN: none); without weights all weigh the same."""
    both = np.flatnonzero(~np.isnan(good) & ~np.isnan(bad))
    known = np.ones(len(both)) if weights is None else weights[both]
    return ScoreTable(np.column_stack([good[both], bad[both]]), known, cluster_numbers(clusters, both), float("inf"))


def estimate(table: ScoreTable, contrast: Floats, *, what: str) -> Estimate:
    """The contrast as a reported estimate; undefined when a cell it needs has no score."""
    fit = table.fit(contrast)
    if fit is None:
        return Estimate(None, None, 0, f"{what}: not estimated, a cell that it needs has no score")
    low, high = fit.interval()
    if fit.error == 0:
        low, high = _interval_without_variation(table, fit, contrast)
    judged = share_of(float(table.judged(contrast[None])[0]), fit.error**2) if table.judge is not None else None
    return Estimate(fit.value, (low, high), fit.queries, method_of(table, what), judged)


def method_of(table: ScoreTable, what: str) -> str:
    """How an estimate came about, for the report."""
    clustered = int(table.clusters.max()) + 1 < len(table.clusters)
    spread = "cluster-robust" if clustered else "paired by query"
    return f"{what}, {spread}, 95 % t interval"


def holm(p_values: Sequence[float]) -> list[float]:
    """Family-wise adjusted p-values (Holm 1979). The tests hold it to statsmodels', whose every call collects garbage for 0.1 s."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def _interval_without_variation(table: ScoreTable, fit: Fit, contrast: Floats) -> tuple[float, float]:
    """With no variation among n queries: what a share of 1 - 0.025^(1/n) unseen queries of the seen range could move.

    Where all scores are one, the range is from 0 to it; where all are 0, 1.
    A judge may have said the same by chance, so its noise comes on top.
    """
    seen = table.scores[~np.isnan(table.scores)]
    reach = float(seen.max() - seen.min() or np.abs(seen).max() or 1.0) if seen.size else 0.0
    judged = float(table.judged(contrast[None])[0])
    sampled = table._sampled if np.isfinite(judged) else 0.0
    half = reach * (1 - 0.025 ** (1 / max(fit.freedom + 1, 1))) * (1 - sampled)
    half += t_quantile(fit.freedom) * np.sqrt(judged) if sampled else 0.0
    return fit.value - half, fit.value + half


FEWEST = 6  # queries in a cell


class LevelledTable(ScoreTable):
    """A score table whose cell means and influences come from generalised least squares with a level for each query."""

    @cached_property
    def means(self) -> Floats:
        """(cells,) mean score, NaN where a cell has none."""
        return np.where(self.mass > 0, self._inverse @ self._loaded_values(np.nan_to_num(self.scores)).sum(0), np.nan)

    @cached_property
    def influence(self) -> Floats:
        """(n, cells) influence of each query on each cell's mean."""
        return np.asarray(
            self._loaded_values(np.nan_to_num(self.scores - np.nan_to_num(self.means)) * self.present) @ self._inverse
        )

    @cached_property
    def _pull(self) -> Floats:
        """(n,) how much of a query's total its level takes up: t / (s + m t) for m scores, variances t between and s within."""
        count = self.present.sum(1)
        plain = np.nan_to_num(super().means)
        rest = np.nan_to_num(self.scores - plain) * self.present
        means = rest.sum(1) / np.maximum(count, 1)
        inside = float((((rest - means[:, None]) * self.present) ** 2).sum() / max((count - 1).clip(0).sum(), 1))
        between = max(float((means**2 - inside / np.maximum(count, 1))[count > 0].mean()), 0.0)
        inside = max(inside, 1e-6 * between)  # with none at all the level of all cells would be undetermined
        return np.asarray(between / np.maximum(inside + count * between, 1e-300))

    def _loaded_values(self, values: Floats) -> Floats:
        """(n, cells) weighted values (n, cells, 0 where missing) less what the query's level takes up."""
        return np.asarray(self.weights[:, None] * self.present * (values - (self._pull * values.sum(1))[:, None]))

    @cached_property
    def _inverse(self) -> Floats:
        """(cells, cells) the inverse of the information of the cell means."""
        pulled = (self.weights * self._pull)[:, None] * self.present
        return np.asarray(np.linalg.pinv(np.diag(self.mass) - self.present.T @ pulled, hermitian=True))


# With more cells (7 and 8 axes of a user's table) only axes and pairs: 256 terms of 300 queries take 5 s and 0.9 GB.
MOST_TERMS = 64


def fit_regression(table: ScoreTable, axes: Sequence[str]) -> Any:
    """The fitted `statsmodels` RegressionResults; rows are scores by query and cell, NaN left out. `summary()` prints it."""
    import pandas as pd
    from statsmodels.regression.linear_model import WLS

    ran = np.flatnonzero(table.mass > 0)
    terms = regression_terms(axes, ran)
    query, place = np.nonzero(table.present[:, ran])
    design = pd.DataFrame({name: column[place] for name, column in terms.items()})
    scores = pd.Series(table.scores[:, ran][query, place], name="score")
    model = WLS(scores, design, weights=table.weights[query])
    return model.fit(cov_type="cluster", cov_kwds={"groups": table.clusters[query]}, use_t=True)


def regression_terms(axes: Sequence[str], cells: Ints) -> dict[str, Floats]:
    """Name to column (cells,) of the terms that these cells can tell apart: const, axes, then ever larger sets.

    A term that looks like another of its size shares its name, as in "a:b = c:d"; one that looks like smaller ones is taken as absent.
    """
    bad = (cells[:, None] >> np.arange(len(axes)) & 1) - 0.5
    names, columns = ["const"], [np.ones(len(cells))]
    for size in range(1, len(axes) + 1 if len(cells) <= MOST_TERMS else 3):
        first = len(columns)
        if first == len(cells):
            break
        for chosen in itertools.combinations(range(len(axes)), size):
            column, name = -bad[:, chosen].prod(1), ":".join(axes[a] for a in chosen)
            known = np.column_stack(columns)
            if np.abs(column - known @ np.linalg.lstsq(known, column, rcond=None)[0]).max() > 1e-9:
                names.append(name)
                columns.append(column)
                continue
            for place, sign in itertools.product(range(first, len(columns)), (1.0, -1.0)):
                if np.allclose(column, sign * columns[place]):
                    names[place] += f" = {'-' * (sign < 0)}{name}"
    return dict(zip(names, columns, strict=True))
