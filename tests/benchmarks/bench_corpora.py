"""A drill-down's corpora beside one fit of the peer, in one run:

    python tests/benchmarks/bench_corpora.py [--documents 200000] [--changed 64] [--kind tfidf | bm25 | embedding]

CPU seconds of the process, each part in a process of its own; limits: all mixtures at most 1.5 fits, memory at most 3 GiB. Of no side
counts what imports take, nor making the corpora and mixtures. A search is held against `matrix @ question` and a full sort, and
against the same with `argpartition`. Embeddings take what a model would answer from a random number generator, whose time is left
out; their search is held against one matrix of 32-bit floats.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import Any

MIXTURES = 64
# Numbers of a vector.
WIDE = 64
QUESTIONS = 40


def corpora(count: int, changed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Good and bad: about 100 words a document of 200,000 words, the frequent ones as frequent as in prose (Zipf)."""
    rng = random.Random(0)
    words = [f"word{i:x}" for i in range(200_000)]
    weights = list(accumulate(1 / (i + 1) for i in range(len(words))))
    good = {f"{i:06}.md": " ".join(rng.choices(words, cum_weights=weights, k=100)) for i in range(count)}
    return good, {**good, **{name: good[name] + f" changed{name}" for name in rng.sample(sorted(good), changed)}}


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


def vectors(texts: Sequence[str]) -> list[list[float]]:
    """One for each text, by its checksum."""
    drawn = [random.Random(zlib.crc32(text.encode())) for text in texts]
    return [[one.gauss(0.0, 1.0) for _ in range(WIDE)] for one in drawn]


def ours(count: int, changed: int, kind: str) -> dict[str, float]:
    import scipy.sparse  # noqa: F401

    from bisect_ai.targets.retrieval import Indexes

    spent, embedded = 0.0, 0

    async def embed(texts: Sequence[str], query: str) -> Any:
        nonlocal spent, embedded
        made_in, made = timed(lambda: vectors(texts))
        spent, embedded = spent + made_in, embedded + len(texts)
        return made

    good, bad = corpora(count, changed)
    retriever = {"kind": kind, **({"model": "x/y"} if kind == "embedding" else {})}
    indexes = Indexes(lambda model: embed)

    def read(corpus: dict[str, str]) -> Any:
        given = {"documents": corpus, "retriever": retriever}
        return asyncio.run(indexes.filled(given)) if kind == "embedding" else indexes.get(given)

    async def search(corpus: Any) -> None:
        for question in questions():
            await indexes.find(corpus, question)

    def search_all() -> None:
        for question in questions():
            index.search(question)

    first, index = timed(lambda: read(good))
    first -= spent
    before = spent
    others = sum((timed(partial(read, corpus))[0] for corpus in chain([bad], mixtures(good, bad))), 0.0)
    others -= spent - before
    before = spent
    if kind == "embedding":
        given = {"documents": good, "retriever": retriever}
        asyncio.run(indexes.filled(given))
        searching, _ = timed(lambda: asyncio.run(search(given)))
        assert embedded == count + changed + QUESTIONS, embedded
    else:
        searching, _ = timed(search_all)
    return {"first": first, "others": others, "search": (searching - (spent - before)) / QUESTIONS}


def peer(count: int, changed: int, kind: str) -> dict[str, float]:
    good, _ = corpora(count, changed)
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, vectorizer = [f"{name}\n{text}" for name, text in sorted(good.items())], TfidfVectorizer(sublinear_tf=True)
    fit, matrix = timed(lambda: vectorizer.fit_transform(texts))
    if kind != "embedding":
        return {
            "fit": fit,
            **_searching(count, lambda question: (matrix @ vectorizer.transform([question]).T).toarray().ravel()),
        }
    rows, asked = _unit_rows(vectors(texts)), dict(zip(questions(), vectors(questions()), strict=True))
    return {"fit": fit, **_searching(count, lambda question: rows @ _unit_rows([asked[question]])[0])}


def _unit_rows(lists: Sequence[Sequence[float]]) -> Any:
    import numpy as np

    found = np.array(lists, dtype=np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _searching(count: int, scores: Callable[[str], Any]) -> dict[str, float]:
    import numpy as np

    def sort(question: str) -> list[int]:
        found = scores(question)
        return sorted(range(count), key=lambda i: (-found[i], i))[:4]

    sorting, _ = timed(lambda: [sort(question) for question in questions()])
    partition, _ = timed(lambda: [np.argpartition(scores(question), -4)[-4:] for question in questions()])
    return {"sort": sorting / QUESTIONS, "partition": partition / QUESTIONS}


def alone(part: str, given: argparse.Namespace) -> dict[str, float]:
    sizes = ["--documents", str(given.documents), "--changed", str(given.changed), "--kind", given.kind]
    command = [sys.executable, __file__, "--part", part, *sizes]
    found: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--changed", type=int, default=64, help="documents that the bad release has changed")
    parser.add_argument("--kind", choices=["tfidf", "bm25", "embedding"], default="tfidf")
    parser.add_argument("--part", choices=["ours", "peer"])
    given = parser.parse_args()
    if given.part:
        found = {"ours": ours, "peer": peer}[given.part](given.documents, given.changed, given.kind)
        print(json.dumps({**found, "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))
        return 0
    other, own = alone("peer", given), alone("ours", given)
    ratio = (own["first"] + own["others"]) / other["fit"]
    print(f"{given.kind}, one fit of scikit-learn {other['fit']:6.1f} s, {other['gib']:.1f} GiB with the corpus")
    print(
        f"good, bad and {MIXTURES} mixtures     {own['first']:6.1f} s + {own['others']:.1f} s = {ratio:.2f} fits (at most 1.5)"
    )
    print(f"memory                        {own['gib']:6.1f} GiB (at most 3)")
    print(
        f"a search                      {own['search'] * 1e3:6.1f} ms; the peer with a sort {other['sort'] * 1e3:.0f} ms, "
        f"with argpartition {other['partition'] * 1e3:.0f} ms"
    )
    return int(ratio > 1.5 or own["gib"] > 3 or own["search"] > other["partition"])


if __name__ == "__main__":
    sys.exit(main())
