"""Rows of result files: what pairs a row, who answered it, and its scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.advice import guessed_columns
from bisect_ai.queries.filters import Filtered
from bisect_ai.queries.normalise import exchange_of, logged_number, scores_of
from bisect_ai.queries.pairing import ResultRow, keys_of, variables_text
from bisect_ai.queries.readers import Source
from bisect_ai.queries.records import Row, Shape, label
from bisect_ai.queries.side_by_side import VARIANT, SheetSides
from bisect_ai.queries.values import embedded, missing, text_of

FIRST = 20
"""Rows that show whether answers stand side by side, and which column is the question."""
TEXT = 2_000
"""Characters of a question, a reference or an answer that are kept."""
NAME = 40
PLAIN = ("model", "solver", "prompt_version", "prompt_id", "prompt_name", "temperature", "top_p", "experiment", VARIANT)
"""Columns that say in a plain table what answered, where no importer does."""
SCORE_NAMES = ("score", "correct", "success", "pass", "passed", "accuracy", "grade")
"""Columns that are a score by their name in a plain table without `scores`."""
COSTS = {"usd": "usd", "cost": "usd", "latencyMs": "latency_ms", "latency_ms": "latency_ms", "latency_s": "latency_s"}
"""What an answer took, by the columns that say it: for scores, lower is better."""


class ResultReading:
    """One pass over one file."""

    def __init__(
        self, shape: Shape, rows: Source, by: tuple[str, ...], pair: str | None, metric: str | None, whole: bool
    ) -> None:
        self._by, self._pair, self._metric, self._whole = by, pair, metric, whole
        self._shape, self._source = shape, Filtered(rows, shape) if shape.filters else rows
        self.columns: set[str] = set()
        self.notices: list[str] = []
        self.unread: tuple[str, str] | None = None
        """A column that is called like a score and a value of it that is none."""

    @property
    def left_out(self) -> Counter[str]:
        """Records that gave no row, by reason."""
        return self._source.left_out

    def rows(self) -> list[ResultRow]:
        """Every row of the file; of several answers in a row each is one."""
        rows = self._source.rows()
        first = list(islice(rows, FIRST))
        self._guess([row for _, row in first])
        sides = (
            None
            if self._by or self._shape.scored
            else SheetSides.of([row for _, row in first], SCORE_NAMES, COSTS, self._metric)
        )
        if sides:
            self.notices.append(f"each row holds the answers of {', '.join(sides.columns)} side by side (guessed)")
        every = ((each, spot) for spot, row in chain(first, rows) for each in (sides.apart(row) if sides else (row,)))
        return [self._row(row, self._source.where(spot)) for row, spot in every]

    def _guess(self, first: Sequence[Row]) -> None:
        """Reads the question and the answer from columns of other names, where these leave no doubt and nobody named them."""
        asks = any(not missing(self._shape.get(row, name)) for row in first for name in ("input", "messages", "vars"))
        if asks or {"input", "messages"} & set(self._shape.columns) or not (guessed := guessed_columns(first)):
            return
        self._shape = replace(self._shape, columns={**guessed, **self._shape.columns})
        said = ", ".join(f"{ours}: {name}" for ours, name in guessed.items())
        self.notices.append(f"the results have no column input: read as columns: {{{said}}} (guessed)")

    def _row(self, row: Row, where: str) -> ResultRow:
        self.columns.update(row)
        shape = self._shape
        cluster, system = shape.get(row, "cluster"), row.get("system")
        failed = not missing(row.get("error")) and row.get("error") is not False
        return ResultRow(
            keys_of(row, shape, self._pair),
            {} if failed else self._scores(row, where),  # what a tool writes beside an error (0, false) scores no answer
            failed,
            _text_of_cell(variables_text(row) or self._question(row)),
            _text_of_cell(shape.get(row, "reference")),
            _text_of_cell(shape.get(row, "output")),
            None if missing(cluster) else text_of(cluster),
            dict(_plain_columns(row)),
            settings_of(row, shape, self._by),
            system if isinstance(system, str) else "",
            dict(row) if self._whole else None,
        )

    def _question(self, row: Row) -> Any:
        given = self._shape.get(row, "input")
        return given if isinstance(given, str) and given else exchange_of(given, self._shape.get(row, "messages")).question

    def _scores(self, row: Row, where: str) -> dict[str, float]:
        found = self._shape.scores(row)
        known = [] if found else [name for name in SCORE_NAMES if name in row]
        if not found and not known and not missing(given := self._shape.get(row, "scores")) and given != {}:
            self.unread = self.unread or ("scores", str(given)[:NAME])
        for name in (*known, *([self._metric] if self._metric and self._metric not in found else [])):
            found |= self._named_scores(name, self._shape.get(row, name), where)
        costs = {ours: value for theirs, ours in COSTS.items() if (value := _number_or_none(row.get(theirs))) is not None}
        return {**costs, **found}

    def _named_scores(self, name: str, given: Any, where: str) -> dict[str, float]:
        """The score of a column that is called like one, or those by name that it holds."""
        try:
            value = logged_number(given)
        except (TypeError, ValueError):
            if isinstance(embedded(given), Mapping | list) and (several := scores_of(given, name)):
                return several
            if name != self._metric:
                self.unread = self.unread or (name, str(given)[:NAME])
                return {}
            raise QueryError(
                f"{where}: the score {name!r} is {str(given)[:NAME]!r}, not a number; write numbers, true or false, and "
                "nothing where there is no score"
            ) from None
        return {} if value is None else {name: value}


def _number_or_none(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == value else None


def _text_of_cell(value: Any) -> str:
    return "" if missing(value) else (value if isinstance(value, str) else text_of(value))[:TEXT]


def _plain_columns(row: Row, *, before: str = "", deep: int = 2) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        value = embedded(value) if deep == 2 and isinstance(value, str) and len(value) < TEXT else value
        if isinstance(value, Mapping) and deep:
            yield from _plain_columns({str(k): v for k, v in value.items()}, before=f"{before}{name}.", deep=deep - 1)
        elif isinstance(value, str | bool | int | float) and not missing(value):
            yield f"{before}{name}", value[:NAME] if isinstance(value, str) else value


def settings_of(row: Row, shape: Shape, by: Sequence[str] = ()) -> dict[str, str]:
    """What answered the row, by name: the columns `by`, else release, versions, parameters, task arguments as far as they are there."""
    if by:
        return {column: "" if missing(value := shape.get(row, column)) else text_of(value) for column in by}
    release, provider = label(shape.get(row, "release")), embedded(row.get("provider"))
    found = {"release": release} if release is not None else {}
    found |= dict(shape.versions_of(row))
    if isinstance(provider, Mapping) and provider.get("label"):
        found["model"] = text_of(provider["label"])
    for name in ("params", "task_args"):
        found |= {n: v for n, v in _scalars(embedded(row.get(name))) if n not in found}
    if "promptIdx" in row and "prompt" not in found:
        found["prompt"] = f"prompt {row['promptIdx']}"
    return {**{n: v for n, v in _scalars({name: row.get(name) for name in PLAIN}) if n not in found}, **found}


def _scalars(value: Any) -> Iterator[tuple[str, str]]:
    for name, each in value.items() if isinstance(value, Mapping) else ():
        if isinstance(each, str | bool | int | float) and not missing(each):
            yield str(name), text_of(each)
