"""The SQL that surveys a log: each of our fields as an expression over the log's own columns."""
# ruff: noqa: S608 - values are bound; identifiers and paths, which cannot be, go through `quoted` and `literal`

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bisect_ai.queries.duckdb_session import literal, quoted
from bisect_ai.queries.records import MAX_SCORE, NO_INPUT, NO_TIME, WHERE, WINDOW, Shape
from bisect_ai.queries.times import SCALES, Window

_READ = "read_parquet($files, union_by_name = true, hive_partitioning = false"
SCAN = f"{_READ})"
NUMBERED = f"{_READ}, file_row_number = true, filename = 'bisect_ai_file')"
FILE, NUMBER = "bisect_ai_file", "file_row_number"
ID, KEY, STRATUM, REASON, LOGGED, LABEL = (
    f"bisect_ai_{name}" for name in ("id", "key", "stratum", "reason", "logged", "label")
)
NONE = "NULL::VARCHAR"
MAX_GROUPS = 200_000
"""Groups of strata, releases and versions that one statement may give: beyond it a column is no segment and no version."""
ZONED = "TIMESTAMP WITH TIME ZONE"
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
"""Types that the DuckDB client fetches as Python values by itself."""
DESCRIBE = f"DESCRIBE SELECT * FROM {SCAN}"


