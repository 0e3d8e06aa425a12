"""Whatever mixture of documents is asked, over whatever union: its scores are those of an index fitted to it alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from bisect_ai.errors import ReleaseError
from bisect_ai.targets import term_index, term_numbers
from bisect_ai.targets.retrieval import DECIMALS, CorpusIndex, Document, Indexes, _best
from bisect_ai.targets.term_index import TermIndex

WORDS = (
    "parcel",
    "parcels",
    "Where",
    "where",
    "is",
    "my",
    "x",
    "Straße",
    "naïve",
    "注文",
    "0",
    "42",
    "é",
    "ﬁne",
    "İstanbul",
    "_",
    "a_b",
)
texts = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
corpora = st.lists(texts, min_size=1, max_size=12)


def fresh_tfidf(corpus: Sequence[str], question: str) -> Any:
    vectorizer = TfidfVectorizer(sublinear_tf=True)
    matrix = vectorizer.fit_transform(corpus)
    return (matrix @ vectorizer.transform([question]).T).toarray().ravel()


def fresh_bm25(corpus: Sequence[str], question: str, k1: float = 1.2, b: float = 0.75) -> Any:
    vectorizer = CountVectorizer()
    counts = vectorizer.fit_transform(corpus).toarray().astype(float)
    length = counts.sum(axis=1, keepdims=True)
    frequency = (counts > 0).sum(axis=0)
    idf = np.log1p((len(corpus) - frequency + 0.5) / (frequency + 0.5))
    weights = idf * counts * (k1 + 1) / (counts + k1 * (1 - b + b * length / max(length.mean(), 1.0)))
    return (weights @ vectorizer.transform([question]).toarray().T).ravel()


FRESH: Mapping[str, Callable[[Sequence[str], str], Any]] = {"tfidf": fresh_tfidf, "bm25": fresh_bm25}


def fitted(kind: str, corpus: Sequence[str], question: str) -> Any:
    """The scores of a fresh fit; without a single word scikit-learn has none, and nothing is common."""
    try:
        return FRESH[kind](corpus, question)
    except ValueError as error:
        assert "empty vocabulary" in str(error)
        return np.zeros(len(corpus))


@settings(deadline=None)
@given(
    kind=st.sampled_from(sorted(FRESH)),
    union=st.lists(corpora, min_size=1, max_size=5),
    block=st.integers(1, 99),
    question=texts,
    data=st.data(),
)
def test_a_mixture_scores_as_an_index_fitted_to_it_alone(
    kind: str, union: list[list[str]], block: int, question: str, data: st.DataObject
) -> None:
    index = TermIndex()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(term_index, "BLOCK", block)
        patch.setattr(term_index, "MERGED", data.draw(st.integers(0, 99), label="up to which blocks are merged"))
        patch.setattr(term_index, "SPARSE", data.draw(st.sampled_from([0, 99, 500_000]), label="from which on scipy counts"))
        for added in union:
            index.add(added)
    everything = [text for added in union for text in added]
    mixtures = st.lists(st.integers(0, len(everything) - 1), min_size=1, max_size=20)
    before, rows = data.draw(mixtures), data.draw(mixtures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(term_index, "SPARSE", data.draw(st.sampled_from([0, 99, 500_000]), label="from which on scipy sums"))
        getattr(index, kind)(np.array(before, dtype=np.int32))
        scores = getattr(index, kind)(np.array(rows, dtype=np.int32))
    index.add(["where is a later document", question])  # that is none of the mixture
    expected = fitted(kind, [everything[row] for row in rows], question)
    np.testing.assert_allclose(scores(question), expected, rtol=1e-12, atol=1e-14)


@settings(deadline=None)
@given(corpus=st.lists(st.text(st.characters(max_codepoint=127)) | st.text(), min_size=1, max_size=4))
def test_any_text_has_the_terms_that_scikit_learn_finds(corpus: list[str]) -> None:
    index = TermIndex()
    index.add(corpus)
    for text in corpus:
        expected = fitted("tfidf", corpus, text)
        np.testing.assert_allclose(index.tfidf(np.arange(len(corpus), dtype=np.int32))(text), expected, rtol=1e-12, atol=1e-14)


@settings(deadline=None)
@given(
    kind=st.sampled_from(sorted(FRESH)), union=st.lists(corpora, min_size=1, max_size=4), question=texts, k=st.integers(0, 5)
)
def test_the_best_are_those_of_a_fresh_fit_whatever_was_read_before(
    kind: str, union: list[list[str]], question: str, k: int
) -> None:
    indexes, settings = Indexes(), {"kind": kind, "k": k}
    for corpus in union:
        found = indexes.get({"documents": list(corpus), "retriever": settings}).search(question)
        scores = np.round(fitted(kind, corpus, question), 12)
        best = sorted((i for i in range(len(corpus)) if scores[i] > 0), key=lambda i: (-scores[i], i))[:k]
        assert found == tuple(Document(str(i), corpus[i]) for i in best)


# Words are told apart by eight characters at a time, four times.
long_words = st.text("ab", min_size=1, max_size=40) | st.sampled_from(["a" * 8, "a" * 16, "a" * 32, "a" * 33, "é" * 9])


@settings(deadline=None)
@given(
    corpus=st.lists(st.lists(long_words, max_size=9).map(" ".join), min_size=1, max_size=6),
    question=st.lists(long_words, max_size=9).map(" ".join),
    hashed=st.sampled_from([0, 500_000]),
)
def test_words_of_any_length_are_told_apart(corpus: list[str], question: str, hashed: int) -> None:
    index = TermIndex()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(term_numbers, "HASHED", hashed)
        index.add(corpus)
    for asked in (question, *corpus):
        expected = fitted("tfidf", corpus, asked)
        np.testing.assert_allclose(index.tfidf(np.arange(len(corpus), dtype=np.int32))(asked), expected, rtol=1e-12, atol=1e-14)


near = st.builds(lambda whole, part: whole / 4 + part * 10.0**-DECIMALS / 4, st.integers(-1, 4), st.integers(-6, 6))


@given(scores=st.lists(near, max_size=30), k=st.none() | st.integers(0, 31))
def test_the_best_go_by_rounded_scores_then_by_place(scores: list[float], k: int | None) -> None:
    rounded = np.round(np.array(scores), DECIMALS).tolist()
    expected = sorted((i for i, score in enumerate(rounded) if score > 0), key=lambda i: (-rounded[i], i))
    assert _best(np.array(scores), k) == expected[:k]


def test_a_mixture_adds_only_the_documents_that_are_new() -> None:
    indexes, added = Indexes(), list[int]()
    good = {f"{i:03}": f"document {i} of the good release" for i in range(100)}
    bad = {**good, "007": "another text"}
    indexes.get(good)
    index = indexes._unions[""].index
    add = index.add

    def counted(texts: list[str]) -> None:
        added.append(len(texts))
        add(texts)

    index.add = counted
    indexes.get(bad)
    indexes.get({**bad, "008": "a third"})
    indexes.get({**good, "008": "a third"})
    assert added == [1, 1, 0]


def test_a_corpus_is_read_once_off_the_event_loop_for_all_who_ask_at_the_same_time() -> None:
    indexes, corpus, readers = Indexes(), {"a": "parcels", "b": "boxes"}, list[threading.Thread]()
    built = indexes._built

    def noted(corpus: Any) -> CorpusIndex:
        readers.append(threading.current_thread())
        return built(corpus)

    indexes._built = noted  # type: ignore[method-assign]  # an object of this test's own

    async def asked() -> list[tuple[Document, ...]]:
        return await asyncio.gather(*(indexes.find(corpus, "parcels") for _ in range(5)))

    assert asyncio.run(asked()) == [(Document("a", "parcels"),)] * 5
    assert len(readers) == 1 and readers[0] is not threading.main_thread()


def test_a_corpus_that_cannot_be_read_fails_all_who_ask() -> None:
    async def asked() -> list[Any]:
        indexes, corpus = Indexes(), {"a": 1}
        return await asyncio.gather(*(indexes.find(corpus, "parcels") for _ in range(3)), return_exceptions=True)

    assert [type(each) for each in asyncio.run(asked())] == [ReleaseError] * 3


@pytest.mark.parametrize("text", [None, 1, ["parcels"]])
def test_a_text_that_is_none_is_refused_whatever_stood_there_before(text: Any) -> None:
    indexes = Indexes()
    for before in ({}, {"a": "parcels"}):
        indexes.get({**before, "b": "boxes"})
        with pytest.raises(ReleaseError, match="document 'a'"):
            indexes.get({"a": text, "b": "boxes"})


def test_a_text_that_moves_back_and_forth_is_the_one_that_stands_there() -> None:
    indexes, good = Indexes(), {"a": "parcels", "b": "boxes"}
    for corpus in (good, {**good, "a": "stamps"}, {**good}, {"a": "boxes", "b": "parcels"}):
        assert [d.text for d in indexes.get(corpus).search("parcels")] == [t for t in corpus.values() if t == "parcels"]


def test_documents_named_by_numbers_and_texts_are_read_in_one_order() -> None:
    corpus = {"b": "a parcel", 2: "a parcel", 10: "a letter"}
    assert [each.id for each in Indexes().get(corpus).search("parcel")] == ["2", "b"]
    indexes = Indexes()
    indexes.get({2: corpus[2], 10: corpus[10]})
    assert [each.id for each in indexes.get(corpus).documents] == ["10", "2", "b"]
    assert [each.id for each in Indexes().get({"documents": corpus, "retriever": "none"}).documents] == ["10", "2", "b"]


def test_documents_without_ids_are_not_read_anew_where_one_is_inserted_before_them() -> None:
    indexes, texts = Indexes(), [f"a letter of {word}" for word in ("parcels", "stamps", "boxes")]
    assert indexes.get(texts).search("stamps") == (Document("1", texts[1]),)
    assert indexes.get(["a new one", *texts]).search("stamps") == (Document("2", texts[1]),)
    assert indexes.get({"documents": texts, "retriever": {"chunk": 50}}).search("boxes") == (Document("2", texts[2]),)
    assert [each.text for each in indexes._unions[""].documents] == [*texts, "a new one"]
    assert [each.id for each in indexes.get(["a new one", *texts]).documents] == ["0", "1", "2", "3"]
