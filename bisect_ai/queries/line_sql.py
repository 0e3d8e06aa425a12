"""The SQL that stages JSON lines: each of our fields as text, and whether a row is so plain that DuckDB reads it as we do.

A row is *doubtful* when our strict reader has to look at it: a nested value where a text is expected, a question that may have lost
something, no id, a number that is no JSON. Doubtful rows are few; DuckDB counts only the others.

Where the lines of a large file begin is a count of line ends for each block, made in one pass.
"""

# ruff: noqa: S608 - names are quoted, texts are literals

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from bisect_ai.queries.duckdb_session import EMPTY, USER, contains_any, json_path, literal, quoted
from bisect_ai.queries.normalise import HINTS, MAX_SCORE, MAYBE, WORDS
from bisect_ai.queries.records import Shape
from bisect_ai.queries.values import MAX_LINE

# Bytes that are searched for one line.
BLOCK = 2**18
END = 10  # the byte of a line feed


class LineIndex:
    """The lines of a file, which are counted from 1: `lines` is their number, `long` whether one may be longer than a line may be."""

    def __init__(self, path: Path) -> None:
        self._path, self._ends = path, [0]
        last = b"\n"
        with path.open("rb") as stream:
            while data := stream.read(BLOCK):
                self._ends.append(self._ends[-1] + _count_ends(data))
                last = data[-1:]
        self.lines = self._ends[-1] + (last != b"\n")
        self.long = any(a == b for a, b in pairwise(self._ends[:: MAX_LINE // BLOCK // 2]))

    def offsets(self, lines: Iterable[int]) -> Iterator[tuple[int, int]]:
        """(line, byte offset) of each of the lines, in order."""
        import numpy as np

        held, ends = -1, np.empty(0, dtype=np.int64)
        with self._path.open("rb") as stream:
            for line in sorted(lines):
                if line == 1:
                    yield 1, 0
                    continue
                block = bisect_right(self._ends, line - 2) - 1  # the block that holds the end of the line before
                if block != held:
                    stream.seek(block * BLOCK)
                    held, ends = block, np.flatnonzero(np.frombuffer(stream.read(BLOCK), np.uint8) == END)
                yield line, block * BLOCK + int(ends[line - 2 - self._ends[block]]) + 1


def _count_ends(data: bytes) -> int:
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == END))


_SPELT = [form(word) for word in ("NaN", "inf", "infinity") for form in (str, str.lower, str.upper, str.capitalize)]
# What DuckDB takes for a number, and JSON does not.
NO_NUMBER = tuple(dict.fromkeys(sign + word for word in _SPELT for sign in ("", "-")))
# Names that may be numbers which DuckDB writes in another way than we do.
FRACTION = r"^-?\d+(\.|e|E|\d{18})"
LOW64 = f"{2**64 - 1}::UHUGEINT"  # md5 has 128 bits; `survey` draws by 64
NOTHING = "NULL::VARCHAR"
MEMBERS = "bisect_ai_members"
# Letters that questions begin with which may be JSON or marked up.
OPENING = '{["<'


class StagedColumns:
    """Our fields over the columns `names` of JSON lines, all read as text; `members`: the scores that are members of one object."""

    def __init__(self, names: Sequence[str], shape: Shape, members: Sequence[str]) -> None:
        self._shape, self._known, self._members = shape, frozenset(names), members
        self._dotted = [each for each in dict.fromkeys(shape.wanted()) if "." in each and each not in self._known]
        self.read = [*names, *self._dotted]

    def lacks(self) -> bool:
        """Whether a column that the settings name is in none of the first rows."""
        return any(
            each != "file" and each.partition(".")[0] not in self._known for each in {*self._shape.wanted()} - self._known
        )

    def scan(self, file: str) -> str:
        """The rows of a file, every column as text. A key that is there twice is an error there."""
        listed = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in self.read)
        return f"read_ndjson({literal(file)}, columns = {{{listed}}})"

    def staged(self, file: str, name: str) -> str:
        """The select list and source that stage one file (`name`: what its rows are told to come from)."""
        scores = self._scores()
        segment = self._text(self._shape.segment, name) if self._shape.segment else NOTHING
        empty = f"{self._cell('input')} IS NULL AND {self._cell('messages')} IS NULL"
        versions = (self._text(column, name) for column in self._shape.versions or ("versions",))
        fields = {
            "h": f"hash({self._text('id', name)})",
            "k": f"(md5_number({literal(f'{self._shape.seed}:')} || {self._whole(name)}) & {LOW64})::UBIGINT",
            "g": f"hash({', '.join([segment, empty, self._text(self._label_column(), name), *versions])})",
            "empty": empty,
            **{f"c{k}": numbered(k) for k in range(1, len(scores) + 1)},
            # in the condition of a CASE, which looks at less than an expression would
            "doubtful": f"CASE WHEN {' OR '.join(f'({doubt})' for doubt in self._doubts(name, scores))} THEN true ELSE false END",
        }
        listed = ", ".join(f"{expression} AS {field}" for field, expression in fields.items())
        numbers = "".join(f", {score.value} AS {numbered(k)}" for k, score in enumerate(scores.values(), 1))
        return f"SELECT {listed} FROM (SELECT *{numbers} FROM {self._with_members(self.scan(file))})"

    def score_names(self) -> list[str]:
        """The names of the scores, in the order of their columns."""
        return list(self._scores())

    def grouped(self) -> dict[str, bool]:
        """The fields that are alike in all rows of a group, and whether each value must be a plain text there."""
        plain = [self._label_column(), *([self._shape.segment] if self._shape.segment else []), *self._shape.versions]
        found = {**({} if self._shape.versions else {"versions": False}), **dict.fromkeys(plain, True)}
        return {each: known for each, known in found.items() if each != "file" or "file" in self._known}

    def _label_column(self) -> str:
        return self._shape.labels.by if self._shape.labels else "release"

    def _with_members(self, scan: str) -> str:
        if self._shape.scored or not self._members:
            return scan
        cell = self._score_cell()
        paths = ", ".join(literal(f'$."{name}"') for name in self._members)
        held = f"CAST(json_extract({cell}, [{paths}]) AS VARCHAR[])"
        return f"(SELECT *, CASE WHEN {_is_object(cell)} THEN {held} END AS {MEMBERS} FROM {scan})"

    def _scores(self) -> dict[str, StagedScore]:
        if self._shape.scored:
            cells = {name: self._column(column) for name, column in self._shape.scored.items()}
            return {name: StagedScore.of_cell(cell, numbered(k)) for k, (name, cell) in enumerate(cells.items(), 1)}
        found = {name: StagedScore.of_member(f"{MEMBERS}[{k}]", numbered(k)) for k, name in enumerate(self._members, 1)}
        name, cell = self._shape.columns.get("scores", "score").rpartition(".")[2], self._score_cell()
        alone, known = StagedScore.of_cell(cell, numbered(len(found) + 1)), found.get(name)
        if known:  # some cells are objects with a member of this name, others are plain
            alone = StagedScore.of_cell(cell, numbered(1 + list(found).index(name)))
        found[name] = alone.unless(_is_object(cell), known or StagedScore("NULL::DOUBLE", "false"))
        return found

    def _score_cell(self) -> str:
        return self._column(self._shape.columns.get("scores", "scores"))

    def _whole(self, name: str) -> str:
        """What is drawn as a whole: the row's cluster, or the row."""
        own, cluster = self._text("id", name), self._text("cluster", name)
        return own if cluster == NOTHING else f"coalesce({cluster}, {own})"

    def _text(self, field: str, name: str) -> str:
        """The field as text; NULL when it is missing or empty."""
        column = self._shape.columns.get(field, field)
        if column == "file" and "file" not in self._known:
            return literal(name)
        cell = self._column(column)
        return cell if cell == NOTHING else f"nullif({cell}, '')"

    def _cell(self, field: str) -> str:
        return self._column(self._shape.columns.get(field, field))

    def _column(self, column: str) -> str:
        if column in self._known:
            return quoted(column)
        head, _, rest = column.partition(".")
        if not rest or head not in self._known:
            return NOTHING
        held = quoted(head)
        return f"(CASE WHEN {_is_object(held)} THEN json_extract_string({held}, {json_path(rest)}) END)"

    def _doubts(self, name: str, scores: Mapping[str, StagedScore]) -> Iterator[str]:
        """Conditions of which none is true of a plain row."""
        yield f"{self._text('id', name)} IS NULL"
        words, longest = ", ".join(map(literal, NO_NUMBER)), max(map(len, NO_NUMBER))
        for column in (quoted(name) for name in self.read if name not in self.grouped()):
            yield f"strlen({column}) <= {longest} AND {column} IN ({words})"
        yield from self._doubts_of_content()
        for field in ("id", "cluster"):
            cell = self._column(self._shape.columns.get(field, field))
            if cell != NOTHING:
                yield f"CASE WHEN {cell} < ':' THEN regexp_matches({cell}, '{FRACTION}') ELSE ascii({cell}) IN (91, 123) END"
        yield from self._doubts_of_heads()
        yield from (score.odd for score in scores.values())
        if not self._shape.scored and self._score_cell() != NOTHING:
            yield self._has_other_members(self._score_cell())

    def _has_other_members(self, cell: str) -> str:
        """Whether an object of scores holds more than the known members, once each: its text is longer than they are together."""
        own = [f"coalesce(strlen({MEMBERS}[{k}]) + {len(name.encode()) + 4}, 0)" for k, name in enumerate(self._members, 1)]
        return f"{_is_object(cell)} AND {cell} <> '{{}}' AND strlen({cell}) <> {' + '.join(['1', *own])}"

    def _doubts_of_heads(self) -> Iterator[str]:
        """Of objects that a dotted name reaches into: texts, lists, keys that are there twice, a column of the dotted name."""
        for column in self._dotted:
            head = quoted(column.partition(".")[0])
            keys = f"json_keys({head})"
            yield f"{quoted(column)} IS NOT NULL OR NOT {_is_object(head)}"
            yield f"{_is_object(head)} AND len({keys}) <> len(list_distinct({keys}))"

    def _doubts_of_content(self) -> Iterator[str]:
        asked, said = self._cell("input"), self._cell("messages")
        signs = ", ".join(str(ord(sign)) for sign in OPENING)
        yield f"CASE WHEN {asked} < '!' OR ascii({asked}) IN ({signs}) THEN true ELSE {contains_any(asked, HINTS)} END"
        if said != NOTHING:
            asks = f"regexp_matches({said}, '{USER}') AND NOT regexp_matches({said}, '{EMPTY}')"
            yield f"CASE WHEN {said} IS NOT NULL THEN ({asked} IS NULL AND NOT ({asks})) OR {contains_any(said, MAYBE)} END"


