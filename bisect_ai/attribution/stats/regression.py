"""The scores of a fixed design as a linear model in statsmodels: the regression that the report's contrasts come from.

score = const + sum over sets T of axes of effect(T) x(T), where x(T) is minus the product over T of (1/2 if bad, else -1/2). So the
coefficient of an axis is its main effect and that of a set its factorial interaction (Box, Hunter and Hunter 2005, ch. 5), in score
points, positive when the change costs quality: `contrasts.interaction_contrast`. Weighted least squares; the errors are clustered by
query, or by the declared cluster (Liang and Zeger 1986), with t quantiles on clusters less one.

Values agree with `inference` to rounding wherever every term can be told apart. Errors are larger by statsmodels' sqrt((n - 1) /
(n - p)) for n scores and p terms, and have no finite population correction: they speak of queries to come, not of the log.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bisect_ai.attribution.problem import Floats, Ints

if TYPE_CHECKING:
    from bisect_ai.attribution.stats.inference import ScoreTable

MOST_TERMS = (
    64  # with more cells (7 and 8 axes of a user's table) only axes and pairs: 256 terms of 300 queries take 5 s and 0.9 GB
)


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
