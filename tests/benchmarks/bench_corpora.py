"""A drill-down's corpora beside one fit of scikit-learn's TF-IDF, in one run:

    python tests/benchmarks/bench_corpora.py [--documents 200000]

CPU seconds of the process, each part in a process of its own; limits: all mixtures at most 1.5 fits, memory at most 3 GiB. A search is
held against `matrix @ question` and a full sort, and against the same with `argpartition`.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

CHANGED = 64
"""Documents that the bad release has changed."""
MIXTURES = 64
QUESTIONS = 40


def corpora(count: int) -> tuple[dict[str, str], dict[str, str]]:
    """Good and bad: about 100 words a document of 200,000 words, the frequent ones as frequent as in prose (Zipf)."""
    rng = random.Random(0)
    words = [f"word{i:x}" for i in range(200_000)]
    weights = list(accumulate(1 / (i + 1) for i in range(len(words))))
    good = {f"{i:06}.md": " ".join(rng.choices(words, cum_weights=weights, k=100)) for i in range(count)}
    return good, {**good, **{name: good[name] + f" changed{name}" for name in rng.sample(sorted(good), CHANGED)}}


def questions() -> list[str]:
    rng = random.Random(1)
    return [" ".join(f"word{int(rng.paretovariate(0.5)) % 200_000:x}" for _ in range(8)) for _ in range(QUESTIONS)]


def mixtures(good: dict[str, str], bad: dict[str, str]) -> Iterator[dict[str, str]]:
    changed, rng = [name for name in good if good[name] != bad[name]], random.Random(2)
    for _ in range(MIXTURES):
        yield {**good, **{name: bad[name] for name in changed if rng.random() < 0.5}}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    made = work()
    return time.process_time() - began, made


def ours(count: int) -> dict[str, float]:
    from bisect_ai.targets.retrieval import Indexes

    good, bad = corpora(count)
    indexes = Indexes()
    first, index = timed(lambda: indexes.get(good))
    others, _ = timed(lambda: [indexes.get(corpus) for corpus in (bad, *mixtures(good, bad))])
    search, _ = timed(lambda: [index.search(question) for question in questions()])
    return {"first": first, "others": others, "search": search / QUESTIONS}


def scikit(count: int) -> dict[str, float]:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer

    good, _ = corpora(count)
    texts, vectorizer = [f"{name}\n{text}" for name, text in sorted(good.items())], TfidfVectorizer(sublinear_tf=True)
    fit, matrix = timed(lambda: vectorizer.fit_transform(texts))

    def scores(question: str) -> Any:
        return (matrix @ vectorizer.transform([question]).T).toarray().ravel()

    def sort(question: str) -> list[int]:
        found = scores(question)
        return sorted(range(count), key=lambda i: (-found[i], i))[:4]

    sorting, _ = timed(lambda: [sort(question) for question in questions()])
    partition, _ = timed(lambda: [np.argpartition(scores(question), -4)[-4:] for question in questions()])
    return {"fit": fit, "sort": sorting / QUESTIONS, "partition": partition / QUESTIONS}


def alone(part: str, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--part", part, "--documents", str(count)]
    found: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--part", choices=["ours", "scikit"])
    given = parser.parse_args()
    if given.part:
        found = {"ours": ours, "scikit": scikit}[given.part](given.documents)
        print(json.dumps({**found, "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
        return 0
    peer, own = alone("scikit", given.documents), alone("ours", given.documents)
    ratio = (own["first"] + own["others"]) / peer["fit"]
    print(f"one fit of scikit-learn       {peer['fit']:6.1f} s, {peer['gib']:.1f} GiB with the corpus")
    print(
        f"good, bad and {MIXTURES} mixtures     {own['first']:6.1f} s + {own['others']:.1f} s = {ratio:.2f} fits (at most 1.5)"
    )
    print(f"memory                        {own['gib']:6.1f} GiB (at most 3)")
    print(
        f"a search                      {own['search'] * 1e3:6.1f} ms; scikit-learn with a sort {peer['sort'] * 1e3:.0f} ms, "
        f"with argpartition {peer['partition'] * 1e3:.0f} ms"
    )
    return int(ratio > 1.5 or own["gib"] > 3 or own["search"] > peer["partition"])


if __name__ == "__main__":
    sys.exit(main())
