"""Laws of a canary: what must not matter does not, and a log that grows goes on where it was."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisect_ai.attribution.questions.canary import Answers, CanaryRule, blocks_of, find
from bisect_ai.attribution.stats import sequences
from bisect_ai.facts.canary_facts import canary
from bisect_ai.queries.live_scores import Wanted, read_scored

SCORES = st.one_of(st.none(), st.sampled_from([0.0, 1.0]), st.floats(0, 1))
ANSWER = st.tuples(st.booleans(), SCORES, st.integers(0, 5), st.integers(0, 2))
STREAMS = st.lists(ANSWER, min_size=1, max_size=60)


def arrays(stream: list[tuple[bool, float | None, int, int]]) -> Answers:
    is_canary, score, cluster, segment = (list(column) for column in zip(*stream, strict=True))
    scores = np.array([np.nan if s is None else s for s in score])
    return Answers(np.array(is_canary, int), scores, np.array(cluster), np.array(segment))


@settings(deadline=None)
@given(STREAMS, st.integers(1, 60))
def test_more_answers_at_the_end_leave_the_blocks_before_them_as_they_were(stream: Any, cut: int) -> None:
    whole, part = arrays(stream), arrays(stream[:cut])
    after, before = blocks_of(whole, whole.score), blocks_of(part, part.score)
    n = len(before.end)
    for name in ("baseline", "canary", "end"):
        assert np.array_equal(getattr(after, name)[:n], getattr(before, name))


@settings(deadline=None)
@given(STREAMS)
def test_a_verdict_stays_when_scored_answers_follow(stream: Any) -> None:
    scored = [(c, 1.0 if s is None else s, k, g) for c, s, k, g in stream]
    rule = CanaryRule(0.4, 0.4)
    first = find(arrays(scored), rule, history=False)
    longer = find(arrays([*scored, *[(bool(i % 2), 0.5, 100 + i, 0) for i in range(20)]]), rule, history=False)
    if first.kind != "wait":
        assert (longer.kind, longer.decided_after, longer.loss) == (first.kind, first.decided_after, first.loss)


@settings(deadline=None)
@given(STREAMS)
def test_a_cluster_counts_in_one_block_at_most_and_every_answer_is_accounted_for(stream: Any) -> None:
    answers = arrays(stream)
    found, told = find(answers, CanaryRule(), history=False), blocks_of(answers, answers.score)
    assert answers.cluster is not None
    edges = np.searchsorted(told.end, np.flatnonzero(told.used))
    homes: dict[int, set[int]] = {}
    open_at = {}
    for block, place in zip(edges.tolist(), np.flatnonzero(told.used).tolist(), strict=True):
        open_at[place] = block
        homes.setdefault(int(answers.cluster[place]), set()).add(
            int(answers.segment[place]) if answers.segment is not None else 0
        )
    assert all(len(segments) == 1 for segments in homes.values())
    assert sum(side.answers for side in found.sides) == len(stream)
    scored = sum(side.answers - side.unscored for side in found.sides)
    assert scored == sum(side.counted for side in found.sides) + found.repeated + found.unpaired
    assert found.blocks <= min(side.counted for side in found.sides)


@settings(max_examples=40, deadline=None)
@given(STREAMS)
def test_names_of_clusters_and_segments_do_not_matter(stream: Any) -> None:
    renamed = [(c, s, 1000 - 7 * k, 50 - g) for c, s, k, g in stream]
    assert find(arrays(stream), CanaryRule(), history=False) == find(arrays(renamed), CanaryRule(), history=False)


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.sampled_from([0.01, 0.05, 0.3]))
def test_the_interval_is_where_nobody_got_rich_and_turns_with_the_sign(numbers: list[float], alpha: float) -> None:
    x = np.array(numbers)
    low, high = sequences.interval(x, alpha)
    assert -1 <= low < high <= 1
    assert low - 1e-9 <= x.mean() <= high + 1e-9
    assert sequences.interval(-x, alpha) == pytest.approx((-high, -low))
    assert sequences.path(x, low - 1e-6)[-1] >= -np.log(alpha) - 1e-3 if low > -0.999 else True
    fast = sequences.interval_fast(x, alpha)
    assert low - 2 / sequences.BINS <= fast[0] <= low + 1e-9
    assert high - 1e-9 <= fast[1] <= high + 2 / sequences.BINS


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
        assert (found.kind, found.blocks, found.loss.value) == ("wait", 0, None)
