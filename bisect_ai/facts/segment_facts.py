"""The run's segments: what the log's columns and the questions' wording say of each query, and the loss that goes with it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bisect_ai.attribution.problem import cluster_numbers, score_ends
from bisect_ai.attribution.questions.segments import Condition, Paired, Segment, find_slices, given_segments
from bisect_ai.queries.query import Query
from bisect_ai.queries.records import ID_IN_RUN, ORIGIN
from bisect_ai.runs.outcomes import Outcomes

# Columns that hold the query itself, its answer, or a name that no other query shares.
NOT_A_SLICE = {
    *(
        "id",
        "input",
        "messages",
        "history",
        "documents",
        "tool_results",
        "reference",
        "output",
        "scores",
        "release",
        "at",
        "cluster",
    ),
    *(*ORIGIN, ID_IN_RUN),
}
# Query index to score, higher being better.
Scores = dict[int, float]
# Of the queries, that a fact must hold for and be missing in.
SMALLEST_SHARE = 0.03
# Of a column, the most frequent ones; numbers with more are cut at their quantiles instead.
MOST_VALUES = 12
# Of the questions, the most frequent ones.
MOST_WORDS = 40
# Characters of a question that are read for words.
LETTERS = 500
_WORD, _DIGIT = re.compile(r"[^\W\d_]{3,30}"), re.compile(r"\d")  # words of three letters or more: shorter ones tell no topic


def segments_of_run(outcomes: Outcomes, cells: Mapping[int, Scores] | None = None) -> list[Segment]:
    """The given segments, then the slices that a search confirmed; both worst first.

    `cells`: oriented scores by cell, NaN where the call failed: such counts as the worst score, as it does in the loss.
    """
    rows, paired = _paired_answers(outcomes, cells)
    if len(rows) < 2:
        return []
    prepared = outcomes.prepared
    config, sample = prepared.config, prepared.sample
    queries = [sample.queries[i] for i in rows]
    given: list[Segment] = []
    if sample.segments is not None:
        given = given_segments(config.log.segment or "segment", [sample.segments[i] for i in rows], paired)
    found = find_slices(conditions(queries), paired, tolerance=config.tolerance, alpha=config.alpha, seed=config.seed)
    return [*given, *found]


def _paired_answers(outcomes: Outcomes, cells: Mapping[int, Scores] | None) -> tuple[list[int], Paired]:
    """The sampled queries with a score of good and of bad, and these scores, higher being better."""
    metric, sample, full = outcomes.prepared.metric, outcomes.prepared.sample, outcomes.prepared.problem.full
    seen = outcomes.ledger.observations
    known = seen.paired_scores(full, metric.name, metric) if cells is None else _counted_scores(outcomes, cells)
    rows, scores = list(known), np.array(list(known.values()), float).reshape(-1, 2)
    weights = np.array([sample.weights[i] for i in rows], float)
    return rows, Paired(scores[:, 0], scores[:, 1], weights, cluster_numbers(sample.clusters, rows))


def _counted_scores(outcomes: Outcomes, cells: Mapping[int, Scores]) -> dict[int, tuple[float, float]]:
    """The scores of good and of bad with failed calls as the worst."""
    known = [score for scores in cells.values() for score in scores.values() if not np.isnan(score)]
    problem = outcomes.prepared.problem
    worst = score_ends(problem.bounds, min(known, default=0.0), max(known, default=0.0))[0]
    good, bad = ({q: worst if np.isnan(x) else x for q, x in cells.get(cell, {}).items()} for cell in (0, problem.full))
    return {q: (good[q], bad[q]) for q in sorted(good.keys() & bad.keys())}


def conditions(queries: Sequence[Query]) -> list[Condition]:
    """Yes-or-no facts that hold for some of the queries, but not for nearly all or nearly none."""
    columns = sorted({column for query in queries for column in query} - NOT_A_SLICE)
    found = [c for column in columns for c in _of_column(column, [query.get(column) for query in queries])]
    texts = [query.input for query in queries]
    return [*found, *_of_text([text[:LETTERS] for text in texts]), *_of_shape(queries, texts)]


def _of_column(column: str, values: Sequence[Any]) -> Iterator[Condition]:
    plain = [v for v in values if isinstance(v, str | bool | int | float)]
    counts = Counter(str(v) for v in plain)
    if len(counts) > MOST_VALUES and all(isinstance(v, int | float) for v in plain):
        yield from _conditions_above(column, [float(v) if isinstance(v, int | float) else np.nan for v in values])
        return
    for value, _ in counts.most_common(MOST_VALUES):
        flags = np.array([isinstance(v, str | bool | int | float) and str(v) == value for v in values])
        if _is_some(flags.mean()):
            yield Condition(column, f"{column} = {value[:60]}", value, flags)


def _conditions_above(column: str, numbers: Sequence[float]) -> Iterator[Condition]:
    known = np.array(numbers)
    for limit in np.unique(np.nanquantile(known, [0.1, 0.25, 0.5, 0.75, 0.9])):  # cuts that leave a tenth on either side
        for word, flags in (("above", known > limit), ("at most", known <= limit)):
            if _is_some(flags.mean()):
                yield Condition(column, f"{column} {word} {limit:g}", f"{word} {limit:g}", flags)


def _of_text(texts: Sequence[str]) -> Iterator[Condition]:
    """Words that some questions have, the most frequent first."""
    sets = [set(_WORD.findall(text.casefold())) for text in texts]
    counts = Counter(word for words in sets for word in words)
    some = [word for word, count in counts.items() if _is_some(count / len(sets))]
    for word in sorted(some, key=lambda word: (-counts[word], word))[:MOST_WORDS]:
        yield Condition("input", f"input has {word!r}", word, np.array([word in words for words in sets]))


def _of_shape(queries: Sequence[Query], texts: Sequence[str]) -> Iterator[Condition]:
    yield from _conditions_above("words in input", [float(len(text.split())) for text in texts])
    facts: dict[str, Iterator[bool]] = {
        "input has a number": (_DIGIT.search(text, 0, LETTERS) is not None for text in texts),
        "input is no question": ("?" not in text[-LETTERS:] for text in texts),
        "input is not in ASCII": (not text[:LETTERS].isascii() for text in texts),
        "there is a history": (bool(q.get("history")) or len(q.get("messages") or ()) > 1 for q in queries),
        "documents were logged": (bool(q.get("documents")) for q in queries),
        "tools were used": (bool(q.get("tool_results")) for q in queries),
    }
    for fact, holds in facts.items():
        flags = np.fromiter(holds, bool, len(queries))
        if _is_some(flags.mean()):
            yield Condition(fact, fact, True, flags)


def _is_some(share: float) -> bool:
    """Whether a fact that holds for this share of the queries holds often enough, and is missing often enough, to be a slice."""
    return SMALLEST_SHARE <= share <= 1 - SMALLEST_SHARE
