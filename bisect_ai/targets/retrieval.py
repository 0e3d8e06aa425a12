"""Which documents of the corpus axis does a question see? Every document is read once, whatever corpora and cells hold it."""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, repeat
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from bisect_ai.canonical import canonical, plain
from bisect_ai.errors import ReleaseError
from bisect_ai.provider.transport import close_connections
from bisect_ai.targets.vector_index import Embed, VectorIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bisect_ai.targets.term_index import TermIndex
    from bisect_ai.targets.term_numbers import Ints

DEFAULT_K = 4  # documents, as LangChain and most tutorials have it
REMEMBERED_CORPORA = 64  # cells of six axes
REMEMBERED_QUESTIONS = 50_000  # of a corpus; then all are forgotten, so that memory stays bounded

# Corpora whose texts are known by the object: mixtures are of two, and a release that follows brings a third.
KNOWN = 4

# Of a score that ranks: beyond them are roundings, which depend on what was read before; documents that tie go by their place.
DECIMALS = 12
# Characters: shorter pieces hold no sentence.
LEAST_CHUNK = 50
_GAP = re.compile(r"\s")  # a chunk ends between two words
# Documents from which on a search takes long enough, a millisecond, to be kept off the event loop.
LONG = 10_000
KINDS = ("tfidf", "bm25", "embedding", "none")

# A question to an array of one score per document, shape (documents,); 0 means nothing in common.
Scores = Callable[[str], Any]


class Document(NamedTuple):
    """One document of the corpus: its id (the relative path of a folder of files) and its text."""

    id: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """Plain JSON, as `Answer.documents` keeps it."""
        return {"id": self.id, "text": self.text}


@dataclass
class CorpusIndex:
    """One corpus made searchable; remembers what each question found.

    `rows`: the places of its documents in the union, in the corpus's order; `numbers`: their ids, where these are only their places.
    """

    union: Sequence[Document] = field(repr=False)  # asyncio writes out results: seconds of whole corpora
    rows: Sequence[int] | Ints = field(repr=False)
    scores: Scores | None
    k: int | None
    numbers: Sequence[str] | None = field(default=None, repr=False)
    # Where the scores come from embeddings: what has to have the question's before a search.
    vectors: VectorIndex | None = None
    _found: dict[str, tuple[Document, ...]] = field(default_factory=dict, repr=False)

    @property
    def documents(self) -> tuple[Document, ...]:
        """All of its documents."""
        return self._first(None)

    def search(self, question: str) -> tuple[Document, ...]:
        """The documents for `question`, best first, ties in corpus order. Retriever `none`: the first k."""
        if question not in self._found:
            if len(self._found) >= REMEMBERED_QUESTIONS:
                self._found.clear()
            self._found[question] = self._search(question)
        return self._found[question]

    def knows(self, question: str) -> bool:
        """Whether a search for it takes no time."""
        return question in self._found or self.scores is None

    def likely(self, question: str) -> tuple[Document, ...]:
        """What a search finds, or the first k documents where that takes calls of a model."""
        if self.vectors is not None and not self.vectors.knows(question):
            return self._first(self.k)
        return self.search(question)

    def _first(self, k: int | None) -> tuple[Document, ...]:
        return self._at(range(len(self.rows))[:k])

    def _search(self, question: str) -> tuple[Document, ...]:
        if self.scores is None or not len(self.rows):
            return self._first(self.k)
        return self._at(_best(self.scores(question), self.k))

    def _at(self, places: Iterable[int]) -> tuple[Document, ...]:
        found, ids = [(place, self.union[self.rows[place]]) for place in places], self.numbers
        return tuple(each if ids is None else Document(ids[place], each.text) for place, each in found)


def _best(scores: Any, k: int | None) -> list[int]:
    """Places of the k highest scores above 0, best first, ties by place."""
    import numpy as np

    least = np.partition(scores, -k)[-k] if k is not None and len(scores) > k > 0 else 0.0
    # What rounds to the k-th highest lies less than two last decimals below it.
    places = np.flatnonzero(scores > max(least - 2 * 10.0**-DECIMALS, 0.0))
    scores = np.round(scores[places], DECIMALS)
    order = np.argsort(-scores, kind="stable")
    found: list[int] = places[order[scores[order] > 0]][:k].tolist()
    return found


