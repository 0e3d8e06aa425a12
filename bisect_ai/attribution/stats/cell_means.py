"""Scores of queries that chance put into cells, as a table that allows for each query's own level.

Queries ran in a few cells each, chosen without regard to how they answer. The cell means come from generalised least squares with
one variance between queries and one within (a saturated model of the cells: Zeger, Liang and Albert 1988), so cells that share
queries are compared within them; the working variances may be wrong, the sandwich of query influences holds all the same.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from bisect_ai.attribution.problem import Floats
from bisect_ai.attribution.stats.inference import ScoreTable

FEWEST = 6  # queries in a cell


class LevelledTable(ScoreTable):
    """A score table whose cell means and influences come from generalised least squares with a level for each query."""

    @cached_property
    def means(self) -> Floats:
        """(cells,) mean score, NaN where a cell has none."""
        return np.where(self.mass > 0, self._solved @ self._load(np.nan_to_num(self.scores)).sum(0), np.nan)

    @cached_property
    def influence(self) -> Floats:
        """(n, cells) influence of each query on each cell's mean."""
        return np.asarray(self._load(np.nan_to_num(self.scores - np.nan_to_num(self.means)) * self.present) @ self._solved)

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

    def _load(self, values: Floats) -> Floats:
        """(n, cells) weighted values (n, cells, 0 where missing) less what the query's level takes up."""
        return np.asarray(self.weights[:, None] * self.present * (values - (self._pull * values.sum(1))[:, None]))

    @cached_property
    def _solved(self) -> Floats:
        """(cells, cells) the inverse of the information of the cell means."""
        pulled = (self.weights * self._pull)[:, None] * self.present
        return np.asarray(np.linalg.pinv(np.diag(self.mass) - self.present.T @ pulled, hermitian=True))