class Columns:
    """Our fields as SQL over the columns that the log has (`types`: name to DuckDB type)."""

    def __init__(self, types: Mapping[str, str], shape: Shape) -> None:
        self._types, self._shape = types, shape

    def without_id(self) -> str:
        """The statement that counts rows without an id."""
        return f"SELECT count(*) FROM {SCAN} WHERE {self._text('id')} IS NULL"

    def light(self, *, made_ids: bool) -> str:
        """The scan with what sampling needs added; `made_ids`: some rows need an id made of their content."""
        name, cluster = self._text("id"), self._text("cluster")
        named = f"coalesce({name}, {self._made_id()})" if made_ids else name
        whole = ID if cluster == NONE else f"coalesce({cluster}, {ID})"
        key = f"(md5_number({literal(f'{self._shape.seed}:')} || {whole}) & {2**64 - 1}::UHUGEINT)"
        where = f"{self._stratum()} AS {STRATUM}, {self._reason()} AS {REASON}"
        added = f"{where}, {name} IS NOT NULL AS {LOGGED}, {self._release()} AS {LABEL}"
        return f"(SELECT *, {added}, {named} AS {ID}, {key} AS {KEY} FROM {NUMBERED})"

    def fetched(self) -> str:
        """The select list of a whole row, after what sampling needs."""
        return f"{ID}, {STRATUM}, {LOGGED}, {LABEL}, {self.whole()}"

    def whole(self) -> str:
        """The select list of every column, in a form that Python can fetch."""
        return ", ".join(_fetchable(name, kind) for name, kind in self._types.items())

    def tallies(self, scores: Sequence[str]) -> str:
        """The statement that counts rows per stratum, reason, release and versions, and adds up the named fields of `scores`."""
        versions = ", ".join(self._text(name) for name in self._shape.versions or ("versions",))
        named = f"{self._stratum()} AS s, {self._reason()} AS r, {self._release()} AS l"
        listed = ", ".join([named, versions, "count(*)", *map(self._sums, scores)])
        return f"SELECT {listed} FROM {SCAN} GROUP BY ALL LIMIT {MAX_GROUPS}"

    def score_sums(self) -> str | None:
        """The statement for sum, sum of squares and count of the finite numbers per release and score; None: none are logged."""
        scores = self._json("scores")
        if scores is None:
            return None
        return _SCORE_SUMS.format(release=self._release(), scores=scores, scan=SCAN, counted=f"({self._outside()}) IS NULL")

    def score_column(self) -> tuple[str, str] | None:
        """The column of scores and its type, when the log has one."""
        column = self._shape.columns.get("scores", "scores")
        return (quoted(column), self._types[column]) if column in self._types else None

    def _sums(self, score: str) -> str:
        column = quoted(self._shape.columns.get("scores", "scores"))
        value = f"CAST({column}.{quoted(score)} AS DOUBLE)"
        finite = f"FILTER (abs({value}) < {MAX_SCORE})"
        return f"sum({value}) {finite}, sum({value} * {value}) {finite}, count({value}) {finite}"

    def _stratum(self) -> str:
        return f"coalesce({self._text(self._shape.segment)}, '')" if self._shape.segment else "''"

    def _reason(self) -> str:
        """Why a row is left out, as text; NULL: it is not."""
        return f"CASE WHEN ({self._outside()}) IS NOT NULL THEN ({self._outside()}) WHEN NOT {self._usable()} THEN '{NO_INPUT}' END"

    def _outside(self) -> str:
        """The part of the reason that is `where` and time."""
        shape, instant = self._shape, self._instant()
        cases = [] if shape.where is None else [f"WHEN NOT coalesce(({shape.where}\n), false) THEN '{WHERE}'"]
        if shape.timed:
            cases.append(f"WHEN ({instant}) IS NULL THEN '{NO_TIME}'")
            cases.append(f"WHEN NOT {_within(instant, (shape.since, shape.until))} THEN '{WINDOW}'")
        if shape.windows:
            named = self._text("release")
            own = " ".join(f"WHEN {named} = {literal(n)} THEN {_within(instant, w)}" for n, w in shape.windows.items())
            cases.append(f"WHEN {named} IS NULL AND ({self._release()}) IS NULL THEN '{WINDOW}'")
            cases.append(f"WHEN {named} IS NOT NULL AND NOT (CASE {own} ELSE true END) THEN '{WINDOW}'")
        return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR"

    def _release(self) -> str:
        """The release label; where windows name one for a row that has none, that."""
        named, instant = self._text("release"), self._instant()
        if not self._shape.windows:
            return named
        cases = " ".join(
            f"WHEN {_within(instant, bounds)} THEN {literal(name)}" for name, bounds in self._shape.windows.items()
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
        return f"coalesce(TRY_CAST(CASE {scaled} ELSE {number} / 1000 END AS BIGINT), epoch_us(TRY_CAST({text} AS TIMESTAMP)))"

    def _made_id(self) -> str:
        history, messages = (self._json(field) or "NULL" for field in ("history", "messages"))
        return f"content_id({self._text('input')}, ({history})::VARCHAR, ({messages})::VARCHAR, {STRATUM})"

    def _usable(self) -> str:
        messages = self._json("messages") or "NULL::JSON"
        return f"({self._text('input')} IS NOT NULL OR coalesce(json_array_length({messages}), 0) > 0)"

    def _text(self, field: str) -> str:
        """The field as text; NULL when it is missing or empty."""
        column = self._shape.columns.get(field, field)
        if column in self._types:
            return f"nullif({_as_text(quoted(column), self._types[column])}, '')"
        reached = self._reach(column)
        return f"nullif({reached} ->> '$', '')" if reached else NONE

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
        path = "$" + "".join(f'."{step}"' for step in rest.replace('"', "").split("."))
        return f"json_extract({self._json_column(head)}, {literal(path)})"


def _within(instant: str, bounds: Window) -> str:
    low, high = bounds
    tests = [f"({instant}) >= {low}"] * (low is not None) + [f"({instant}) < {high}"] * (high is not None)
    return f"({' AND '.join(tests) or 'true'})"


def _as_text(name: str, kind: str) -> str:
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
  SELECT label, entry.key AS name, CASE entry.value::VARCHAR
    WHEN 'true' THEN 1.0::DOUBLE WHEN 'false' THEN 0.0::DOUBLE ELSE TRY_CAST(entry.value::VARCHAR AS DOUBLE) END AS score
  FROM (
    SELECT {{release}} AS label, unnest(map_entries(TRY_CAST({{scores}} AS MAP(VARCHAR, JSON)))) AS entry
    FROM {{scan}} WHERE {{counted}}
  )
)
WHERE abs(score) < {MAX_SCORE}
GROUP BY label, name
"""