class Retriever(NamedTuple):
    """The `retriever` of a corpus axis. `model`: litellm's parameters; `chunk`: characters of a piece, None: documents whole."""

    kind: str
    k: int | None
    model: dict[str, Any] | None = None
    chunk: int | None = None


@dataclass(frozen=True)
class _Named:
    """A corpus of texts by name: its names and texts as given, the ids of these texts, their rows, and the order of the names."""

    names: list[Any]
    texts: list[Any]  # held, so that no other object gets the id of one
    ids: NDArray[np.uintp]
    rows: Ints
    order: NDArray[np.intp]

    @cached_property
    def _places(self) -> dict[Any, int]:
        return dict(zip(self.names, range(len(self.names)), strict=True))

    def rows_of(self, names: list[Any], ids: NDArray[np.uintp]) -> Ints:
        """The row of each text that stands here under its name, the same object; -1 for others."""
        import numpy as np

        if names == self.names:
            return np.where(ids == self.ids, self.rows, np.int32(-1))
        places = np.fromiter(map(self._places.get, names, repeat(-1)), dtype=np.int32, count=len(names))
        return np.where(
            ids == np.append(self.ids, np.uintp(0))[places], np.append(self.rows, np.int32(-1))[places], np.int32(-1)
        )


class _Union:
    """All documents that were given to one kind of index, and their rows in it."""

    def __init__(self, index: TermIndex | VectorIndex) -> None:
        self.index = index
        self.documents: list[Document] = []
        self._places: dict[Document, int] = {}
        self._known: deque[_Named] = deque(maxlen=KNOWN)

    def rows(self, given: Any, chunk: int | None) -> tuple[Ints, Sequence[str] | None]:
        """The rows of a corpus's documents, or of their pieces, and their ids where these are no more than their places."""
        if isinstance(given, Mapping) and chunk is None:
            return self._named_rows(given), None
        documents = read_pieces(given, chunk)
        if isinstance(given, Mapping) or any(isinstance(item, Mapping) and "id" in item for item in given):
            return self._rows(documents), None
        # One inserted before them changes their numbers alone. A model may refuse a text without a word.
        texts = [Document("" if each.text.strip() else each.id, each.text) for each in documents]
        return self._rows(texts), tuple(each.id for each in documents)

    def _named_rows(self, given: Mapping[Any, Any]) -> Ints:
        """The rows of documents by name. A text that stood under its name in a corpus known, the same object, is not looked up."""
        import numpy as np

        names, texts, rows = list(given), list(given.values()), np.full(len(given), -1, dtype=np.int32)
        # Each text is a miss of the processor's cache; by the slice, several are waited for at once: half the time.
        ids = np.fromiter(map(id, chain.from_iterable(texts[at : at + 32] for at in range(0, len(texts), 32))), dtype=np.uintp)
        for known in self._known:
            if (rows < 0).any():
                rows = np.maximum(rows, known.rows_of(names, ids))
        new = np.flatnonzero(rows < 0)
        rows[new] = self._rows([Document(str(names[i]), _document_text(texts[i], names[i])) for i in new.tolist()])
        order = next((known.order for known in self._known if known.names == names), None)
        order = np.array(_places_in_order(names), dtype=np.intp) if order is None else order
        if len(new):
            self._known.appendleft(_Named(names, texts, ids, rows, order))
        return np.asarray(rows[order])

    def _rows(self, documents: Sequence[Document]) -> Ints:
        """The rows of documents in the index, to which those that are new are added."""
        import numpy as np

        new = [each for each in dict.fromkeys(documents) if each not in self._places]
        self.index.add([f"{each.id}\n{each.text}" for each in new])
        self._places.update(zip(new, range(len(self.documents), len(self.documents) + len(new)), strict=True))
        self.documents += new
        return np.fromiter(map(self._places.__getitem__, documents), dtype=np.int32, count=len(documents))