class StagedScore(NamedTuple):
    """A score in SQL: its number (NULL: none), and whether something is there that is no plain score."""

    value: str
    odd: str

    @classmethod
    def of_cell(cls, cell: str, number: str) -> StagedScore:
        """A cell of scores, as `score_of` reads it; `number`: the column that will hold its number."""
        text = f"lower(trim({cell}))"
        words = " ".join(f"WHEN {literal(word)} THEN {value}" for word, value in WORDS.items())
        other = f"CASE {text} {words} ELSE TRY_CAST({text} AS DOUBLE) END"
        value = f"(CASE WHEN {cell} < ':' THEN TRY_CAST({cell} AS DOUBLE) ELSE {other} END)"
        return cls(value, f"{cell} <> '' AND coalesce(abs({number}) >= {MAX_SCORE}, true)")

    @classmethod
    def of_member(cls, json: str, number: str) -> StagedScore:
        """A member of an object of scores: its JSON is a number or a flag. Of texts only words that tell nothing are plain."""
        flag = f"WHEN {json} = 'true' THEN 1.0 WHEN {json} = 'false' THEN 0.0"
        text, told = f"lower(trim({json}, '\"'))", ", ".join(map(literal, WORDS))
        word = (
            f"left({json}, 1) = '\"' AND {text} BETWEEN 'a' AND '{{' AND {text} NOT IN ({told}) AND NOT ends_with({text}, ' ')"
        )
        odd = f"CASE WHEN {number} IS NULL THEN {json} <> 'null' AND NOT ({word}) ELSE abs({number}) >= {MAX_SCORE} END"
        return cls(f"(CASE WHEN {json} < ':' THEN TRY_CAST({json} AS DOUBLE) {flag} END)", odd)

    def unless(self, condition: str, other: StagedScore) -> StagedScore:
        """This score, or the other where the condition holds."""
        return StagedScore(
            f"(CASE WHEN {condition} THEN {other.value} ELSE {self.value} END)",
            f"CASE WHEN {condition} THEN {other.odd} ELSE {self.odd} END",
        )


def numbered(k: int) -> str:
    """The column that holds the number of a score."""
    return f"bisect_ai_score_{k}"


def _is_object(cell: str) -> str:
    return f"starts_with({cell}, '{{')"


def is_odd(value: Any, *, plain: bool) -> bool:
    """Whether the value of a group has to be looked at row by row: other values may read like it.

    `plain`: it must be neither nested nor a fraction.
    """
    if value is None or isinstance(value, bool):
        return False
    if isinstance(value, float | list | dict):
        return plain
    text = str(value)
    return text in NO_NUMBER or (plain and (text[:1] in ("{", "[") or re.match(FRACTION, text) is not None))


def score_sums(values: Iterable[str]) -> list[str]:
    """Sum, sum of squares and count of each score."""
    return [each for value in values for each in (f"sum({value})", f"sum({value} * {value})", f"count({value})")]
