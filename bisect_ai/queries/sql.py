"""The SQL that surveys a log, each of our fields an expression."""

# ruff: noqa: S608 - values are bound; identifiers and paths, which cannot be, go through `quoted` and `literal`

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bisect_ai.queries.duckdb_session import EMPTY, USER, contains_any, json_path, literal, quoted
from bisect_ai.queries.normalise import HINTS, MAX_SCORE, MAYBE, WORDS
from bisect_ai.queries.records import Shape
from bisect_ai.queries.sample import NO_INPUT, NO_TIME, WHERE, WINDOW, Labels
from bisect_ai.queries.values import SCALES, SHORT_YEAR, Window

_READ = "read_parquet($files, union_by_name = true, hive_partitioning = false"
SCAN = f"{_READ})"
FILED = f"{_READ}, filename = 'bisect_ai_file')"
NUMBERED = f"{_READ}, file_row_number = true, filename = 'bisect_ai_file')"
FILE, NUMBER = "bisect_ai_file", "file_row_number"
ID, KEY, STRATUM, REASON, LOGGED, LABEL, FAULT = (
    f"bisect_ai_{name}" for name in ("id", "key", "stratum", "reason", "logged", "label", "fault")
)
NONE = "NULL::VARCHAR"
_ODD_SIGNS = ", ".join(str(ord(sign)) for sign in '[{"')
# Groups of strata, releases and versions that one statement may give: beyond it a column is no segment and no version.
MAX_GROUPS = 200_000
ZONED = "TIMESTAMP WITH TIME ZONE"
# Types that the DuckDB client fetches as Python values by itself.
SIMPLE = (
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    *(
        "UHUGEINT",
        "FLOAT",
        "DOUBLE",
        "VARCHAR",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMP_S",
        "TIMESTAMP_MS",
        "TIMESTAMP_NS",
    ),
    *("BLOB", "UUID"),
)
DESCRIBE = f"DESCRIBE SELECT * FROM {SCAN}"