class Indexes:
    """Indexes of corpora over the union of their documents. The same corpus object is not read twice; the oldest are forgotten.

    `embed` makes what embeds texts by a model, of its parameters.
    """

    def __init__(self, embed: Callable[[dict[str, Any]], Embed] | None = None) -> None:
        self._embed = embed
        # By the parameters of the embedding model; of terms under no name.
        self._unions: dict[str, _Union] = {}
        self._alone = Lock()
        self._by_content: OrderedDict[Any, CorpusIndex] = OrderedDict()
        # The object is held beside its index, so that its id cannot be given to another object meanwhile.
        self._by_object: OrderedDict[int, tuple[Any, CorpusIndex]] = OrderedDict()
        self._reading: dict[int, asyncio.Task[CorpusIndex]] = {}

    async def find(self, corpus: Any, question: str, query: str = "") -> tuple[Document, ...]:
        """`get` and `search` without holding the event loop up, the question of `query` embedded if need be.

        Raises what `get` and the embedding model's call raise.
        """
        index = await self.filled(corpus)
        if index.vectors is not None and not index.knows(question):
            await index.vectors.ask(question, query)
        if len(index.rows) < LONG or index.knows(question):
            return index.search(question)
        return await asyncio.to_thread(index.search, question)

    def embedding(self, *releases: Mapping[str, Any]) -> Callable[[], Coroutine[Any, Any, None]] | None:
        """Work that embeds the documents of all releases whose retriever asks for it, on a loop of its own; None: none does."""
        corpora = [release["corpus"] for release in releases if embedding_model(release) is not None]

        async def embed() -> None:
            try:
                for corpus in corpora:
                    await self.filled(corpus)
            finally:
                await close_connections()

        return embed if corpora else None

    async def filled(self, corpus: Any) -> CorpusIndex:
        """The index of a corpus with the vectors of its documents. Raises as `find`."""
        known = self._by_object.get(id(corpus))
        index = known[1] if known is not None else await asyncio.shield(self._read(corpus))
        if index.vectors is not None:
            await index.vectors.fill()
        return index

    def _read(self, corpus: Any) -> asyncio.Task[CorpusIndex]:
        """The one reading of a corpus for all who wait for it."""
        place = id(corpus)
        if place not in self._reading:
            task = self._reading[place] = asyncio.create_task(asyncio.to_thread(self.get, corpus))
            task.add_done_callback(lambda done: (self._reading.pop(place), done.cancelled() or done.exception()))
        return self._reading[place]

    def get(self, corpus: Any) -> CorpusIndex:
        """The index of a corpus axis (`{documents, retriever: {kind, k}}`, or the documents alone), built if it is new.

        Raises `ReleaseError` for a corpus that cannot be read.
        """
        with self._alone:
            known = self._by_object.get(id(corpus))
            if known is not None:
                return known[1]
            index = self._built(corpus)
            _remember(self._by_object, id(corpus), (corpus, index))
            return index

    def _built(self, corpus: Any) -> CorpusIndex:
        given, retriever = read_corpus(corpus)
        if retriever.kind == "none" or retriever.k == 0 or not given:
            documents = read_pieces(given, retriever.chunk)
            return CorpusIndex(documents, range(len(documents)), None, retriever.k)
        name = "" if retriever.model is None else canonical(retriever.model)
        union = self._union(name, retriever)
        rows, numbers = union.rows(given, retriever.chunk)
        key = name, retriever.kind, retriever.k, rows.tobytes(), numbers
        index = self._by_content.get(key)
        if index is None:
            scores = getattr(union.index, retriever.kind)(rows)
            vectors = union.index if isinstance(union.index, VectorIndex) else None
            index = CorpusIndex(union.documents, rows, scores, retriever.k, numbers, vectors)
        _remember(self._by_content, key, index)
        return index

    def _union(self, name: str, retriever: Retriever) -> _Union:
        if name in self._unions:
            return self._unions[name]
        if retriever.model is None:
            from bisect_ai.targets.term_index import TermIndex  # a corpus that nobody searches is only read

            self._unions[name] = _Union(TermIndex())
        else:
            if self._embed is None:
                raise ReleaseError("cannot search by embeddings here: nothing calls the model")
            self._unions[name] = _Union(VectorIndex(self._embed(retriever.model)))
        return self._unions[name]


