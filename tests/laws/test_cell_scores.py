"""Differences that grow as outcomes come in are those that a reader of the whole finds, to the bit."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bisect_ai.attribution.problem import Outcome, Problem, Trial
from bisect_ai.attribution.search.query_rows import QueryRows

QUERIES, CELLS = 10, 4
FATES = st.sampled_from([("ok", 0.0), ("ok", 1.0), ("ok", 0.3), ("missing", None), ("error", None)])
OUTCOMES = st.lists(
    st.tuples(st.integers(0, QUERIES - 1), st.integers(0, CELLS - 1), FATES, st.booleans(), st.booleans()),
    max_size=40,
    unique_by=lambda o: o[:2],
)


def begun(weighted: bool) -> QueryRows:
    weights = np.linspace(0.5, 2.0, QUERIES) if weighted else None
    rows = QueryRows(Problem(axes=("a", "b"), queries=QUERIES, budget=200, weights=weights))
    while rows.begin({0}):
        rows.take(1)
    return rows


@given(OUTCOMES, st.booleans())
def test_grown_differences(outcomes: list[tuple[int, int, tuple[str, float | None], bool, bool]], weighted: bool) -> None:
    rows, whole, pairs = begun(weighted), begun(weighted), list(itertools.permutations(range(CELLS), 2))
    for query, cell, (status, score), chosen, looks in outcomes:
        for each in (rows, whole):
            if chosen and cell:
                each.advise([query], cell)
            each.hear([Outcome(Trial(query, cell), score, status)])  # type: ignore[arg-type]
        whole._pairs.clear()  # it remembers nothing
        for pair in pairs if looks else ():
            for found, expected in zip(rows.differences(*pair), whole.differences(*pair), strict=True):
                assert found.tolist() == expected.tolist()
