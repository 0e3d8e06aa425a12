"""The SQL that stages JSON lines: each of our fields as text, and whether a row is so plain that DuckDB reads it as we do.

A row is *doubtful* when our strict reader has to look at it: a nested value where a text is expected, a question that may have lost
something, no id, a number that is no JSON. Doubtful rows are few; DuckDB counts only the others.

Where the lines of a large file begin is a count of line ends for each block, made in one pass.
"""

# ruff: noqa: S608 - names are quoted, texts are literals

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bisect_ai.queries.duckdb_session import contains_any, literal, quoted
from bisect_ai.queries.normalise import HINTS, MAX_SCORE, MAYBE, WORDS
from bisect_ai.queries.records import Shape
from bisect_ai.queries.values import MAX_LINE

BLOCK = 2**18
"""Bytes that are searched for one line."""
END = 10


class LineIndex:
    """The lines of a file, which are counted from 1. `lines` is their number."""

    def __init__(self, path: Path) -> None:
        self._path, self._ends = path, [0]
        last = b"\n"
        with path.open("rb") as stream:
            while data := stream.read(BLOCK):
                self._ends.append(self._ends[-1] + _count_ends(data))
                last = data[-1:]
        self.lines = self._ends[-1] + (last != b"\n")

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


USER, EMPTY = r'"role"\s*:\s*"user"', r'"content"\s*:\s*(null|\[|\{|"\s*")'
"""Messages that plainly ask something; those with an empty content may not."""
_SPELT = [form(word) for word in ("NaN", "inf", "infinity") for form in (str, str.lower, str.upper, str.capitalize)]
NO_NUMBER = tuple(dict.fromkeys(sign + word for word in _SPELT for sign in ("", "-")))
"""What DuckDB takes for a number, and JSON does not."""
FRACTION = r"^-?\d+(\.|e|E|\d{18})"
"""Names that may be numbers which DuckDB writes in another way than we do."""
LONG = MAX_LINE // 4
"""Bytes of a cell beyond which its line may be longer than a line may be."""
LOW64 = f"{2**64 - 1}::UHUGEINT"
NOTHING = "NULL::VARCHAR"


class StagedColumns:
    """Our fields over the columns `names` of JSON lines, all read as text."""

    def __init__(self, names: Sequence[str], shape: Shape) -> None:
        self._shape, self._known = shape, frozenset(names)
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
        fields = {
            "h": f"hash({self._text('id', name)})",
            "k": f"(md5_number({literal(f'{self._shape.seed}:')} || {self._whole(name)}) & {LOW64})::UBIGINT",
            "s": f"coalesce({self._text(self._shape.segment, name)}, '')" if self._shape.segment else "''",
            "empty": f"{self._cell('input')} IS NULL AND {self._cell('messages')} IS NULL",
            "l": self._text(self._shape.labels.by if self._shape.labels else "release", name),
            **{f"v{k}": self._text(column, name) for k, column in enumerate(self._shape.versions or ("versions",), 1)},
            **{f"c{k}": cell for k, cell in enumerate(self._score_cells(), 1)},
            "doubtful": " OR ".join(f"coalesce({doubt}, false)" for doubt in self._doubts(name)),
        }
        return f"SELECT {', '.join(f'{expression} AS {field}' for field, expression in fields.items())} FROM {self.scan(file)}"

    def score_names(self) -> list[str]:
        """The names of the scores that have columns of their own."""
        return list(self._shape.scored)

    def _score_cells(self) -> list[str]:
        columns = self._shape.scored.values() if self._shape.scored else [self._shape.columns.get("scores", "scores")]
        return [self._column(column) for column in columns]

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
        path = "$" + "".join(f'."{step}"' for step in rest.replace('"', "").split("."))
        held = quoted(head)
        return f"(CASE WHEN left({held}, 1) = '{{' THEN json_extract_string({held}, {literal(path)}) END)"

    def _doubts(self, name: str) -> Iterator[str]:
        """Conditions of which none is true of a plain row."""
        yield f"{self._text('id', name)} IS NULL"
        yield from self._doubts_of_content()
        for column in self.read:  # this reads every column, so that a key that is there twice is noticed in each of them
            cell = quoted(column)
            yield f"{cell} IN ({', '.join(map(literal, NO_NUMBER))}) OR strlen({cell}) > {LONG}"
        labels = self._shape.labels
        named = ["id", "cluster", self._shape.segment, *self._shape.versions, labels.by if labels else "release"]
        for field in filter(None, named):
            cell = self._text(field, name)
            if cell not in (NOTHING, literal(name)):
                yield f"left({cell}, 1) IN ('{{', '[') OR (left({cell}, 1) <= '9' AND regexp_matches({cell}, '{FRACTION}'))"
        yield from self._doubts_of_heads()

    def _doubts_of_heads(self) -> Iterator[str]:
        """Of objects that a dotted name reaches into: texts, lists, keys that are there twice, a column of the dotted name."""
        for column in self._dotted:
            head = quoted(column.partition(".")[0])
            keys = f"json_keys({head})"
            yield f"{quoted(column)} IS NOT NULL OR left({head}, 1) <> '{{'"
            yield f"left({head}, 1) = '{{' AND len({keys}) <> len(list_distinct({keys}))"

    def _doubts_of_content(self) -> Iterator[str]:
        asked, said = self._cell("input"), self._cell("messages")
        yield f"{asked} < '!' OR left({asked}, 1) IN ('{{', '[', '\"', '<') OR {contains_any(asked, HINTS)}"
        if said != NOTHING:
            asks = f"regexp_matches({said}, '{USER}') AND NOT regexp_matches({said}, '{EMPTY}')"
            yield f"{asked} IS NULL AND {said} IS NOT NULL AND NOT ({asks})"
            yield contains_any(said, MAYBE)


def number(cell: str) -> str:
    """A cell of scores as a number, as `score_of` reads it; NULL for all else."""
    text = f"lower(trim({cell}))"
    words = " ".join(f"WHEN {literal(word)} THEN {value}" for word, value in WORDS.items())
    return f"(CASE {text} {words} ELSE TRY_CAST({text} AS DOUBLE) END)"


def flag_or_number(json: str) -> str:
    """A member of an object of scores as a number: its JSON is a number or a flag; NULL for all else."""
    return f"(CASE {json} WHEN 'true' THEN 1.0 WHEN 'false' THEN 0.0 ELSE TRY_CAST({json} AS DOUBLE) END)"


def score_sums(values: Mapping[str, str]) -> list[str]:
    """Sum, sum of squares and count of each score (name to expression)."""
    found = list[str]()
    for value in values.values():
        finite = f"FILTER (abs({value}) < {MAX_SCORE})"
        found += [f"sum({value}) {finite}", f"sum({value} * {value}) {finite}", f"count({value}) {finite}"]
    return found


def odd(value: str, cell: str) -> str:
    """Whether a cell holds something that is no plain score."""
    return f"({cell} <> '' AND coalesce(abs({value}) >= {MAX_SCORE}, true))"


def odd_member(value: str, json: str) -> str:
    """The same of a member of an object of scores: a word is no score and not odd, unless it may be JSON in quotes."""
    word = f"left({json}, 1) = '\"' AND substr({json}, 2, 1) NOT IN ('[', '{{', '\"', '\\', ' ')"
    return f"({json} <> 'null' AND NOT ({word}) AND coalesce(abs({value}) >= {MAX_SCORE}, true))"
