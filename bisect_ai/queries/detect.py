"""Which tool wrote a file: the formats by name, and the recognition of one by its first records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from bisect_ai.errors import QueryError
from bisect_ai.queries.documents import Part, first_parts
from bisect_ai.queries.formats.braintrust import BRAINTRUST, WEAVE
from bisect_ai.queries.formats.deepeval import DEEPEVAL, RAGAS
from bisect_ai.queries.formats.field_table import Format
from bisect_ai.queries.formats.harness import LM_EVAL, OPENAI_EVALS
from bisect_ai.queries.formats.inspect_log import INSPECT
from bisect_ai.queries.formats.langfuse import LANGFUSE_EXPORT
from bisect_ai.queries.formats.langsmith import LANGSMITH_RUNS
from bisect_ai.queries.formats.litellm import LITELLM
from bisect_ai.queries.formats.mlflow import MLFLOW
from bisect_ai.queries.formats.openai import OPENAI
from bisect_ai.queries.formats.otlp import OTLP
from bisect_ai.queries.formats.promptfoo import PROMPTFOO
from bisect_ai.queries.imports import container, expanded, row_reader

_ALL = (
    *(OTLP, LANGFUSE_EXPORT, LITELLM, PROMPTFOO, INSPECT, OPENAI),
    *(DEEPEVAL, RAGAS, LANGSMITH_RUNS, BRAINTRUST, MLFLOW, WEAVE, LM_EVAL, OPENAI_EVALS),
)
IMPORTERS: Mapping[str, Format] = {each.name: each for each in _ALL}
PROBED = 20
"""Records that are looked at; a third of them must suit a format."""


def recognised(path: Path) -> str | None:
    """The name of the tool's format that the file's first records suit; None: plain rows, or nothing that can be read."""
    try:
        kind = container(path)
        if kind in ("zip", "sqlite"):
            return INSPECT.name if kind == "zip" else PROMPTFOO.name
        parts = list(_document_parts(path) if kind == "json" else _line_parts(path, kind))
    except (QueryError, OSError):
        return None
    suited = Counter(fmt.name for where, value in parts for fmt in IMPORTERS.values() if fmt.suits(where, value))
    name, count = suited.most_common(1)[0] if suited else ("", 0)
    return name if count * 3 >= len(parts) and count else None


def _document_parts(path: Path) -> Iterable[Part]:
    known = frozenset().union(*(fmt.inner for fmt in IMPORTERS.values()))
    return first_parts(path, known.__contains__, PROBED) or first_parts(path, "".__eq__, PROBED)


def _line_parts(path: Path, kind: str) -> Iterable[Part]:
    """The records of the first lines: at most as many of one line, since a line may be a whole export."""
    known = frozenset().union(*(fmt.inner for fmt in IMPORTERS.values()))
    for _, row in islice(row_reader(path, kind, skip_bad=True, most=PROBED).rows(), PROBED):
        yield from islice(expanded(dict(row), known, frozenset()), PROBED)