def read_documents(value: Any) -> tuple[Document, ...]:
    """Documents of a mapping id -> text, or a list of `{id, text}` or texts. Raises `ReleaseError` otherwise."""
    if isinstance(value, Mapping):
        names = list(value)
        return tuple(Document(str(names[i]), _document_text(value[names[i]], names[i])) for i in _places_in_order(names))
    if isinstance(value, list | tuple):
        return tuple(_listed_document(item, place) for place, item in enumerate(value))
    if value is None:
        return ()
    raise ReleaseError(f"cannot read corpus.documents: it is a {type(value).__name__}; give a mapping or a list")


def _places_in_order(names: Sequence[Any]) -> list[int]:
    """The places of sorted names; numbers and texts together as they are written."""
    try:
        return sorted(range(len(names)), key=names.__getitem__)
    except TypeError:
        return sorted(range(len(names)), key=lambda place: str(names[place]))


def _listed_document(item: Any, place: int) -> Document:
    if isinstance(item, Mapping):
        return Document(str(item.get("id", place)), _document_text(item.get("text"), item.get("id", place)))
    return Document(str(place), _document_text(item, place))


def _document_text(value: Any, name: Any) -> str:
    if isinstance(value, str):
        return value
    raise ReleaseError(f"cannot read document {name!r} of the corpus: its text is a {type(value).__name__}, not a string")


def read_pieces(value: Any, most: int | None) -> tuple[Document, ...]:
    """The documents of a corpus as `read_documents`, in pieces of at most `most` characters."""
    documents = read_documents(value)
    return documents if most is None else tuple(piece for document in documents for piece in pieces(document, most))


def pieces(document: Document, most: int) -> Iterator[Document]:
    """A document in pieces of at most `most` characters that end between words where they can: `id#1`, `id#2`, …; a short one whole."""
    if len(document.text) <= most:
        yield document
        return
    start, number = 0, 1
    while start < len(document.text):
        end = start + most
        if end < len(document.text) and (gap := _GAP.search(document.text[start:end][::-1])) is not None and gap.end() < most:
            end -= gap.start()
        yield Document(f"{document.id}#{number}", document.text[start:end])
        start, number = end, number + 1


def read_corpus(corpus: Any) -> tuple[Any, Retriever]:
    """The documents of a corpus axis as given, and its retriever. Raises `ReleaseError` for a retriever that cannot be read."""
    axis = corpus if isinstance(corpus, Mapping) and "documents" in corpus else {"documents": corpus}
    return axis["documents"], _retriever(axis.get("retriever"))


def embedding_model(release: Mapping[str, Any]) -> dict[str, Any] | None:
    """litellm's parameters of the model that a release's retriever embeds by; None: another kind. Raises as `read_corpus`."""
    return read_corpus(release.get("corpus"))[1].model


def _retriever(value: Any) -> Retriever:
    settings = value if isinstance(value, Mapping) else {"kind": value or "tfidf"}
    for key in settings:
        if key not in Retriever._fields:
            raise ReleaseError(f"cannot read corpus.retriever: key {key!r} is unknown; known: {', '.join(Retriever._fields)}")
    kind = str(settings.get("kind", "tfidf"))
    if kind not in KINDS:
        raise ReleaseError(f"cannot read corpus.retriever: kind {kind!r} is unknown; use one of {', '.join(KINDS)}")
    k: Any = settings.get("k", None if kind == "none" else DEFAULT_K)
    chunk: Any = settings.get("chunk")
    for name, number, least in (("k", k, 0), ("chunk", chunk, LEAST_CHUNK)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < least):
            raise ReleaseError(f"cannot read corpus.retriever: {name} is {number!r}; give a whole number, {least} or more")
    return Retriever(kind, k, _embedding_model(settings.get("model")) if kind == "embedding" else None, chunk)


def _embedding_model(model: Any) -> dict[str, Any]:
    given = {"model": model} if isinstance(model, str) else model
    if not isinstance(given, Mapping) or not isinstance(given.get("model"), str) or not given["model"].strip():
        raise ReleaseError(
            "cannot read corpus.retriever: kind embedding names no model; write model: openai/text-embedding-3-small"
        )
    return {str(name): plain(value, where=f"corpus.retriever.model.{name}") for name, value in given.items()}


def _remember(table: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > REMEMBERED_CORPORA:
        table.popitem(last=False)