class Columns:
    """Our fields as SQL over the columns that the log has (`types`: name to DuckDB type; `files`: path to the name of the file)."""

    def __init__(self, types: Mapping[str, str], shape: Shape, files: Mapping[str, str]) -> None:
        self._types, self._shape, self._files = types, shape, files
        self._scan = FILED if shape.reads_origin and "file" not in types else SCAN
        # The columns of the question, which the survey reads anyhow.
        self.asked = [name for name in types if name in {shape.columns.get(each, each) for each in ("input", "messages")}]

    def ids(self) -> str:
        """The statement that lists a hash of each row's id, NULL for none."""
        own = self._own_id()
        return f"SELECT CASE WHEN {own} IS NOT NULL THEN hash({own}) END AS place FROM {FILED if self._shape.by_run else SCAN}"

    def light(self, *, made_ids: bool) -> str:
        """The scan with what sampling needs added; `made_ids`: some rows need an id made of their content."""
        name, cluster = self._text("id"), self._text("cluster")
        named = f"coalesce({self._own_id()}, {self._made_id()})" if made_ids else self._own_id()
        whole = ID if cluster == NONE else f"coalesce({cluster}, {ID})"
        key = f"(md5_number({literal(f'{self._shape.seed}:')} || {whole}) & {2**64 - 1}::UHUGEINT)"
        where = f"{self._stratum()} AS {STRATUM}, {self._reason()} AS {REASON}"
        added = f"{where}, {name} IS NOT NULL AS {LOGGED}, {self._release()} AS {LABEL}"
        return (
            f"(SELECT *, {added}, {named} AS {ID}, {key} AS {KEY} FROM (SELECT *, {self._fault()} AS {FAULT} FROM {NUMBERED}))"
        )

    def seen(self) -> str:
        """The select list of a row as the survey sees it: where it is, what sampling needs, and the columns of its question."""
        return ", ".join([FILE, NUMBER, ID, STRATUM, LOGGED, LABEL, KEY, *self._fetched(self.asked)])

    def rest(self) -> str:
        """The select list of every other column, each after a comma."""
        return "".join(f", {each}" for each in self._fetched([name for name in self._types if name not in self.asked]))

    def _fetched(self, names: Sequence[str]) -> list[str]:
        return [_fetchable(name, self._types[name]) for name in names]

    def whole(self) -> str:
        """The select list of every column, in a form that Python can fetch."""
        return ", ".join(self._fetched([*self._types]))

    def tallies(self, scores: Sequence[str], *, made_ids: bool, top: int) -> str:
        """The statement that counts rows per stratum, reason, release, fault and versions, and adds up `scores` (expressions).

        It lists the rows that are not left out and have a key below `top` as they are `seen`.
        """
        versions = ", ".join(self._text(name) for name in self._shape.versions or ("versions",))
        low = f"{KEY} < {top}::UHUGEINT AND {REASON} IS NULL"
        seen = [f"list(CASE WHEN {low} THEN row({self.seen()}) END) FILTER ({low})" if top else "NULL"]
        reason = REASON if self._shape.filters else f"any_value({REASON})"  # else it follows from the fault
        listed = ", ".join([STRATUM, reason, LABEL, FAULT, versions, "count(*)", *map(_sum_columns, scores), *seen])
        return f"SELECT {listed} FROM {self.light(made_ids=made_ids)} GROUP BY ALL LIMIT {MAX_GROUPS}"

    def score_sums(self) -> str | None:
        """The statement for sum, sum of squares and count of the finite numbers per release and score; None: none are logged."""
        scores = None if self._shape.scored else self._json("scores")
        if scores is None:
            return None
        counted = f"({self._outside()}) IS NULL"
        return _SCORE_SUMS.format(release=self._release(), scores=scores, scan=self._scan, counted=counted)

    def score_column(self) -> tuple[str, str] | None:
        """The column of scores and its type, when the log has one."""
        column = self._shape.columns.get("scores", "scores")
        return (quoted(column), self._types[column]) if column in self._types else None

    def score_cells(self) -> dict[str, str]:
        """Scores that are columns of their own, as numbers: name to expression."""
        column = self._shape.columns.get("scores", "scores")
        named = self._shape.scored or {column.rpartition(".")[2] if "scores" in self._shape.columns else "score": column}
        return {name: cell for name, column in named.items() if (cell := self._score_cell(column)) is not None}

    def _score_cell(self, column: str) -> str | None:
        kind = self._types.get(column)
        if kind is not None and kind.startswith(("STRUCT", "MAP")):
            return None
        if kind is not None and kind not in ("VARCHAR", "JSON") and not kind.endswith("]"):
            return f"TRY_CAST({quoted(column)} AS DOUBLE)"
        reached = (
            quoted(column) if kind in ("VARCHAR", "JSON") else f"to_json({quoted(column)})" if kind else self._reach(column)
        )
        if reached is None:
            return None
        return score_in_text(reached if kind == "VARCHAR" else f"{reached} ->> '$'")

    def _stratum(self) -> str:
        return f"coalesce({self._text(self._shape.segment)}, '')" if self._shape.segment else "''"

    def _reason(self) -> str:
        """Why a row is left out, as text; NULL: it is not."""
        lost = "" if self._shape.keeps_lost else f"WHEN {FAULT} IS NOT NULL THEN split_part({FAULT}, '|', 1)"
        return f"CASE WHEN ({self._outside()}) IS NOT NULL THEN ({self._outside()}) WHEN {FAULT} = '{NO_INPUT}' THEN {FAULT} {lost} END"

    def _fault(self) -> str:
        """What is wrong with a row's content: `no input`, or the kinds of loss; NULL: nothing.

        What is plainly sound is told in SQL; only the rest is looked at in Python (`content_fault`).
        """
        text, plain = self._text("input"), self._types.get(self._shape.columns.get("input", "input")) == "VARCHAR"
        messages = self._json("messages")
        said = "NULL::VARCHAR" if messages is None else f"({messages})::VARCHAR"
        sound = (
            f"CASE WHEN {text} < '!' OR ascii({text}) IN ({_ODD_SIGNS}) THEN false ELSE NOT ({contains_any(text, HINTS)}) END"
            if plain
            else f"{text} = ''"
        )
        cases = [f"WHEN {text} IS NULL AND {said} IS NULL THEN '{NO_INPUT}'"]
        if messages is not None:
            sound = f"{sound} AND ({said} IS NULL OR NOT ({contains_any(said, MAYBE)}))"
            asks = f"regexp_matches({said}, '{USER}') AND NOT regexp_matches({said}, '{EMPTY}')"
            cases.append(f"WHEN {text} IS NULL AND {asks} AND NOT ({contains_any(said, MAYBE)}) THEN NULL")
        cases.append(f"WHEN {sound} THEN NULL")
        return f"CASE {' '.join(cases)} ELSE content_fault({text}, {said}, {not plain}) END"

    def _outside(self) -> str:
        """The part of the reason that is `where` and time."""
        shape, instant = self._shape, self._instant()
        cases = [] if shape.where is None else [f"WHEN NOT coalesce(({shape.where}\n), false) THEN '{WHERE}'"]
        if shape.timed:
            cases.append(f"WHEN ({instant}) IS NULL THEN '{NO_TIME}'")
            cases.append(f"WHEN NOT {_within_window(instant, (shape.since, shape.until))} THEN '{WINDOW}'")
        if shape.windows:
            named = self._text("release")
            own = " ".join(f"WHEN {named} = {literal(n)} THEN {_within_window(instant, w)}" for n, w in shape.windows.items())
            cases.append(f"WHEN {named} IS NULL AND ({self._release()}) IS NULL THEN '{WINDOW}'")
            cases.append(f"WHEN {named} IS NOT NULL AND NOT (CASE {own} ELSE true END) THEN '{WINDOW}'")
        return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR"

    def _release(self) -> str:
        """The release label; where windows name one for a row that has none, that."""
        named, instant = self._text("release"), self._instant()
        if not self._shape.windows:
            return named
        cases = " ".join(
            f"WHEN {_within_window(instant, bounds)} THEN {literal(name)}" for name, bounds in self._shape.windows.items()
        )
        return f"coalesce({named}, CASE {cases} END)"

    def _instant(self) -> str:
        """The row's time as microseconds since 1970 in UTC."""
        column = self._shape.columns.get("at", "at")
        kind = self._types.get(column, "VARCHAR")
        if kind.startswith(("TIMESTAMP", "DATE")):
            return f"epoch_us({quoted(column)})"
        text = self._text("at")
        number = f"TRY_CAST({text} AS DOUBLE)"
        scaled = " ".join(f"WHEN abs({number}) < {below} THEN {number} * {unit}" for below, unit in SCALES)
        known = f"TRY_CAST(CASE {scaled} ELSE {number} / 1000 END AS BIGINT), epoch_us(TRY_CAST({text} AS TIMESTAMP))"
        return f"coalesce({known}, written_time({text}))"

    def slashed_dates(self) -> str | None:
        """The statement for dates such as 11/29/2026 and 11/29/26 among the times; None where these are no text, or not asked for."""
        text = self._text("at")
        if not self._shape.timed or self._types.get(self._shape.columns.get("at", "at"), "VARCHAR") != "VARCHAR":
            return None
        pattern = rf"^\s*\d{{1,2}}/\d{{1,2}}/\d{{4}}|{SHORT_YEAR}"
        return f"SELECT DISTINCT regexp_extract({text}, '{pattern}') FROM {self._scan}"

    def _own_id(self) -> str:
        name = self._text("id")
        return f"{name} || ' @ ' || coalesce({self._text('run_id')}, {self._text('file')})" if self._shape.by_run else name

    def _made_id(self) -> str:
        history, messages = (self._json(field) or "NULL" for field in ("history", "messages"))
        return f"content_id({self._text('input')}, ({history})::VARCHAR, ({messages})::VARCHAR, {STRATUM})"

    def _text(self, field: str) -> str:
        """The field as text; NULL when it is missing or empty."""
        labels = self._shape.labels
        return self._labelled(labels) if field == "release" and labels is not None else self._logged_text(field)

    def _logged_text(self, field: str) -> str:
        column = self._shape.columns.get(field, field)
        if column == "file" and "file" not in self._types:
            return _case_of_file(self._files)
        if field == "at" and column not in self._types and "run_at" in self._types:
            column = "run_at"
        if column in self._types:
            return f"nullif({_cast_to_text(quoted(column), self._types[column])}, '')"
        reached = self._reach(column)
        return f"nullif({reached} ->> '$', '')" if reached else NONE

    def _labelled(self, labels: Labels) -> str:
        """The release by the patterns of another column."""
        if labels.by == "file" and "file" not in self._types:
            named = {path: found for path, name in self._files.items() if (found := labels.label(name)) is not None}
            return _case_of_file(named)
        cases = " ".join(
            f"WHEN {self._logged_text(labels.by)} GLOB {literal(p)} THEN {literal(name)}" for name, p in labels.patterns
        )
        return f"(CASE {cases} END)"

    def _json(self, field: str) -> str | None:
        """The field as JSON, parsed first if it is text; None when the log has no such column."""
        column = self._shape.columns.get(field, field)
        return self._json_column(column) if column in self._types else self._reach(column)

    def _json_column(self, column: str) -> str:
        name, kind = quoted(column), self._types[column]
        return f"(CASE WHEN json_valid({name}) THEN {name}::JSON END)" if kind in ("VARCHAR", "JSON") else f"to_json({name})"

    def _reach(self, column: str) -> str | None:
        """A nested value by its dotted name, as JSON."""
        head, _, rest = column.partition(".")
        if not rest or head not in self._types:
            return None
        return f"json_extract({self._json_column(head)}, {json_path(rest)})"


