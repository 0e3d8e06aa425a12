"""A retriever that searches by embeddings: each text is embedded once, kept in the store, paid by the run; a fault is one line."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bisect_ai
from bisect_ai.errors import ConfigError, InputError, ReleaseError, TargetFailure
from bisect_ai.provider import retry
from bisect_ai.provider.completion import Vectors
from bisect_ai.provider.usage import Usage
from bisect_ai.store.trial_store import Store
from bisect_ai.targets.retrieval import Document, Indexes, pieces
from bisect_ai.targets.vector_index import Embedders, NoBook
from tests.faults.provider import Provider, Request, Say

WORDS = ("refund", "parcel", "password", "invoice")
SAME = {"money": "refund", "box": "parcel", "login": "password", "bill": "invoice"}
"""Words that a search by terms would not find."""
PRICES = {
    "openai/text-embedding-3-small": {"input": 1000.0, "output": 0.0},
    "openai/gpt-4o": {"input": 1.0, "output": 1.0, "max_output": 50},
}


def vector(text: str) -> list[float]:
    """How often each of the words, or one that means the same, stands in a text."""
    found = Counter(SAME.get(word, word) for word in text.lower().replace("\n", " ").split())
    return [float(found[word]) for word in WORDS] + [0.1]


class Shop:
    """A provider whose model answers rightly where the document that helps was found, and whose vectors count words."""

    def __init__(self, embed: Callable[[list[str]], Any] | None = None) -> None:
        self.embedded: list[str] = []
        self._embed = embed or self._vectors

    def __call__(self, request: Request) -> Say:
        if not request.path.endswith("/embeddings"):
            prompt = json.dumps(request.body["messages"])
            return Say(text="right" if "NUMBER" in prompt else "wrong")
        self.embedded += request.body["input"]
        said = self._embed(request.body["input"])
        return said if isinstance(said, Say) else Say(body=said)

    def _vectors(self, texts: list[str]) -> Any:
        return answered([vector(text) for text in texts])


def answered(vectors: Sequence[Any]) -> dict[str, Any]:
    data = [{"object": "embedding", "index": i, "embedding": each} for i, each in enumerate(vectors)]
    usage = {"prompt_tokens": 3 * len(vectors), "total_tokens": 3 * len(vectors)}
    return {"object": "list", "model": "text-embedding-3-small", "data": data, "usage": usage}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-nobody")
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.005)


DOCUMENTS = {f"{word}.md": f"All of a {word}: NUMBER {i}" for i, word in enumerate(WORDS)}
QUERIES = [{"id": str(i), "input": f"my {word} {i}", "reference": "right"} for i, word in enumerate([*SAME] * 12)]


def release(provider: Provider, documents: dict[str, str], prompt: str = "Be kind.", **retriever: Any) -> dict[str, Any]:
    model = provider.model("openai", "text-embedding-3-small")
    search = {"kind": "embedding", "model": model, "k": 1, **retriever}
    return {"model": provider.model("openai"), "prompt": prompt, "corpus": {"documents": documents, "retriever": search}}


def run(provider: Provider, store: Path | None, **given: Any) -> Any:
    bad = {name: text.replace("NUMBER", "") if name < "j" else text for name, text in DOCUMENTS.items()}
    how: dict[str, Any] = {
        "good": release(provider, DOCUMENTS),
        "bad": release(provider, bad, prompt="Be very kind."),
        "queries": QUERIES,
        "target": {"kind": "litellm", "timeout": 5, "deadline": 20, "prices": PRICES},
        "scorers": [{"kind": "contains", "name": "correct", "expected": "reference"}],
        "metric": "correct",
        "budget": {"calls": 600},
        "store": store,
        "seed": 0,
    }
    return bisect_ai.run(**{**how, **given})


def test_the_document_that_lost_its_number_is_found_and_each_text_embedded_once(tmp_path: Path) -> None:
    shop = Shop()
    with Provider(shop) as provider:
        first = run(provider, tmp_path)
        once, chats = len(shop.embedded), sum("chat" in r.path for r in provider.requests)
        again = run(provider, tmp_path, alpha=0.04)  # another run on the same texts
    assert [cause.axes for cause in first.verdict.causes] == [("corpus",)]
    assert set(Counter(shop.embedded).values()) == {1} and once == len(shop.embedded)
    assert first.usage.calls <= chats, "what is embedded is no call of a trial"
    with Store(tmp_path) as store:
        told = store.spending(store.find_run(first.to_dict()["run"]))
    assert told.scorers["retriever"] == pytest.approx(once * 3 * 1000 / 1e6)
    assert first.to_dict()["usage"]["usd"] >= told.scorers["retriever"] and again.verdict.kind == "cause"


def test_what_was_embedded_before_a_failure_is_kept(tmp_path: Path) -> None:
    shop, broken = Shop(), Shop(lambda texts: Say(500))
    with Provider(shop) as provider:
        script = provider._script
        provider._script = broken
        with pytest.raises(TargetFailure, match=r"the documents were not embedded: .*500.*no question was asked"):
            run(provider, tmp_path)
        assert all("embeddings" in request.path for request in provider.requests)
        provider._script = script
        assert run(provider, tmp_path).verdict.kind == "cause"


BROKEN: dict[str, Callable[[list[str]], Any]] = {
    "not a number": lambda texts: answered([["NaN", 1.0]] * len(texts)),
    "infinite": lambda texts: answered([[1e999, 1.0]] * len(texts)),
    "empty": lambda texts: answered([[]] * len(texts)),
    "one too few": lambda texts: answered([vector(text) for text in texts][1:]),
    "of two lengths": lambda texts: answered([[1.0] * (2 + i % 2) for i, _ in enumerate(texts)]),
    "text": lambda texts: answered(["1, 2"] * len(texts)),
    "nothing": lambda texts: {"object": "list"},
    "no JSON": lambda texts: Say(body=b"<html>"),
    "refused": lambda texts: Say(400, body={"error": {"message": "input is too long"}}),
    "no key": lambda texts: Say(401),
}


@pytest.mark.parametrize(("status", "told"), [(429, "RateLimitError"), (503, "ServiceUnavailableError|InternalServerError")])
def test_a_provider_that_holds_back_is_told_as_that_as_litellm_does_not_retry_by_itself(status: int, told: str) -> None:
    held = Shop(lambda texts: Say(status, headers={"retry-after": "30"}))
    with Provider(held) as provider, pytest.raises(TargetFailure, match=f"not embedded: ({told})"):
        run(provider, None)
    assert len(provider.requests) == 1


@pytest.mark.parametrize("name", BROKEN)
def test_vectors_that_are_none_end_the_run_before_a_question_is_asked(name: str) -> None:
    with Provider(Shop(BROKEN[name])) as provider, pytest.raises(TargetFailure) as raised:
        run(provider, None)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600
    assert all("embeddings" in request.path for request in provider.requests)


def test_a_question_that_cannot_be_embedded_is_a_failed_trial() -> None:
    def embed(texts: list[str]) -> Any:
        return Say(400) if "my money 0" in texts else answered([vector(text) for text in texts])

    with Provider(Shop(embed)) as provider:
        result = run(provider, None)
    failed = result.observations[result.observations["query"] == "0"]
    assert result.verdict.kind == "cause" and len(failed)
    assert failed["error"].str.startswith("the question was not embedded: ").all()


def test_the_cap_on_money_holds_for_vectors() -> None:
    shop = Shop()
    with Provider(shop) as provider:
        result = run(provider, None, budget={"calls": 600, "usd": 0.02})  # the documents of one side cost as much
    assert result.verdict.kind == "inconclusive" and result.usage.usd <= 0.02
    assert not any("chat" in request.path for request in provider.requests)


def test_what_the_settings_get_wrong_is_said_before_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with Provider(Shop()) as provider:
        for wrong, told in [
            ({"model": None}, "names no model"),
            ({"model": 3}, "names no model"),
            ({"model": {"model": "openai/x", "api_key": "sk-1"}}, "does not belong"),
            ({"chunk": 10}, "chunk is 10"),
            ({"chunks": 1000}, "key 'chunks' is unknown; known: kind, k, model, chunk"),
        ]:
            with pytest.raises(InputError, match=told):
                run(provider, None, good=release(provider, DOCUMENTS, **wrong))
        with pytest.raises(ConfigError, match="leave out jobs"):
            run(provider, None, jobs=2)
        monkeypatch.setenv("OPENAI_API_KEY", "")
        assert not provider.requests


def test_a_model_without_a_price_is_told_where_money_is_capped() -> None:
    with Provider(Shop()) as provider, pytest.raises(ConfigError, match="no price is known for openai/of-mine"):
        own = {"kind": "embedding", "model": provider.model("openai", "of-mine")}
        run(provider, None, bad=release(provider, DOCUMENTS, prompt="x", **own), budget={"usd": 1.0})
    assert not provider.requests


def indexes(told: list[str] | None = None) -> Indexes:
    async def embed(texts: Sequence[str], query: str = "") -> list[list[float]]:
        if told is not None:
            told.extend(texts)
        return [vector(text) for text in texts]

    return Indexes(lambda model: embed)


corpora = st.lists(st.lists(st.sampled_from([*WORDS, *SAME, "other"]), max_size=4).map(" ".join), min_size=1, max_size=5)


@settings(deadline=None, max_examples=60)
@given(union=st.lists(corpora, min_size=1, max_size=4), question=st.sampled_from([*SAME, "money box"]), k=st.integers(0, 4))
def test_a_mixture_finds_what_an_index_of_its_own_would(union: list[list[str]], question: str, k: int) -> None:
    told: list[str] = []
    shared, own = indexes(told), {"kind": "embedding", "model": "m/e", "k": k}

    async def asked() -> None:
        for corpus in union:
            found = await shared.find({"documents": list(corpus), "retriever": own}, question)
            assert found == await indexes().find({"documents": list(corpus), "retriever": own}, question)
            asked = np.array(vector(question))
            near = [float(asked @ v / np.linalg.norm(v)) for v in (np.array(vector(f"{i}\n{t}")) for i, t in enumerate(corpus))]
            best = sorted(range(len(corpus)), key=lambda i: (-round(1 + near[i] / np.linalg.norm(asked), 6), i))[:k]
            assert [one.id for one in found] == [str(i) for i in best]

    asyncio.run(asked())
    assert set(Counter(told).values()) <= {1}


@given(text=st.text(alphabet="ab \n", max_size=400), most=st.integers(50, 90))
def test_pieces_are_the_whole_text_and_none_is_too_long(text: str, most: int) -> None:
    found = list(pieces(Document("d", text), most))
    assert "".join(piece.text for piece in found) == text
    assert all(len(piece.text) <= most for piece in found) and len({piece.id for piece in found}) == len(found)


@pytest.mark.parametrize("kind", ["tfidf", "bm25", "embedding"])
def test_chunks_are_found_by_every_kind(kind: str) -> None:
    long = " ".join(["other"] * 40 + ["refund"] * 3 + ["other"] * 40)
    corpus = {"documents": {"a": long, "b": "parcel"}, "retriever": {"kind": kind, "model": "m/e", "k": 1, "chunk": 60}}
    (found,) = asyncio.run(indexes().find(corpus, "refund"))
    assert found.id.startswith("a#") and "refund" in found.text and len(found.text) <= 60


def test_vectors_of_two_lengths_over_two_requests_are_refused() -> None:
    sizes: Iterator[int] = iter([3, 4])

    async def embed(texts: Sequence[str], query: str = "") -> list[list[float]]:
        size = next(sizes)
        return [[1.0] * size for _ in texts]

    async def asked() -> None:
        index = Indexes(lambda model: embed)
        own = {"kind": "embedding", "model": "m/e"}
        await index.filled({"documents": {"a": "x"}, "retriever": own})
        with pytest.raises(retry.CallFailed, match="not of one length"):
            await index.find({"documents": {"a": "x"}, "retriever": own}, "?")

    asyncio.run(asked())


def test_without_a_model_to_call_it_is_said() -> None:
    with pytest.raises(ReleaseError, match="nothing calls the model"):
        Indexes().get({"documents": {"a": "x"}, "retriever": {"kind": "embedding", "model": "m/e"}})


def test_numbers_at_the_ends_of_the_scale_keep_their_direction() -> None:
    async def embed(texts: Sequence[str], query: str = "") -> list[list[float]]:
        return [[1e300, 1e300] if "far" in text else [1e-300, 0.0] if "near" in text else [0.0, 0.0] for text in texts]

    own = {"kind": "embedding", "model": "m/e", "k": 3}
    corpus = {"documents": {"zero": "", "near": "", "far": ""}, "retriever": own}
    found = asyncio.run(Indexes(lambda model: embed).find(corpus, "near"))
    assert [one.id for one in found] == ["near", "far", "zero"] and math.isfinite(1e300)


class Refusing:
    """A model that takes at most so many texts at a time, and none that is forbidden."""

    def __init__(self, most: int, forbidden: str = "") -> None:
        self.most, self.forbidden = most, forbidden
        self.sent: list[list[str]] = []
        self.answered: Counter[str] = Counter()

    async def embed(self, model: Any, texts: Sequence[str], **how: Any) -> Vectors:
        self.sent.append(list(texts))
        await asyncio.sleep(0)
        if len(texts) > self.most or (self.forbidden and self.forbidden in texts):
            raise retry.CallFailed("400: too much", outcome="failed")
        self.answered.update(texts)
        return Vectors(tuple((1.0, float(len(text))) for text in texts), Usage())


class Kept(NoBook):
    def __init__(self) -> None:
        self.vectors: dict[str, Any] = {}

    def find(self, identity: str) -> Any:
        return self.vectors.get(identity)

    def keep(self, identity: str, query: str, record: Any) -> None:
        self.vectors[identity] = record


def embedder(model: Refusing, book: Kept) -> Any:
    embedders = Embedders(model, {}, folder=Path(), seconds=5)  # type: ignore[arg-type]  # of completions it takes `embed` alone
    embedders.keep_in(book)
    return embedders.of({"model": "openai/x"})


def test_a_request_that_is_too_large_is_sent_in_parts_and_no_later_one_is_as_large() -> None:
    model = Refusing(10)
    embed = embedder(model, Kept())
    texts = [f"text {i}" for i in range(300)]
    assert asyncio.run(embed(texts)) == [[1.0, float(len(text))] for text in texts]
    model.sent.clear()
    asyncio.run(embed([f"other {i}" for i in range(30)]))
    assert max(map(len, model.sent)) <= 10 and set(model.answered.values()) == {1}


def test_a_text_that_is_refused_is_told_and_what_came_beside_it_is_not_asked_again() -> None:
    book, texts = Kept(), [f"text {i}" for i in range(400)]
    model = Refusing(64, forbidden="text 70")
    with pytest.raises(retry.CallFailed, match="the text of 7 characters that begins 'text 70'"):
        asyncio.run(embedder(model, book)(texts))
    assert len(book.vectors) >= 250
    model.forbidden = ""
    asyncio.run(embedder(model, book)(texts))
    assert model.answered == Counter(texts)


def test_texts_that_are_equal_where_they_are_cut_are_asked_once() -> None:
    model = Refusing(64)
    asyncio.run(embedder(model, Kept())(["a" * 9000, "a" * 9001]))
    assert model.answered == {"a" * 8000: 1}


def test_documents_and_questions_of_any_characters_are_embedded() -> None:
    shop, odd = (
        Shop(),
        {"half of a pair \ud800": "\ud800", "zero": "a\x00b", "empty": "", "blank": " \n\u2028", "注文": "\U0001f600"},
    )
    with Provider(shop) as provider:
        good, bad = (release(provider, {**DOCUMENTS, **odd, **more}) for more in ({}, {"zero": "NUMBER"}))
        queries = [{"id": "odd", "input": "my money \ud800", "reference": "right"}, *QUERIES]
        result = run(provider, None, good=good, bad=bad, queries=queries)
    assert {"half of a pair ?\n?", "zero\na\x00b", "empty\n", "注文\n\U0001f600"} <= set(shop.embedded)
    assert not result.observations["error"].fillna("").str.contains("embedded").any()
