"""Laws of sampling: what the sample depends on, and what it must not depend on."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bisect_ai.queries.load_log import load_queries
from bisect_ai.queries.records import order_key
from bisect_ai.queries.sample import LogSettings, Sample, allocate
from bisect_ai.queries.survey import Smallest, repeated

IDS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=60, unique=True)
SIZES = st.dictionaries(st.text(max_size=3), st.integers(1, 500), min_size=1, max_size=12)


def rows_of(ids: list[str], strata: int = 3) -> list[dict[str, Any]]:
    return [{"id": name, "input": f"ask {name}", "intent": f"i{len(name) % strata}"} for name in ids]


def sampled(rows: list[dict[str, Any]], sample: int | None = 10, seed: int = 0) -> Sample:
    return load_queries(rows, settings=LogSettings(sample=sample, seed=seed, segment="intent"))


@settings(deadline=None)
@given(IDS, st.randoms(use_true_random=False), st.integers(0, 3))
def test_the_order_of_rows_changes_nothing(ids: list[str], order: random.Random, seed: int) -> None:
    shuffled = rows_of(ids)
    order.shuffle(shuffled)
    assert sampled(shuffled, seed=seed) == sampled(rows_of(ids), seed=seed)


@settings(deadline=None)
@given(IDS, st.integers(1, 80))
def test_a_sample_has_its_size_and_weighs_the_population(ids: list[str], size: int) -> None:
    sample = sampled(rows_of(ids), size)
    assert len(sample) == min(size, len(ids)) == len({query.id for query in sample.queries})
    assert sample.population == len(ids)
    if size >= 3:  # every stratum is represented
        assert sum(sample.weights) == pytest.approx(len(ids))


@settings(deadline=None)
@given(IDS, st.integers(1, 30))
def test_without_strata_a_smaller_sample_is_the_beginning_of_a_larger_one(ids: list[str], size: int) -> None:
    whole = load_queries(rows_of(ids), settings=LogSettings(sample=None))
    part = load_queries(rows_of(ids), settings=LogSettings(sample=size))
    assert [query.id for query in part.queries] == [query.id for query in whole.queries[:size]]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=40, unique=True), st.integers(0, 5), st.integers(1, 3))
def test_format_and_number_of_files_change_nothing(ids: list[int], seed: int, files: int) -> None:
    rows = rows_of([str(i) for i in ids])
    wanted = [query.id for query in sampled(rows, seed=seed).queries]
    with TemporaryDirectory() as folder:
        for part in range(files):
            mine = [{**row, "id": int(row["id"])} for row in rows[part::files]]
            if not mine:
                continue
            Path(folder, f"{part}.jsonl").write_text("\n".join(map(json.dumps, mine)))
            pd.DataFrame(mine).to_csv(Path(folder, f"{part}.csv"), index=False)
            pd.DataFrame(mine).to_parquet(Path(folder, f"{part}.parquet"))
        for suffix in ("jsonl", "csv", "parquet"):
            log = LogSettings(sample=10, seed=seed, segment="intent")
            found = load_queries(f"*.{suffix}", settings=log, folder=Path(folder))
            assert [query.id for query in found.queries] == wanted


@settings(deadline=None)
@given(SIZES, st.integers(1, 400))
def test_allocation_adds_up_and_never_asks_for_more_than_there_is(sizes: dict[str, int], sample: int) -> None:
    quotas = allocate(sizes, sample)
    assert sum(quotas.values()) == min(sample, sum(sizes.values()))
    assert all(0 <= quotas[name] <= size for name, size in sizes.items())
    if sample >= len(sizes):
        assert min(quotas.values()) >= 1
    assert allocate(dict(reversed(sizes.items())), sample) == quotas


@settings(deadline=None)
@given(SIZES, st.integers(1, 400))
def test_allocation_is_proportional_to_within_one_query(sizes: dict[str, int], sample: int) -> None:
    total = sum(sizes.values())
    if sample < total and all(sample * size >= total for size in sizes.values()):  # nobody needs the floor of one
        assert all(abs(quota - sample * sizes[name] / total) < 1 for name, quota in allocate(sizes, sample).items())


def test_every_prefix_is_a_random_sample() -> None:
    """Each id is as often in the first quarter as any other, over seeds; expected 50 of 200, sd 6.1."""
    ids = [f"q{i}" for i in range(40)]
    first = Counter[str]()
    for seed in range(200):
        first.update(query.id for query in sampled(rows_of(ids), None, seed).queries[:10])
    assert all(22 < first[name] < 78 for name in ids)


def test_the_order_is_fixed_for_all_time() -> None:
    """MD5 of `seed:id`, its first eight bytes as a little-endian number (RFC 1321, by hashlib): stored runs rest on it."""
    assert order_key(0, "a") == 7800741267992507906
    assert order_key(0, "\ud800") != order_key(0, "\udc00")


@settings(deadline=None)
@given(st.lists(st.integers(0, 30), max_size=80), st.integers(1, 10))
def test_the_smallest_keys_are_kept_with_all_their_places(keys: list[int], cap: int) -> None:
    kept = Smallest(cap)
    for place, key in enumerate(keys):
        kept.offer(key, place)
    smallest = sorted(set(keys))[:cap]
    assert sorted(kept.spots(cap)) == [place for place, key in enumerate(keys) if key in smallest]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=50))
def test_repeated_keys_are_found(keys: list[int]) -> None:
    assert repeated(keys) == {key for key, n in Counter(keys).items() if n > 1}
