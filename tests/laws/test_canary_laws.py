"""Laws of a canary: what must not matter does not, and a log that grows goes on where it was."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisect_ai.attribution.questions.balance import LoggedColumn
from bisect_ai.attribution.questions.canary import find
from bisect_ai.attribution.questions.canary_looks import Answers, CanaryRule, looks_of
from bisect_ai.attribution.stats.adjusted import Frame, contrast, least, log_evidence
from bisect_ai.facts.canary_facts import canary
from bisect_ai.queries.live_scores import Wanted, read_scored

SCORES = st.one_of(st.none(), st.sampled_from([0.0, 1.0]), st.floats(0, 1))
ANSWER = st.tuples(st.booleans(), SCORES, st.integers(0, 5), st.integers(0, 2))
STREAMS = st.lists(ANSWER, min_size=1, max_size=120)


def arrays(stream: list[tuple[bool, float | None, int, int]]) -> Answers:
    is_canary, score, cluster, segment = (list(column) for column in zip(*stream, strict=True))
    scores = np.array([np.nan if s is None else s for s in score])
    names = tuple(map(str, range(max(segment) + 1)))
    column = LoggedColumn("kind", codes=np.array(segment), names=names)
    return Answers(np.array(is_canary, int), scores, np.array(cluster), (column,))


@given(st.integers(1, 3000), st.integers(0, 3000))
def test_a_longer_log_has_the_looks_of_a_shorter_one(n: int, more: int) -> None:
    shorter, longer = list(looks_of(n)), list(looks_of(n + more))
    assert longer[: len(shorter)] == shorter


@settings(max_examples=40, deadline=None)
@given(STREAMS)
def test_a_roll_back_stays_when_answers_follow(stream: Any) -> None:
    rule = CanaryRule(0.4, 0.4)
    first = find(arrays(stream), rule, history=False)
    longer = find(arrays([*stream, *[(bool(i % 2), 0.5, 100 + i, 0) for i in range(20)]]), rule, history=False)
    if first.kind == "roll_back":
        assert (longer.kind, longer.decided_after) == (first.kind, first.decided_after)


@settings(max_examples=40, deadline=None)
@given(STREAMS)
def test_every_answer_is_accounted_for(stream: Any) -> None:
    found = find(arrays(stream), CanaryRule(), history=False)
    assert sum(side.answers for side in found.sides) == len(stream)
    assert found.loss.n in (0, sum(side.answers - side.unscored for side in found.sides))


@settings(max_examples=40, deadline=None)
@given(STREAMS)
def test_names_of_clusters_and_segments_do_not_matter(stream: Any) -> None:
    renamed = [(c, s, 1000 - 7 * k, g) for c, s, k, g in stream]
    one, other = (find(arrays(each), CanaryRule(), history=False) for each in (stream, renamed))
    assert (one.kind, one.decided_after) == (other.kind, other.decided_after)
    assert one.loss.value == pytest.approx(other.loss.value)


@settings(deadline=None)
@given(st.floats(-1, 1), st.floats(0.01, 1), st.floats(0.1, 20), st.sampled_from([0.01, 0.05, 0.3]))
def test_the_interval_ends_where_the_wealth_passes_its_bound(mean: float, error: float, ratio: float, alpha: float) -> None:
    spread = error * ratio  # of few answers
    low = least(mean, error, spread, alpha)
    assert low < mean
    assert log_evidence(mean, error, spread, low) == pytest.approx(-np.log(alpha), abs=1e-3)
    assert log_evidence(mean, error, spread, low - error) > -np.log(alpha)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_the_contrast_is_that_of_statsmodels_but_for_what_is_made_up(seed: int, clustered: bool) -> None:
    """Reference: statsmodels OLS; the larger of the classical and the robust error; what is made up hardly counts."""
    import statsmodels.api as sm

    rng = np.random.default_rng(seed)
    n = 4000
    arm, x, stretch = rng.integers(0, 2, n), rng.normal(size=(n, 2)), np.arange(n) // 400
    cluster = rng.integers(0, 500, n)
    y = 0.3 * arm + x @ [0.5, -0.2] + 0.1 * stretch + rng.normal(size=n) + rng.normal(size=500)[cluster]
    found = contrast(Frame(arm, x, stretch, cluster if clustered else None), y, half=1e-9)
    dummies = (stretch[:, None] == np.arange(10)).astype(float)
    how = {"cov_type": "cluster", "cov_kwds": {"groups": cluster}} if clustered else {"cov_type": "HC1"}
    fitted = sm.OLS(y, np.column_stack([arm, x, dummies]))
    told, classical = fitted.fit(**how), fitted.fit()
    assert found is not None
    assert found.estimate == pytest.approx(told.params[0], abs=1e-8)
    assert found.error == pytest.approx(max(told.bse[0], classical.bse[0]), rel=1e-3)


RECORD = st.fixed_dictionaries(
    {
        "release": st.sampled_from(["v1", "v2", "v3"]),
        "at": st.integers(1_700_000_000, 1_700_000_005),
        "scores": st.fixed_dictionaries({"ok": SCORES}),
    }
)


@settings(deadline=None)
@given(st.lists(RECORD, min_size=2, max_size=30), st.randoms(use_true_random=False), st.booleans())
def test_the_order_of_lines_does_not_matter_where_times_are_logged(
    rows: list[Any], shuffle: random.Random, with_ids: bool
) -> None:
    rows = [{"release": name, "at": 1_700_000_000, "scores": {"ok": 1.0}} for name in ("v1", "v2")] + rows
    rows = [{**row, **({"id": f"q{i}"} if with_ids else {})} for i, row in enumerate(rows)]
    mixed = list(rows)
    shuffle.shuffle(mixed)
    one, other = (read_scored(each, Wanted("v1", "v2", "ok"))[0] for each in (rows, mixed))
    assert (one.digest, one.dropped) == (other.digest, other.dropped)
    assert one.read == len(one.answers) + sum(one.dropped.values()) == len(rows)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 50), st.floats(0.5, 200), st.floats(-100, 100))
def test_the_scale_of_the_metric_does_not_matter(seed: int, size: float, start: float) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.random(80)
    labels = ["v1" if i % 3 else "v2" for i in range(80)]

    def look(scores: Any, **scale: Any) -> dict[str, Any]:
        rows = [{"release": name, "scores": {"m": float(s)}} for name, s in zip(labels, scores, strict=True)]
        return canary(rows, baseline="v1", canary="v2", **scale).to_dict()

    plain = look(shares, tolerance=0.1)
    scaled = look(start + size * shares, tolerance=0.1 * size, bounds=(start, start + size))
    turned = look(-shares, tolerance=0.1, bounds=(-1, 0), higher_is_better=False)
    for other, factor in ((scaled, size), (turned, 1)):
        assert other["verdict"]["kind"] == plain["verdict"]["kind"]
        assert other["loss"]["estimate"] == pytest.approx(factor * plain["loss"]["estimate"], abs=1e-6 * factor)
        assert other["loss"]["interval"] == pytest.approx(
            [factor * end for end in plain["loss"]["interval"]], abs=1e-5 * factor
        )
    assert turned["loss"]["good"] == pytest.approx(-plain["loss"]["good"])


def test_the_rule_refuses_nothing_that_a_log_may_hold() -> None:
    """One release alone, all unscored, a single answer: no verdict, no error."""
    alone = Answers(np.array([0, 0]), np.array([1.0, 0.0]))
    for answers in (alone, replace(alone, score=np.array([np.nan, np.nan])), Answers(np.array([1]), np.array([0.5]))):
        found = find(answers, CanaryRule())
        assert (found.kind, found.loss.n, found.loss.value) == ("wait", 0, None)
