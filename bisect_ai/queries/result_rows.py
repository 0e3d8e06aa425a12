"""Rows of result files: what pairs a row, who answered it, and its scores; of sheets with several answers in a row, one row each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any

from bisect_ai.errors import QueryError
from bisect_ai.queries.filters import filtered
from bisect_ai.queries.normalise import exchange_of, logged_number, scores_of
from bisect_ai.queries.pairing import ResultRow, keys_of, variables_text
from bisect_ai.queries.readers import Source
from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import Row, label
from bisect_ai.queries.unmapped_rows import guess_told, guessed_columns, with_instruction
from bisect_ai.queries.values import embedded, missing, text_of

# The column that tells the answers of one row apart.
VARIANT = "variant"
ANSWERS = ("answer", "output", "response", "completion", "prediction", "reply", "generation")
# What else is told of each answer, and read by its own name.
HELD = ("scores", "error")
WINNERS = ("winner", "preference", "preferred", "preferred_response", "choice", "chosen", "better")
WON, EQUAL = 1.0, 0.5  # a preference as a score: its mean is the rate of wins
# Sides that are answers to one question also where only their scores are there.
OPPOSITES = (
    "a b",
    "old new",
    "good bad",
    "before after",
    "baseline candidate",
    "control treatment",
    "left right",
    "1 2",
    "v1 v2",
)
TIES = ("tie", "tied", "both", "same", "equal", "draw", "neither", "none")
SEPARATORS = " _-.:/"
# Rows that show whether answers stand side by side, and which column is the question.
FIRST = 20
# Characters of a question, a reference or an answer that are kept.
TEXT = 2_000
NAME = 40  # characters of a value in an error
# Columns that say in a plain table what answered, where no importer does.
PLAIN = ("model", "solver", "prompt_version", "prompt_id", "prompt_name", "temperature", "top_p", "experiment", VARIANT)
# Columns that are a score by their name in a plain table without `scores`.
SCORE_NAMES = ("score", "correct", "success", "pass", "passed", "accuracy", "grade")
# What an answer took, by the columns that say it: for scores, lower is better.
COSTS = {"usd": "usd", "cost": "usd", "latencyMs": "latency_ms", "latency_ms": "latency_ms", "latency_s": "latency_s"}


class ResultReading:
    """One pass over one file."""

    def __init__(
        self, shape: Shape, rows: Source, by: tuple[str, ...], pair: str | None, metric: str | None, whole: bool
    ) -> None:
        self._by, self._pair, self._metric, self._whole = by, pair, metric, whole
        self._shape, self._source = shape, filtered(rows, shape)
        self.columns: set[str] = set()
        self.notices: list[str] = []
        # A column that is called like a score and a value of it that is none.
        self.unread: tuple[str, str] | None = None

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
        guessed = with_instruction(first, self._shape.columns)
        if not guessed and not asks and not {"input", "messages"} & set(self._shape.columns):
            guessed = guessed_columns(first)
        if guessed:
            self._shape = replace(self._shape, columns={**guessed, **self._shape.columns})
            self.notices.append(f"the results have {guess_told(guessed)}")

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


# -- several answers side by side: `answer_a, answer_b, score_a, score_b`, or a column with the winner ----------------------
@dataclass(frozen=True)
class SheetSides:
    """Which columns belong to which answer: `columns` by side and by what they hold; `winner` names the column of the better side."""

    columns: Mapping[str, Mapping[str, str]]
    winner: str | None = None

    @classmethod
    def of(
        cls, rows: Sequence[Mapping[str, Any]], scores: Collection[str], costs: Collection[str], metric: str | None
    ) -> SheetSides | None:
        """The sides of a sheet, told by its first rows; None: each row is one answer.

        A side has an answer and a score. Scores alone are sides where they are called like opposites, so that `score_style` and
        `score_facts` stay two scores of one answer.
        """
        names = dict.fromkeys(name for row in rows for name, _ in _flat_cells(row))
        words = {*scores, *costs, *ANSWERS, *HELD, *([metric] if metric else [])}
        found: dict[str, dict[str, str]] = {}
        for name in names:
            if (told := _side_of(name, words)) is not None:
                found.setdefault(told[0], {})["output" if told[1] in ANSWERS else told[1]] = name
        scoring = {*scores, "scores", *([metric] if metric else [])}
        sides = {side: held for side, held in found.items() if scoring & set(held) and "output" in held}
        opposed = {side: held for side, held in found.items() if scoring & set(held)}
        if len(sides) < 2 and " ".join(sorted(map(str.lower, opposed))) in {
            " ".join(sorted(each.split())) for each in OPPOSITES
        }:
            sides = opposed
        if _are_alike(sides, scoring):
            return cls(sides)
        answers = {side: held for side, held in found.items() if "output" in held}
        winner = next((name for name in names if name.lower() in WINNERS), None)
        return cls(answers, winner) if winner is not None and len(answers) == 2 else None

    def apart(self, row: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """A row for each answer: what all share, what is said of this one, and its side."""
        cells, own = dict(_flat_cells(row)), [name for held in self.columns.values() for name in held.values()]
        taken = {*own, *(name.partition(".")[0] for name in own)}
        shared = {name: value for name, value in row.items() if name not in taken}
        for side, held in self.columns.items():
            won = {} if self.winner is None else {"score": self._won(side, row.get(self.winner))}
            yield {**shared, **{word: cells.get(name) for word, name in held.items()}, **won, VARIANT: side}

    def _won(self, side: str, named: Any) -> float | None:
        """1 for the side that is named as the better one, 0 for the other, one half each for a tie; None for no judgement."""
        told = _words(str(named)) if isinstance(named, str | int) else []
        known = {each: _words(each) for each in self.columns}
        better = next(
            (each for each, words in known.items() if told and (told[-len(words) :] == words or told == words[-1:])), None
        )
        if better is None:
            return EQUAL if told and told[0] in TIES else None
        return WON if better == side else 0.0


def _are_alike(sides: Mapping[str, Mapping[str, str]], scoring: Collection[str]) -> bool:
    """Whether there are several sides, and all have the same scores."""
    return len(sides) > 1 and len({frozenset(held).intersection(scoring) for held in sides.values()}) == 1


def _flat_cells(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The cells of a row, those of an object in it by dotted names."""
    for name, value in row.items():
        held = embedded(value)
        if isinstance(held, Mapping):
            yield from ((f"{name}.{inner}", each) for inner, each in held.items())
        else:
            yield str(name), value


def _side_of(name: str, words: Collection[str]) -> tuple[str, str] | None:
    """The side and the word that a column's name is made of, in either order; the longest word first."""
    for word in sorted(words, key=len, reverse=True):
        before, after = name[: -len(word) - 1], name[len(word) :]
        if name.lower().endswith(word.lower()) and before and name[-len(word) - 1] in SEPARATORS:
            return before, word
        side = after.lstrip(SEPARATORS)
        divided = side != after or after[:1].isupper() or after.isdigit()
        if name.lower().startswith(word.lower()) and side and divided and after[0] != ".":  # `scores.style` is no side
            return side, word
    return None


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9.]+", text.lower())