def score_in_text(cell: str) -> str:
    """The number that a text stands for, in a list of its own, too."""
    text = f"lower(trim(regexp_replace({cell}, '^\\s*\\[([^,]*)\\]\\s*$', '\\1')))"
    words = " ".join(f"WHEN {literal(word)} THEN {number}" for word, number in WORDS.items())
    return f"(CASE {text} {words} ELSE TRY_CAST({text} AS DOUBLE) END)"


def _sum_columns(value: str) -> str:
    """Sum, sum of squares and count of an expression's finite numbers."""
    finite = f"FILTER (abs({value}) < {MAX_SCORE})"
    return f"sum({value}) {finite}, sum({value} * {value}) {finite}, count({value}) {finite}"


def _case_of_file(values: Mapping[str, str]) -> str:
    cases = " ".join(f"WHEN {literal(given)} THEN {literal(found)}" for given, found in values.items())
    return f"(CASE {FILE} {cases} END)" if cases else NONE


def _within_window(instant: str, bounds: Window) -> str:
    low, high = bounds
    tests = [f"({instant}) >= {low}"] * (low is not None) + [f"({instant}) < {high}"] * (high is not None)
    return f"({' AND '.join(tests) or 'true'})"


def _cast_to_text(name: str, kind: str) -> str:
    if kind in ("FLOAT", "DOUBLE"):
        return f"CASE WHEN NOT isnan({name}) THEN CAST({name} AS VARCHAR) END"
    return f"CAST({name} AS VARCHAR)" if kind in SIMPLE else f"CAST(to_json({name}) AS VARCHAR)"


def _fetchable(column: str, kind: str) -> str:
    """A column as Python can fetch it without further packages: nested ones as JSON text, zoned times as microseconds."""
    name = quoted(column)
    if kind == ZONED:
        return f"epoch_us({name})"
    if kind in SIMPLE or kind.startswith("DECIMAL"):
        return name
    nested = kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION", "JSON", "VARIANT"))
    return f"CAST(to_json({name}) AS VARCHAR)" if nested else f"CAST({name} AS VARCHAR)"


_SCORE_SUMS = f"""
SELECT label, name, sum(score), sum(score * score), count(*)
FROM (
  SELECT label, entry.key AS name, {score_in_text("(entry.value ->> '$')")} AS score
  FROM (
    SELECT {{release}} AS label, unnest(map_entries(TRY_CAST({{scores}} AS MAP(VARCHAR, JSON)))) AS entry
    FROM {{scan}} WHERE {{counted}}
  )
)
WHERE abs(score) < {MAX_SCORE}
GROUP BY label, name
"""
